//! Where OTLP goes: the `OTEL_EXPORTER_OTLP_*` variables (OTLP exporter specification, "Configuration Options").

use crate::resource::percent_decode;
use reqwest::Url;
use std::path::PathBuf;
use std::time::Duration;

/// How OTLP is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with protobuf bodies.
    HttpProtobuf,
}

impl Protocol {
    /// As in `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Grpc => "grpc",
            Protocol::HttpProtobuf => "http/protobuf",
        }
    }
}

/// How the values of counters and histograms relate to those exported before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Temporality {
    /// Since the beginning.
    #[default]
    Cumulative,
    /// Since the last export; up-down counters stay cumulative.
    Delta,
}

/// Where one signal goes.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalConfig {
    /// For gRPC the server; for HTTP the full address, path included.
    pub endpoint: Url,
    /// How.
    pub protocol: Protocol,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// For one attempt.
    pub timeout: Duration,
    /// Whether requests are compressed.
    pub gzip: bool,
    /// PEM file of the authorities to trust instead of the system's.
    pub certificate: Option<PathBuf>,
    /// PEM files of the client's certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Where all signals go; `None` for those that go nowhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OtlpConfig {
    /// Spans.
    pub traces: Option<SignalConfig>,
    /// Metrics.
    pub metrics: Option<SignalConfig>,
    /// The agent's own logs.
    pub logs: Option<SignalConfig>,
    /// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
    pub temporality: Temporality,
}

/// A variable whose value does not say what it should.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{variable}={value:?}: {problem}")]
pub struct ConfigError {
    /// Its name.
    pub variable: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
}

impl OtlpConfig {
    /// Reads the variables by `get`. `endpoint` (of a flag or file) stands in for `OTEL_EXPORTER_OTLP_ENDPOINT` and is
    /// stronger than the endpoints of the signals, too. Without any endpoint all signals are `None`.
    ///
    /// Where the protocol is not told, it is gRPC for port 4317 and HTTP/protobuf otherwise.
    ///
    /// # Errors
    /// The first variable that makes no sense.
    pub fn read(
        endpoint: Option<&str>,
        get: &dyn Fn(&str) -> Option<String>,
    ) -> Result<OtlpConfig, ConfigError> {
        let temporality = match get(TEMPORALITY).as_deref().map(str::trim) {
            None | Some("") => Temporality::Cumulative,
            Some(value) if value.eq_ignore_ascii_case("cumulative") => Temporality::Cumulative,
            Some(value) if value.eq_ignore_ascii_case("delta") || value.eq_ignore_ascii_case("lowmemory") => {
                Temporality::Delta
            }
            Some(value) => {
                return Err(error(
                    TEMPORALITY,
                    value,
                    "must be cumulative, delta or lowmemory",
                ));
            }
        };
        let reader = Reader { endpoint, get };
        Ok(OtlpConfig {
            traces: reader.signal("TRACES", "v1/traces")?,
            metrics: reader.signal("METRICS", "v1/metrics")?,
            logs: reader.signal("LOGS", "v1/logs")?,
            temporality,
        })
    }

    /// Whether anything goes anywhere.
    pub fn is_on(&self) -> bool {
        self.traces.is_some() || self.metrics.is_some() || self.logs.is_some()
    }
}

const TEMPORALITY: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";

fn error(variable: &str, value: &str, problem: &str) -> ConfigError {
    ConfigError {
        variable: variable.to_owned(),
        value: value.to_owned(),
        problem: problem.to_owned(),
    }
}

