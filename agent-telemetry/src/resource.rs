//! Who a transaction belongs to: one OTLP Resource per observed service instance.

use hashbrown::HashMap;
use opentelemetry_semantic_conventions::resource::{SERVICE_INSTANCE_ID, SERVICE_NAME};
use redwire_protocol::connection::{Endpoint, ProcessId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The value of a resource attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceValue {
    /// Text.
    Str(String),
    /// A number (`process.pid`).
    Int(i64),
    /// Several texts (`process.command_args`).
    Strs(Vec<String>),
}

impl From<&str> for ResourceValue {
    fn from(text: &str) -> Self {
        ResourceValue::Str(text.to_owned())
    }
}

impl From<String> for ResourceValue {
    fn from(text: String) -> Self {
        ResourceValue::Str(text)
    }
}

impl From<i64> for ResourceValue {
    fn from(n: i64) -> Self {
        ResourceValue::Int(n)
    }
}

impl From<Vec<String>> for ResourceValue {
    fn from(texts: Vec<String>) -> Self {
        ResourceValue::Strs(texts)
    }
}

/// What is known of an observed service instance. Two with the same attributes are one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ServiceInstance {
    attributes: Vec<(String, ResourceValue)>,
}

impl ServiceInstance {
    /// An instance of the service `name` (`service.name`).
    pub fn new(name: impl Into<String>) -> ServiceInstance {
        ServiceInstance::default().with(SERVICE_NAME, name.into())
    }

    /// Sets an attribute, replacing the one of that name.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<ResourceValue>) -> ServiceInstance {
        let (key, value) = (key.into(), value.into());
        match self.attributes.binary_search_by(|(known, _)| known.cmp(&key)) {
            Ok(at) => self.attributes[at].1 = value,
            Err(at) => self.attributes.insert(at, (key, value)),
        }
        self
    }

    /// Parses the form of `OTEL_RESOURCE_ATTRIBUTES`: `key=value,key=value`, values percent-encoded (resource SDK
    /// specification). Entries without `=` or with an empty key are left out.
    pub fn parse(text: &str) -> ServiceInstance {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.fold(ServiceInstance::default(), |instance, (key, value)| {
            match key.trim() {
                "" => instance,
                key => instance.with(percent_decode(key), percent_decode(value.trim())),
            }
        })
    }

    /// The value of an attribute.
    pub fn get(&self, key: &str) -> Option<&ResourceValue> {
        let at = self
            .attributes
            .binary_search_by(|(known, _)| known.as_str().cmp(key))
            .ok()?;
        Some(&self.attributes[at].1)
    }

    /// The attributes, by name.
    pub fn attributes(&self) -> &[(String, ResourceValue)] {
        &self.attributes
    }

    /// Adds what `other` has and this has not.
    pub fn or(self, other: &ServiceInstance) -> ServiceInstance {
        self.or_but(other, &[])
    }

    fn or_but(self, other: &ServiceInstance, but: &[&str]) -> ServiceInstance {
        let missing =
            |instance: &ServiceInstance, key: &str| instance.get(key).is_none() && !but.contains(&key);
        other.attributes.iter().fold(self, |instance, (key, value)| {
            if missing(&instance, key) {
                instance.with(key.clone(), value.clone())
            } else {
                instance
            }
        })
    }
}

