//! What both sides of the ring buffer share: the layout of events, of map values and of the loader's globals.
//!
//! All structs are `repr(C)` without padding that is not named, since the kernel side writes them as bytes.
#![no_std]

/// Bytes of payload in one event at most; a longer call comes in several.
pub const PIECE: usize = 16 << 10;

/// Bytes of payload captured from the begin of one call, `CALL_PIECES` times [`PIECE`]: a pipeline that a client writes
/// at once fits.
pub const CALL_PIECES: usize = 64;

/// As [`CALL_PIECES`], where the ring buffer is rather full.
pub const SCARCE_PIECES: usize = 4;

/// Bytes captured from the end of a longer call. What lies between is a hole of known length: mostly a body, behind
/// which the next message or chunk begins.
pub const CALL_TAIL: usize = 256;

/// Buffers of one call at most: UIO_MAXIOV (include/uapi/linux/uio.h).
pub const CALL_BUFFERS: usize = 1_024;

/// Steps in which one call is handed over: each ends with a buffer or with a piece.
pub const CALL_STEPS: usize = CALL_BUFFERS + CALL_PIECES + 2;

/// Bytes captured around the line of a chunk whose content is not needed: the byte before it with CR LF, then the line.
pub const CHUNK_WINDOW: usize = 32;

/// `sockaddr_un.sun_path` (unix(7)).
pub const UNIX_PATH: usize = 108;

/// Bytes of a new process's environment that travel with its exec event.
pub const ENVIRONMENT: usize = 8 << 10;

/// What an event tells. The first 32-bit word of each.
pub mod kind {
    /// [`crate::DataEvent`], followed by the captured bytes.
    pub const DATA: u32 = 1;
    /// [`crate::OpenEvent`].
    pub const OPEN: u32 = 2;
    /// [`crate::CloseEvent`].
    pub const CLOSE: u32 = 3;
    /// [`crate::EndEvent`].
    pub const END: u32 = 4;
    /// [`crate::ExecEvent`], followed by the first bytes of the environment where it was selected by that.
    pub const EXEC: u32 = 5;
    /// [`crate::ProcessEvent`]: a selected process forked.
    pub const FORK: u32 = 6;
    /// [`crate::ProcessEvent`]: the last thread of a selected process ended.
    pub const EXIT: u32 = 7;
}

/// Direction of bytes: written by the process.
pub const EGRESS: u8 = 0;
/// Direction of bytes: read by the process.
pub const INGRESS: u8 = 1;

/// Bytes that went through a socket. Times are CLOCK_MONOTONIC nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DataEvent {
    /// [`kind::DATA`].
    pub kind: u32,
    /// Process (thread group) id.
    pub tgid: u32,
    /// Address of the `struct sock`.
    pub sock: u64,
    /// When the write was called, or when the read returned.
    pub time: u64,
    /// Position of the first byte, modulo 2^32.
    pub position: u32,
    /// Bytes that went.
    pub length: u32,
    /// Bytes that follow this header.
    pub captured: u32,
    /// Thread id.
    pub tid: u32,
    /// [`EGRESS`] or [`INGRESS`]; a whole word, so that the kernel side has no bytes to clear one by one.
    pub direction: u32,
    /// Zero.
    pub padding: u32,
}

/// A connection is seen for the first time.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OpenEvent {
    /// [`kind::OPEN`].
    pub kind: u32,
    /// Process (thread group) id.
    pub tgid: u32,
    /// Address of the `struct sock`.
    pub sock: u64,
    /// When.
    pub time: u64,
    /// Positions of the first bytes of egress and ingress, where `origin_known`.
    pub origin: [u32; 2],
    /// Local address, IPv4 in the first four bytes.
    pub local_address: [u8; 16],
    /// Remote address.
    pub remote_address: [u8; 16],
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    pub family: u16,
    /// An [`opener`].
    pub opener: u8,
    /// Whether `origin` is known, for both directions at once.
    pub origin_known: u8,
    /// Bytes of `path` that count.
    pub path_length: u32,
    /// Zero.
    pub padding: u32,
    /// Inode of the socket.
    pub inode: u64,
    /// Path of a unix socket's listening end; begins with a zero byte where abstract.
    pub path: [u8; UNIX_PATH + 4],
}

/// Who opened a connection.
pub mod opener {
    /// It is older than the observation.
    pub const UNKNOWN: u8 = 0;
    /// This end called connect(2).
    pub const LOCAL: u8 = 1;
    /// This end called accept(2).
    pub const REMOTE: u8 = 2;
}

/// A connection is closed, and what was not read of it will not be.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CloseEvent {
    /// [`kind::CLOSE`].
    pub kind: u32,
    /// Process (thread group) id; 0 where the kernel closed it.
    pub tgid: u32,
    /// Address of the `struct sock`.
    pub sock: u64,
    /// When.
    pub time: u64,
    /// Positions behind the last bytes written and read.
    pub position: [u32; 2],
}

