//! Kernel programs and maps, by their ids.

use crate::{client, tools};
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::process::Command;

/// Ids of programs and maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    /// Of programs.
    pub programs: BTreeSet<u64>,
    /// Of maps.
    pub maps: BTreeSet<u64>,
}

impl Objects {
    /// What a process holds, by its file descriptors (proc(5), fdinfo).
    ///
    /// # Errors
    /// Where there is no such process.
    pub fn held_by(pid: u32) -> Result<Objects> {
        let mut held = Objects::default();
        for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
            let ids = |name: &str| -> Vec<u64> {
                let lines = text.lines().filter_map(|line| line.strip_prefix(name));
                lines.filter_map(|id| id.trim().parse().ok()).collect()
            };
            held.programs.extend(ids("prog_id:"));
            held.maps.extend(ids("map_id:"));
        }
        Ok(held)
    }

    /// All that are loaded.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn loaded() -> Result<Objects> {
        Ok(Objects {
            programs: ids("prog")?,
            maps: ids("map")?,
        })
    }

    /// Those of these that `others` has as well.
    #[must_use]
    pub fn common(&self, others: &Objects) -> Objects {
        Objects {
            programs: self.programs.intersection(&others.programs).copied().collect(),
            maps: self.maps.intersection(&others.maps).copied().collect(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.maps.is_empty()
    }
}

fn ids(kind: &str) -> Result<BTreeSet<u64>> {
    let bpftool = tools::find("bpftool").context("bpftool is not installed")?;
    let text = client::output(Command::new(bpftool).args([kind, "show", "-j"]))?;
    let all: Vec<serde_json::Value> = serde_json::from_str(&text)?;
    Ok(all.iter().filter_map(|object| object["id"].as_u64()).collect())
}
