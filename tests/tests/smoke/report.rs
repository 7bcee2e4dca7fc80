//! What came out of each test: a line for people, and one of JSON in the file `REDWIRE_RESULTS`.

use anyhow::{Context as _, Result};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write as _;

/// How a test went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Counts are equal.
    Passed,
    /// The backend cannot see this, and told nothing.
    NotSeen,
    /// Not tried, with the reason.
    Skipped(String),
    /// What is wrong.
    Failed(String),
}

/// A test, and its counts.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) test: String,
    pub(crate) outcome: Outcome,
    /// Transactions that the agent told, both sides together.
    pub(crate) agent: u64,
    /// Those that the clients counted, for both sides.
    pub(crate) client: u64,
}

impl Report {
    /// A test without counts.
    pub(crate) fn plain(test: &str, outcome: Outcome) -> Report {
        Report {
            test: test.to_owned(),
            outcome,
            agent: 0,
            client: 0,
        }
    }

    /// Prints it, and appends it to the file.
    pub(crate) fn write(&self) -> Result<()> {
        let Report {
            test, agent, client, ..
        } = self;
        let counts = format!("agent {agent}, client {client}");
        let line = match &self.outcome {
            Outcome::Passed if *client == 0 => "passed".to_owned(),
            Outcome::Passed => counts,
            Outcome::NotSeen => format!("{counts}: not seen by this backend"),
            Outcome::Skipped(reason) => format!("skipped: {reason}"),
            Outcome::Failed(reason) => format!("FAILED: {counts}; {reason}"),
        };
        println!("\n    {test}: {line}");
        let Some(path) = std::env::var_os("REDWIRE_RESULTS") else {
            return Ok(());
        };
        let line = serde_json::to_string(self)? + "\n";
        let mut file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.as_mut().map_err(|error| anyhow::anyhow!("{error}"));
        file.and_then(|file| Ok(file.write_all(line.as_bytes())?))
            .with_context(|| format!("writing {}", path.display()))
    }
}