/// A direction of a connection has ended: a read returned 0, or shutdown(2) was called.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct EndEvent {
    /// [`kind::END`].
    pub kind: u32,
    /// Process (thread group) id.
    pub tgid: u32,
    /// Address of the `struct sock`.
    pub sock: u64,
    /// When.
    pub time: u64,
    /// Position behind the last byte.
    pub position: u32,
    /// [`EGRESS`] or [`INGRESS`].
    pub direction: u8,
    /// Zero.
    pub padding: [u8; 3],
}

/// A process executed a program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecEvent {
    /// [`kind::EXEC`].
    pub kind: u32,
    /// Process (thread group) id.
    pub tgid: u32,
    /// When.
    pub time: u64,
    /// Device of the executable, as `dev_t` inside the kernel.
    pub device: u32,
    /// The [`verdict`]s that apply, also from before this exec.
    pub verdict: u32,
    /// Inode of the executable.
    pub inode: u64,
    /// Bytes of environment that follow.
    pub environment: u32,
    /// Bytes of environment that there are.
    pub environment_size: u32,
    /// `task_struct.comm`.
    pub comm: [u8; 16],
}

/// Why a process is selected, or not (yet). The bits of [`ProcessState::selected_by`].
pub mod verdict {
    /// Not selected; user space is asked.
    pub const ASK: u32 = 0;
    /// By its id.
    pub const PID: u32 = 1;
    /// By its executable.
    pub const EXECUTABLE: u32 = 2;
    /// By its environment.
    pub const ENVIRONMENT: u32 = 4;
    /// As a child of a selected one.
    pub const PARENT: u32 = 8;
}

/// A process was forked or has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEvent {
    /// [`kind::FORK`] or [`kind::EXIT`].
    pub kind: u32,
    /// Process (thread group) id.
    pub tgid: u32,
    /// When.
    pub time: u64,
    /// Its parent's.
    pub parent: u32,
    /// Zero.
    pub padding: u32,
}

/// Value of the map of selected processes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessState {
    /// [`verdict`]s that apply.
    pub selected_by: u32,
}

/// Value of the map of which processes are selected, by tgid / 64: a byte each, 1 where it is.
pub type ProcessFlags = [u8; PROCESSES_PER_ENTRY as usize];

/// Processes that one [`ProcessFlags`] covers.
pub const PROCESSES_PER_ENTRY: u32 = 64;

/// Key of the map of known executables.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Executable {
    /// Inode number.
    pub inode: u64,
    /// Device, as `dev_t` inside the kernel.
    pub device: u32,
    /// Zero.
    pub padding: u32,
}

/// What the kernel side remembers of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionState {
    /// Tells this `struct sock` from an earlier one at its address.
    pub inode: u64,
    /// Positions behind the last bytes of egress and ingress.
    pub next: [u32; 2],
    /// Positions of the first bytes.
    pub origin: [u32; 2],
    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    pub family: u16,
    /// An [`opener`].
    pub opener: u8,
    /// Whether `origin` is where the connection began.
    pub origin_known: u8,
    /// User space knows of it.
    pub announced: u8,
    /// TCP is done with it; what has come may still be read.
    pub over: u8,
    /// Zero.
    pub padding: [u8; 2],
}

/// Entries of the map of what is not needed.
pub const NOT_NEEDED_SLOTS: u32 = 1 << 16;

/// The entry of a `struct sock`: a multiplicative hash, since the low bits of addresses are alike.
#[inline(always)]
pub fn not_needed_slot(sock: u64) -> u32 {
    (sock.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u32
}

/// Value of the map of what is not needed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NotNeeded {
    /// Address of the `struct sock`.
    pub sock: u64,
    /// The socket's inode: a `struct sock` at the same address can be another connection by now.
    pub inode: u64,
    /// No byte before these positions, of egress and ingress.
    pub until: [u32; 2],
    /// Bytes from one chunk's line to the next, if they are of one length.
    pub stride: [u32; 2],
    /// A [`need`] of egress and ingress.
    pub state: [u8; 2],
    /// Zero.
    pub padding: [u8; 6],
}

/// States of [`NotNeeded`].
pub mod need {
    /// All is needed.
    pub const ALL: u8 = 0;
    /// What lies before `until` is not.
    pub const FROM: u8 = 1;
    /// Nothing is, ever.
    pub const NOTHING: u8 = 2;
    /// No bytes are, but how many went and when.
    pub const LENGTHS: u8 = 3;
    /// The lines of chunks are (RFC 9112 § 7.1), the next of which begins at `until`, and all from the last chunk's on.
    /// Where the stream is further already, `stride` tells where the next may be.
    pub const CHUNKS: u8 = 4;
}

