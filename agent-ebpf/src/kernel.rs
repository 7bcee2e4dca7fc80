//! Reading of kernel structs, through the offsets that the loader took from BTF. The only place that does.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_get_current_task_btf};
use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_kernel_buf};
use redwire_common::UNIX_PATH;

use crate::maps::{offset, setting};

pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

const SOCK_STREAM: u16 = 1;
const IPPROTO_TCP: u16 = 6;
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

#[inline(always)]
pub fn read<T>(base: u64, offset: usize) -> Option<T> {
    unsafe { bpf_probe_read_kernel((base as usize).wrapping_add(offset) as *const T) }.ok()
}

/// A socket.
#[derive(Clone, Copy)]
pub struct Socket {
    /// Address of the `struct sock`.
    pub sock: u64,
    /// Address of the `struct socket`.
    pub socket: u64,
    /// Address of the `struct file`, where it was found by a descriptor.
    pub file: u64,
}

impl Socket {
    /// The socket of a `struct sock`.
    #[inline(always)]
    pub fn of_sock(sock: u64) -> Option<Socket> {
        let socket = read(sock, offset!(sock_socket))?;
        Some(Socket {
            sock,
            socket,
            file: 0,
        })
    }

    /// The socket at a `struct socket`.
    #[inline(always)]
    pub fn of_socket(socket: u64) -> Option<Socket> {
        let sock: u64 = read(socket, offset!(socket_sk))?;
        if sock == 0 {
            return None;
        }
        Some(Socket {
            sock,
            socket,
            file: 0,
        })
    }
}

/// The current process' table of descriptors: how many it has, and where they are.
#[inline(always)]
fn descriptors() -> Option<(u32, u64)> {
    if setting!(typed) == 0 {
        let task = unsafe { bpf_get_current_task() };
        let files: u64 = read(task, offset!(task_files))?;
        let table: u64 = read(files, offset!(files_fdt))?;
        return Some((
            read(table, offset!(fdtable_max_fds))?,
            read(table, offset!(fdtable_fd))?,
        ));
    }
    // The verifier knows these pointers' types and lets them be followed without a helper's call.
    unsafe {
        let task = bpf_get_current_task_btf().cast::<u8>();
        let files = typed::<*const u8>(task, offset!(task_files));
        let table = typed::<*const u8>(files, offset!(files_fdt));
        Some((
            typed(table, offset!(fdtable_max_fds)),
            typed(table, offset!(fdtable_fd)),
        ))
    }
}

/// Follows a pointer whose type the verifier knows.
#[inline(always)]
unsafe fn typed<T>(base: *const u8, offset: usize) -> T {
    unsafe { base.add(offset).cast::<T>().read_volatile() }
}

/// What `fd` of the current process refers to, where that can be a socket.
#[inline(always)]
pub fn socket(fd: u64) -> Option<Socket> {
    let (max, array) = descriptors()?;
    // A descriptor is an int: the upper half of the register is not part of it.
    let fd = fd as u32;
    if fd >= max {
        return None;
    }
    let file: u64 = read(array, fd as usize * 8)?;
    if file == 0 {
        return None;
    }
    let socket: u64 = read(file, offset!(file_private_data))?;
    if socket == 0 {
        return None;
    }
    // Only a socket points back at its file there; `stream_family` has the full proof, once per connection.
    let [back, sock]: [u64; 2] = read(socket, offset!(socket_file))?;
    if back != file || sock == 0 {
        return None;
    }
    Some(Socket { sock, socket, file })
}

/// Inode number of the socket: tells one `struct sock` from the next at its address.
#[inline(always)]
pub fn inode(socket: &Socket) -> Option<u64> {
    read(socket.socket, offset!(socket_ino))
}

/// Whether this is a TCP or unix stream socket, and its family.
#[inline(always)]
pub fn stream_family(socket: &Socket) -> Option<u16> {
    if socket.file != 0 {
        let inode: u64 = read(socket.file, offset!(file_inode))?;
        let mode: u16 = read(inode, offset!(inode_mode))?;
        if mode & S_IFMT != S_IFSOCK {
            return None;
        }
    }
    let kind: u16 = read(socket.sock, offset!(sock_type))?;
    if kind != SOCK_STREAM {
        return None;
    }
    let family = family(socket.sock)?;
    if family == AF_UNIX {
        return Some(family);
    }
    let protocol: u16 = read(socket.sock, offset!(sock_protocol))?;
    if (family == AF_INET || family == AF_INET6) && protocol == IPPROTO_TCP {
        Some(family)
    } else {
        None
    }
}

/// `skc_family`.
#[inline(always)]
pub fn family(sock: u64) -> Option<u16> {
    read(sock, offset!(sock_family))
}

/// Local and remote port, in host order.
#[inline(always)]
pub fn ports(sock: u64) -> Option<(u16, u16)> {
    let local: u16 = read(sock, offset!(inet_sport))?;
    let remote: u16 = read(sock, offset!(sock_dport))?;
    Some((u16::from_be(local), u16::from_be(remote)))
}

/// Local and remote address of an internet socket.
#[inline(always)]
pub fn addresses(sock: u64, family: u16) -> Option<([u8; 16], [u8; 16])> {
    if family == AF_INET6 {
        return Some((
            read(sock, offset!(sock_v6_rcv_saddr))?,
            read(sock, offset!(sock_v6_daddr))?,
        ));
    }
    let (mut local, mut remote) = ([0; 16], [0; 16]);
    local[..4].copy_from_slice(&read::<[u8; 4]>(sock, offset!(sock_rcv_saddr))?);
    remote[..4].copy_from_slice(&read::<[u8; 4]>(sock, offset!(sock_daddr))?);
    Some((local, remote))
}

