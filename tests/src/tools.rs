//! Where the set-up puts what it builds and installs.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};

/// Version of the OpenTelemetry Collector that the tests export to.
pub const COLLECTOR_VERSION: &str = "0.161.0";

/// The repository.
pub fn workspace() -> &'static Path {
    let member = Path::new(env!("CARGO_MANIFEST_DIR"));
    member.parent().unwrap_or(member)
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Tools that every clone of the repository shares: `REDWIRE_CACHE`, by default `redwire` in the user's cache.
pub fn cache() -> PathBuf {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("REDWIRE_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("redwire")))
        .or_else(|| Some(variable("HOME")?.join(".cache/redwire")))
        .unwrap_or_else(|| target().join("cache"))
}

/// Sources of the test services and clients.
pub fn programs() -> PathBuf {
    workspace().join("tests/programs")
}

/// Folder of the Go test programs.
pub fn go_programs() -> PathBuf {
    target().join("programs/go")
}

/// The collector's binary, one per version and set of components.
pub fn collector() -> PathBuf {
    let recipe = include_bytes!("../collector/builder.yaml");
    cache().join(format!(
        "otelcol/{COLLECTOR_VERSION}-{}/otelcol",
        digest(&[recipe])
    ))
}

/// The virtual environment of the Python test programs, one per set of packages.
pub fn python_environment() -> PathBuf {
    cache().join(format!(
        "python/{}",
        digest(&[include_bytes!("../programs/python/requirements.txt")])
    ))
}

/// The interpreter of [`python_environment`], or `REDWIRE_PYTHON`.
pub fn python() -> PathBuf {
    std::env::var_os("REDWIRE_PYTHON").map_or_else(|| python_environment().join("bin/python"), PathBuf::from)
}

/// The agent, built for release: `REDWIRE_BINARY`, by default the workspace's own.
pub fn agent() -> PathBuf {
    std::env::var_os("REDWIRE_BINARY").map_or_else(|| target().join("release/redwire"), PathBuf::from)
}

/// A short name for these contents, to tell whether something was made from them.
pub fn digest(contents: &[&[u8]]) -> String {
    let mut hasher = DefaultHasher::new();
    for content in contents {
        hasher.write_usize(content.len());
        hasher.write(content);
    }
    format!("{:016x}", hasher.finish())
}

/// Full path of a program on `PATH` or in the system's usual folders.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}