/// Offsets in bytes of kernel struct members, from BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    missing_docs,
    reason = "each is the offset of the member it is named after: struct_member"
)]
pub struct Offsets {
    pub task_files: u32,
    pub task_mm: u32,
    pub task_tgid: u32,
    pub task_pid: u32,
    pub task_signal: u32,
    pub signal_live: u32,
    pub files_fdt: u32,
    pub fdtable_max_fds: u32,
    pub fdtable_fd: u32,
    pub file_private_data: u32,
    pub file_inode: u32,
    /// Of the reference count of `struct file`, whichever its type.
    pub file_count: u32,
    /// What the count is with a single reference.
    pub file_count_single: u32,
    pub inode_mode: u32,
    pub inode_ino: u32,
    pub inode_sb: u32,
    pub super_block_dev: u32,
    /// The member behind it is `sk`.
    pub socket_file: u32,
    /// Of `i_ino` in `struct socket_alloc`, which begins with the `struct socket`.
    pub socket_ino: u32,
    pub sock_family: u32,
    pub sock_state: u32,
    /// The local port as it was on the wire; `skc_num` is gone when the connection is over.
    pub inet_sport: u32,
    pub sock_dport: u32,
    pub sock_daddr: u32,
    pub sock_rcv_saddr: u32,
    pub sock_v6_daddr: u32,
    pub sock_v6_rcv_saddr: u32,
    pub sock_type: u32,
    pub sock_protocol: u32,
    pub tcp_copied_seq: u32,
    pub tcp_write_seq: u32,
    pub tcp_rcv_nxt: u32,
    pub tcp_bytes_received: u32,
    pub tcp_snd_una: u32,
    pub tcp_bytes_acked: u32,
    pub unix_addr: u32,
    pub unix_peer: u32,
    pub unix_address_len: u32,
    pub unix_address_name: u32,
    pub mm_env_start: u32,
    pub mm_env_end: u32,
    pub mm_exe_file: u32,
    pub sock_socket: u32,
    pub socket_sk: u32,
    pub msghdr_msg_iter: u32,
    /// Of `iter_type`, or of `type` before Linux 5.14.
    pub iov_iter_type: u32,
    pub iov_iter_iov_offset: u32,
    /// Of the pointer to the buffer or vector, whatever its name.
    pub iov_iter_iov: u32,
}

/// What the loader decides, read-only in the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// 1: `REDWIRE_ENABLE=true` in its environment selects a process.
    pub by_environment: u32,
    /// 1: user space is asked about executables not known yet.
    pub by_executable: u32,
    /// 1: connections are selected by port.
    pub by_port: u32,
    /// 1: children of selected processes are selected.
    pub follow: u32,
    /// Process whose own calls are never looked at: the agent.
    pub agent: u32,
    /// 1: the kernel has typed pointers (Linux 5.11), which are followed at no cost.
    pub typed: u32,
    /// The reader is woken each time that a CPU has written so many bytes. It looks by itself every few milliseconds.
    pub wake_every: u32,
    /// Bytes waiting in the ring buffer from which on less is captured of long calls.
    pub scarce_from: u32,
    /// 1: each program that moves bytes has a twin behind it, which does what the first was skipped for.
    pub twins: u32,
    /// Arguments of `tcp_recvmsg`: 6 with `nonblock`, `flags` and `addr_len`, 5 without the first (Linux 5.19), 4 without
    /// the last, too (7.3).
    pub recvmsg_arguments: u32,
    /// What of an iterator's type tells its kind: before Linux 5.14 the lowest bit is its direction.
    pub iter_mask: u32,
    /// Kinds of iterators (`enum iter_type`); one that the kernel does not have is `u32::MAX`.
    pub iter_ubuf: u32,
    /// As above.
    pub iter_iovec: u32,
    /// As above.
    pub iter_bvec: u32,
    /// Size of `struct page`.
    pub page_struct: u32,
    /// Zero.
    pub padding: u32,
    /// Address of the kernel's variable `vmemmap_base`; 0 where it has none, or does not tell.
    pub vmemmap_base: u64,
    /// As above, of `page_offset_base`.
    pub page_offset_base: u64,
}

/// Indices into the counters of the kernel programs.
pub mod counter {
    /// Events that found the ring buffer full.
    pub const LOST_EVENTS: u32 = 0;
    /// Payload bytes in them, captured or not.
    pub const LOST_BYTES: u32 = 1;
    /// Payload bytes handed to user space.
    pub const CAPTURED_BYTES: u32 = 2;
    /// Payload bytes that went by uncaptured: beyond the limit per call, or in memory that could not be read.
    pub const UNCAPTURED_BYTES: u32 = 3;
    /// Payload bytes that were not needed.
    pub const UNNEEDED_BYTES: u32 = 4;
    /// Calls whose position in the stream could not be told.
    pub const UNPLACED_CALLS: u32 = 5;
    /// Selected processes that found their table full.
    pub const PROCESSES_FULL: u32 = 6;
    /// Payload bytes of selected connections that went by without any program telling of them: it was skipped, or the
    /// call is none of a selected process.
    pub const UNSEEN_BYTES: u32 = 7;
    /// How many there are.
    pub const COUNT: u32 = 8;
}

#[cfg(feature = "user")]
mod user {
    use super::{ConnectionState, Executable, NotNeeded, Offsets, ProcessState, Settings};

    // SAFETY: as below.
    unsafe impl aya::Pod for ConnectionState {}
    // SAFETY: `repr(C)` integers without implicit padding.
    unsafe impl aya::Pod for Executable {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NotNeeded {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Offsets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ProcessState {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
}
