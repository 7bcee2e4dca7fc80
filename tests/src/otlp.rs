//! What the collector's file exporter wrote: OTLP in JSON, one request a line.

use crate::{Counts, Totals};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// `http.response.status_code`
pub const STATUS_CODE: &str = "http.response.status_code";
/// `http.server.request.duration`
pub const SERVER_DURATION: &str = "http.server.request.duration";
/// `http.client.request.duration`
pub const CLIENT_DURATION: &str = "http.client.request.duration";

/// `SpanKind` of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The observed side answered.
    Server = 2,
    /// The observed side asked.
    Client = 3,
    /// A message was sent.
    Producer = 4,
    /// A message was received.
    Consumer = 5,
}

impl Kind {
    /// The metric that counts requests of this kind.
    pub fn duration_metric(self) -> &'static str {
        match self {
            Kind::Server => SERVER_DURATION,
            Kind::Client | Kind::Producer | Kind::Consumer => CLIENT_DURATION,
        }
    }
}

/// Attributes by name, values in their text form.
pub type Attributes = BTreeMap<String, String>;

/// A span.
#[derive(Debug, Clone)]
pub struct Span {
    /// `service.name` of its resource.
    pub service: String,
    /// Its name.
    pub name: String,
    /// `SpanKind` as a number.
    pub kind: i32,
    /// Trace id in hexadecimal.
    pub trace_id: String,
    /// Span id in hexadecimal.
    pub span_id: String,
    /// Parent's span id, empty for none.
    pub parent_span_id: String,
    /// Trace and span ids that it is linked to, in hexadecimal.
    pub links: Vec<(String, String)>,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    /// Nanoseconds since the Unix epoch.
    pub end: u64,
    /// Status code of OTLP: 0 unset, 1 ok, 2 error.
    pub status: i32,
    /// Its attributes.
    pub attributes: Attributes,
    /// Which request it came in. Spans of one are in the order in which they were seen; requests overtake each other.
    pub request: usize,
}

impl Span {
    /// `http.response.status_code`, 0 for none.
    pub fn status_code(&self) -> u16 {
        self.attributes
            .get(STATUS_CODE)
            .and_then(|code| code.parse().ok())
            .unwrap_or_default()
    }
}

/// One series of a metric: the total of all its points.
#[derive(Debug, Clone)]
pub struct Series {
    /// `service.name` of its resource.
    pub service: String,
    /// Name of the metric.
    pub metric: String,
    /// Attributes of its points.
    pub attributes: Attributes,
    /// Observations of a histogram; the value of a sum.
    pub count: u64,
}

/// Everything that a collector received.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// All spans.
    pub spans: Vec<Span>,
    /// All series.
    pub series: Vec<Series>,
}

/// Reads what a collector writes, as far as it is written.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    /// How far `traces.jsonl` and `metrics.jsonl` are read, in bytes.
    read: [u64; 2],
    requests: usize,
    points: Points,
    telemetry: Telemetry,
}

impl Reader {
    /// Of `traces.jsonl` and `metrics.jsonl` of `folder`; a file that is not there holds nothing.
    pub fn new(folder: &Path) -> Reader {
        Reader {
            folder: folder.to_owned(),
            read: [0; 2],
            requests: 0,
            points: Points::default(),
            telemetry: Telemetry::default(),
        }
    }

    /// Reads on. Everything so far.
    ///
    /// # Errors
    /// Where a line is not OTLP.
    pub fn read(&mut self) -> Result<&Telemetry> {
        let Reader {
            folder,
            read,
            requests,
            points,
            telemetry,
        } = self;
        lines(&folder.join("traces.jsonl"), &mut read[0], |line: TracesData| {
            for resource in line.resource_spans {
                let service = service(&resource.resource);
                let scopes = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                telemetry
                    .spans
                    .extend(scopes.map(|span| span.named(&service, *requests)));
            }
            *requests += 1;
        })?;
        let before = read[1];
        lines(
            &folder.join("metrics.jsonl"),
            &mut read[1],
            |line: MetricsData| {
                points.add(line);
            },
        )?;
        if read[1] != before {
            telemetry.series = points.series();
        }
        Ok(telemetry)
    }
}

