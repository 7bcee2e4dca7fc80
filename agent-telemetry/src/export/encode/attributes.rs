//! Attributes of spans, encoded once for as long as they come again.

use super::value;
use crate::span::bounded;
use crate::value::{Key, Value, same_text};
use hashbrown::DefaultHashBuilder;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::Span as OtlpSpan;
use prost::Message as _;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

/// Sets of encoded attributes; a power of two. A service of some routes has a few dozen attributes that come again.
const SETS: usize = 512;

/// Bytes of an encoded attribute that is remembered. With more there is little to win: most of the work is to copy.
const REMEMBERED: usize = 144;

/// Most are no longer than that: to copy so much is a few instructions.
const SHORT: usize = 64;

/// An attribute and its encoding. Of most, all that is read lies in two cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Entry {
    /// The key's address and length: keys are constants.
    key: (usize, usize),
    /// The value; of a text its length.
    value: Value<usize>,
    length: usize,
    /// A text is its end.
    encoded: [u8; REMEMBERED],
}

impl Entry {
    const EMPTY: Entry = Entry {
        key: (0, 0),
        value: Value::Bool(false),
        length: 0,
        encoded: [0; REMEMBERED],
    };

    fn ends_with(&self, text: &str) -> bool {
        let from = self.length.checked_sub(text.len());
        let end = from.and_then(|from| self.encoded.get(from..self.length));
        end.is_some_and(|end| same_text(end, text.as_bytes()))
    }

    fn append_to(&self, to: &mut Vec<u8>) {
        let end = to.len() + self.length;
        match self.encoded.first_chunk::<SHORT>() {
            Some(short) if self.length <= SHORT => to.extend_from_slice(short),
            _ => to.extend_from_slice(&self.encoded),
        }
        to.truncate(end);
    }
}

/// Encodes attributes as messages `Span` that have nothing else. Put behind one another, such messages are one span
/// with all of these attributes (Protocol Buffers, "Encoding", "Last One Wins": repeated fields are concatenated).
#[derive(Debug)]
pub(super) struct Attributes {
    /// Two attributes that meet in one place do not always push each other out.
    sets: Vec<[Entry; 2]>,
    hasher: DefaultHashBuilder,
    /// Spans with one attribute, a text and something else: filled again for the next of their kind, a text needs no
    /// other memory.
    text: OtlpSpan,
    other: OtlpSpan,
}

fn with_one_attribute() -> OtlpSpan {
    OtlpSpan {
        attributes: vec![KeyValue::default()],
        ..OtlpSpan::default()
    }
}

impl Default for Attributes {
    fn default() -> Self {
        Attributes {
            sets: vec![[Entry::EMPTY; 2]; SETS],
            hasher: DefaultHashBuilder::default(),
            text: with_one_attribute(),
            other: with_one_attribute(),
        }
    }
}

impl Attributes {
    /// Appends an attribute to `to`.
    pub(super) fn encode(&mut self, key: Key, of: &Value<&str>, to: &mut Vec<u8>) {
        let text = match of {
            Value::Str(text) => text,
            _ => "",
        };
        if text.len() > REMEMBERED {
            set_attribute(&mut self.text.attributes[0], key, &Value::Str(bounded(text)));
            // A vector has always room.
            let _ = self.text.encode(to);
            return;
        }
        let mut hasher = self.hasher.build_hasher();
        let place = (key.as_ptr().addr(), key.len());
        hasher.write_usize(place.0);
        match of {
            Value::Str(text) => hasher.write(text.as_bytes()),
            other => other.hash(&mut hasher),
        }
        let hash = hasher.finish() as usize;
        let set = &mut self.sets[hash % SETS];
        let value = of.map(|text| text.len());
        let known = set
            .iter()
            .find(|entry| entry.key == place && entry.value == value && entry.ends_with(text));
        if let Some(known) = known {
            known.append_to(to);
            return;
        }
        let message = match of {
            Value::Int(_) | Value::Bool(_) => &mut self.other,
            _ => &mut self.text,
        };
        set_attribute(&mut message.attributes[0], key, of);
        let from = to.len();
        let _ = message.encode(to);
        let encoded = &to[from..];
        let entry = &mut set[hash / SETS % 2];
        if let Some(room) = entry.encoded.get_mut(..encoded.len()) {
            room.copy_from_slice(encoded);
            (entry.key, entry.value, entry.length) = (place, value, encoded.len());
        }
    }
}

/// Writes `text` over what `to` holds.
pub(super) fn set_text(to: &mut String, text: &str) {
    to.clear();
    to.push_str(text);
}

/// Writes an attribute over another.
fn set_attribute(to: &mut KeyValue, key: &str, of: &Value<&str>) {
    set_text(&mut to.key, key);
    let old = &mut to.value.get_or_insert_default().value;
    match (of, &mut *old) {
        (Value::Int(_) | Value::Bool(_), old) => *old = Some(value(of)),
        (of, Some(Any::StringValue(text))) => {
            text.clear();
            // Writing to a string cannot fail.
            let _ = write!(text, "{of}");
        }
        (of, old) => *old = Some(value(of)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::TEXT;
    use opentelemetry_proto::tonic::common::v1::AnyValue;

    fn decoded(encoded: &[u8]) -> Vec<(String, Option<AnyValue>)> {
        let span = OtlpSpan::decode(encoded).expect("it is a span");
        span.attributes
            .into_iter()
            .map(|attribute| (attribute.key, attribute.value))
            .collect()
    }

    /// What `prost` makes of the same attributes, each in a message of its own making.
    fn expected(attributes: &[(Key, Value<&str>)]) -> Vec<(String, Option<AnyValue>)> {
        let any = |of: &Value<&str>| {
            Some(AnyValue {
                value: Some(value(of)),
            })
        };
        attributes
            .iter()
            .map(|(key, of)| ((*key).to_owned(), any(of)))
            .collect()
    }

    #[test]
    fn attributes_put_behind_one_another_are_those_of_one_span() {
        let long = "x".repeat(REMEMBERED + 1);
        let longest = "y".repeat(REMEMBERED);
        let numbers: Vec<i64> = (0..5 * SETS as i64).collect();
        let mut all = vec![
            ("a", Value::Str("text")),
            ("a", Value::Str("")),
            ("b", Value::Str("text")),
            ("b", Value::Str("ext")),
            ("b", Value::Str(long.as_str())),
            ("b", Value::Str(longest.as_str())),
            ("a", Value::Decimal(7)),
            ("a", Value::Str("7")),
            ("a", Value::Int(7)),
            ("a", Value::Bool(true)),
            ("a", Value::Ip([192, 0, 2, 1].into())),
            ("a", Value::Str("192.0.2.1")),
        ];
        // More than there is room for, so that every place is written over.
        all.extend(numbers.iter().map(|n| ("port", Value::Int(*n))));
        let mut attributes = Attributes::default();
        for _ in 0..2 {
            let mut encoded = Vec::new();
            for (key, of) in &all {
                attributes.encode(key, of, &mut encoded);
            }
            assert_eq!(decoded(&encoded), expected(&all));
        }
    }

    #[test]
    fn a_text_is_cut_off_at_a_character_s_end() {
        let long = "é".repeat(TEXT);
        let mut encoded = Vec::new();
        Attributes::default().encode("a", &Value::Str(&long), &mut encoded);
        assert_eq!(decoded(&encoded), expected(&[("a", Value::Str(&long[..TEXT]))]));
    }
}
