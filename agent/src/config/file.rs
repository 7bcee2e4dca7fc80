//! The YAML file.

use super::ByteSize;
use crate::cli::Hooks;
use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

/// The YAML file, every part optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Which processes are captured.
    pub selection: SelectionPart,
    /// How they are captured.
    pub capture: CapturePart,
    /// What is told of HTTP.
    pub http: HttpPart,
    /// Where it goes, and how.
    pub export: ExportPart,
}

/// `selection:`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectionPart {
    /// Process ids.
    pub pids: Vec<u32>,
    /// Globs of executables.
    pub executables: Vec<String>,
    /// Local or remote ports.
    pub ports: Vec<NonZeroU16>,
    /// Whether `REDWIRE_ENABLE=true` selects; default true.
    pub environment: Option<bool>,
    /// Whether children of selected processes are selected; default true.
    pub children: Option<bool>,
}

/// `capture:`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapturePart {
    /// How the kernel is hooked.
    pub hooks: Option<Hooks>,
    /// Size of the ring buffer.
    pub ring_buffer: Option<ByteSize>,
    /// BTF of the running kernel.
    pub btf: Option<PathBuf>,
}

/// `http:`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpPart {
    /// Route patterns like `/users/{id}`; they win over derived ones.
    pub routes: Vec<String>,
    /// Whether `url.query` is reported; default false.
    pub url_query: Option<bool>,
}

/// `export:`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportPart {
    /// OTLP endpoint.
    pub endpoint: Option<String>,
    /// `grpc` or `http/protobuf`.
    pub protocol: Option<String>,
    /// `exponential` or `explicit`.
    pub histogram: Option<String>,
    /// Share of traces whose spans are exported, from 0 to 1.
    pub span_ratio: Option<f64>,
}

impl File {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Names the file, and the line and column of what is wrong with it.
    pub fn read(path: &Path) -> Result<File> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        if text.trim().is_empty() {
            return Ok(File::default());
        }
        serde_norway::from_str(&text).map_err(|error| {
            let place = error
                .location()
                .map(|at| format!(":{}:{}", at.line(), at.column()))
                .unwrap_or_default();
            anyhow!("{}{place}: {error}", path.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<File> {
        let path =
            std::env::temp_dir().join(format!("redwire-config-{}-{:p}.yaml", std::process::id(), &text));
        std::fs::write(&path, text)?;
        let file = File::read(&path);
        std::fs::remove_file(&path)?;
        file
    }

    #[test]
    fn a_whole_file() {
        let file = read(
            "selection:\n  executables: ['*nginx*']\n  ports: [80]\ncapture:\n  ring_buffer: 256KiB\nhttp:\n  routes: \
             ['/users/{id}']\n",
        );
        let file = file.expect("a valid file");
        assert_eq!(
            file.selection
                .ports
                .iter()
                .map(|port| port.get())
                .collect::<Vec<_>>(),
            [80]
        );
        assert_eq!(file.capture.ring_buffer, Some(ByteSize(262_144)));
        assert_eq!(file.http.routes, ["/users/{id}"]);
    }

    #[test]
    fn errors_name_line_and_column() {
        for (text, place) in [
            ("selection:\n  portz: [80]\n", ":2:3:"),
            ("selection:\n\tports: []\n", ":2:"),
            ("selection:\n  ports: [eighty]\n", ":2:11:"),
            ("selection:\n  ports: [0]\n", ":2:11:"),
            ("capture:\n  ring_buffer: much\n", ":2:16:"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(place), "{error}");
        }
    }
}