impl Telemetry {
    /// Reads `traces.jsonl` and `metrics.jsonl` of `folder`; a file that is not there holds nothing.
    ///
    /// # Errors
    /// Where a line is not OTLP.
    pub fn read(folder: &Path) -> Result<Telemetry> {
        let mut reader = Reader::new(folder);
        reader.read()?;
        Ok(reader.telemetry)
    }

    /// Spans of a service, of one kind.
    pub fn spans(&self, service: &str, kind: Kind) -> impl Iterator<Item = &Span> {
        self.spans
            .iter()
            .filter(move |span| span.service == service && span.kind == kind as i32)
    }

    /// Spans of a service by status code; 0 stands for none.
    pub fn span_counts(&self, service: &str, kind: Kind) -> Counts {
        let mut counts = Counts::new();
        for span in self.spans(service, kind) {
            *counts.entry(span.status_code()).or_default() += 1;
        }
        counts
    }

    /// Requests that the duration metric of a service counts, by status code; 0 stands for none.
    pub fn metric_counts(&self, service: &str, kind: Kind) -> Counts {
        let mut counts = Counts::new();
        let metric = kind.duration_metric();
        for series in self
            .series
            .iter()
            .filter(|series| series.service == service && series.metric == metric)
        {
            let status = series
                .attributes
                .get(STATUS_CODE)
                .and_then(|code| code.parse().ok());
            *counts.entry(status.unwrap_or_default()).or_default() += series.count;
        }
        counts
    }

    /// Spans of a service by these attributes; see [`label`].
    pub fn span_totals(&self, service: &str, kind: Kind, names: &[&str]) -> Totals {
        let mut totals = Totals::new();
        for span in self.spans(service, kind) {
            *totals.entry(label(&span.attributes, names)).or_default() += 1;
        }
        totals
    }

    /// What a metric of a service counts, by these attributes; see [`label`].
    pub fn metric_totals(&self, service: &str, metric: &str, names: &[&str]) -> Totals {
        let mut totals = Totals::new();
        let of_service = |series: &&Series| series.service == service && series.metric == metric;
        for series in self.series.iter().filter(of_service) {
            *totals.entry(label(&series.attributes, names)).or_default() += series.count;
        }
        totals.retain(|_, count| *count > 0);
        totals
    }

    /// The agent's own counter `metric`, by the value of `attribute` (all values in one where empty).
    pub fn own(&self, metric: &str, attribute: &str) -> BTreeMap<String, u64> {
        let mut totals = BTreeMap::new();
        for series in self
            .series
            .iter()
            .filter(|series| series.metric == metric && series.count > 0)
        {
            let key = series.attributes.get(attribute).cloned().unwrap_or_default();
            *totals.entry(key).or_default() += series.count;
        }
        totals
    }

    /// `redwire.loss` by reason.
    pub fn losses(&self) -> BTreeMap<String, u64> {
        self.own("redwire.loss", "redwire.loss.reason")
    }

    /// `redwire.capture.bytes` by what became of them.
    pub fn captured_bytes(&self) -> BTreeMap<String, u64> {
        self.own("redwire.capture.bytes", "redwire.capture.state")
    }
}

/// The values of these attributes, those that are there, with a space between: `SELECT 22012`.
pub fn label(attributes: &Attributes, names: &[&str]) -> String {
    let values: Vec<&str> = names
        .iter()
        .filter_map(|&name| attributes.get(name).map(String::as_str))
        .collect();
    values.join(" ")
}

/// Reads lines from the byte `at` on. A last line without its end is still being written.
fn lines<T: for<'a> Deserialize<'a>>(path: &Path, at: &mut u64, mut each: impl FnMut(T)) -> Result<()> {
    let Ok(mut file) = File::open(path) else {
        return Ok(());
    };
    file.seek(SeekFrom::Start(*at))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let size = reader.read_until(b'\n', &mut line)?;
        let Some(line) = line.strip_suffix(b"\n") else {
            return Ok(());
        };
        each(serde_json::from_slice(line).with_context(|| format!("{}, byte {at}", path.display()))?);
        *at += size as u64;
    }
}

