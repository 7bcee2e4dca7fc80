//! Spans and series in OTLP's messages.

mod attributes;
mod metrics;
mod traces;

pub(crate) use metrics::metrics;
pub(crate) use traces::{EncodedSpans, SpanEncoder};

use crate::resource::{Resource, ResourceValue};
use crate::value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value as Any,
};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "redwire".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    })
}

fn key_value(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn value<S: AsRef<str>>(value: &Value<S>) -> Any {
    match value {
        Value::Int(n) => Any::IntValue(*n),
        Value::Bool(b) => Any::BoolValue(*b),
        text => Any::StringValue(text.to_string()),
    }
}

fn attribute<S: AsRef<str>>(key: &str, of: &Value<S>) -> KeyValue {
    key_value(key, value(of))
}

fn resource(resource: &Resource) -> Option<OtlpResource> {
    let text = |text: &String| Any::StringValue(text.clone());
    let value = |value: &ResourceValue| match value {
        ResourceValue::Str(s) => text(s),
        ResourceValue::Int(n) => Any::IntValue(*n),
        ResourceValue::Strs(all) => Any::ArrayValue(ArrayValue {
            values: all.iter().map(|s| AnyValue { value: Some(text(s)) }).collect(),
        }),
    };
    let attributes = resource.instance().attributes().iter();
    Some(OtlpResource {
        attributes: attributes.map(|(key, of)| key_value(key, value(of))).collect(),
        ..OtlpResource::default()
    })
}
