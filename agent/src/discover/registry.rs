//! Tells telemetry which process is which service instance.

use super::{Host, Process, forked, instance, judge};
use crate::config::Selection;
use crate::source::ebpf::{Judgement, Processes};
use redwire_common::verdict;
use redwire_protocol::connection::ProcessId;
use redwire_telemetry::Resources;
use std::sync::Arc;

/// The selected processes, as telemetry knows them.
pub struct Registry {
    resources: Arc<Resources>,
    selection: Selection,
    host: Host,
}

impl Registry {
    /// None yet.
    pub fn new(resources: Arc<Resources>, selection: Selection) -> Registry {
        Registry {
            resources,
            selection,
            host: Host::this(),
        }
    }

    /// A selected process is there.
    pub fn add(&mut self, process: &Process) {
        let instance = instance(process, &self.host);
        tracing::debug!(pid = process.pid, name = process.name, "selected");
        self.resources.set(ProcessId(process.pid), instance);
    }
}

impl Processes for Registry {
    fn executed(&mut self, process: ProcessId, name: &str, environment: &[u8]) {
        // One that is gone already is known by what the kernel saw.
        let found = Process::read(process.0).unwrap_or(Process {
            pid: process.0,
            ..Process::default()
        });
        self.add(&found.with_environment(name, environment));
    }

    fn forked(&mut self, parent: ProcessId, child: ProcessId) {
        // A child has its parent's environment, which the parent may have written over in its memory.
        let parent = self.resources.get(Some(parent)).instance().clone();
        let started = Process::read(child.0).map_or(0, |found| found.started);
        self.resources
            .set(child, forked(parent, child.0, started, &self.host));
    }

    fn ended(&mut self, process: ProcessId) {
        self.resources.ended(process);
    }

    fn judge(&mut self, process: ProcessId) -> Judgement {
        let Some(found) = Process::named(process.0) else {
            return Judgement::No;
        };
        let by_file = found
            .executable
            .as_deref()
            .is_some_and(|path| self.selection.selects_executable(path));
        match judge(&self.selection, &found) & verdict::EXECUTABLE {
            _ if by_file => Judgement::Executable,
            0 => Judgement::No,
            _ => Judgement::Process,
        }
    }
}
