//! The live kernel as a source of connection events: loads the kernel programs, attaches them, reads their ring
//! buffer.

pub mod backend;
mod clock;
mod event;
pub mod floor;
pub mod kernel;
pub mod offsets;
mod skipped;

use crate::source::ebpf::event::Event;
use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, HashMap as BpfHashMap, MapData, PerCpuArray, RingBuf};
use aya::{Btf, Ebpf, EbpfLoader, Endianness};
use backend::{BACKENDS, Backend};
use clock::Clock;
use kernel::Kernel;
use offsets::Layout;
use redwire_common::{
    CloseEvent, ConnectionState, DataEvent, EGRESS, EndEvent, Executable, NotNeeded, OpenEvent,
    PROCESSES_PER_ENTRY, ProcessFlags, ProcessState, Settings, counter, need, not_needed_slot, opener,
};
use redwire_protocol::connection::{
    ConnectionId, ConnectionInfo, Direction, Endpoint, Opener, ProcessId, Vantage,
};
use redwire_protocol::output::{Need, Observer};
use redwire_protocol::stream::{Chunk, Connections};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The kernel programs, built by `build.rs`.
static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redwire-tracepoint"));

/// How the kernel programs are to be loaded.
#[derive(Debug, Clone)]
pub struct Options {
    /// The one backend that may be taken; `None` for the best that the kernel allows.
    pub hooks: Option<Backend>,
    /// BTF of the running kernel.
    pub btf: PathBuf,
    /// Bytes of the ring buffer; a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// `REDWIRE_ENABLE=true` in its environment selects a process.
    pub by_environment: bool,
    /// [`Processes::judge`] is asked about executables.
    pub by_executable: bool,
    /// Selected ports.
    pub ports: Vec<u16>,
    /// Children of selected processes are selected.
    pub follow: bool,
    /// Kernel programs log.
    pub kernel_log: bool,
}

/// What the agent is told of processes.
pub trait Processes {
    /// A selected process runs a program; `environment` is its NUL-separated environment, possibly cut off.
    fn executed(&mut self, process: ProcessId, name: &str, environment: &[u8]);

    /// A selected process has a new child, selected too.
    fn forked(&mut self, parent: ProcessId, child: ProcessId);

    /// A selected process has ended.
    fn ended(&mut self, process: ProcessId);

    /// Whether this process, which runs an executable not selected before, is to be selected for that.
    fn judge(&mut self, process: ProcessId) -> Judgement;
}

/// What [`Processes::judge`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Every process that runs this file is to be selected.
    Executable,
    /// This process is, for what it is called: another one can run the same file by another name.
    Process,
    /// This process is not.
    No,
}

/// The kernel programs, loaded and attached.
pub struct Source {
    ebpf: Ebpf,
    backend: Backend,
    ring: RingBuf<MapData>,
    processes: BpfHashMap<MapData, u32, ProcessState>,
    selected: Array<MapData, ProcessFlags>,
    executables: BpfHashMap<MapData, Executable, u32>,
    not_needed: Array<MapData, NotNeeded>,
    connections: BpfHashMap<MapData, u64, ConnectionState>,
    counters: PerCpuArray<MapData, u64>,
    /// Inode of each open connection's socket.
    inodes: HashMap<ConnectionId, u64>,
    clock: Clock,
}

/// Sums of the kernel programs' counters, in the units of [`redwire_common::counter`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters(pub [u64; counter::COUNT as usize + 1]);

/// Index into [`Counters`] of the runs of kernel programs that the kernel skipped, behind those that the programs
/// count.
pub const SKIPPED_RUNS: u32 = counter::COUNT;

impl Counters {
    /// One of [`redwire_common::counter`].
    pub fn get(&self, index: u32) -> u64 {
        self.0.get(index as usize).copied().unwrap_or(0)
    }
}

impl Source {
    /// Loads and attaches the kernel programs of the best backend that the kernel allows. They are gone with this
    /// process, however it ends: their links are file descriptors.
    ///
    /// # Errors
    /// Where BTF, privilege or the kernel's policy is missing: what each backend was refused for.
    pub fn open(options: &Options) -> Result<Source> {
        let kernel = Kernel::running();
        let layout = offsets::read(&options.btf, &backend::optional_functions())?;
        let mut refused = Vec::new();
        for backend in BACKENDS {
            if options.hooks.is_some_and(|only| only != backend) {
                continue;
            }
            match Source::of(backend, options, &kernel, &layout) {
                Ok(source) => {
                    for (other, why) in &refused {
                        let why = format!("{why:#}");
                        tracing::info!("not backend {other}: {}", why.lines().next().unwrap_or_default());
                    }
                    return Ok(source);
                }
                Err(error) => refused.push((backend, error)),
            }
        }
        let refused: Vec<String> = refused
            .into_iter()
            .map(|(backend, error)| format!("backend {backend}: {error:#}"))
            .collect();
        bail!("{}", refused.join("\n"))
    }

