//! One JSON object per span and line.

use crate::resource::{ResourceValue, ServiceInstance};
use crate::span::{Batch, Span};
use crate::value::Value;
use redwire_protocol::connection::Endpoint;
use serde_json::{Map, Value as Json, json};
use std::fmt::Write as _;
use std::io::{self, Write};

/// Writes spans as lines.
pub(crate) struct JsonLines {
    out: Box<dyn Write + Send>,
    /// Writing failed: a pipe that was closed is told once.
    failed: bool,
}

impl JsonLines {
    pub(crate) fn new(out: Box<dyn Write + Send>) -> JsonLines {
        JsonLines { out, failed: false }
    }

    pub(crate) fn write(&mut self, batch: &Batch) {
        if self.failed {
            return;
        }
        let mut lines = Vec::new();
        let result = batch.iter().try_for_each(|span| -> io::Result<()> {
            serde_json::to_writer(&mut lines, &object(span))?;
            lines.push(b'\n');
            Ok(())
        });
        if let Err(error) = result
            .and_then(|()| self.out.write_all(&lines))
            .and_then(|()| self.out.flush())
        {
            self.failed = true;
            tracing::error!(%error, "cannot write spans");
        }
    }
}

fn object(span: Span<'_>) -> Json {
    let context = span.context();
    let mut object = json!({
        "connection": {"client": endpoint(span.client()), "server": endpoint(span.server())},
        "name": span.name(),
        "kind": span.kind().as_str(),
        "trace_id": hex(&context.trace_id),
        "span_id": hex(&context.span_id),
        "start_unix_nano": span.start(),
        "end_unix_nano": span.end(),
        "status": span.status().as_str(),
        "resource": resource(span.resource().instance()),
        "attributes": span.attributes().map(|(key, value)| (key.to_owned(), attribute(&value))).collect::<Map<_, _>>(),
    });
    if let Some(parent) = span.parent() {
        object["parent_span_id"] = hex(&parent.context.span_id).into();
    }
    object
}

fn endpoint(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Inet(address) => address.to_string(),
        Endpoint::Unix(path) => path.to_string(),
    }
}

fn attribute(value: &Value<&str>) -> Json {
    match value {
        Value::Int(n) => (*n).into(),
        Value::Bool(b) => (*b).into(),
        text => text.to_string().into(),
    }
}

fn resource(instance: &ServiceInstance) -> Map<String, Json> {
    let value = |value: &ResourceValue| match value {
        ResourceValue::Str(text) => text.as_str().into(),
        ResourceValue::Int(n) => (*n).into(),
        ResourceValue::Strs(texts) => texts.as_slice().into(),
    };
    instance
        .attributes()
        .iter()
        .map(|(key, of)| (key.clone(), value(of)))
        .collect()
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
