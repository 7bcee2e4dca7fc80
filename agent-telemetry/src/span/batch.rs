//! Spans on their way out, in few and reusable allocations.

use super::{Description, Kind, Status};
use crate::resource::Resource;
use crate::value::{Attribute, Key, Value};
use redwire_protocol::connection::Endpoint;
use redwire_protocol::trace_context::SpanContext;
use std::sync::Arc;

/// A place in a batch's text.
#[derive(Debug, Clone, Copy)]
struct Place {
    from: u32,
    to: u32,
}

#[derive(Debug)]
struct Head {
    context: SpanContext,
    parent: Option<Parent>,
    resource: Arc<Resource>,
    client: Endpoint,
    server: Endpoint,
    kind: Kind,
    status: Status,
    start: u64,
    end: u64,
    name: Place,
    attributes: (u32, u32),
}

/// What a span belongs under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent {
    /// Its identity.
    pub context: SpanContext,
    /// Whether it came with the request, from another process.
    pub remote: bool,
}

/// Finished spans.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    heads: Vec<Head>,
    attributes: Vec<(Key, Value<Place>)>,
    text: String,
}

/// Bytes of a text at most.
pub(crate) const TEXT: usize = 4096;

/// `text`, cut off at a character's end where it is longer than [`TEXT`].
pub(crate) fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT)]
}

/// What a span is added with, its description aside.
pub(crate) struct Origin<'a> {
    pub(crate) context: SpanContext,
    pub(crate) parent: Option<Parent>,
    pub(crate) tracestate: Option<&'a str>,
    pub(crate) resource: &'a Arc<Resource>,
    pub(crate) client: &'a Endpoint,
    pub(crate) server: &'a Endpoint,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Batch {
    /// How many spans it holds.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether it holds none.
    pub(crate) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Forgets all spans and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.heads.clear();
        self.attributes.clear();
        self.text.clear();
    }

    pub(crate) fn push(&mut self, origin: &Origin<'_>, description: &Description<'_>) {
        let from = self.attributes.len() as u32;
        for (key, value) in &description.attributes {
            let value = value.map(|text| self.keep(text));
            self.attributes.push((*key, value));
        }
        let head = Head {
            context: origin.context,
            parent: origin.parent,
            resource: origin.resource.clone(),
            client: origin.client.clone(),
            server: origin.server.clone(),
            kind: description.kind,
            status: description.status,
            start: origin.start,
            end: origin.end,
            name: self.keep(description.name),
            attributes: (from, self.attributes.len() as u32),
        };
        self.heads.push(head);
    }

    fn keep(&mut self, text: &str) -> Place {
        let from = self.text.len() as u32;
        self.text.push_str(bounded(text));
        Place {
            from,
            to: self.text.len() as u32,
        }
    }

    fn text(&self, place: Place) -> &str {
        self.text
            .get(place.from as usize..place.to as usize)
            .unwrap_or("")
    }

    /// The spans, in the order of their ends as observed.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Span<'_>> {
        self.heads.iter().map(|head| Span { batch: self, head })
    }
}

/// A span of a [`Batch`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<'a> {
    batch: &'a Batch,
    head: &'a Head,
}

impl<'a> Span<'a> {
    /// Its identity.
    pub(crate) fn context(&self) -> SpanContext {
        self.head.context
    }

    /// What it belongs under.
    pub(crate) fn parent(&self) -> Option<Parent> {
        self.head.parent
    }

    /// Whose it is.
    pub(crate) fn resource(&self) -> &'a Arc<Resource> {
        &self.head.resource
    }

    /// The end of its connection that sent the request.
    pub(crate) fn client(&self) -> &'a Endpoint {
        &self.head.client
    }

    /// The end of its connection that answered.
    pub(crate) fn server(&self) -> &'a Endpoint {
        &self.head.server
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'a str {
        self.batch.text(self.head.name)
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        self.head.kind
    }

    /// Its status.
    pub(crate) fn status(&self) -> Status {
        self.head.status
    }

    /// When it began, nanoseconds since the Unix epoch.
    pub(crate) fn start(&self) -> u64 {
        self.head.start
    }

    /// When it ended, nanoseconds since the Unix epoch.
    pub(crate) fn end(&self) -> u64 {
        self.head.end
    }

    /// Its attributes.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> {
        let batch = self.batch;
        let (from, to) = self.head.attributes;
        let attributes = batch
            .attributes
            .get(from as usize..to as usize)
            .unwrap_or_default();
        attributes
            .iter()
            .map(|(key, value)| (*key, value.map(|place| batch.text(*place))))
    }
}