    /// As [`Source::open`], for one backend. Nothing stays attached where a part of it is refused.
    ///
    /// # Errors
    /// What it was refused for.
    pub fn of(backend: Backend, options: &Options, kernel: &Kernel, layout: &Layout) -> Result<Source> {
        if let Some(why) = backend.denied(kernel) {
            bail!("not on kernel {}: {why}", kernel.release);
        }
        let hooks = backend.hooks(kernel, &layout.functions);
        let settings = settings(options, kernel, layout, backend.has_twins(kernel));
        let log_level = if options.kernel_log { u8::MAX } else { 0 };
        let mut ebpf = EbpfLoader::new()
            .override_global("OFFSETS", &layout.offsets, true)
            .override_global("SETTINGS", &settings, true)
            .override_global(aya_log::LEVEL, &log_level, false)
            .map_max_entries("EVENTS", options.ring_bytes)
            .load(PROGRAMS)
            .context("loading the kernel programs' maps")?;
        // Only trampolines are attached by type.
        let btf = match backend {
            Backend::Fentry => Some(
                Btf::parse_file(&options.btf, Endianness::default())
                    .with_context(|| options.btf.display().to_string())?,
            ),
            _ => None,
        };
        backend::load(&mut ebpf, &hooks, btf.as_ref())?;
        drop(btf);
        let mut ports: BpfHashMap<_, u16, u8> = BpfHashMap::try_from(take(&mut ebpf, "PORTS")?)?;
        for port in &options.ports {
            ports
                .insert(port, &1, 0)
                .with_context(|| format!("selecting port {port}"))?;
        }
        let mut source = Source {
            ring: RingBuf::try_from(take(&mut ebpf, "EVENTS")?)?,
            processes: BpfHashMap::try_from(take(&mut ebpf, "PROCESSES")?)?,
            selected: Array::try_from(take(&mut ebpf, "SELECTED")?)?,
            executables: BpfHashMap::try_from(take(&mut ebpf, "EXECUTABLES")?)?,
            not_needed: Array::try_from(take(&mut ebpf, "NOT_NEEDED")?)?,
            connections: BpfHashMap::try_from(take(&mut ebpf, "CONNECTIONS")?)?,
            counters: PerCpuArray::try_from(take(&mut ebpf, "COUNTERS")?)?,
            ebpf,
            backend,
            inodes: HashMap::new(),
            clock: Clock::new(),
        };
        backend::attach(&mut source.ebpf, &hooks)?;
        Ok(source)
    }

    /// The program that took the verifier the most instructions, and how many; `None` where the kernel does not tell
    /// (before Linux 5.16).
    pub fn costliest(&self) -> Option<(&str, u32)> {
        let cost = |program: &aya::programs::Program| program.info().ok()?.verified_instruction_count();
        self.ebpf
            .programs()
            .filter_map(|(name, program)| Some((name, cost(program)?)))
            .max_by_key(|(_, cost)| *cost)
    }

    /// The backend that was taken.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Passes what the kernel programs log to `tracing`.
    ///
    /// # Errors
    /// Where their log cannot be read.
    pub fn log(&mut self, runtime: &tokio::runtime::Handle) -> Result<()> {
        let _within = runtime.enter();
        let logger = aya_log::EbpfLogger::init(&mut self.ebpf).context("the kernel programs' log")?;
        // SAFETY: the logger keeps the one descriptor that it shows open as long as it lives.
        let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }?;
        runtime.spawn(async move {
            while let Ok(mut ready) = logger.readable_mut().await {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        });
        Ok(())
    }

    /// Selects a process, for one of [`redwire_common::verdict`].
    ///
    /// # Errors
    /// Where the table of selected processes is full.
    pub fn select(&mut self, process: ProcessId, selected_by: u32) -> Result<()> {
        let mut state = self.processes.get(&process.0, 0).unwrap_or_default();
        state.selected_by |= selected_by;
        self.processes.insert(&process.0, &state, 0).with_context(|| {
            format!(
                "selecting process {}: the table of selected processes is full",
                process.0
            )
        })?;
        // Its neighbours in the entry may be set by the kernel programs at the same moment: theirs is another byte,
        // but an update replaces the entry, so it is repeated until all that are selected are there.
        let entry = process.0 / PROCESSES_PER_ENTRY;
        loop {
            let mut flags = self.selected.get(&entry, 0)?;
            for (pid, flag) in (entry * PROCESSES_PER_ENTRY..).zip(&mut flags) {
                *flag = u8::from(self.processes.get(&pid, 0).is_ok());
            }
            self.selected.set(entry, &flags, 0)?;
            let complete = (entry * PROCESSES_PER_ENTRY..).zip(self.selected.get(&entry, 0)?);
            if complete
                .take(flags.len())
                .all(|(pid, flag)| (flag == 1) == self.processes.get(&pid, 0).is_ok())
            {
                return Ok(());
            }
        }
    }

