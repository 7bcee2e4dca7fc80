//! From transactions to spans, RED metrics and OTLP.
//!
//! ```text
//! worker thread                                    tokio tasks
//! Connections ─ transaction ─▶ Telemetry ─ spans ───▶ queue ─▶ exporter ─▶ OTLP
//!                                  │  └─── lines of JSON, as they come
//!                                  └─ aggregates ──▶ hub (totals) ─┬─▶ queue ─▶ exporter ─▶ OTLP
//!                                                                  └─▶ table
//! ```
//!
//! How an agent uses it:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use redwire_telemetry::{Config, OtlpConfig, Outputs, Pipeline, Resources, ServiceInstance, TableConfig, check};
//! use std::sync::Arc;
//!
//! let get = |name: &str| std::env::var(name).ok();
//! let otlp = OtlpConfig::read(None, &get)?;
//! let mut outputs = Outputs::default();
//! if otlp.is_on() {
//!     if let Err(unreachable) = check(&otlp).await {
//!         eprintln!("{unreachable}"); // a warning, or the end where the user wants that
//!     }
//!     outputs.otlp = Some(otlp);
//! } else {
//!     outputs.table = Some(TableConfig::default());
//! }
//! let common = ServiceInstance::parse(&get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
//! let resources = Arc::new(Resources::new(common, ServiceInstance::default()));
//! let runtime = tokio::runtime::Handle::current();
//! let mut pipeline = Pipeline::start(Config::default(), outputs, resources, &runtime)?;
//!
//! // In each worker thread:
//! let mut telemetry = pipeline.worker();
//! // connections.data(&chunk, &mut telemetry); and about once a second:
//! telemetry.flush(1_700_000_000_000_000_000);
//! // At the end:
//! telemetry.finish(1_700_000_001_000_000_000);
//!
//! let counters = pipeline.shutdown(std::time::Duration::from_secs(5)).await;
//! # let _ = counters;
//! # Ok(())
//! # }
//! ```
//!
//! A new protocol is one file in `span/` that turns its record into a [`Description`], and a line in
//! `span::describe`.

mod counters;
mod description;
mod export;
mod id;
mod instrument;
mod link;
mod metrics;
mod own;
mod pipeline;
mod resource;
mod route;
mod sample;
mod seen;
mod span;
mod telemetry;
mod value;

pub use counters::{Counters, Drop, Signal};
pub use description::{Description, Kind, Status};
pub use export::{
    ClientError, ConfigError, OtlpConfig, Protocol, Retry, Screen, SignalConfig, TableConfig, Temporality,
    Trouble, Unreachable, WhenFull, check, loss_in_words,
};
pub use instrument::{Instrument, InstrumentKind};
pub use metrics::{Histograms, MetricsConfig, OVERFLOW};
pub use own::{Own, OwnError};
pub use pipeline::{Config, Outputs, Pipeline, StartError};
pub use resource::{Resource, ResourceValue, Resources, ServiceInstance};
pub use route::{PatternError, RouteConfig};
pub use seen::Seen;
pub use span::{HttpConfig, SpanConfig};
pub use telemetry::Telemetry;
pub use value::{Attribute, Key, Value};
