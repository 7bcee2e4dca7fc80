//! A collector that keeps what it gets and answers as it is told.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response as HttpResponse};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use std::collections::VecDeque;
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What is answered to one request; without one in store, requests are taken.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// gRPC: this code, with RetryInfo where a delay is given.
    Grpc(Code, Option<Duration>),
    /// HTTP: this status, with Retry-After in seconds where given.
    Http(u16, Option<u64>),
    /// Taken save for so many.
    Partial(i64),
    /// None for so long.
    Late(Duration),
}

#[derive(Default)]
struct Kept {
    traces: Vec<ExportTraceServiceRequest>,
    metrics: Vec<ExportMetricsServiceRequest>,
    headers: Vec<(String, String)>,
    answers: VecDeque<Answer>,
    requests: Vec<Instant>,
}

type Shared = Arc<Mutex<Kept>>;

/// Speaks gRPC on one port and HTTP on another.
pub(crate) struct Receiver {
    kept: Shared,
    pub(crate) grpc: String,
    pub(crate) http: String,
}

impl Receiver {
    pub(crate) async fn start() -> Receiver {
        let kept = Shared::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = format!("http://{}", listener.local_addr().unwrap());
        let service = Grpc(kept.clone());
        let gzip = CompressionEncoding::Gzip;
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(service.clone()).accept_compressed(gzip))
            .add_service(MetricsServiceServer::new(service).accept_compressed(gzip))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
        tokio::spawn(server);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new()
            .route("/v1/{signal}", axum::routing::post(post))
            .with_state(kept.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Receiver { kept, grpc, http }
    }

    pub(crate) fn traces(&self) -> Vec<ExportTraceServiceRequest> {
        self.kept.lock().unwrap().traces.clone()
    }

    pub(crate) fn metrics(&self) -> Vec<ExportMetricsServiceRequest> {
        self.kept.lock().unwrap().metrics.clone()
    }

    /// When requests came, whatever was answered.
    pub(crate) fn requests(&self) -> Vec<Instant> {
        self.kept.lock().unwrap().requests.clone()
    }

    /// The last value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let kept = self.kept.lock().unwrap();
        let found = kept.headers.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    }

    /// Answers the next requests so.
    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.kept.lock().unwrap().answers.extend(answers);
    }

    pub(crate) fn clear(&self) {
        *self.kept.lock().unwrap() = Kept::default();
    }
}

fn note(kept: &Shared, headers: &HeaderMap) -> Option<Answer> {
    let mut kept = kept.lock().unwrap();
    kept.requests.push(Instant::now());
    for (name, value) in headers {
        let value = value.to_str().unwrap_or("").to_owned();
        kept.headers.push((name.to_string(), value));
    }
    kept.answers.pop_front()
}

#[derive(Clone)]
struct Grpc(Shared);

impl Grpc {
    /// How many are refused.
    async fn answer<T>(&self, request: &Request<T>) -> Result<i64, Status> {
        match note(&self.0, &request.metadata().clone().into_headers()) {
            Some(Answer::Grpc(code, delay)) => {
                let mut details = ErrorDetails::new();
                if let Some(delay) = delay {
                    details.set_retry_info(Some(delay));
                }
                Err(Status::with_error_details(code, "as told", details))
            }
            Some(Answer::Partial(n)) => Ok(n),
            Some(Answer::Late(by)) => {
                tokio::time::sleep(by).await;
                Err(Status::cancelled("late"))
            }
            Some(other) => panic!("no answer of gRPC: {other:?}"),
            None => Ok(0),
        }
    }
}

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let rejected_spans = self.answer(&request).await?;
        self.0.lock().unwrap().traces.push(request.into_inner());
        let partial = ExportTracePartialSuccess {
            rejected_spans,
            error_message: String::new(),
        };
        let partial_success = (rejected_spans > 0).then_some(partial);
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let rejected_data_points = self.answer(&request).await?;
        self.0.lock().unwrap().metrics.push(request.into_inner());
        let partial = ExportMetricsPartialSuccess {
            rejected_data_points,
            error_message: String::new(),
        };
        let partial_success = (rejected_data_points > 0).then_some(partial);
        Ok(Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}

async fn post(
    State(kept): State<Shared>,
    Path(signal): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> HttpResponse {
    let rejected = match note(&kept, &headers) {
        Some(Answer::Http(status, after)) => {
            let status = StatusCode::from_u16(status).unwrap();
            return match after {
                Some(after) => (status, [("retry-after", after.to_string())]).into_response(),
                None => status.into_response(),
            };
        }
        Some(Answer::Partial(n)) => n,
        Some(Answer::Late(by)) => {
            tokio::time::sleep(by).await;
            return StatusCode::BAD_GATEWAY.into_response();
        }
        Some(other) => panic!("no answer of HTTP: {other:?}"),
        None => 0,
    };
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let mut bytes = body.to_vec();
    if headers
        .get("content-encoding")
        .is_some_and(|encoding| encoding == "gzip")
    {
        bytes.clear();
        GzDecoder::new(&body[..]).read_to_end(&mut bytes).unwrap();
    }
    let answer = match signal.as_str() {
        "traces" => {
            let request = ExportTraceServiceRequest::decode(&bytes[..]).unwrap();
            kept.lock().unwrap().traces.push(request);
            let partial = ExportTracePartialSuccess {
                rejected_spans: rejected,
                error_message: String::new(),
            };
            ExportTraceServiceResponse {
                partial_success: (rejected > 0).then_some(partial),
            }
            .encode_to_vec()
        }
        "metrics" => {
            let request = ExportMetricsServiceRequest::decode(&bytes[..]).unwrap();
            kept.lock().unwrap().metrics.push(request);
            ExportMetricsServiceResponse::default().encode_to_vec()
        }
        other => panic!("no signal: {other}"),
    };
    ([("content-type", "application/x-protobuf")], answer).into_response()
}