    /// Selected processes and why.
    pub fn selected(&self) -> Vec<(ProcessId, ProcessState)> {
        self.processes
            .iter()
            .flatten()
            .map(|(pid, state)| (ProcessId(pid), state))
            .collect()
    }

    /// Nanoseconds since the Unix epoch, by the clock of the events.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Follows steps of the time of day; to be called every few seconds.
    pub fn refresh_clock(&mut self) {
        self.clock.refresh();
    }

    /// What the kernel programs counted so far, on all CPUs.
    pub fn counters(&self) -> Counters {
        let sum = |index| {
            self.counters
                .get(&index, 0)
                .map_or(0, |values| values.iter().sum())
        };
        let mut counters = Counters(std::array::from_fn(|index| sum(index as u32)));
        counters.0[SKIPPED_RUNS as usize] = skipped::runs(&self.ebpf);
        // What the kernel programs count as uncaptured holds what the ring buffer had no room for.
        let lost = counters.get(counter::LOST_BYTES);
        let uncaptured = &mut counters.0[counter::UNCAPTURED_BYTES as usize];
        *uncaptured = uncaptured.saturating_sub(lost);
        counters
    }

    /// Waits until much is to be read, or `timeout` is over.
    pub fn wait(&self, timeout: Duration) {
        let mut poll = libc::pollfd {
            fd: self.ring.as_fd().as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd. A signal only ends the wait early.
        unsafe { libc::poll(&mut poll, 1, timeout) };
    }

    /// Reads what the ring buffer holds, at most `limit` events, up to the close of a connection: what is not needed of
    /// it has to be told before its socket is another's. Returns how many there were.
    pub fn drain(
        &mut self,
        limit: usize,
        connections: &mut Connections,
        observer: &mut dyn Observer,
        processes: &mut dyn Processes,
    ) -> usize {
        let mut n = 0;
        while n < limit {
            let Some(item) = self.ring.next() else { break };
            n += 1;
            match event::parse(&item) {
                Some(Event::Data(event, bytes)) => {
                    let id = ConnectionId(event.sock);
                    if connections.contains(id) {
                        connections.data(&chunk(&event, bytes, self.clock), observer);
                    } else {
                        // Evicted here, or its opening was lost: announced anew by the next call on it.
                        let _ = self.connections.remove(&event.sock);
                    }
                }
                Some(Event::Open(event)) => {
                    let id = ConnectionId(event.sock);
                    if self.inodes.insert(id, event.inode) != Some(event.inode) || !connections.contains(id) {
                        let origins = match event.origin_known {
                            0 => [None, None],
                            _ => event.origin.map(Some),
                        };
                        connections.opened(info(&event), origins, observer);
                    }
                }
                Some(Event::End(EndEvent {
                    sock,
                    time,
                    position,
                    direction,
                    ..
                })) => {
                    let id = ConnectionId(sock);
                    connections.ended(
                        id,
                        way(direction),
                        Some(position),
                        self.clock.unix(time),
                        observer,
                    );
                }
                Some(Event::Close(CloseEvent {
                    sock, time, position, ..
                })) => {
                    let id = ConnectionId(sock);
                    self.inodes.remove(&id);
                    let positions = position.map(Some);
                    connections.closed(id, positions, self.clock.unix(time), observer);
                    break;
                }
                Some(Event::Exec(event, environment)) => {
                    let process = ProcessId(event.tgid);
                    let name = event.comm.split(|&b| b == 0).next().unwrap_or_default();
                    let name = String::from_utf8_lossy(name);
                    let environment = environment.to_vec();
                    drop(item);
                    self.executed(&event, process, &name, &environment, processes);
                }
                Some(Event::Fork(event)) => processes.forked(ProcessId(event.parent), ProcessId(event.tgid)),
                Some(Event::Exit(event)) => processes.ended(ProcessId(event.tgid)),
                None => tracing::error!("an event of unknown layout: kernel programs and agent do not match"),
            }
        }
        n
    }

    fn executed(
        &mut self,
        event: &redwire_common::ExecEvent,
        process: ProcessId,
        name: &str,
        environment: &[u8],
        processes: &mut dyn Processes,
    ) {
        // As the kernel programs saw it: a short life is over by now.
        let mut selected = event.verdict != 0;
        if event.verdict & redwire_common::verdict::EXECUTABLE == 0 {
            let executable = Executable {
                inode: event.inode,
                device: event.device,
                padding: 0,
            };
            if self.executables.get(&executable, 0).is_err() {
                let judged = processes.judge(process);
                if judged == Judgement::Executable {
                    let _ = self.executables.insert(&executable, &1, 0);
                }
                if judged != Judgement::No {
                    selected |= self.select(process, redwire_common::verdict::EXECUTABLE).is_ok();
                }
            }
        }
        if selected {
            processes.executed(process, name, environment);
        }
    }

    /// Tells the kernel programs what is needed of a connection from now on.
    pub fn need(&mut self, id: ConnectionId, direction: Direction, what: Need) {
        let Some(&inode) = self.inodes.get(&id) else {
            return;
        };
        let slot = not_needed_slot(id.0);
        let mut value = self.not_needed.get(&slot, 0).unwrap_or_default();
        if (value.sock, value.inode) != (id.0, inode) {
            value = NotNeeded {
                sock: id.0,
                inode,
                ..NotNeeded::default()
            };
        }
        let way = direction as usize;
        (value.state[way], value.until[way]) = match what {
            Need::From(position) => (need::FROM, position),
            Need::Chunks { line, stride } => {
                // The kernel programs are further already.
                let ahead = value.until[way].wrapping_sub(line) as i32;
                if value.state[way] == need::CHUNKS && ahead > 0 {
                    return;
                }
                value.stride[way] = stride;
                (need::CHUNKS, line)
            }
            Need::Lengths => (need::LENGTHS, 0),
            Need::Nothing => (need::NOTHING, 0),
        };
        // Another connection's entry is lost here, which costs bytes that nobody needs, and no transaction.
        let _ = self.not_needed.set(slot, &value, 0);
    }
}

fn settings(options: &Options, kernel: &Kernel, layout: &Layout, twins: bool) -> Settings {
    let [ubuf, iovec, bvec] = layout.iter_kinds.map(|kind| kind.unwrap_or(u32::MAX));
    let symbols = offsets::symbols(["vmemmap_base", "page_offset_base"]);
    Settings {
        by_environment: u32::from(options.by_environment),
        by_executable: u32::from(options.by_executable),
        typed: u32::from(kernel.has_typed_pointers()),
        by_port: u32::from(!options.ports.is_empty()),
        follow: u32::from(options.follow),
        agent: std::process::id(),
        // All CPUs together fill a sixteenth before the reader is woken.
        wake_every: options.ring_bytes / 16 / aya::util::nr_cpus().map_or(1, |cpus| cpus.get()),
        scarce_from: options.ring_bytes / 4 * 3,
        twins: u32::from(twins),
        recvmsg_arguments: layout.recvmsg_arguments,
        iter_mask: layout.iter_mask,
        iter_ubuf: ubuf,
        iter_iovec: iovec,
        iter_bvec: bvec,
        page_struct: layout.page_struct,
        padding: 0,
        vmemmap_base: symbols[0],
        page_offset_base: symbols[1],
    }
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the build has no map {name}"))
}

fn way(direction: u8) -> Direction {
    if direction == EGRESS {
        Direction::Egress
    } else {
        Direction::Ingress
    }
}

fn chunk<'a>(event: &DataEvent, bytes: &'a [u8], clock: Clock) -> Chunk<'a> {
    Chunk {
        id: ConnectionId(event.sock),
        direction: way(event.direction as u8),
        position: event.position,
        length: event.length,
        bytes,
        time: clock.unix(event.time),
        process: Some(ProcessId(event.tgid)),
    }
}

