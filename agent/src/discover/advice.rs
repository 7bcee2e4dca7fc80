//! What is wrong with a selection, and what to type instead.

use super::{Process, ports};
use crate::config::{Executable, Selection};
use anyhow::{Result, bail};
use procfs::process::{Process as Proc, StatFlags};
use std::collections::BTreeMap;

/// Processes or ports that a hint names at most.
const HINTS: usize = 5;

/// Whether these are processes that run.
///
/// # Errors
/// The first that is none, with what it is instead.
pub fn check_pids(pids: &[u32]) -> Result<()> {
    for &pid in pids {
        let process = i32::try_from(pid).ok().and_then(|pid| Proc::new(pid).ok());
        let found = process.and_then(|process| Some((process.stat().ok()?, process.status().ok()?)));
        let Some((stat, status)) = found else {
            bail!("--pid {pid}: no such process");
        };
        if StatFlags::from_bits_truncate(stat.flags).contains(StatFlags::PF_KTHREAD) {
            bail!("--pid {pid}: a thread of the kernel, which has no sockets to watch");
        }
        if u32::try_from(status.tgid) != Ok(pid) {
            bail!("--pid {pid}: a thread of process {0}; use --pid {0}", status.tgid);
        }
    }
    Ok(())
}

/// A sentence for each selector that matches nothing now, with what comes near.
pub fn unmatched(selection: &Selection, processes: &[Process]) -> Vec<String> {
    let mut said = Vec::new();
    for glob in &selection.executables {
        let matches = |process: &Process| process.names().any(|name| glob.matches(name));
        if !processes.iter().any(matches) {
            said.push(format!(
                "--exe {}: no process matches now; one that is started later will be selected. {}",
                quoted(glob.glob()),
                near(glob, processes)
            ));
        }
    }
    for &port in &selection.ports {
        if ports::users(&[port], processes).is_empty() {
            let listening: Vec<String> = ports::listening().iter().map(u16::to_string).collect();
            let hint = match listening.as_slice() {
                [] => "Nothing listens on any port here.".to_owned(),
                all if all.len() <= 4 * HINTS => format!("Ports listened on here: {}.", all.join(", ")),
                all => format!("{} other ports are listened on here (ss -ltnp).", all.len()),
            };
            said.push(format!(
                "--port {port}: no process listens on it or is connected to it now. {hint}"
            ));
        }
    }
    said
}

/// As a shell takes it.
fn quoted(glob: &str) -> String {
    format!("'{}'", glob.replace('\'', "'\\''"))
}

/// What a process is called in a hint.
fn called(process: &Process) -> &str {
    let path = process.executed.as_deref().or(process.executable.as_deref());
    path.unwrap_or(&process.name)
        .rsplit('/')
        .next()
        .unwrap_or_default()
}

/// Processes whose names, or whose arguments, are much like `glob`.
fn near(glob: &Executable, processes: &[Process]) -> String {
    let wanted = glob
        .glob()
        .rsplit('/')
        .find(|part| part.chars().any(char::is_alphanumeric));
    let wanted: String = wanted
        .unwrap_or_default()
        .chars()
        .filter(|c| !"*?[]{}!".contains(*c))
        .collect();
    let wanted = wanted.to_lowercase();
    if wanted.is_empty() {
        return "See the names with `redwire ps --all`.".to_owned();
    }
    let agent = std::process::id();
    let others = processes.iter().filter(|process| process.pid != agent);
    let mut named: BTreeMap<&str, u32> = BTreeMap::new();
    let mut argument = None;
    for process in others {
        let alike = |name: &str| {
            let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
            let part = |long: &str, short: &str| short.len() >= 3 && long.contains(short);
            part(&name, &wanted) || part(&wanted, &name) || is_alike(&name, &wanted)
        };
        if process.names().any(alike) {
            named.entry(called(process)).or_insert(process.pid);
        } else if wanted.len() >= 3
            && process
                .arguments
                .iter()
                .skip(1)
                .any(|argument| argument.to_lowercase().contains(&wanted))
        {
            argument.get_or_insert(process);
        }
    }
    let hints: Vec<String> = named
        .into_iter()
        .take(HINTS)
        .map(|(name, pid)| format!("--exe {} (process {pid})", quoted(name)))
        .collect();
    match (hints.as_slice(), argument) {
        ([], Some(process)) => format!(
            "It stands among the arguments of process {0}, which runs {1}: --pid {0}, or --exe {2}.",
            process.pid,
            called(process),
            quoted(called(process)),
        ),
        ([], None) => {
            "Nothing that runs is called much like it; see the names with `redwire ps --all`.".to_owned()
        }
        (hints, _) => format!("Near: {}.", hints.join(", ")),
    }
}

