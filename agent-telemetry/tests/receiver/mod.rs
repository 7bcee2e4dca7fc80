//! A collector that keeps what it gets and answers as it is told.

#![allow(dead_code, reason = "each test file uses its part")]

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response as HttpResponse};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
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
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
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
    logs: Vec<ExportLogsServiceRequest>,
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
        Receiver::start_with(None).await
    }

    /// With TLS, where clients have to show a certificate.
    pub(crate) async fn start_with(tls: Option<&Tls>) -> Receiver {
        let kept = Shared::default();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let service = Grpc(kept.clone());
        let gzip = CompressionEncoding::Gzip;
        let mut server = tonic::transport::Server::builder();
        if let Some(tls) = tls {
            let config = ServerTlsConfig::new()
                .identity(Identity::from_pem(&tls.server.0, &tls.server.1))
                .client_ca_root(Certificate::from_pem(&tls.authority));
            server = server.tls_config(config).unwrap();
        }
        let server = server
            .add_service(TraceServiceServer::new(service.clone()).accept_compressed(gzip))
            .add_service(MetricsServiceServer::new(service.clone()).accept_compressed(gzip))
            .add_service(LogsServiceServer::new(service).accept_compressed(gzip))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
        tokio::spawn(server);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let router = axum::Router::new()
            .route("/v1/{signal}", axum::routing::post(post))
            .with_state(kept.clone());
        match tls {
            None => drop(tokio::spawn(async move { axum::serve(listener, router).await })),
            Some(tls) => {
                let listener = TlsListener {
                    listener,
                    acceptor: tls.acceptor(),
                };
                drop(tokio::spawn(async move { axum::serve(listener, router).await }));
            }
        }
        Receiver { kept, grpc, http }
    }

    pub(crate) fn traces(&self) -> Vec<ExportTraceServiceRequest> {
        self.kept.lock().unwrap().traces.clone()
    }

    pub(crate) fn metrics(&self) -> Vec<ExportMetricsServiceRequest> {
        self.kept.lock().unwrap().metrics.clone()
    }

    pub(crate) fn logs(&self) -> Vec<ExportLogsServiceRequest> {
        self.kept.lock().unwrap().logs.clone()
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

#[tonic::async_trait]
impl LogsService for Grpc {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.answer(&request).await?;
        self.0.lock().unwrap().logs.push(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
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
        "logs" => {
            let request = ExportLogsServiceRequest::decode(&bytes[..]).unwrap();
            kept.lock().unwrap().logs.push(request);
            ExportLogsServiceResponse::default().encode_to_vec()
        }
        other => panic!("no signal: {other}"),
    };
    ([("content-type", "application/x-protobuf")], answer).into_response()
}

/// An authority with the certificates that it gave, in PEM.
pub(crate) struct Tls {
    pub(crate) authority: String,
    /// Certificate and key of `localhost`.
    pub(crate) server: (String, String),
    /// Certificate and key of a client.
    pub(crate) client: (String, String),
}

impl Tls {
    pub(crate) fn new() -> Tls {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new([]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(parameters, key);
        let give = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
            (
                parameters.signed_by(&key, &issuer).unwrap().pem(),
                key.serialize_pem(),
            )
        };
        Tls {
            authority,
            server: give("localhost"),
            client: give("client"),
        }
    }

    /// With what `openssl req -x509` makes: an authority that is its own server, too.
    pub(crate) fn self_signed() -> Tls {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&key).unwrap().pem();
        Tls {
            server: (authority.clone(), key.serialize_pem()),
            authority,
            client: Tls::new().client,
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap())
            .unwrap();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(self.server.0.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(self.server.1.as_bytes()).unwrap(),
            );
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                continue;
            };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
