//! What the agent is told to do: flags over environment over a YAML file.

mod file;
mod size;

pub use file::File;
pub use size::ByteSize;

use anyhow::{Context as _, Result};
use globset::{Glob, GlobMatcher};

/// Which processes and connections are captured.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Processes, with their descendants where `children`.
    pub pids: Vec<u32>,
    /// Patterns of executables.
    pub executables: Vec<Executable>,
    /// Connections with one of these as local or remote port.
    pub ports: Vec<u16>,
    /// Processes with `REDWIRE_ENABLE=true` in their environment.
    pub environment: bool,
    /// Children of selected processes.
    pub children: bool,
}

impl Selection {
    /// Whether something besides the environment of processes selects.
    pub fn is_explicit(&self) -> bool {
        !(self.pids.is_empty() && self.executables.is_empty() && self.ports.is_empty())
    }

    /// Whether a process that is known by this path is selected for it.
    pub fn selects_executable(&self, path: &str) -> bool {
        self.executables.iter().any(|pattern| pattern.matches(path))
    }
}

/// A glob over paths of executables; without a slash, over their last component.
#[derive(Debug, Clone)]
pub struct Executable {
    pattern: GlobMatcher,
    whole_path: bool,
}

impl Executable {
    /// # Errors
    /// Where `glob` is none.
    pub fn new(glob: &str) -> Result<Executable> {
        let pattern = Glob::new(glob)
            .with_context(|| format!("'{glob}' is no glob"))?
            .compile_matcher();
        Ok(Executable {
            pattern,
            whole_path: glob.contains('/'),
        })
    }

    /// As it was written.
    pub fn glob(&self) -> &str {
        self.pattern.glob().glob()
    }

    /// Whether it fits a path, or a name.
    pub fn matches(&self, path: &str) -> bool {
        let name = if self.whole_path {
            path
        } else {
            path.rsplit('/').next().unwrap_or(path)
        };
        self.pattern.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_without_slash_is_over_the_name() {
        let selection = |glob| Selection {
            executables: vec![Executable::new(glob).expect("a glob")],
            ..Selection::default()
        };
        assert!(selection("python3*").selects_executable("/usr/bin/python3.11"));
        assert!(!selection("bin*").selects_executable("/usr/bin/python3.11"));
        assert!(selection("/usr/bin/*").selects_executable("/usr/bin/python3.11"));
        assert!(selection("**/python3.11").selects_executable("/usr/bin/python3.11"));
        assert!(Executable::new("[").is_err());
    }
}
