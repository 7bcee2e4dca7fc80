//! What agents that run on this host say of the processes they observe.
//!
//! Each listens on an abstract unix socket (unix(7)) that is called by its process id: it needs no folder to write to,
//! and is gone with the agent, however that ends. Whoever connects gets a line for each process with transactions, its
//! id and the protocols seen, separated by a space, and protocols by commas.

use anyhow::{Context as _, Result};
use redwire_telemetry::Seen;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// What the sockets' names begin with.
const PREFIX: &str = "redwire/";

/// How long one end waits for the other.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of an answer at most.
const ANSWER: u64 = 4 << 20;

/// A process, as an agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The agent's process.
    pub agent: u32,
    /// The protocols of its transactions, separated by commas.
    pub protocols: String,
}

/// Answers to [`observed`] from now on, on `runtime`.
///
/// # Errors
/// Where the socket cannot be made.
pub fn listen(seen: Arc<Seen>, runtime: &tokio::runtime::Handle) -> Result<()> {
    let _within = runtime.enter();
    let name = format!("{PREFIX}{}", std::process::id());
    let listener = SocketAddr::from_abstract_name(&name)
        .and_then(|address| UnixListener::bind_addr(&address))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .and_then(tokio::net::UnixListener::from_std)
        .with_context(|| format!("listening on the abstract unix socket @{name}"))?;
    runtime.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if !is_trusted(&stream) {
                continue;
            }
            let mut answer = String::new();
            for (pid, protocols) in seen.by_process() {
                // Writing to a string cannot fail.
                let _ = writeln!(answer, "{pid} {}", protocols.join(","));
            }
            // Whoever does not read gets nothing.
            let _ = tokio::time::timeout(PATIENCE, stream.write_all(answer.as_bytes())).await;
        }
    });
    Ok(())
}

/// Whether the other end is root, or who this process is: nobody else is told, and nobody else is believed.
fn is_trusted(stream: impl AsFd) -> bool {
    socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root() || peer.uid == geteuid())
}

/// The processes that the agents on this host observe.
pub fn observed() -> BTreeMap<u32, Observed> {
    let sockets = procfs::net::unix().unwrap_or_default();
    let mut agents: Vec<u32> = sockets
        .into_iter()
        .filter_map(|socket| {
            let path = socket.path?;
            path.to_str()?
                .strip_prefix('@')?
                .strip_prefix(PREFIX)?
                .parse()
                .ok()
        })
        .collect();
    agents.sort_unstable();
    agents.dedup();
    let mut all = BTreeMap::new();
    for agent in agents {
        // One that ends meanwhile observes nothing.
        let answer = ask(agent).unwrap_or_default();
        for (pid, protocols) in answer.lines().filter_map(|line| line.split_once(' ')) {
            if let Ok(pid) = pid.parse() {
                let protocols = protocols.to_owned();
                all.insert(pid, Observed { agent, protocols });
            }
        }
    }
    all
}

fn ask(agent: u32) -> Result<String> {
    let address = SocketAddr::from_abstract_name(format!("{PREFIX}{agent}"))?;
    let stream = UnixStream::connect_addr(&address)?;
    anyhow::ensure!(is_trusted(&stream), "not an agent of root or of this user");
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.take(ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}
