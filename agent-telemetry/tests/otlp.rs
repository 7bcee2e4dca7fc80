//! OTLP against receivers in this process.

mod collect;
mod common;
mod receiver;

use collect::*;
use common::{BEGIN, connection, record, serve, transaction};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use receiver::{Answer, Receiver, Tls};
use redwire_protocol::connection::Side;
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::trace_context::SpanContext;
use redwire_telemetry::{Config, Counters, Drop, OtlpConfig, Signal, WhenFull, check};
use std::sync::Arc;
use std::time::Duration;

/// What every way has to bring over.
async fn exports_everything(receiver: &Receiver, otlp: OtlpConfig) {
    check(&otlp).await.unwrap();
    receiver.clear();
    let mut pipeline = start(quick(), otlp);
    let mut telemetry = pipeline.worker();
    let mut other = pipeline.worker();
    for n in 0..1500 {
        serve(&mut telemetry, Some(1), &format!("/users/{n}"));
        serve(&mut other, Some(2), "/items");
    }
    let mut traced = transaction(record("/users/1"));
    traced.remote_parent = SpanContext::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    traced.tracestate = Some("vendor=1");
    other.transaction(&connection(Some(1)), Side::Server, &traced);
    other.lost(&connection(Some(1)), Some("http"), Loss::Gap, 3);
    other.finish(BEGIN + 60_000_000_000);
    let counters = end(pipeline, telemetry).await;

    let spans = spans(receiver);
    assert_eq!(spans.len(), 3001);
    let of = |service: &str| {
        spans
            .iter()
            .filter(|(resource, _)| text(&resource.attributes, "service.name") == service)
            .count()
    };
    assert_eq!((of("shop"), of("cart")), (1501, 1500));
    let (resource, _) = &spans[0];
    assert_eq!(text(&resource.attributes, "region"), "eu");
    assert!(matches!(
        attribute(&resource.attributes, "process.pid"),
        Some(Value::IntValue(1 | 2))
    ));
    let (_, child) = spans
        .iter()
        .find(|(_, span)| !span.parent_span_id.is_empty())
        .unwrap();
    assert_eq!(
        child.parent_span_id,
        [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]
    );
    assert_eq!(child.trace_id[..2], [0x0a, 0xf7]);
    assert_eq!(child.trace_state, "vendor=1");
    // Sampled, and its parent is known to be remote.
    assert_eq!(child.flags, 0x301);
    assert_eq!(child.name, "GET /users/{id}");
    assert_eq!(child.kind, 2, "SPAN_KIND_SERVER");

    let points = durations(receiver);
    let counts: Vec<_> = points
        .iter()
        .map(|(service, point)| (service.as_str(), point.count))
        .collect();
    assert_eq!(counts, [("shop", 1501), ("cart", 1500)]);
    let point = &points[0].1;
    assert!(
        point.attributes.iter().map(|of| &of.key).is_sorted(),
        "{:?}",
        point.attributes
    );
    assert_eq!(text(&point.attributes, "http.route"), "/users/{id}");
    assert_eq!(text(&point.attributes, "url.scheme"), "http");
    assert_eq!(
        attribute(&point.attributes, "server.address"),
        None,
        "opt-in at servers"
    );
    assert_eq!((point.min, point.max), (Some(0.01), Some(0.01)));
    assert!((point.sum.unwrap() - 15.01).abs() < 1e-9);
    assert_eq!(point.scale, 20);
    assert_eq!(point.positive.as_ref().unwrap().bucket_counts, [1501]);
    assert!(point.start_time_unix_nano >= BEGIN && point.start_time_unix_nano < point.time_unix_nano);
    assert!(!point.exemplars.is_empty());
    for exemplar in &point.exemplars {
        let sampled = |(_, span): &&(Resource, Span)| span.span_id == exemplar.span_id;
        let (_, span) = spans
            .iter()
            .find(sampled)
            .expect("an exemplar's span is exported");
        assert_eq!(span.trace_id, exemplar.trace_id);
    }

    assert_eq!(counters.exported(Signal::Spans), 3001);
    // Duration and both body sizes of two services.
    assert_eq!(counters.exported(Signal::Points), 6);
    for signal in Signal::ALL {
        assert!(
            Drop::ALL
                .iter()
                .all(|&reason| counters.dropped(signal, reason) == 0)
        );
    }
    assert_eq!(
        counters.losses().into_iter().collect::<Vec<_>>(),
        [((Some("http"), "gap"), 3)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc() {
    let receiver = Receiver::start().await;
    exports_everything(&receiver, grpc(&receiver, &[("OTLP_HEADERS", "API-Key=secret")])).await;
    assert_eq!(receiver.header("api-key").as_deref(), Some("secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc_with_gzip() {
    let receiver = Receiver::start().await;
    exports_everything(&receiver, grpc(&receiver, &[("OTLP_COMPRESSION", "gzip")])).await;
    assert_eq!(receiver.header("grpc-encoding").as_deref(), Some("gzip"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http() {
    let receiver = Receiver::start().await;
    exports_everything(&receiver, http(&receiver, &[("OTLP_HEADERS", "api-key=secret")])).await;
    assert_eq!(receiver.header("api-key").as_deref(), Some("secret"));
    assert_eq!(receiver.header("content-encoding"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_with_gzip() {
    let receiver = Receiver::start().await;
    exports_everything(&receiver, http(&receiver, &[("OTLP_COMPRESSION", "gzip")])).await;
    assert_eq!(receiver.header("content-encoding").as_deref(), Some("gzip"));
}

/// Sends ten spans, where the receiver answers as told, to traces only.
async fn ten_spans(config: Config, otlp: OtlpConfig) -> Arc<Counters> {
    let otlp = OtlpConfig {
        metrics: None,
        ..otlp
    };
    let mut pipeline = start(config, otlp);
    let mut telemetry = pipeline.worker();
    serve_times(&mut telemetry, 10);
    end(pipeline, telemetry).await
}

#[tokio::test]
async fn tried_again_where_that_may_help() {
    let receiver = Receiver::start().await;
    let delay = Duration::from_millis(300);
    use tonic::Code::{ResourceExhausted, Unavailable};
    receiver.answer([
        Answer::Grpc(Unavailable, None),
        Answer::Grpc(ResourceExhausted, Some(delay)),
        Answer::Grpc(Unavailable, Some(delay)),
    ]);
    let counters = ten_spans(quick(), grpc(&receiver, &[])).await;
    assert_eq!(spans(&receiver).len(), 10);
    assert_eq!(counters.exported(Signal::Spans), 10);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests[2] - requests[1] >= delay, "RetryInfo is honoured");
    assert!(requests[3] - requests[2] >= delay, "RetryInfo is honoured");

    receiver.clear();
    receiver.answer([429, 502, 503, 504].map(|status| Answer::Http(status, None)));
    receiver.answer([Answer::Http(503, Some(1))]);
    let counters = ten_spans(quick(), http(&receiver, &[])).await;
    assert_eq!(
        (spans(&receiver).len(), counters.exported(Signal::Spans)),
        (10, 10)
    );
    let requests = receiver.requests();
    assert_eq!(requests.len(), 6);
    assert!(
        requests[5] - requests[4] >= Duration::from_secs(1),
        "Retry-After is honoured"
    );
    assert!(
        requests[4] - requests[0] < Duration::from_secs(1),
        "else the delays are ours"
    );
}

#[tokio::test]
async fn not_tried_again_where_that_cannot_help() {
    let receiver = Receiver::start().await;
    let ways: [(OtlpConfig, Answer); 4] = [
        (
            grpc(&receiver, &[]),
            Answer::Grpc(tonic::Code::InvalidArgument, None),
        ),
        (
            grpc(&receiver, &[]),
            Answer::Grpc(tonic::Code::ResourceExhausted, None),
        ),
        (http(&receiver, &[]), Answer::Http(400, None)),
        (http(&receiver, &[]), Answer::Http(500, None)),
    ];
    for (otlp, answer) in ways {
        receiver.clear();
        receiver.answer([answer.clone()]);
        let counters = ten_spans(quick(), otlp).await;
        assert_eq!(receiver.requests().len(), 1, "{answer:?}");
        assert_eq!(counters.dropped(Signal::Spans, Drop::Rejected), 10, "{answer:?}");
        assert_eq!(counters.exported(Signal::Spans), 0);
    }
}

#[tokio::test]
async fn partial_success_is_counted() {
    let receiver = Receiver::start().await;
    for otlp in [grpc(&receiver, &[]), http(&receiver, &[])] {
        receiver.clear();
        receiver.answer([Answer::Partial(3)]);
        let counters = ten_spans(quick(), otlp).await;
        assert_eq!(receiver.requests().len(), 1);
        assert_eq!(counters.dropped(Signal::Spans, Drop::PartialSuccess), 3);
        assert_eq!(counters.exported(Signal::Spans), 7);
    }
}

#[tokio::test]
async fn given_up_in_the_end() {
    let receiver = Receiver::start().await;
    receiver.answer((0..1000).map(|_| Answer::Grpc(tonic::Code::Unavailable, None)));
    let mut config = quick();
    config.retry.give_up = Duration::from_millis(300);
    let counters = ten_spans(config, grpc(&receiver, &[])).await;
    assert!(receiver.requests().len() > 3);
    assert_eq!(counters.dropped(Signal::Spans, Drop::RetriesExhausted), 10);
}

#[tokio::test]
async fn a_late_answer_is_none() {
    let receiver = Receiver::start().await;
    for otlp in [
        grpc(&receiver, &[("OTLP_TIMEOUT", "200")]),
        http(&receiver, &[("OTLP_TIMEOUT", "200")]),
    ] {
        receiver.clear();
        receiver.answer([Answer::Late(Duration::from_secs(5))]);
        let begin = std::time::Instant::now();
        let counters = ten_spans(quick(), otlp).await;
        assert_eq!(counters.exported(Signal::Spans), 10);
        assert!(begin.elapsed() < Duration::from_secs(3));
    }
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest_and_counts_them() {
    let receiver = Receiver::start().await;
    receiver.answer((0..10_000).map(|_| Answer::Grpc(tonic::Code::Unavailable, None)));
    let config = Config {
        span_queue: 2048,
        concurrent_exports: 1,
        ..quick()
    };
    let otlp = OtlpConfig {
        metrics: None,
        ..grpc(&receiver, &[])
    };
    let mut pipeline = start(config, otlp);
    let mut telemetry = pipeline.worker();
    for n in 0..10_240 {
        serve(&mut telemetry, Some(1), if n < 5120 { "/early" } else { "/late" });
    }
    let counters = pipeline.counters().clone();
    let queued = counters.dropped(Signal::Spans, Drop::QueueFull);
    // The task had no chance to take any: this is a runtime of one thread.
    assert_eq!(queued, 10_240 - 2048);
    receiver.clear();
    end(pipeline, telemetry).await;
    assert_eq!(counters.exported(Signal::Spans), 2048);
    assert!(spans(&receiver).iter().all(|(_, span)| span.name == "GET /late"));
}

#[tokio::test]
async fn shutdown_keeps_its_deadline_and_counts() {
    let receiver = Receiver::start().await;
    receiver.answer((0..1000).map(|_| Answer::Late(Duration::from_secs(60))));
    let mut pipeline = start(quick(), grpc(&receiver, &[]));
    let mut telemetry = pipeline.worker();
    serve_times(&mut telemetry, 2000);
    telemetry.finish(BEGIN + 1);
    let begin = std::time::Instant::now();
    let counters = pipeline.shutdown(Duration::from_millis(500)).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(counters.dropped(Signal::Spans, Drop::Shutdown), 2000);
    assert_eq!(counters.dropped(Signal::Points, Drop::Shutdown), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_waits_loses_no_span() {
    let receiver = Receiver::start().await;
    receiver.answer((0..20).map(|_| Answer::Grpc(tonic::Code::Unavailable, None)));
    let config = Config {
        span_queue: 1024,
        when_full: WhenFull::Wait,
        ..quick()
    };
    let mut pipeline = start(config, grpc(&receiver, &[]));
    let mut telemetry = pipeline.worker();
    let source = tokio::task::spawn_blocking(move || {
        serve_times(&mut telemetry, 20_000);
        telemetry
    });
    let counters = end(pipeline, source.await.unwrap()).await;
    assert_eq!(spans(&receiver).len(), 20_000);
    assert_eq!(counters.exported(Signal::Spans), 20_000);
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_named_with_a_remedy() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for protocol in ["grpc", "http/protobuf"] {
        let otlp = otlp(&format!("http://{address}"), &[("OTLP_PROTOCOL", protocol)]);
        let message = check(&otlp).await.unwrap_err().to_string();
        for part in [
            &address.to_string(),
            protocol,
            "refused",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    let receiver = Receiver::start().await;
    let wrong = otlp(&receiver.grpc, &[("OTLP_PROTOCOL", "http/protobuf")]);
    let message = check(&wrong).await.unwrap_err().to_string();
    assert!(message.contains("OTEL_EXPORTER_OTLP_PROTOCOL"), "{message}");
}

#[tokio::test]
async fn with_tls_and_a_client_certificate() {
    let tls = Tls::new();
    let receiver = Receiver::start_with(Some(&tls)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let authority = file("ca.pem", &tls.authority);
    let (certificate, key) = (
        file("client.pem", &tls.client.0),
        file("client.key", &tls.client.1),
    );
    let all = [
        ("OTLP_CERTIFICATE", authority.as_str()),
        ("OTLP_CLIENT_CERTIFICATE", certificate.as_str()),
        ("OTLP_CLIENT_KEY", key.as_str()),
    ];
    for connect in [grpc, http] {
        receiver.clear();
        check(&connect(&receiver, &all)).await.unwrap();
        let counters = ten_spans(quick(), connect(&receiver, &all)).await;
        assert_eq!(counters.exported(Signal::Spans), 10);
        assert!(
            check(&connect(&receiver, &all[..1])).await.is_err(),
            "a client certificate is asked for"
        );
        assert!(
            check(&connect(&receiver, &all[1..])).await.is_err(),
            "the authority is not the system's"
        );
        let message = check(&connect(&receiver, &[("OTLP_CERTIFICATE", "/nowhere.pem")]))
            .await
            .unwrap_err()
            .to_string();
        assert!(message.contains("/nowhere.pem"), "{message}");
    }
}

#[tokio::test]
async fn an_authority_s_certificate_as_a_server_s_is_told_with_a_remedy() {
    let tls = Tls::self_signed();
    let receiver = Receiver::start_with(Some(&tls)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.pem");
    std::fs::write(&path, &tls.authority).unwrap();
    for connect in [grpc, http] {
        let otlp = connect(&receiver, &[("OTLP_CERTIFICATE", path.to_str().unwrap())]);
        let message = check(&otlp).await.unwrap_err().to_string();
        for part in [
            "CA:TRUE",
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "basicConstraints=critical,CA:FALSE",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}

/// Whatever waits for it: a source that waits is told once that nothing is delivered, and is not held up again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_waits_gives_up_once() {
    let receiver = Receiver::start().await;
    receiver.answer((0..100_000).map(|_| Answer::Grpc(tonic::Code::Unavailable, None)));
    let mut config = Config {
        span_queue: 1024,
        concurrent_exports: 1,
        when_full: WhenFull::Wait,
        ..quick()
    };
    config.retry.give_up = Duration::from_millis(500);
    let trouble = config.trouble.clone();
    let otlp = OtlpConfig {
        metrics: None,
        ..grpc(&receiver, &[])
    };
    let mut pipeline = start(config, otlp);
    let mut telemetry = pipeline.worker();
    let begin = std::time::Instant::now();
    let source = tokio::task::spawn_blocking(move || {
        serve_times(&mut telemetry, 20_000);
        telemetry
    });
    let counters = end(pipeline, source.await.unwrap()).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(counters.dropped(Signal::Spans, Drop::RetriesExhausted), 20_000);
    assert!(
        trouble.last().unwrap().contains("Unavailable"),
        "{:?}",
        trouble.last()
    );
}
