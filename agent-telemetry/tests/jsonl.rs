//! Lines of JSON and the final table, as `replay` writes them.

mod common;

use common::{BEGIN, connection, record, serve, transaction};
use redwire_protocol::connection::{Endpoint, ProcessId, Side};
use redwire_protocol::output::Observer;
use redwire_protocol::trace_context::SpanContext;
use redwire_telemetry::{Config, Outputs, Pipeline, Resources, Screen, ServiceInstance, TableConfig};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn resources() -> Arc<Resources> {
    let resources = Resources::new(ServiceInstance::default(), ServiceInstance::default());
    let shop = ServiceInstance::new("shop")
        .with("service.instance.id", "i-1")
        .with("process.pid", 7);
    resources.set(ProcessId(7), shop);
    Arc::new(resources)
}

#[tokio::test]
async fn one_object_per_span() {
    let out = Buffer::default();
    let outputs = Outputs {
        jsonl: Some(Box::new(out.clone())),
        ..Outputs::default()
    };
    let config = Config {
        seed: Some(1),
        ..Config::default()
    };
    let mut pipeline =
        Pipeline::start(config, outputs, resources(), &tokio::runtime::Handle::current()).unwrap();
    let mut telemetry = pipeline.worker();

    let remote = SpanContext::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
    let mut first = transaction(record("/users/42"));
    first.remote_parent = Some(remote);
    let context = telemetry.transaction(&connection(Some(7)), Side::Server, &first);
    let mut unix = connection(None);
    unix.local = Endpoint::Unix("/run/app.sock".into());
    unix.remote = Endpoint::Unix("".into());
    let mut second = record("/fail");
    second.status = Some(503);
    second.authority = None;
    telemetry.transaction(&unix, Side::Server, &transaction(second));
    telemetry.finish(BEGIN + 1_000_000_000);
    pipeline.shutdown(Duration::from_secs(1)).await;

    let text = out.text();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(context.trace_id, remote.trace_id);
    let span_id: String = context.span_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        lines[0],
        json!({
            "connection": {"client": "10.0.0.2:50000", "server": "10.0.0.1:8080"},
            "name": "GET /users/{id}",
            "kind": "SERVER",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": span_id,
            "parent_span_id": "b7ad6b7169203331",
            "start_unix_nano": BEGIN,
            "end_unix_nano": BEGIN + 10_000_000,
            "status": "unset",
            "resource": {"service.name": "shop", "service.instance.id": "i-1", "process.pid": 7},
            "attributes": {
                "http.request.method": "GET",
                "url.scheme": "http",
                "url.path": "/users/42",
                "http.route": "/users/{id}",
                "server.address": "shop.example",
                "server.port": 8080,
                "client.address": "10.0.0.2",
                "client.port": 50000,
                "network.peer.address": "10.0.0.2",
                "network.peer.port": 50000,
                "network.transport": "tcp",
                "network.type": "ipv4",
                "network.protocol.name": "http",
                "network.protocol.version": "1.1",
                "http.response.status_code": 200,
                "http.request.body.size": 0,
                "http.response.body.size": 1000,
            },
        })
    );
    let second = &lines[1];
    assert_eq!(
        second["connection"],
        json!({"client": "", "server": "/run/app.sock"})
    );
    assert_eq!(second["status"], "error");
    assert_eq!(second["attributes"]["error.type"], "503");
    assert_eq!(second["attributes"]["network.transport"], "unix");
    assert_eq!(second["attributes"]["server.address"], "/run/app.sock");
    assert_eq!(second["attributes"].get("client.address"), None);
    assert_eq!(second["resource"]["service.name"], "unknown_service:redwire");
    assert_eq!(second.get("parent_span_id"), None);
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn the_last_table_has_everything() {
    let out = Buffer::default();
    let table = TableConfig {
        screen: Arc::new(Screen::to(Box::new(out.clone()))),
        every: None,
        ..TableConfig::default()
    };
    let outputs = Outputs {
        table: Some(table),
        ..Outputs::default()
    };
    let config = Config::default();
    let mut pipeline =
        Pipeline::start(config, outputs, resources(), &tokio::runtime::Handle::current()).unwrap();
    let mut telemetry = pipeline.worker();
    let mut other = pipeline.worker();
    for n in 0..1500 {
        serve(&mut telemetry, Some(7), &format!("/users/{n}"));
        if n % 500 == 0 {
            telemetry.flush(BEGIN + n * 1_000_000);
        }
    }
    let mut failed = record("/users/1");
    failed.status = Some(500);
    for _ in 0..500 {
        other.transaction(&connection(Some(7)), Side::Server, &transaction(failed.clone()));
    }
    other.finish(BEGIN + 10_000_000_000);
    telemetry.finish(BEGIN + 10_000_000_000);
    pipeline.shutdown(Duration::from_secs(1)).await;

    let text = out.text();
    let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        row,
        [
            "shop",
            "HTTP",
            "server",
            "GET",
            "/users/{id}",
            "2000",
            "200.0",
            "500",
            "(25%)",
            "2xx",
            "75%",
            "5xx",
            "25%",
            "10.00ms",
            "10.00ms",
            "10.00ms"
        ],
        "{text}"
    );
    assert_eq!(text.lines().count(), 2, "{text}");
}
