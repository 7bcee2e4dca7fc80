//! One JSON object per span and line.

use crate::resource::{ResourceValue, ServiceInstance};
use crate::span::{Batch, Span};
use crate::value::Value;
use redwire_protocol::connection::Endpoint;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use std::fmt::Write as _;
use std::io::{self, Write};

/// Writes spans as lines.
pub(crate) struct JsonLines {
    out: Box<dyn Write + Send>,
    /// The lines of a batch.
    lines: Vec<u8>,
    /// Writing failed: a pipe that was closed is told once.
    failed: bool,
}

impl JsonLines {
    pub(crate) fn new(out: Box<dyn Write + Send>) -> JsonLines {
        JsonLines {
            out,
            lines: Vec::new(),
            failed: false,
        }
    }

    pub(crate) fn write(&mut self, batch: &Batch) {
        if self.failed {
            return;
        }
        self.lines.clear();
        let lines = &mut self.lines;
        let result = batch.iter().try_for_each(|span| -> io::Result<()> {
            serde_json::to_writer(&mut *lines, &Line(span))?;
            lines.push(b'\n');
            Ok(())
        });
        if let Err(error) = result
            .and_then(|()| self.out.write_all(lines))
            .and_then(|()| self.out.flush())
        {
            self.failed = true;
            tracing::error!(%error, "cannot write spans");
        }
    }
}

/// A span as the object of its line.
struct Line<'a>(Span<'a>);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let span = self.0;
        let context = span.context();
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("connection", &Connection(span))?;
        object.serialize_entry("name", span.name())?;
        object.serialize_entry("kind", span.kind().as_str())?;
        object.serialize_entry("trace_id", &hex(&context.trace_id))?;
        object.serialize_entry("span_id", &hex(&context.span_id))?;
        if let Some(parent) = span.parent() {
            object.serialize_entry("parent_span_id", &hex(&parent.context.span_id))?;
        }
        object.serialize_entry("start_unix_nano", &span.start())?;
        object.serialize_entry("end_unix_nano", &span.end())?;
        object.serialize_entry("status", span.status().as_str())?;
        object.serialize_entry("resource", &Instance(span.resource().instance()))?;
        object.serialize_entry("attributes", &Attributes(span))?;
        object.end()
    }
}

struct Connection<'a>(Span<'a>);

impl Serialize for Connection<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([("client", End(self.0.client())), ("server", End(self.0.server()))])
    }
}

struct End<'a>(&'a Endpoint);

impl Serialize for End<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Endpoint::Inet(address) => serializer.collect_str(address),
            Endpoint::Unix(path) => serializer.serialize_str(path),
        }
    }
}

struct Instance<'a>(&'a ServiceInstance);

impl Serialize for Instance<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let attributes = self.0.attributes().iter();
        serializer.collect_map(attributes.map(|(key, value)| (key, Json(value))))
    }
}

struct Attributes<'a>(Span<'a>);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.attributes().map(|(key, value)| (key, Json(value))))
    }
}

/// A value in JSON's types.
struct Json<T>(T);

impl Serialize for Json<&ResourceValue> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            ResourceValue::Str(text) => serializer.serialize_str(text),
            ResourceValue::Int(n) => serializer.serialize_i64(*n),
            ResourceValue::Strs(texts) => serializer.collect_seq(texts),
        }
    }
}

impl Serialize for Json<Value<&str>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Str(text) => serializer.serialize_str(text),
            Value::Int(n) => serializer.serialize_i64(*n),
            Value::Bool(b) => serializer.serialize_bool(*b),
            Value::Decimal(_) | Value::Ip(_) => serializer.collect_str(&self.0),
        }
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
