//! What `/proc` tells of a process.

use procfs::process::{Process as Proc, StatFlags};
use std::os::unix::fs::FileExt as _;

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
    /// The file that it runs, with all links resolved.
    pub executable: Option<String>,
    /// The path that it was executed by (`AT_EXECFN`, getauxval(3)): a link, perhaps, or a script.
    pub executed: Option<String>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment when it was started.
    pub environment: Vec<(String, String)>,
    /// Id of the container it runs in.
    pub container: Option<String>,
}

/// Bytes of a path at most (`PATH_MAX`, limits.h).
const PATH_MAX: usize = 4096;

impl Process {
    /// All processes that can be read, kernel threads left out, and how many could not be looked at: they are others',
    /// and this process lacks CAP_SYS_PTRACE.
    pub fn all() -> (Vec<Process>, usize) {
        let Ok(processes) = procfs::process::all_processes() else {
            return (Vec::new(), 0);
        };
        let (mut seen, mut hidden) = (Vec::new(), 0);
        for process in processes.flatten() {
            match Process::from_proc(&process) {
                Some(process) if process.executable.is_some() => seen.push(process),
                // One that has ended is not hidden.
                Some(_) if is_hidden(&process) => hidden += 1,
                _ => {}
            }
        }
        (seen, hidden)
    }

    /// The process of this id, if it (still) runs.
    pub fn read(pid: u32) -> Option<Process> {
        Process::from_proc(&Proc::new(i32::try_from(pid).ok()?).ok()?)
    }

    /// When the process of this id started, if it (still) runs; as [`Process::started`].
    pub fn start_of(pid: u32) -> Option<u64> {
        let stat = Proc::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
        (stat.state != 'Z').then_some(stat.starttime)
    }

    /// The process of this id, if it (still) runs, with what [`Process::names`] needs and nothing else.
    pub fn named(pid: u32) -> Option<Process> {
        let process = Proc::new(i32::try_from(pid).ok()?).ok()?;
        Some(Process {
            pid,
            name: process.stat().ok()?.comm,
            executable: executable(&process),
            executed: executed(&process),
            arguments: process.cmdline().unwrap_or_default(),
            ..Process::default()
        })
    }

    /// What people know it by: the file that it runs, the path that was executed, its first argument, and its name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let first = self.arguments.first().map(String::as_str);
        // Programs write their title over it (`redis-server *:6379`, `nginx: master process`), and a login shell's
        // begins with a dash.
        let title = first.and_then(|first| first.split([' ', ':']).next());
        let names = [self.executable.as_deref(), self.executed.as_deref(), first, title];
        let names = names.into_iter().flatten().chain([self.name.as_str()]);
        names
            .map(|name| name.strip_prefix('-').unwrap_or(name))
            .filter(|name| !name.is_empty())
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
            executable: executable(process),
            executed: executed(process),
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

/// The file that a process runs, also where that was replaced meanwhile.
fn executable(process: &Proc) -> Option<String> {
    let path = process.exe().ok()?.to_string_lossy().into_owned();
    Some(
        path.strip_suffix(" (deleted)")
            .map_or(path.clone(), str::to_owned),
    )
}

/// The path that a process was executed by; `None` where it was executed by a file descriptor or by itself, which
/// names nothing.
fn executed(process: &Proc) -> Option<String> {
    const AT_EXECFN: u64 = 31;
    let address = process.auxv().ok()?.get(&AT_EXECFN).copied()?;
    let mut path = [0; PATH_MAX];
    // It lies at the end of the stack: the last page may be shorter.
    let n = process.mem().ok()?.read_at(&mut path, address).ok()?;
    let path = String::from_utf8_lossy(path.get(..n)?.split(|&b| b == 0).next()?).into_owned();
    let names_nothing = path.is_empty() || path.starts_with("/dev/fd/") || path.starts_with("/proc/");
    (!names_nothing).then_some(path)
}

/// Whether a process that runs a program may not be looked at.
fn is_hidden(process: &Proc) -> bool {
    let Ok(stat) = process.stat() else { return false };
    let is_kernel_thread = StatFlags::from_bits_truncate(stat.flags).contains(StatFlags::PF_KTHREAD);
    let refused = |error: procfs::ProcError| matches!(error, procfs::ProcError::PermissionDenied(_));
    !is_kernel_thread && process.exe().is_err_and(refused)
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
        assert_eq!(Process::start_of(process.pid), Some(process.started));
        let first = std::env::args().next();
        assert_eq!(process.executed, first, "cargo executes what it names");
    }

    #[test]
    fn names_are_what_people_type() {
        let process = |name: &str, executable: &str, executed: &str, first: &str| Process {
            name: name.to_owned(),
            executable: Some(executable.to_owned()),
            executed: Some(executed.to_owned()),
            arguments: vec![first.to_owned()],
            ..Process::default()
        };
        let redis = process(
            "redis-server",
            "/usr/bin/redis-check-rdb",
            "/usr/bin/redis-server",
            "/usr/bin/redis-server 127.0.0.1:6379",
        );
        let names: Vec<&str> = redis.names().collect();
        assert!(names.contains(&"/usr/bin/redis-check-rdb") && names.contains(&"/usr/bin/redis-server"));
        let shell = process("bash", "/usr/bin/bash", "/bin/bash", "-bash");
        assert!(shell.names().any(|name| name == "bash"));
        let nginx = process("nginx", "/usr/sbin/nginx", "nginx", "nginx: master process nginx");
        assert!(nginx.names().any(|name| name == "nginx"));
    }
}
