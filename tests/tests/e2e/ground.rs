//! The ground that the other tests stand on, without the agent: clients and servers count alike, and the
//! collector writes what it receives.

use crate::plain;
use crate::scene::folder;
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::collector::{Collector, Transport};
use redwire_tests::load::{self, Client, MIX};
use redwire_tests::otlp::Kind;
use redwire_tests::service::{Server, Service};
use redwire_tests::{Counts, add};
use std::process::Command;

pub(crate) fn tests() -> Vec<Trial> {
    let server =
        |name: &str, server| plain(&format!("ground::{name}"), move |test| counts_alike(test, server));
    vec![
        server("fastapi", Server::FastApi),
        server("stdlib", Server::Stdlib),
        server("node", Server::Node),
        server("go", Server::Go),
        server("nginx", Server::Nginx(0)),
        plain("ground::collector", collector),
    ]
}

fn counts_alike(test: &str, server: Server) -> Result<()> {
    let folder = folder(test)?;
    let upstream = Service::start(Server::Go, "upstream", &folder, &[])?;
    let server = if let Server::Nginx(_) = server {
        Server::Nginx(upstream.port())
    } else {
        server
    };
    let service = Service::start(server, "service", &folder, &[])?;
    let mut sent = Counts::new();
    for client in [
        Client::Curl,
        Client::Wrk,
        Client::Requests,
        Client::Httpx,
        Client::Fetch,
        Client::Go,
    ] {
        add(&mut sent, &client.run(&service.url(), 80, MIX, &[], &folder)?);
    }
    add(
        &mut sent,
        &load::go(&["pipeline", &service.url(), "200", "64", &load::json(MIX)], &[])?,
    );
    add(
        &mut sent,
        &load::go(&["hold", &service.url(), "50", "2", "/status/200"], &[])?,
    );
    add(
        &mut sent,
        &load::go(&["trace", &service.url(), "3", "/delay/1"], &[])?,
    );
    add(&mut sent, &load::raw(service.port(), 4, 10, "/bytes/100")?.counts);
    let counted = service.counts()?;
    ensure!(sent == counted, "clients count {sent:?}, the server {counted:?}");
    Ok(())
}

fn collector(test: &str) -> Result<()> {
    let folder = folder(test)?;
    let collector = Collector::start(&folder)?;
    let span = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
        "scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"GET",
        "kind":3,"startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}"#;
    let url = format!("{}/v1/traces", collector.endpoint(Transport::Http));
    let mut curl = Command::new("curl");
    curl.args([
        "-qsSf",
        "-o",
        "/dev/null",
        "--noproxy",
        "*",
        "-H",
        "content-type: application/json",
        "-d",
        span,
        &url,
    ]);
    ensure!(curl.status()?.success(), "the collector takes no span");
    let telemetry = collector.finish()?;
    ensure!(
        telemetry.span_counts("shop", Kind::Client) == Counts::from([(0, 1)]),
        "{:?}",
        telemetry.spans
    );
    Ok(())
}