/// `write_seq`: position behind the last byte written.
#[inline(always)]
pub fn write_seq(sock: u64) -> Option<u32> {
    read(sock, offset!(tcp_write_seq))
}

/// Whether the peer's FIN was received: TCP_TIME_WAIT, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_LAST_ACK or TCP_CLOSING
/// (include/net/tcp_states.h).
#[inline(always)]
pub fn fin_received(sock: u64) -> bool {
    matches!(read::<u8>(sock, offset!(sock_state)), Some(6..=9 | 11))
}

/// Whether the connection is over: TCP_CLOSE (include/net/tcp_states.h).
#[inline(always)]
pub fn is_closed(sock: u64) -> bool {
    read::<u8>(sock, offset!(sock_state)) == Some(7)
}

/// `copied_seq`: position behind the last byte read.
#[inline(always)]
pub fn copied_seq(sock: u64) -> Option<u32> {
    read(sock, offset!(tcp_copied_seq))
}

/// `rcv_nxt`: position behind the last byte received, read or not.
#[inline(always)]
pub fn rcv_nxt(sock: u64) -> Option<u32> {
    read(sock, offset!(tcp_rcv_nxt))
}

/// Positions of the first bytes written and read (RFC 4898's byte counters, taken from where the stream is).
#[inline(always)]
pub fn origins(sock: u64) -> Option<[u32; 2]> {
    let written = origin(sock, offset!(tcp_bytes_acked), offset!(tcp_snd_una))?;
    Some([
        written,
        origin(sock, offset!(tcp_bytes_received), offset!(tcp_rcv_nxt))?,
    ])
}

/// Turns of `origin`: a packet that comes in between is rare, two in a row are rarer.
const ORIGIN_TURNS: usize = 4;

/// `position` less `count`, read while a packet may move both on another CPU.
#[inline(always)]
fn origin(sock: u64, count: usize, position: usize) -> Option<u32> {
    let pair = || -> Option<(u32, u64)> { Some((read(sock, position)?, read(sock, count)?)) };
    let mut before = pair()?;
    for _ in 0..ORIGIN_TURNS {
        let after = pair()?;
        if before == after {
            return Some(before.0.wrapping_sub(before.1 as u32));
        }
        before = after;
    }
    None
}

/// Path that a unix socket, or else its peer, is bound to, and its length.
#[inline(always)]
pub fn unix_path(sock: u64, path: &mut [u8]) -> u32 {
    let mut address: u64 = read(sock, offset!(unix_addr)).unwrap_or(0);
    if address == 0 {
        let peer: u64 = read(sock, offset!(unix_peer)).unwrap_or(0);
        if peer == 0 {
            return 0;
        }
        address = read(peer, offset!(unix_addr)).unwrap_or(0);
    }
    if address == 0 {
        return 0;
    }
    // `len` counts the two bytes of sun_family.
    let length: u32 = read(address, offset!(unix_address_len)).unwrap_or(0);
    let from = (address as usize).wrapping_add(offset!(unix_address_name) + 2) as *const u8;
    if length <= 2 || length as usize > UNIX_PATH + 2 || path.len() < UNIX_PATH {
        return 0;
    }
    match unsafe { bpf_probe_read_kernel_buf(from, &mut path[..UNIX_PATH]) } {
        Ok(()) => length - 2,
        Err(_) => 0,
    }
}

/// Whether the file has no other reference: closing it closes the socket.
#[inline(always)]
pub fn is_last_reference(file: u64) -> bool {
    read::<u32>(file, offset!(file_count)) == Some(setting_single())
}

#[inline(always)]
fn setting_single() -> u32 {
    offset!(file_count_single) as u32
}

/// Thread id and thread group id of a task.
#[inline(always)]
pub fn ids(task: u64) -> Option<(u32, u32)> {
    Some((read(task, offset!(task_pid))?, read(task, offset!(task_tgid))?))
}

/// Whether a task that exits is the last of its thread group (`signal->live` is counted down before the hook).
#[inline(always)]
pub fn is_last_thread(task: u64) -> bool {
    let signal: u64 = read(task, offset!(task_signal)).unwrap_or(0);
    read::<u32>(signal, offset!(signal_live)) == Some(0)
}

/// Where the environment of the current process begins and ends.
#[inline(always)]
pub fn environment() -> Option<(u64, u64)> {
    let task = unsafe { bpf_get_current_task() };
    let mm: u64 = read(task, offset!(task_mm))?;
    Some((read(mm, offset!(mm_env_start))?, read(mm, offset!(mm_env_end))?))
}

/// Inode and device of the current process's executable.
#[inline(always)]
pub fn executable() -> Option<(u64, u32)> {
    let task = unsafe { bpf_get_current_task() };
    let mm: u64 = read(task, offset!(task_mm))?;
    let file: u64 = read(mm, offset!(mm_exe_file))?;
    let inode: u64 = read(file, offset!(file_inode))?;
    let block: u64 = read(inode, offset!(inode_sb))?;
    Some((
        read(inode, offset!(inode_ino))?,
        read(block, offset!(super_block_dev))?,
    ))
}
