//! What an observed process is called.

use super::Process;

/// Name and further resource attributes of a service, as its process' environment gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// `service.name`.
    pub name: String,
    /// Pairs of `OTEL_RESOURCE_ATTRIBUTES`, but for `service.name`.
    pub attributes: Vec<(String, String)>,
}

impl Service {
    /// `REDWIRE_SERVICE_NAME` wins over `OTEL_SERVICE_NAME`, that over `service.name` in
    /// `OTEL_RESOURCE_ATTRIBUTES`, and that over a name made from what the process runs.
    pub fn of(process: &Process) -> Service {
        let attributes = process.variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let pairs = attributes.split(',').filter_map(|pair| pair.split_once('='));
        let mut attributes: Vec<(String, String)> = pairs
            .map(|(name, value)| (name.trim().to_owned(), percent_decoded(value.trim())))
            .collect();
        let mut named = None;
        attributes.retain(|(name, value)| {
            let is_name = name == "service.name";
            if is_name {
                named = Some(value.clone());
            }
            !is_name
        });
        let variable = |name| {
            process
                .variable(name)
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        let name = variable("REDWIRE_SERVICE_NAME")
            .or_else(|| variable("OTEL_SERVICE_NAME"))
            .or(named)
            .unwrap_or_else(|| name(process));
        Service { name, attributes }
    }
}

/// A name from what a process runs: its program, or the script where the program is an interpreter.
pub fn name(process: &Process) -> String {
    let program = process.executable.as_deref().map(base).unwrap_or(&process.name);
    let program = program.strip_suffix(" (deleted)").unwrap_or(program);
    let interpreter = ["python", "node", "ruby", "perl", "php", "java", "deno", "bun"]
        .iter()
        .any(|known| program.starts_with(known));
    let script = if interpreter {
        script(&process.arguments)
    } else {
        None
    };
    script.unwrap_or_else(|| program.to_owned())
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

/// Values of `OTEL_RESOURCE_ATTRIBUTES` are percent-encoded (W3C Baggage).
fn percent_decoded(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = (byte == b'%').then(|| value.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
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
            name(&process(&["python3", "/srv/shop.py", "--port", "1"], &[])),
            "shop"
        );
        assert_eq!(
            name(&process(&["python3", "-m", "http.server"], &[])),
            "http.server"
        );
        assert_eq!(
            name(&process(&["python3", "/opt/venv/bin/uvicorn", "app:app"], &[])),
            "uvicorn"
        );
        assert_eq!(name(&process(&["python3", "-c", "pass"], &[])), "python3.11");
        assert_eq!(name(&process(&["python3"], &[])), "python3.11");
    }

    #[test]
    fn the_environment_wins() {
        let attributes = (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=c,deployment.environment.name=a%20b,broken",
        );
        let service = |more: &[(&str, &str)]| Service::of(&process(&["python3"], more));
        assert_eq!(service(&[attributes]).name, "c");
        assert_eq!(
            service(&[attributes]).attributes,
            [("deployment.environment.name".to_owned(), "a b".to_owned())]
        );
        assert_eq!(service(&[attributes, ("OTEL_SERVICE_NAME", "b")]).name, "b");
        assert_eq!(
            service(&[("OTEL_SERVICE_NAME", "b"), ("REDWIRE_SERVICE_NAME", "a")]).name,
            "a"
        );
        assert_eq!(service(&[("OTEL_SERVICE_NAME", "")]).name, "python3.11");
    }
}
