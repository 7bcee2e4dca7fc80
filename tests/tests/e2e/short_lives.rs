//! Clients that live for milliseconds.

use crate::capturing;
use crate::scene::{Scene, same};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::Counts;
use redwire_tests::collector::Transport;
use redwire_tests::otlp::Kind;
use redwire_tests::service::{Server, Service, selected_as};
use std::process::{Command, Stdio};

/// How often a client is started.
const LIVES: u64 = 1_000;

pub(crate) fn tests() -> Vec<Trial> {
    vec![capturing("short_lives".to_owned(), short_lives)]
}

/// Each curl is selected by its environment alone, and told by its name.
fn short_lives(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let service = Service::selected(Server::Go, "service", scene.folder())?;
    let url = format!("{}/users/7", service.url());
    for _ in 0..LIVES {
        let mut curl = Command::new("curl");
        curl.args(["-qsf", "--noproxy", "*", "-o", "/dev/null", &url])
            .envs(selected_as("short"));
        let status = curl.stdin(Stdio::null()).status()?;
        ensure!(status.success(), "curl: {status}");
    }
    let telemetry = scene.finish()?;
    let counts = Counts::from([(200, LIVES)]);
    same(&telemetry, "service", Kind::Server, &counts)?;
    same(&telemetry, "short", Kind::Client, &counts)
}
