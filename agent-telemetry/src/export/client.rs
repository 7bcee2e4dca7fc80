//! Sends OTLP requests, and again where that may help (OTLP specification, "Failures", "Throttling").

use super::config::{Protocol, SignalConfig};
use bytes::{BufMut as _, Bytes};
use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use std::io::Write as _;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_types::StatusExt as _;

/// Headers of gRPC.
pub(crate) type Metadata = Vec<(MetadataKey<Ascii>, MetadataValue<Ascii>)>;

/// A request of one signal. It is sent as its encoded bytes, by whichever transport and however often.
pub(crate) trait Request: Message + Default + 'static {
    type Response: Message + Default + 'static;

    /// Its method in gRPC.
    const METHOD: &'static str;

    /// How much the collector did not take, and why.
    fn rejected(response: &Self::Response) -> Option<(i64, &str)>;
}

impl Request for ExportTraceServiceRequest {
    type Response = ExportTraceServiceResponse;

    const METHOD: &'static str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

    fn rejected(response: &ExportTraceServiceResponse) -> Option<(i64, &str)> {
        let partial = response.partial_success.as_ref()?;
        Some((partial.rejected_spans, &partial.error_message))
    }
}

impl Request for ExportMetricsServiceRequest {
    type Response = ExportMetricsServiceResponse;

    const METHOD: &'static str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

    fn rejected(response: &ExportMetricsServiceResponse) -> Option<(i64, &str)> {
        let partial = response.partial_success.as_ref()?;
        Some((partial.rejected_data_points, &partial.error_message))
    }
}

/// Requests that are encoded already; `R` comes back.
struct Encoded<R>(PhantomData<R>);

impl<R: Message + Default + 'static> Codec for Encoded<R> {
    type Encode = Bytes;
    type Decode = R;
    type Encoder = Encoded<R>;
    type Decoder = Encoded<R>;

    fn encoder(&mut self) -> Encoded<R> {
        Encoded(PhantomData)
    }

    fn decoder(&mut self) -> Encoded<R> {
        Encoded(PhantomData)
    }
}

impl<R> Encoder for Encoded<R> {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, request: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        to.put(request);
        Ok(())
    }
}

impl<R: Message + Default> Decoder for Encoded<R> {
    type Item = R;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<R>, tonic::Status> {
        R::decode(from)
            .map(Some)
            .map_err(|error| tonic::Status::internal(error.to_string()))
    }
}

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It may be taken later, where told after that time.
    #[error("{message}")]
    Temporary {
        message: String,
        after: Option<Duration>,
    },
    /// It will never be.
    #[error("{0}")]
    Final(String),
}

/// What became of a request that was taken.
pub(crate) struct Taken {
    /// How much of it was not, and why.
    pub(crate) rejected: usize,
    pub(crate) message: String,
}

/// A client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("OTLP endpoint {endpoint}: {problem}")]
pub struct ClientError {
    endpoint: String,
    problem: String,
}

enum Transport {
    Grpc { channel: Channel, headers: Metadata },
    Http(reqwest::Client),
}

/// A client of one signal.
pub(crate) struct Client {
    config: SignalConfig,
    transport: Transport,
}

/// What rustls says of a server's certificate that is an authority's, too, and what `openssl req -x509` makes.
const AUTHORITY: &str = "CaUsedAsEndEntity";

/// A text with those of its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let text = causes(error);
    if !text.contains(AUTHORITY) {
        return text;
    }
    format!(
        "{text}: the server shows a certificate of an authority (basicConstraints CA:TRUE) as its own, which cannot be \
         trusted as a server's, even where it is the one that OTEL_EXPORTER_OTLP_CERTIFICATE names; make it anew with \
         `openssl req -x509 … -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:HOST`"
    )
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn problem(config: &SignalConfig, problem: impl Into<String>) -> ClientError {
    ClientError {
        endpoint: config.endpoint.to_string(),
        problem: problem.into(),
    }
}

fn read(config: &SignalConfig, path: &std::path::Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|error| problem(config, format!("cannot read {}: {error}", path.display())))
}

/// A channel to a gRPC endpoint that connects when it is used. To be called within a runtime.
pub(crate) fn channel(config: &SignalConfig) -> Result<Channel, ClientError> {
    let fail = |error: tonic::transport::Error| problem(config, chain(&error));
    let mut endpoint = Endpoint::from_shared(config.endpoint.to_string())
        .map_err(fail)?
        .connect_timeout(config.timeout)
        .timeout(config.timeout);
    if config.endpoint.scheme() == "https" {
        let mut tls = ClientTlsConfig::new();
        tls = match &config.certificate {
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(config, path)?)),
            None => tls.with_native_roots(),
        };
        if let Some((certificate, key)) = &config.identity {
            tls = tls.identity(Identity::from_pem(read(config, certificate)?, read(config, key)?));
        }
        endpoint = endpoint.tls_config(tls).map_err(fail)?;
    }
    Ok(endpoint.connect_lazy())
}

/// An HTTP client with the TLS, headers and timeouts that are configured.
pub(crate) fn http_client(config: &SignalConfig) -> Result<reqwest::Client, ClientError> {
    // Does nothing where there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let fail = |error: reqwest::Error| problem(config, chain(&error));
    let mut headers = reqwest::header::HeaderMap::new();
    for (key, value) in &config.headers {
        let key = reqwest::header::HeaderName::try_from(key);
        let value = reqwest::header::HeaderValue::try_from(value);
        let (Ok(key), Ok(value)) = (key, value) else {
            return Err(problem(config, "a header is not valid"));
        };
        headers.append(key, value);
    }
    let mut builder = reqwest::Client::builder()
        .default_headers(headers)
        .timeout(config.timeout)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("redwire/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &config.certificate {
        let certificates = reqwest::Certificate::from_pem_bundle(&read(config, path)?).map_err(fail)?;
        builder = builder.tls_certs_only(certificates);
    }
    if let Some((certificate, key)) = &config.identity {
        let mut pem = read(config, certificate)?;
        pem.extend(read(config, key)?);
        builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(fail)?);
    }
    builder.build().map_err(fail)
}

