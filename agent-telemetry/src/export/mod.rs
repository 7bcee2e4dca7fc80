//! Ways out: OTLP, lines of JSON, a table.

mod client;
mod config;
mod encode;
mod jsonl;
mod layout;
mod otlp;
mod queue;
mod screen;
mod table;
mod trouble;
mod words;

pub use client::ClientError;
pub use config::{ConfigError, OtlpConfig, Protocol, SignalConfig, Temporality};
pub use otlp::{Retry, Unreachable, check};
pub use queue::WhenFull;
pub use screen::Screen;
pub use trouble::Trouble;
pub use words::loss_in_words;

pub(crate) use client::{channel, http_client, metadata};
pub(crate) use encode::{EncodedSpans, SpanEncoder, metrics};
pub(crate) use jsonl::{JsonLines, hex};
pub(crate) use otlp::Exporter;
pub(crate) use queue::Queue;
pub use table::TableConfig;
pub(crate) use table::{Table, sample_lines};
pub(crate) use trouble::Delivery;
pub(crate) use words::not_told;