struct Reader<'a> {
    endpoint: Option<&'a str>,
    get: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    /// The variable of the signal, else that of all signals; with its name. Empty ones are as good as unset.
    fn variable(&self, signal: &str, what: &str) -> Option<(String, String)> {
        let names = [
            format!("OTEL_EXPORTER_OTLP_{signal}_{what}"),
            format!("OTEL_EXPORTER_OTLP_{what}"),
        ];
        names.into_iter().find_map(|name| {
            let value = (self.get)(&name)?.trim().to_owned();
            (!value.is_empty()).then_some((name, value))
        })
    }

    fn signal(&self, signal: &str, path: &str) -> Result<Option<SignalConfig>, ConfigError> {
        if (self.get)(&format!("OTEL_{signal}_EXPORTER")).is_some_and(|exporter| exporter.trim() == "none") {
            return Ok(None);
        }
        let given = self
            .endpoint
            .map(|value| ("the OTLP endpoint".to_owned(), value.to_owned()));
        let Some((name, value)) = given.or_else(|| self.variable(signal, "ENDPOINT")) else {
            return Ok(None);
        };
        let insecure = match self.variable(signal, "INSECURE") {
            None => false,
            Some((_, value)) if value.eq_ignore_ascii_case("true") => true,
            Some((_, value)) if value.eq_ignore_ascii_case("false") => false,
            Some((name, value)) => return Err(error(&name, &value, "must be true or false")),
        };
        let scheme = if insecure { "http" } else { "https" };
        let text = if value.contains("://") {
            value.clone()
        } else {
            format!("{scheme}://{value}")
        };
        let mut endpoint = Url::parse(&text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                error(
                    &name,
                    &value,
                    "must be like http://host:4317 or https://host:4318",
                )
            })?;
        let protocol = match self.variable(signal, "PROTOCOL") {
            None if endpoint.port() == Some(4317) => Protocol::Grpc,
            None => Protocol::HttpProtobuf,
            Some((_, value)) if value == "grpc" => Protocol::Grpc,
            Some((_, value)) if value == "http/protobuf" => Protocol::HttpProtobuf,
            Some((name, value)) => return Err(error(&name, &value, "must be grpc or http/protobuf")),
        };
        // The endpoint of one signal is taken as it is, that of all signals is a base.
        if protocol == Protocol::HttpProtobuf && !name.contains(signal) {
            let base = endpoint.path().trim_end_matches('/').to_owned();
            endpoint.set_path(&format!("{base}/{path}"));
        }
        Ok(Some(SignalConfig {
            endpoint,
            protocol,
            headers: self.headers(signal)?,
            timeout: self.timeout(signal)?,
            gzip: match self.variable(signal, "COMPRESSION") {
                None => false,
                Some((_, value)) if value == "none" => false,
                Some((_, value)) if value == "gzip" => true,
                Some((name, value)) => return Err(error(&name, &value, "must be gzip or none")),
            },
            certificate: self.variable(signal, "CERTIFICATE").map(|(_, path)| path.into()),
            identity: self.identity(signal)?,
        }))
    }

    fn headers(&self, signal: &str) -> Result<Vec<(String, String)>, ConfigError> {
        let Some((name, value)) = self.variable(signal, "HEADERS") else {
            return Ok(Vec::new());
        };
        let pairs = value.split(',').filter(|pair| !pair.trim().is_empty());
        let header = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            let (key, value) = (percent_decode(key.trim()), percent_decode(value.trim()));
            let is_valid = reqwest::header::HeaderName::try_from(&key).is_ok()
                && reqwest::header::HeaderValue::try_from(&value).is_ok();
            is_valid.then_some((key, value))
        };
        // The value is not shown: headers hold credentials.
        let fail = || error(&name, "…", "must be like key=value,key=value");
        pairs.map(|pair| header(pair).ok_or_else(fail)).collect()
    }

    fn timeout(&self, signal: &str) -> Result<Duration, ConfigError> {
        match self.variable(signal, "TIMEOUT") {
            None => Ok(Duration::from_secs(10)),
            Some((name, value)) => match value.parse() {
                Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
                _ => Err(error(&name, &value, "must be a number of milliseconds above 0")),
            },
        }
    }

    fn identity(&self, signal: &str) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
        match (
            self.variable(signal, "CLIENT_CERTIFICATE"),
            self.variable(signal, "CLIENT_KEY"),
        ) {
            (Some((_, certificate)), Some((_, key))) => Ok(Some((certificate.into(), key.into()))),
            (None, None) => Ok(None),
            (Some((name, value)), None) => Err(error(&name, &value, "needs a client key, too")),
            (None, Some((name, value))) => Err(error(&name, &value, "needs a client certificate, too")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(endpoint: Option<&str>, variables: &[(&str, &str)]) -> Result<OtlpConfig, ConfigError> {
        OtlpConfig::read(endpoint, &|name| {
            let found = variables.iter().find(|(known, _)| {
                known
                    .strip_prefix('+')
                    .map_or(*known == name, |end| name == format!("OTEL_EXPORTER_OTLP_{end}"))
            });
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn off_without_an_endpoint() {
        assert!(!read(None, &[("+PROTOCOL", "grpc")]).unwrap().is_on());
        assert!(!read(None, &[("+ENDPOINT", " ")]).unwrap().is_on());
    }

    #[test]
    fn paths_are_appended_to_a_base_only() {
        let config = read(
            None,
            &[
                ("+ENDPOINT", "http://collector:4318/base/"),
                ("+TRACES_ENDPOINT", "https://other/mine"),
            ],
        )
        .unwrap();
        assert_eq!(config.traces.unwrap().endpoint.as_str(), "https://other/mine");
        let metrics = config.metrics.unwrap();
        assert_eq!(metrics.endpoint.as_str(), "http://collector:4318/base/v1/metrics");
        assert_eq!(metrics.protocol, Protocol::HttpProtobuf);
        assert_eq!(metrics.timeout, Duration::from_secs(10));
    }

    #[test]
    fn a_flag_is_stronger_and_4317_is_grpc() {
        let config = read(Some("http://a:4317"), &[("+TRACES_ENDPOINT", "http://b:4318")]).unwrap();
        let traces = config.traces.unwrap();
        assert_eq!(
            (traces.endpoint.as_str(), traces.protocol),
            ("http://a:4317/", Protocol::Grpc)
        );
    }

    #[test]
    fn without_a_scheme_insecure_decides() {
        let scheme = |variables: &[(&str, &str)]| {
            read(Some("collector:4317"), variables)
                .unwrap()
                .traces
                .unwrap()
                .endpoint
                .scheme()
                .to_owned()
        };
        assert_eq!(scheme(&[]), "https");
        assert_eq!(scheme(&[("+INSECURE", "true")]), "http");
        assert_eq!(
            scheme(&[("+INSECURE", "true"), ("+TRACES_INSECURE", "false")]),
            "https"
        );
    }

    #[test]
    fn everything_per_signal() {
        let config = read(
            Some("http://c:4317"),
            &[
                ("+HEADERS", "api-key=a%3Db, x=1"),
                ("+METRICS_HEADERS", "y=2"),
                ("+TIMEOUT", "2500"),
                ("+TRACES_COMPRESSION", "gzip"),
                ("+CERTIFICATE", "ca.pem"),
                ("+CLIENT_KEY", "k.pem"),
                ("+CLIENT_CERTIFICATE", "c.pem"),
                ("OTEL_LOGS_EXPORTER", "none"),
                (TEMPORALITY, "Delta"),
            ],
        )
        .unwrap();
        let (traces, metrics) = (config.traces.unwrap(), config.metrics.unwrap());
        assert_eq!(
            traces.headers,
            [("api-key".into(), "a=b".into()), ("x".into(), "1".into())]
        );
        assert_eq!(metrics.headers, [("y".into(), "2".into())]);
        assert_eq!(traces.timeout, Duration::from_millis(2500));
        assert_eq!((traces.gzip, metrics.gzip), (true, false));
        assert_eq!(traces.certificate, Some("ca.pem".into()));
        assert_eq!(traces.identity, Some(("c.pem".into(), "k.pem".into())));
        assert_eq!(config.logs, None);
        assert_eq!(config.temporality, Temporality::Delta);
    }

    #[test]
    fn nonsense_is_named() {
        for (variable, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://x"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "br"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "yes"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "k"),
            (TEMPORALITY, "x"),
        ] {
            let result = read(None, &[(variable, value), ("+ENDPOINT", "http://x:4317")]);
            assert_eq!(result.unwrap_err().variable, variable, "{value}");
        }
    }
}
