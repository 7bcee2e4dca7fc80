//! Which protocols the observed processes were seen to speak.

use crate::resource::{Resource, ResourceValue};
use hashbrown::HashMap;
use opentelemetry_semantic_conventions::resource::PROCESS_PID;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Names of the protocols of a resource. They are few.
#[derive(Debug)]
struct OfResource {
    resource: Arc<Resource>,
    protocols: Vec<&'static str>,
}

/// Protocols by service instance, as long as it has a process.
#[derive(Debug, Default)]
pub struct Seen(Mutex<HashMap<u64, OfResource>>);

impl Seen {
    pub(crate) fn note(&self, resource: &Arc<Resource>, protocol: &'static str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = seen.entry(resource.id()).or_insert_with(|| OfResource {
            resource: resource.clone(),
            protocols: Vec::new(),
        });
        if !of.protocols.contains(&protocol) {
            of.protocols.push(protocol);
            of.protocols.sort_unstable();
        }
    }

    pub(crate) fn forget(&self, resources: &[u64]) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for id in resources {
            seen.remove(id);
        }
    }

    /// The protocols of each process (`process.pid`), as of about a second ago.
    pub fn by_process(&self) -> BTreeMap<u32, Vec<&'static str>> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let process = |of: &OfResource| match of.resource.instance().get(PROCESS_PID) {
            Some(ResourceValue::Int(pid)) => u32::try_from(*pid).ok(),
            _ => None,
        };
        seen.values()
            .filter_map(|of| Some((process(of)?, of.protocols.clone())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Resources, ServiceInstance};
    use redwire_protocol::connection::ProcessId;

    #[test]
    fn protocols_of_processes_until_they_are_gone() {
        let resources = Resources::new(ServiceInstance::default(), ServiceInstance::default());
        let process = ProcessId(7);
        resources.set(process, ServiceInstance::new("shop").with(PROCESS_PID, 7));
        let shop = resources.get(Some(process));
        let seen = Seen::default();
        seen.note(&resources.get(None), "HTTP");
        for protocol in ["Redis", "HTTP", "Redis"] {
            seen.note(&shop, protocol);
        }
        assert_eq!(seen.by_process(), BTreeMap::from([(7, vec!["HTTP", "Redis"])]));
        seen.forget(&[shop.id()]);
        assert!(seen.by_process().is_empty());
    }
}
