//! Which processes are selected, why, and what they are called.

mod advice;
mod newcomers;
mod ports;
mod process;
mod registry;
mod service;

pub use advice::{check_pids, unmatched};
pub use newcomers::Newcomers;
pub use process::Process;
pub use registry::Registry;
pub use service::{Host, forked, instance, service_name};

use crate::config::Selection;
use redwire_common::verdict;
use std::collections::HashMap;

/// Beside the kernel's [`verdict`]s: connections of the process are selected by their port, it itself is not.
pub const BY_PORT: u32 = 1 << 16;

/// Those of `processes` that are selected, with the [`verdict`]s and [`BY_PORT`] that apply.
pub fn scan(selection: &Selection, processes: &[Process]) -> Vec<(Process, u32)> {
    let mut verdicts: HashMap<u32, u32> = HashMap::new();
    for process in processes {
        let by = judge(selection, process);
        if by != 0 {
            verdicts.insert(process.pid, by);
        }
    }
    if selection.children {
        let parents: HashMap<u32, u32> = processes
            .iter()
            .map(|process| (process.pid, process.parent))
            .collect();
        for process in processes {
            let mut ancestors = std::iter::successors(parents.get(&process.pid), |pid| parents.get(pid));
            if ancestors.any(|pid| verdicts.get(pid).is_some_and(|by| by & !verdict::PARENT != 0)) {
                *verdicts.entry(process.pid).or_default() |= verdict::PARENT;
            }
        }
    }
    for pid in ports::users(&selection.ports, processes) {
        *verdicts.entry(pid).or_default() |= BY_PORT;
    }
    let agent = std::process::id();
    let selected = processes.iter().filter(|process| process.pid != agent);
    selected
        .filter_map(|process| verdicts.get(&process.pid).map(|&by| (process.clone(), by)))
        .collect()
}

/// Why a process itself is selected, as a sum of [`verdict`]s.
pub fn judge(selection: &Selection, process: &Process) -> u32 {
    let mut by = 0;
    if selection.pids.contains(&process.pid) {
        by |= verdict::PID;
    }
    if selection.environment && process.variable("REDWIRE_ENABLE") == Some("true") {
        by |= verdict::ENVIRONMENT;
    }
    if process.names().any(|name| selection.selects_executable(name)) {
        by |= verdict::EXECUTABLE;
    }
    by
}

/// The rules behind a sum of [`verdict`]s, in words.
pub fn rules(by: u32) -> String {
    let names = [
        (verdict::PID, "pid"),
        (verdict::EXECUTABLE, "executable"),
        (verdict::ENVIRONMENT, "environment"),
        (verdict::PARENT, "parent"),
        (BY_PORT, "port"),
    ];
    let names: Vec<&str> = names
        .iter()
        .filter(|(bit, _)| by & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    names.join(", ")
}