/// Undoes percent-encoding; what is no valid encoding stays as it is.
pub(crate) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|&b| char::from(b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// A service instance that telemetry is reported of.
#[derive(Debug)]
pub struct Resource {
    id: u64,
    instance: ServiceInstance,
}

impl Resource {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Its attributes.
    pub fn instance(&self) -> &ServiceInstance {
        &self.instance
    }

    /// `service.name`.
    pub fn service_name(&self) -> &str {
        match self.instance.get(SERVICE_NAME) {
            Some(ResourceValue::Str(name)) => name,
            _ => "unknown_service",
        }
    }
}

/// Processes known at a time; those beyond are reported under the default resource, and counted.
const LIMIT: usize = 16_384;

/// How long a process that ended is known on, for what of it is still on its way.
const LINGER: Duration = Duration::from_secs(5);

struct Process {
    resource: Arc<Resource>,
    ended: Option<Instant>,
}

#[derive(Default)]
struct Inner {
    processes: HashMap<ProcessId, Process>,
    /// With how many processes each has.
    instances: HashMap<ServiceInstance, (Arc<Resource>, usize)>,
    gone: Vec<u64>,
}

impl Inner {
    fn release(&mut self, resource: &Arc<Resource>) {
        if let Some((_, processes)) = self.instances.get_mut(&resource.instance) {
            *processes -= 1;
            if *processes == 0 {
                self.instances.remove(&resource.instance);
                self.gone.push(resource.id);
            }
        }
    }
}

/// Which process is which service instance. Shared by whoever discovers processes and the workers.
pub struct Resources {
    inner: RwLock<Inner>,
    generation: AtomicU64,
    next_id: AtomicU64,
    refused: AtomicU64,
    common: ServiceInstance,
    default: Arc<Resource>,
    /// Servers in captures, by address.
    addresses: RwLock<HashMap<Endpoint, Arc<Resource>>>,
    /// The user named what has no process.
    is_named: bool,
}

impl Resources {
    /// `common` is what the user said in `OTEL_RESOURCE_ATTRIBUTES`: its attributes are added to every instance that
    /// has none of that name, save those that name a service. `default` is who unknown processes and captures are;
    /// there, `common` comes first. Without a name anywhere it is `unknown_service:redwire`.
    pub fn new(common: ServiceInstance, default: ServiceInstance) -> Resources {
        let is_named = common.get(SERVICE_NAME).is_some();
        let default = common
            .clone()
            .or(&default)
            .or(&ServiceInstance::new("unknown_service:redwire"));
        Resources {
            inner: RwLock::default(),
            generation: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
            refused: AtomicU64::new(0),
            common,
            default: Arc::new(Resource {
                id: 0,
                instance: default,
            }),
            addresses: RwLock::default(),
            is_named,
        }
    }

    /// A process is an instance of a service, from now on.
    pub fn set(&self, process: ProcessId, instance: ServiceInstance) {
        let instance = instance.or_but(&self.common, &[SERVICE_NAME, SERVICE_INSTANCE_ID]);
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.processes.len() >= LIMIT && !inner.processes.contains_key(&process) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let resource = match inner.instances.get_mut(&instance) {
            Some((resource, processes)) => {
                *processes += 1;
                resource.clone()
            }
            None => {
                let id = self.next_id.fetch_add(1, Ordering::Relaxed);
                let resource = Arc::new(Resource {
                    id,
                    instance: instance.clone(),
                });
                inner.instances.insert(instance, (resource.clone(), 1));
                resource
            }
        };
        if let Some(old) = inner.processes.insert(
            process,
            Process {
                resource,
                ended: None,
            },
        ) {
            inner.release(&old.resource);
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A process has ended. Its series are exported once more and then dropped.
    pub fn ended(&self, process: ProcessId) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(process) = inner.processes.get_mut(&process) {
            process.ended.get_or_insert_with(Instant::now);
        }
    }

    /// The resource of a process; the default one for those unknown.
    pub fn get(&self, process: Option<ProcessId>) -> Arc<Resource> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let known = process.and_then(|process| inner.processes.get(&process));
        known.map_or_else(|| self.default.clone(), |process| process.resource.clone())
    }

    /// The resource of a server that was seen on the wire: a service called by its address and port, unless the user
    /// named what has no process. Those beyond the limit are the default one.
    pub(crate) fn of_server(&self, server: &Endpoint) -> Arc<Resource> {
        if self.is_named {
            return self.default.clone();
        }
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = addresses.get(server) {
            return known.clone();
        }
        drop(addresses);
        let name = match server {
            Endpoint::Inet(address) => address.to_string(),
            Endpoint::Unix(path) => path.to_string(),
        };
        let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= LIMIT || name.is_empty() {
            return self.default.clone();
        }
        let new = || {
            let instance = ServiceInstance::new(name).or_but(&self.common, &[SERVICE_INSTANCE_ID]);
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            Arc::new(Resource { id, instance })
        };
        addresses.entry(server.clone()).or_insert_with(new).clone()
    }

    /// Whether a process is an instance of a service, and has not ended.
    pub fn knows(&self, process: ProcessId) -> bool {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let known = inner.processes.get(&process);
        known.is_some_and(|process| process.ended.is_none())
    }

    /// How many processes had no place in the table and are reported under the default resource.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Changes whenever an answer of [`Resources::get`] may have changed.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Forgets the processes that ended a while before `now`. Returns the resources that have none left.
    pub(crate) fn sweep(&self, now: Instant) -> Vec<u64> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let over = |process: &mut Process| {
            process
                .ended
                .is_some_and(|ended| now.saturating_duration_since(ended) >= LINGER)
        };
        let over: Vec<Process> = inner
            .processes
            .extract_if(|_, process| over(process))
            .map(|(_, p)| p)
            .collect();
        for process in &over {
            inner.release(&process.resource);
        }
        if !over.is_empty() {
            self.generation.fetch_add(1, Ordering::Release);
        }
        std::mem::take(&mut inner.gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_s_form() {
        let instance =
            ServiceInstance::parse("service.name=a%20b, deployment.environment.name = prod ,bad,=x,k=%zz");
        assert_eq!(instance.get("service.name"), Some(&"a b".into()));
        assert_eq!(instance.get("deployment.environment.name"), Some(&"prod".into()));
        assert_eq!(instance.get("k"), Some(&"%zz".into()));
        assert_eq!(instance.attributes().len(), 3);
    }

    #[test]
    fn common_attributes_name_no_service_but_the_default() {
        let common = ServiceInstance::parse("service.name=mine,region=eu,service.namespace=web");
        let resources = Resources::new(common, ServiceInstance::new("other"));
        resources.set(ProcessId(1), ServiceInstance::new("shop").with("process.pid", 1));
        let shop = resources.get(Some(ProcessId(1)));
        assert_eq!(shop.service_name(), "shop");
        assert_eq!(shop.instance().get("region"), Some(&"eu".into()));
        assert_eq!(shop.instance().get("service.namespace"), Some(&"web".into()));
        let other = ServiceInstance::new("cart").with("service.namespace", "own");
        resources.set(ProcessId(3), other);
        let cart = resources.get(Some(ProcessId(3)));
        assert_eq!(cart.instance().get("service.namespace"), Some(&"own".into()));
        assert_eq!(resources.get(None).service_name(), "mine");
        assert_eq!(resources.get(Some(ProcessId(2))).service_name(), "mine");
    }

    #[test]
    fn servers_on_the_wire_are_called_by_address() {
        let address = |text: &str| Endpoint::Inet(text.parse().unwrap());
        let (four, six) = (address("192.0.2.2:80"), address("[2001:db8::2]:80"));
        let resources = |common| Resources::new(ServiceInstance::parse(common), ServiceInstance::default());
        let unnamed = resources("region=eu");
        assert_eq!(unnamed.of_server(&four).service_name(), "192.0.2.2:80");
        assert_eq!(unnamed.of_server(&six).service_name(), "[2001:db8::2]:80");
        assert_eq!(unnamed.of_server(&four).id(), unnamed.of_server(&four).id());
        assert_ne!(unnamed.of_server(&four).id(), unnamed.of_server(&six).id());
        assert_eq!(
            unnamed.of_server(&four).instance().get("region"),
            Some(&"eu".into())
        );
        assert_eq!(
            resources("service.name=mine").of_server(&four).service_name(),
            "mine"
        );
        for n in 0..LIMIT as u32 {
            unnamed.of_server(&Endpoint::Inet((std::net::Ipv4Addr::from(n), 80).into()));
        }
        assert_eq!(unnamed.of_server(&address("198.51.100.1:81")).id(), 0, "bounded");
    }

    #[test]
    fn processes_are_bounded_and_make_room() {
        let resources = Resources::new(ServiceInstance::default(), ServiceInstance::default());
        let all = LIMIT as u32 + 10;
        for process in 0..all {
            resources.set(ProcessId(process), ServiceInstance::new(process.to_string()));
        }
        assert_eq!(resources.refused(), 10);
        assert_eq!(resources.get(Some(ProcessId(all - 1))).id(), 0);
        (0..all).for_each(|process| resources.ended(ProcessId(process)));
        assert_eq!(resources.sweep(Instant::now() + LINGER).len(), LIMIT);
        resources.set(ProcessId(1), ServiceInstance::new("x"));
        assert_eq!(resources.get(Some(ProcessId(1))).service_name(), "x");
    }

    #[test]
    fn an_instance_goes_with_its_last_process() {
        let resources = Resources::new(ServiceInstance::default(), ServiceInstance::default());
        for process in [1, 2] {
            resources.set(ProcessId(process), ServiceInstance::new("shop"));
        }
        let id = resources.get(Some(ProcessId(1))).id();
        assert_eq!(resources.get(Some(ProcessId(2))).id(), id);
        let later = || Instant::now() + LINGER;
        resources.ended(ProcessId(1));
        assert!(resources.sweep(Instant::now()).is_empty());
        assert_eq!(
            resources.get(Some(ProcessId(1))).id(),
            id,
            "what is on its way still has its name"
        );
        assert!(resources.sweep(later()).is_empty());
        assert_eq!(resources.get(Some(ProcessId(1))).id(), 0);
        resources.ended(ProcessId(2));
        assert_eq!(resources.sweep(later()), [id]);
        assert!(resources.sweep(later()).is_empty());
    }
}
