//! Which processes have TCP sockets on which ports.

use super::Process;
use procfs::process::{FDTarget, Process as Proc};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

fn proc(pid: u32) -> Option<Proc> {
    Proc::new(i32::try_from(pid).ok()?).ok()
}

/// A process of each network namespace: each has its own table of sockets.
fn namespaces(processes: &[Process]) -> Vec<Proc> {
    let mut one_of: HashMap<PathBuf, u32> = HashMap::new();
    for process in processes {
        if let Ok(namespace) = std::fs::read_link(format!("/proc/{}/ns/net", process.pid)) {
            one_of.entry(namespace).or_insert(process.pid);
        }
    }
    one_of.into_values().filter_map(proc).collect()
}

/// The ids of processes with a socket whose local or remote port is one of `ports`.
pub(super) fn users(ports: &[u16], processes: &[Process]) -> BTreeSet<u32> {
    if ports.is_empty() {
        return BTreeSet::new();
    }
    let mut inodes = HashSet::new();
    for process in namespaces(processes) {
        let tables = [
            process.tcp().unwrap_or_default(),
            process.tcp6().unwrap_or_default(),
        ];
        for socket in tables.into_iter().flatten() {
            if ports.contains(&socket.local_address.port()) || ports.contains(&socket.remote_address.port()) {
                inodes.insert(socket.inode);
            }
        }
    }
    // A connection that no process has any more.
    inodes.remove(&0);
    if inodes.is_empty() {
        return BTreeSet::new();
    }
    let has = |process: &&Process| {
        let files = proc(process.pid).and_then(|process| process.fd().ok());
        files.is_some_and(|mut files| {
            files.any(|file| {
                file.is_ok_and(
                    |file| matches!(file.target, FDTarget::Socket(inode) if inodes.contains(&inode)),
                )
            })
        })
    };
    processes.iter().filter(has).map(|process| process.pid).collect()
}

/// Ports that something listens on, in this process's network namespace.
pub(super) fn listening() -> BTreeSet<u16> {
    let tables = [
        procfs::net::tcp().unwrap_or_default(),
        procfs::net::tcp6().unwrap_or_default(),
    ];
    let sockets = tables.into_iter().flatten();
    let listening = sockets.filter(|socket| socket.state == procfs::net::TcpState::Listen);
    listening.map(|socket| socket.local_address.port()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    fn both_ends_and_the_listener_use_a_port() -> std::io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let own = Process::read(std::process::id()).expect("it runs");
        let users = || users(&[port], std::slice::from_ref(&own));
        assert_eq!(users(), BTreeSet::from([own.pid]));
        assert!(listening().contains(&port));
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let accepted = listener.accept()?;
        drop(listener);
        drop(accepted);
        assert_eq!(users(), BTreeSet::from([own.pid]), "its remote port");
        drop(client);
        assert_eq!(users(), BTreeSet::new());
        Ok(())
    }
}
