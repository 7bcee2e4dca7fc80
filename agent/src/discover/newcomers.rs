//! Processes that are known by nothing but a connection on a selected port.

use super::{Host, Process, instance};
use redwire_protocol::connection::ProcessId;
use redwire_telemetry::Resources;
use std::collections::HashMap;
use std::sync::Arc;

/// Tells telemetry who a process is when it is first met on a connection. Those that are selected as a whole are known
/// already; the kernel programs say when they end. Of the others nobody does, so they are looked after here.
pub struct Newcomers {
    resources: Arc<Resources>,
    host: Host,
    /// Those met, with when they started where they are this one's to look after.
    known: HashMap<ProcessId, Option<u64>>,
    /// Mostly the next event is of the same process.
    last: Option<ProcessId>,
}

impl Newcomers {
    /// None yet.
    pub fn new(resources: Arc<Resources>) -> Newcomers {
        Newcomers {
            resources,
            host: Host::this(),
            known: HashMap::new(),
            last: None,
        }
    }

    /// A connection is this process's.
    pub fn meet(&mut self, process: ProcessId) {
        if self.last == Some(process) {
            return;
        }
        self.last = Some(process);
        if self.known.contains_key(&process) {
            return;
        }
        if self.resources.knows(process) {
            self.known.insert(process, None);
            return;
        }
        let found = Process::read(process.0);
        let started = found.as_ref().map(|found| found.started);
        // One that is gone already has an id, and no name.
        let found = found.unwrap_or(Process {
            pid: process.0,
            name: "unknown_service".to_owned(),
            ..Process::default()
        });
        tracing::debug!(pid = found.pid, name = found.name, "seen on a selected port");
        self.resources.set(process, instance(&found, &self.host));
        self.known.insert(process, Some(started.unwrap_or(0)));
    }

    /// Tells of those that have ended; to be called every few seconds.
    pub fn look(&mut self) {
        self.last = None;
        let resources = &self.resources;
        self.known.retain(|&process, started| match *started {
            None => resources.knows(process),
            Some(started) if Process::start_of(process.0) == Some(started) => true,
            Some(_) => {
                resources.ended(process);
                false
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redwire_telemetry::ServiceInstance;
    use std::process::Command;

    #[test]
    fn known_by_what_they_run_until_they_end() -> std::io::Result<()> {
        let resources = Arc::new(Resources::new(
            ServiceInstance::default(),
            ServiceInstance::default(),
        ));
        let mut newcomers = Newcomers::new(resources.clone());
        let name = |process| resources.get(Some(process)).service_name().to_owned();
        let mut child = Command::new("sleep")
            .arg("60")
            .env("OTEL_SERVICE_NAME", "shop")
            .spawn()?;
        let process = ProcessId(child.id());
        // The kernel sets the environment up a moment after the program.
        let is_there = || Process::read(child.id()).is_some_and(|found| !found.environment.is_empty());
        while !is_there() {
            std::thread::yield_now();
        }
        newcomers.meet(process);
        assert_eq!(name(process), "shop");
        let selected = ProcessId(u32::MAX);
        resources.set(selected, ServiceInstance::new("selected"));
        newcomers.meet(selected);
        assert_eq!(name(selected), "selected");
        newcomers.look();
        assert!(newcomers.known.contains_key(&process) && newcomers.known.contains_key(&selected));
        child.kill()?;
        child.wait()?;
        newcomers.look();
        assert!(!newcomers.known.contains_key(&process));
        newcomers.meet(process);
        assert_eq!(name(process), "unknown_service");
        Ok(())
    }
}
