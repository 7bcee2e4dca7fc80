//! Every server with every client: no count differs.

use crate::capturing;
use crate::scene::{Scene, same};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::collector::Transport;
use redwire_tests::load::{Client, MIX};
use redwire_tests::otlp::Kind;
use redwire_tests::service::{Server, Service, selected_as};

/// Servers, and how many requests wrk sends to each: 112,000 in all.
const SERVERS: &[(&str, Server, usize)] = &[
    ("fastapi", Server::FastApi, 8_000),
    ("stdlib", Server::Stdlib, 4_000),
    ("node", Server::Node, 30_000),
    ("go", Server::Go, 40_000),
    ("nginx", Server::Nginx(0), 30_000),
];

/// Clients, and how many requests those send that are no load generators; a multiple of the mix.
const CLIENTS: &[(&str, Client, Option<usize>)] = &[
    ("curl", Client::Curl, Some(500)),
    ("wrk", Client::Wrk, None),
    ("requests", Client::Requests, Some(500)),
    ("httpx", Client::Httpx, Some(500)),
    ("fetch", Client::Fetch, Some(1_000)),
    ("go", Client::Go, Some(2_000)),
];

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = Vec::new();
    for (s, &(server_name, server, by_wrk)) in SERVERS.iter().enumerate() {
        for (c, &(client_name, client, count)) in CLIENTS.iter().enumerate() {
            let transport = if (s + c) % 2 == 0 {
                Transport::Grpc
            } else {
                Transport::Http
            };
            let count = count.unwrap_or(by_wrk);
            tests.push(capturing(
                format!("matrix::{server_name}::{client_name}"),
                move |test| pair(test, server, client, count, transport),
            ));
        }
    }
    tests
}

fn pair(test: &str, server: Server, client: Client, count: usize, transport: Transport) -> Result<()> {
    let scene = Scene::start(test, transport, &[])?;
    let folder = scene.folder().to_owned();
    // nginx has static files of its own and asks another server, not selected, for the rest.
    let upstream = match server {
        Server::Nginx(_) => Some(Service::start(Server::Go, "upstream", &folder, &[])?),
        _ => None,
    };
    let server = upstream
        .as_ref()
        .map_or(server, |upstream| Server::Nginx(upstream.port()));
    let service = Service::selected(server, "service", &folder)?;

    let counts = client.run(&service.url(), count, MIX, &selected_as("client"), &folder)?;
    let telemetry = scene.finish()?;

    let of_server = service.counts()?;
    ensure!(
        counts == of_server,
        "the client counts {counts:?}, the server {of_server:?}"
    );
    same(&telemetry, "service", Kind::Server, &counts)?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    if let Some(upstream) = upstream {
        same(&telemetry, "service", Kind::Client, &upstream.counts()?)?;
    }
    Ok(())
}