/// The headers as gRPC has them.
pub(crate) fn metadata(config: &SignalConfig) -> Result<Metadata, ClientError> {
    let pair =
        |(key, value): &(String, String)| Some((key.to_ascii_lowercase().parse().ok()?, value.parse().ok()?));
    let fail = || problem(config, "a header is not valid in gRPC");
    config
        .headers
        .iter()
        .map(|header| pair(header).ok_or_else(fail))
        .collect()
}

impl Client {
    /// A client that connects when it is used. To be called within a runtime.
    pub(crate) fn new(config: SignalConfig) -> Result<Client, ClientError> {
        let transport = match config.protocol {
            Protocol::Grpc => Transport::Grpc {
                channel: channel(&config)?,
                headers: metadata(&config)?,
            },
            Protocol::HttpProtobuf => Transport::Http(http_client(&config)?),
        };
        Ok(Client { config, transport })
    }

    /// Where it sends to.
    pub(crate) fn endpoint(&self) -> &str {
        self.config.endpoint.as_str()
    }

    /// Sends an encoded `R` once.
    pub(crate) async fn send<R: Request>(&self, request: Bytes) -> Result<Taken, Failure> {
        let response = match &self.transport {
            Transport::Grpc { channel, headers } => {
                let sending = self.call::<R>(channel.clone(), headers, request);
                let response = tokio::time::timeout(self.config.timeout, sending).await;
                response
                    .map_err(|_| self.timed_out())?
                    .map_err(|status| grpc_failure(&status))?
            }
            Transport::Http(client) => self.post::<R>(client, request).await?,
        };
        let (rejected, message) = R::rejected(&response).unwrap_or_default();
        Ok(Taken {
            rejected: usize::try_from(rejected).unwrap_or(0),
            message: message.to_owned(),
        })
    }

    fn timed_out(&self) -> Failure {
        Failure::Temporary {
            message: format!("no answer within {:?}", self.config.timeout),
            after: None,
        }
    }

    async fn call<R: Request>(
        &self,
        channel: Channel,
        headers: &Metadata,
        request: Bytes,
    ) -> Result<R::Response, tonic::Status> {
        let mut client = Grpc::new(channel);
        if self.config.gzip {
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        let mut request = tonic::Request::new(request);
        for (key, value) in headers {
            request.metadata_mut().append(key.clone(), value.clone());
        }
        client
            .ready()
            .await
            .map_err(|error| tonic::Status::from_error(error.into()))?;
        let method = PathAndQuery::from_static(R::METHOD);
        let response = client.unary(request, method, Encoded(PhantomData)).await?;
        Ok(response.into_inner())
    }

    async fn post<R: Request>(
        &self,
        client: &reqwest::Client,
        mut body: Bytes,
    ) -> Result<R::Response, Failure> {
        let mut post = client
            .post(self.config.endpoint.clone())
            .header("content-type", "application/x-protobuf");
        if self.config.gzip {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            let compressed = encoder.write_all(&body).and_then(|()| encoder.finish());
            body = compressed
                .map_err(|error| Failure::Final(error.to_string()))?
                .into();
            post = post.header("content-encoding", "gzip");
        }
        let temporary = |error: reqwest::Error| Failure::Temporary {
            message: chain(&error.without_url()),
            after: None,
        };
        let mut response = post.body(body).send().await.map_err(temporary)?;
        let status = response.status();
        let after = response
            .headers()
            .get("retry-after")
            .and_then(|value| retry_after(value.to_str().ok()?));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(temporary)? {
            if body.len() + chunk.len() > RESPONSE {
                return Err(Failure::Final(format!(
                    "{status}, with an answer that is too long"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return R::Response::decode(body.as_slice())
                .map_err(|error| Failure::Final(format!("{status}, but the answer is no OTLP: {error}")));
        }
        let message = match Status::decode(body.as_slice()) {
            Ok(Status { message, .. }) if !message.is_empty() => format!("{status}: {message}"),
            _ => status.to_string(),
        };
        Err(match status.as_u16() {
            429 | 502 | 503 | 504 => Failure::Temporary { message, after },
            _ => Failure::Final(message),
        })
    }
}

/// Bytes of an answer at most.
const RESPONSE: usize = 1 << 20;

/// The body of an answer other than 2xx (OTLP specification, "Failures").
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// `Retry-After` (RFC 9110 § 10.2.3): seconds or a date.
fn retry_after(value: &str) -> Option<Duration> {
    match value.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let until = httpdate::parse_http_date(value.trim()).ok()?;
            Some(until.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// Which codes may be tried again (OTLP specification, "OTLP/gRPC Response", table of retryable codes).
fn grpc_failure(status: &tonic::Status) -> Failure {
    use tonic::Code;
    let mut message = format!("{:?}", status.code());
    if !status.message().is_empty() {
        message = format!("{message}: {}", status.message());
    }
    let source = std::error::Error::source(status);
    if let Some(source) = source {
        message = format!("{message}: {}", chain(source));
    }
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let is_transport = source.is_some_and(|source| source.is::<tonic::transport::Error>());
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Failure::Temporary { message, after },
        // Without the hint it means that the request is too big.
        Code::ResourceExhausted if after.is_some() => Failure::Temporary { message, after },
        _ if is_transport => Failure::Temporary { message, after },
        _ => Failure::Final(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        assert_eq!(retry_after("120"), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
