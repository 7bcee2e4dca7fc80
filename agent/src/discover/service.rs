//! What an observed process is called.

use super::Process;
use opentelemetry_semantic_conventions::resource::{
    CONTAINER_ID, HOST_NAME, PROCESS_EXECUTABLE_NAME, PROCESS_EXECUTABLE_PATH, PROCESS_PID,
    SERVICE_INSTANCE_ID, SERVICE_NAME,
};
use redwire_telemetry::{ResourceValue, ServiceInstance};

/// The service instance that a process is.
///
/// `REDWIRE_SERVICE_NAME` wins over `OTEL_SERVICE_NAME`, that over `service.name` in `OTEL_RESOURCE_ATTRIBUTES`, and
/// that over a name made from what the process runs.
pub fn instance(process: &Process, host: &Host) -> ServiceInstance {
    let mut instance = named(process);
    if instance.get(SERVICE_INSTANCE_ID).is_none() {
        instance = instance.with(
            SERVICE_INSTANCE_ID,
            instance_id(process.pid, process.started, host),
        );
    }
    instance = instance
        .with(PROCESS_PID, i64::from(process.pid))
        .with(HOST_NAME, host.name.as_str());
    if let Some(path) = &process.executable {
        instance = instance
            .with(PROCESS_EXECUTABLE_PATH, path.as_str())
            .with(PROCESS_EXECUTABLE_NAME, base(path));
    }
    if let Some(container) = &process.container {
        instance = instance.with(CONTAINER_ID, container.as_str());
    }
    instance
}

/// The service instance of a child of a process, until it executes something else.
pub fn forked(parent: ServiceInstance, pid: u32, started: u64, host: &Host) -> ServiceInstance {
    parent
        .with(SERVICE_INSTANCE_ID, instance_id(pid, started, host))
        .with(PROCESS_PID, i64::from(pid))
}

/// What identifies a process for ever.
fn instance_id(pid: u32, started: u64, host: &Host) -> String {
    format!("{}-{pid}-{started}", host.boot)
}

/// `service.name` of a process.
pub fn service_name(process: &Process) -> String {
    match named(process).get(SERVICE_NAME) {
        Some(ResourceValue::Str(name)) => name.clone(),
        _ => String::new(),
    }
}

/// What the environment says of the instance, with a name in any case.
fn named(process: &Process) -> ServiceInstance {
    let instance = ServiceInstance::parse(process.variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
    let variable = |name| process.variable(name).filter(|value| !value.is_empty());
    match variable("REDWIRE_SERVICE_NAME").or_else(|| variable("OTEL_SERVICE_NAME")) {
        Some(name) => instance.with(SERVICE_NAME, name),
        None if instance.get(SERVICE_NAME).is_none() => instance.with(SERVICE_NAME, program_name(process)),
        None => instance,
    }
}

/// The host that processes run on.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// `host.name`.
    pub name: String,
    /// The first part of the boot id: with process id and start time it identifies a process for ever.
    pub boot: String,
}