/// Adds up points: the last one of a cumulative series since each of its starts, all of a delta series.
#[derive(Debug, Default)]
struct Points(BTreeMap<(String, String, Attributes), Starts>);

/// By start time of the points: time and value of the latest.
type Starts = BTreeMap<u64, (u64, u64)>;

impl Points {
    fn add(&mut self, line: MetricsData) {
        for resource in line.resource_metrics {
            let service = service(&resource.resource);
            // Series of two instances of a service are two series.
            let identity = |attributes: Attributes| {
                let of_resource = resource.resource.attributes.iter();
                let of_resource =
                    of_resource.map(|pair| (format!("resource {}", pair.key), pair.value.text()));
                attributes.into_iter().chain(of_resource).collect()
            };
            for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let data = [metric.histogram, metric.exponential_histogram, metric.sum];
                for data in data.into_iter().flatten() {
                    for point in data.data_points {
                        let value = point.count.max(u64::try_from(point.as_int).unwrap_or_default());
                        let time = (point.time_unix_nano, value);
                        let attributes = identity(attributes(point.attributes));
                        let key = (service.clone(), metric.name.clone(), attributes);
                        let starts = self.0.entry(key).or_default();
                        let start = if data.aggregation_temporality == DELTA {
                            time.0
                        } else {
                            point.start_time_unix_nano
                        };
                        let latest = starts.entry(start).or_default();
                        *latest = (*latest).max(time);
                    }
                }
            }
        }
    }

    fn series(&self) -> Vec<Series> {
        let series = self
            .0
            .iter()
            .map(|((service, metric, attributes), starts)| Series {
                service: service.clone(),
                metric: metric.clone(),
                attributes: attributes.clone(),
                count: starts.values().map(|(_, value)| value).sum(),
            });
        series.collect()
    }
}

/// `AGGREGATION_TEMPORALITY_DELTA`
const DELTA: i32 = 1;

fn service(resource: &Resource) -> String {
    let name = resource.attributes.iter().find(|pair| pair.key == "service.name");
    name.map(|pair| pair.value.text()).unwrap_or_default()
}

fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    pairs
        .into_iter()
        .map(|pair| (pair.key, pair.value.text()))
        .collect()
}