/// Whether at most one letter in three, and two at most, were mistyped (Levenshtein's distance).
fn is_alike(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let allowed = (a.len().min(b.len()) / 3).min(2);
    if a.len().abs_diff(b.len()) > allowed {
        return false;
    }
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut left = i + 1;
        let mut diagonal = above[0];
        above[0] = left;
        for (j, y) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(x != y))
                .min(left + 1)
                .min(above[j + 1] + 1);
            diagonal = std::mem::replace(&mut above[j + 1], cost);
            left = cost;
        }
    }
    above.last().is_some_and(|&distance| distance <= allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, executed: &str, executable: &str, arguments: &[&str]) -> Process {
        Process {
            pid,
            name: executed.rsplit('/').next().unwrap_or_default().to_owned(),
            executable: Some(executable.to_owned()),
            executed: Some(executed.to_owned()),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            ..Process::default()
        }
    }

    fn advice(glob: &str) -> Vec<String> {
        let processes = [
            process(
                7,
                "/usr/bin/redis-server",
                "/usr/bin/redis-check-rdb",
                &["redis-server"],
            ),
            process(
                8,
                "/usr/bin/python3",
                "/usr/bin/python3.11",
                &["python3", "/srv/shop.py"],
            ),
        ];
        let selection = Selection {
            executables: vec![Executable::new(glob).expect("a glob")],
            ..Selection::default()
        };
        unmatched(&selection, &processes)
    }

    #[test]
    fn what_people_type_matches() {
        for glob in [
            "redis-server",
            "redis-check-rdb",
            "python3",
            "python3.11",
            "/usr/bin/python3",
            "**/redis-*",
        ] {
            assert_eq!(advice(glob), Vec::<String>::new(), "{glob}");
        }
    }

    #[test]
    fn what_matches_nothing_is_told_with_what_to_type() {
        for (glob, hint) in [
            ("redis", "--exe 'redis-server' (process 7)"),
            ("Redis-Server", "--exe 'redis-server' (process 7)"),
            ("redis-sevrer", "--exe 'redis-server' (process 7)"),
            ("/usr/local/bin/python3", "--exe 'python3' (process 8)"),
            ("shop.py", "--pid 8, or --exe 'python3'"),
            ("postgres", "`redwire ps --all`"),
            ("*/", "`redwire ps --all`"),
        ] {
            let said = advice(glob);
            assert!(said.len() == 1 && said[0].contains(hint), "{glob}: {said:?}");
        }
    }

    #[test]
    fn a_pid_is_a_process() {
        let own = std::process::id();
        assert!(check_pids(&[own]).is_ok());
        let of_a_thread = || {
            let link = std::fs::read_link("/proc/thread-self").expect("proc(5)");
            let thread: u32 = link.file_name()?.to_str()?.parse().ok()?;
            Some((thread, check_pids(&[thread]).map_err(|error| error.to_string())))
        };
        let (thread, error) = std::thread::spawn(of_a_thread)
            .join()
            .expect("it ends")
            .expect("its id");
        assert_eq!(
            error,
            Err(format!(
                "--pid {thread}: a thread of process {own}; use --pid {own}"
            ))
        );
        assert!(check_pids(&[u32::MAX]).is_err());
        assert!(check_pids(&[0]).is_err());
    }
}