fn info(event: &OpenEvent) -> ConnectionInfo {
    let address = |bytes: [u8; 16]| match i32::from(event.family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        _ => Ipv6Addr::from(bytes).to_canonical(),
    };
    let endpoint = |bytes, port| match i32::from(event.family) {
        libc::AF_UNIX => {
            let path = event.path.get(..event.path_length as usize).unwrap_or_default();
            Endpoint::Unix(unix_path(path))
        }
        _ => Endpoint::Inet(SocketAddr::new(address(bytes), port)),
    };
    ConnectionInfo {
        id: ConnectionId(event.sock),
        local: endpoint(event.local_address, event.local_port),
        remote: endpoint(event.remote_address, event.remote_port),
        vantage: Vantage::Socket,
        opener: match event.opener {
            opener::LOCAL => Opener::Local,
            opener::REMOTE => Opener::Remote,
            _ => Opener::Unknown,
        },
        process: Some(ProcessId(event.tgid)),
    }
}

/// A path, or `@name` for an abstract one (unix(7)).
fn unix_path(path: &[u8]) -> Arc<str> {
    let text = match path {
        [0, name @ ..] => format!("@{}", String::from_utf8_lossy(name)),
        path => String::from_utf8_lossy(path.split(|&b| b == 0).next().unwrap_or_default()).into_owned(),
    };
    text.into()
}