/// 64-bit numbers are strings in the JSON form of protocol buffers.
fn number<'a, T: FromStr<Err: Display>, D: Deserializer<'a>>(deserializer: D) -> Result<T, D::Error> {
    let text: &str = Deserialize::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TracesData {
    #[serde(default)]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    #[serde(default)]
    resource: Resource,
    #[serde(default)]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
struct ScopeSpans {
    #[serde(default)]
    spans: Vec<SpanData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpanData {
    #[serde(default)]
    name: String,
    #[serde(default)]
    kind: i32,
    trace_id: String,
    span_id: String,
    #[serde(default)]
    parent_span_id: String,
    #[serde(default)]
    links: Vec<LinkData>,
    #[serde(deserialize_with = "number")]
    start_time_unix_nano: u64,
    #[serde(deserialize_with = "number")]
    end_time_unix_nano: u64,
    #[serde(default)]
    status: StatusData,
    #[serde(default)]
    attributes: Vec<KeyValue>,
}

impl SpanData {
    fn named(self, service: &str, request: usize) -> Span {
        Span {
            service: service.to_owned(),
            name: self.name,
            kind: self.kind,
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent_span_id: self.parent_span_id,
            links: self
                .links
                .into_iter()
                .map(|link| (link.trace_id, link.span_id))
                .collect(),
            start: self.start_time_unix_nano,
            end: self.end_time_unix_nano,
            status: self.status.code,
            attributes: attributes(self.attributes),
            request,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LinkData {
    trace_id: String,
    span_id: String,
}

#[derive(Default, Deserialize)]
struct StatusData {
    #[serde(default)]
    code: i32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricsData {
    #[serde(default)]
    resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics {
    #[serde(default)]
    resource: Resource,
    #[serde(default)]
    scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Deserialize)]
struct ScopeMetrics {
    #[serde(default)]
    metrics: Vec<MetricData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricData {
    name: String,
    histogram: Option<PointsData>,
    exponential_histogram: Option<PointsData>,
    sum: Option<PointsData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PointsData {
    #[serde(default)]
    aggregation_temporality: i32,
    #[serde(default)]
    data_points: Vec<PointData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PointData {
    #[serde(default)]
    attributes: Vec<KeyValue>,
    #[serde(default, deserialize_with = "number")]
    start_time_unix_nano: u64,
    #[serde(default, deserialize_with = "number")]
    time_unix_nano: u64,
    #[serde(default, deserialize_with = "number")]
    count: u64,
    #[serde(default, deserialize_with = "number")]
    as_int: i64,
}

#[derive(Default, Deserialize)]
struct Resource {
    #[serde(default)]
    attributes: Vec<KeyValue>,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    #[serde(default)]
    value: serde_json::Value,
}

/// The text of an `AnyValue`, an object with one field named after the type.
trait Text {
    fn text(&self) -> String;
}

impl Text for serde_json::Value {
    fn text(&self) -> String {
        match self.as_object().and_then(|fields| fields.values().next()) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, traces: &str, metrics: &str) -> Telemetry {
        let folder = std::env::temp_dir().join(format!("redwire-otlp-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        for (file, text) in [("traces.jsonl", traces), ("metrics.jsonl", metrics)] {
            // The collector ends each line.
            let lines: String = text.lines().map(|line| format!("{line}\n")).collect();
            std::fs::write(folder.join(file), lines).expect("a file");
        }
        let telemetry = Telemetry::read(&folder);
        std::fs::remove_dir_all(&folder).expect("the folder goes");
        telemetry.expect("OTLP")
    }

    fn metrics(temporality: i32, points: &[(u64, u64, u64)]) -> String {
        let line = |(start, time, count): &(u64, u64, u64)| {
            format!(
                r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},"scopeMetrics":[{{"scope":{{}},"metrics":[{{"name":"http.server.request.duration","exponentialHistogram":{{"aggregationTemporality":{temporality},"dataPoints":[{{"attributes":[{{"key":"http.response.status_code","value":{{"intValue":"200"}}}}],"startTimeUnixNano":"{start}","timeUnixNano":"{time}","count":"{count}"}}]}}}}]}}]}}]}}"#
            )
        };
        points.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn cumulative_points_replace_and_delta_points_add_up() {
        let cumulative = read(
            "cumulative",
            "",
            &metrics(2, &[(1, 5, 10), (1, 9, 30), (1, 7, 20), (10, 11, 2)]),
        );
        assert_eq!(
            cumulative.metric_counts("shop", Kind::Server),
            Counts::from([(200, 32)])
        );
        assert_eq!(cumulative.metric_counts("shop", Kind::Client), Counts::new());
        let delta = read("delta", "", &metrics(1, &[(1, 5, 10), (5, 9, 30)]));
        assert_eq!(
            delta.metric_counts("shop", Kind::Server),
            Counts::from([(200, 40)])
        );
    }

    #[test]
    fn spans_are_counted_by_service_kind_and_status() {
        let line = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans":[{"scope":{},"spans":[{"traceId":"0102","spanId":"03","name":"GET /","kind":2,"startTimeUnixNano":"17","endTimeUnixNano":"19","attributes":[{"key":"http.response.status_code","value":{"intValue":"404"}}],"status":{"code":2}}]}]}]}"#;
        let telemetry = read("spans", line, "");
        assert_eq!(
            telemetry.span_counts("shop", Kind::Server),
            Counts::from([(404, 1)])
        );
        assert_eq!(telemetry.span_counts("shop", Kind::Client), Counts::new());
        let span = &telemetry.spans[0];
        assert_eq!((span.start, span.end, span.status), (17, 19, 2));
    }
}
