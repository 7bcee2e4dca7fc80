//! WebSocket sessions.

use crate::capturing;
use crate::scene::Scene;
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::Counts;
use redwire_tests::collector::Transport;
use redwire_tests::otlp::{Kind, Telemetry};
use redwire_tests::service::{Server, Service, selected_as};
use redwire_tests::tools;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Sessions that are open at the same time.
const SESSIONS: u64 = 20;
/// Messages to and fro in each, of 1,000 bytes.
const MESSAGES: u64 = 50;

pub(crate) fn tests() -> Vec<Trial> {
    vec![capturing("websocket".to_owned(), sessions)]
}

/// Sessions that are open now, at the server and at the client.
fn open(telemetry: &Telemetry) -> [u64; 2] {
    [("service", "server"), ("client", "client")].map(|(service, side)| {
        let metric = format!("redwire.websocket.{side}.open_connections");
        telemetry.metric_totals(service, &metric, &[]).values().sum()
    })
}

/// Waits until the collector was told of so many open sessions at each side.
fn wait_for_open(folder: &Path, sessions: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        // The collector may be in the middle of a line.
        let open = Telemetry::read(folder).map(|telemetry| open(&telemetry));
        if matches!(open, Ok(open) if open == [sessions; 2]) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "open sessions: {open:?}, not {sessions}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Every handshake is a request, every session a span under it, and the gauge tells how many are open.
fn sessions(test: &str) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    scene.start_agent_in(&[], &[("OTEL_METRIC_EXPORT_INTERVAL", "500")])?;
    let folder = scene.folder().to_owned();
    let service = Service::selected(Server::Go, "service", &folder)?;
    let mut client = Command::new(tools::go_programs().join("client"));
    client.args(["websocket", &service.url()]);
    client.args([&SESSIONS.to_string(), &MESSAGES.to_string(), "/ws/lobby"]);
    client.envs(selected_as("client"));
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(client.stdout.take().context("a client without output")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    ensure!(line == "ready\n", "the client says {line:?}");
    wait_for_open(&folder, SESSIONS)?;
    client
        .stdin
        .take()
        .context("a client without input")?
        .write_all(b"end\n")?;
    ensure!(client.wait()?.success(), "the client failed");
    wait_for_open(&folder, 0)?;
    let telemetry = scene.finish()?;

    let handshakes = Counts::from([(101, SESSIONS)]);
    for (service, kind) in [("service", Kind::Server), ("client", Kind::Client)] {
        let metric = telemetry.metric_counts(service, kind);
        ensure!(metric == handshakes, "{service}: requests {metric:?}");
        let is_session = |span: &&redwire_tests::otlp::Span| span.name == "WebSocket /ws/lobby";
        let sessions: Vec<_> = telemetry.spans(service, kind).filter(is_session).collect();
        ensure!(
            sessions.len() as u64 == SESSIONS,
            "{service}: {} sessions",
            sessions.len()
        );
        for session in sessions {
            let mut spans = telemetry.spans(service, kind);
            let handshake = spans.find(|span| span.span_id == session.parent_span_id);
            let handshake = handshake.context("a session without its handshake")?;
            ensure!(
                handshake.status_code() == 101 && handshake.trace_id == session.trace_id,
                "{service}: the session is under {handshake:?}"
            );
            // A frame of 1,000 bytes has a header of 4 bytes, and of 4 more from a client (RFC 6455 section 5.2). The
            // client's close frame comes last.
            let bytes = |name: &str| -> Result<u64> {
                let value = session.attributes.get(&format!("redwire.websocket.{name}"));
                Ok(value.context("a session without its bytes")?.parse()?)
            };
            let (there, back) = (bytes("bytes_to_server")?, bytes("bytes_to_client")?);
            ensure!(
                (MESSAGES * 1008..MESSAGES * 1008 + 20).contains(&there)
                    && (MESSAGES * 1004..MESSAGES * 1004 + 20).contains(&back),
                "{service}: {there} bytes to the server, {back} to the client"
            );
        }
    }
    Ok(())
}