impl Host {
    /// This one.
    pub fn this() -> Host {
        let read = |path| {
            std::fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let boot = read("/proc/sys/kernel/random/boot_id");
        Host {
            name: read("/proc/sys/kernel/hostname"),
            boot: boot.split('-').next().unwrap_or_default().to_owned(),
        }
    }
}

/// A name from what was executed: the program as it was called, or the script where it is an interpreter.
fn program_name(process: &Process) -> String {
    let path = process.executed.as_deref().or(process.executable.as_deref());
    let program = path.map(base).unwrap_or(&process.name);
    if program == "busybox" {
        // It is many programs, by its first argument.
        return process
            .arguments
            .get(1)
            .map_or(program, |applet| base(applet))
            .to_owned();
    }
    let interpreter = ["python", "node", "ruby", "perl", "php", "java", "deno", "bun"]
        .iter()
        .any(|known| program.starts_with(known));
    let script = if interpreter {
        script(&process.arguments)
    } else {
        None
    };
    script.unwrap_or_else(|| stem(program).to_owned())
}

/// The script, module or archive among an interpreter's arguments.
fn script(arguments: &[String]) -> Option<String> {
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-m" | "-jar" => return rest.next().map(|name| stem(base(name)).to_owned()),
            "-cp" | "-classpath" | "-r" | "--require" | "--import" | "-W" | "-X" | "-I" => {
                rest.next();
            }
            "-c" | "-e" => return None,
            option if option.starts_with('-') => {}
            path => return Some(stem(base(path)).to_owned()),
        }
    }
    None
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn stem(name: &str) -> &str {
    let endings = [".py", ".js", ".mjs", ".cjs", ".ts", ".rb", ".pl", ".php", ".jar"];
    endings
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(arguments: &[&str], environment: &[(&str, &str)]) -> Process {
        Process {
            executable: Some("/usr/bin/python3.11".to_owned()),
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
            environment: environment
                .iter()
                .map(|&(n, v)| (n.to_owned(), v.to_owned()))
                .collect(),
            ..Process::default()
        }
    }

    #[test]
    fn names_from_what_is_run() {
        assert_eq!(
            program_name(&process(&["python3", "/srv/shop.py", "--port", "1"], &[])),
            "shop"
        );
        assert_eq!(
            program_name(&process(&["python3", "-m", "http.server"], &[])),
            "http.server"
        );
        assert_eq!(
            program_name(&process(&["python3", "/opt/venv/bin/uvicorn", "app:app"], &[])),
            "uvicorn"
        );
        assert_eq!(
            program_name(&process(&["python3", "-c", "pass"], &[])),
            "python3.11"
        );
        assert_eq!(program_name(&process(&["python3"], &[])), "python3.11");
    }

    #[test]
    fn names_from_what_was_executed() {
        let name = |executed: Option<&str>, executable: &str, arguments: &[&str]| {
            program_name(&Process {
                executed: executed.map(str::to_owned),
                executable: Some(executable.to_owned()),
                arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
                ..Process::default()
            })
        };
        // Debian's redis-server, python3 and busybox are links, or what links lead to.
        let redis = name(Some("/usr/bin/redis-server"), "/usr/bin/redis-check-rdb", &[]);
        assert_eq!(redis, "redis-server");
        let python = name(Some("/usr/bin/python3"), "/usr/bin/python3.11", &["python3"]);
        assert_eq!(python, "python3");
        assert_eq!(name(Some("/bin/httpd"), "/bin/busybox", &["/bin/httpd"]), "httpd");
        let applet = name(Some("/bin/busybox"), "/bin/busybox", &["busybox", "httpd", "-f"]);
        assert_eq!(applet, "httpd");
        let script = name(
            Some("./shop.py"),
            "/usr/bin/python3.11",
            &["python3", "./shop.py"],
        );
        assert_eq!(script, "shop");
        assert_eq!(name(None, "/usr/sbin/nginx", &["nginx: master process"]), "nginx");
    }

    #[test]
    fn the_environment_wins() {
        let attributes = (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=c,deployment.environment.name=a%20b,broken",
        );
        let get = |more: &[(&str, &str)], key: &str| {
            instance(&process(&["python3"], more), &Host::default())
                .get(key)
                .cloned()
        };
        assert_eq!(get(&[attributes], SERVICE_NAME), Some("c".into()));
        assert_eq!(
            get(&[attributes], "deployment.environment.name"),
            Some("a b".into())
        );
        assert_eq!(
            get(&[attributes, ("OTEL_SERVICE_NAME", "b")], SERVICE_NAME),
            Some("b".into())
        );
        let both = [("OTEL_SERVICE_NAME", "b"), ("REDWIRE_SERVICE_NAME", "a")];
        assert_eq!(get(&both, SERVICE_NAME), Some("a".into()));
        assert_eq!(
            get(&[("OTEL_SERVICE_NAME", "")], SERVICE_NAME),
            Some("python3.11".into())
        );
    }
}
