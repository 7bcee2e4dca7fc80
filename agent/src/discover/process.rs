//! What `/proc` tells of a process.

use procfs::process::Process as Proc;

/// A process as it was when it was looked at. What could not be read is absent: it may have ended meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id in this pid namespace.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// When it started, in clock ticks since boot: tells it from another one of the same id.
    pub started: u64,
    /// `comm`.
    pub name: String,
    /// The file that it runs.
    pub executable: Option<String>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment when it was started.
    pub environment: Vec<(String, String)>,
    /// Id of the container it runs in.
    pub container: Option<String>,
}

impl Process {
    /// All processes that can be read, kernel threads left out.
    pub fn all() -> Vec<Process> {
        let Ok(processes) = procfs::process::all_processes() else {
            return Vec::new();
        };
        let processes = processes
            .flatten()
            .filter_map(|process| Process::from_proc(&process));
        processes.filter(|process| process.executable.is_some()).collect()
    }

    /// The process of this id, if it (still) runs.
    pub fn read(pid: u32) -> Option<Process> {
        Process::from_proc(&Proc::new(i32::try_from(pid).ok()?).ok()?)
    }

    fn from_proc(process: &Proc) -> Option<Process> {
        let stat = process.stat().ok()?;
        let environment = process.environ().unwrap_or_default().into_iter();
        let mut environment: Vec<(String, String)> = environment
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .collect();
        environment.sort();
        Some(Process {
            pid: u32::try_from(process.pid).ok()?,
            parent: u32::try_from(stat.ppid).unwrap_or(0),
            started: stat.starttime,
            name: stat.comm,
            executable: process.exe().ok().map(|path| path.to_string_lossy().into_owned()),
            arguments: process.cmdline().unwrap_or_default(),
            environment,
            container: process.cgroups().ok().and_then(|cgroups| {
                cgroups
                    .into_iter()
                    .find_map(|cgroup| container_id(&cgroup.pathname).map(str::to_owned))
            }),
        })
    }

    /// Takes the environment that the kernel programs saw when it was executed, NUL-separated and possibly cut off.
    /// It wins over `/proc`, which comes too late for a short life, and where a program writes its title over it.
    pub fn with_environment(mut self, name: &str, environment: &[u8]) -> Process {
        if self.name.is_empty() {
            self.name = name.to_owned();
        }
        let strings = environment.split(|&b| b == 0).map(String::from_utf8_lossy);
        let mut pairs: Vec<(String, String)> = strings
            .filter_map(|s| s.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())))
            .collect();
        pairs.append(&mut self.environment);
        self.environment = pairs;
        self
    }

    /// A variable of its environment.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The id that container runtimes put into the control group's path: 64 hexadecimal digits in the last component,
/// perhaps between `runtime-` and `.scope`.
fn container_id(cgroup: &str) -> Option<&str> {
    const ID: usize = 64;
    let components = cgroup
        .rsplit('/')
        .map(|component| component.strip_suffix(".scope").unwrap_or(component));
    components
        .filter_map(|component| component.get(component.len().checked_sub(ID)?..))
        .find(|id| id.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids() {
        let id = "4f5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796";
        for path in [
            format!("/docker/{id}"),
            format!("/kubepods/burstable/pod1b2c/{id}"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/system.slice/docker-{id}.scope/init"),
        ] {
            assert_eq!(container_id(&path), Some(id), "{path}");
        }
        assert_eq!(container_id("/user.slice/session-1.scope"), None);
        assert_eq!(container_id("/é"), None);
    }

    #[test]
    fn this_process() {
        let process = Process::read(std::process::id()).expect("it runs");
        assert_eq!(
            process.executable,
            std::env::current_exe()
                .ok()
                .map(|p| p.to_string_lossy().into_owned())
        );
        assert!(process.started > 0);
    }
}
