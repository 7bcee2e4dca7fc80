//! Calls of the kernel's socket functions, as the backends `fentry` and `kprobe` see them.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use redwire_common::{EGRESS, INGRESS, opener};

use crate::connection::{self, Transfer};
use crate::emit::ids;
use crate::kernel::Socket;
use crate::maps::CONNECTIONS;
use crate::memory::{self, Memory};

/// Flags of recv(2).
pub const MSG_PEEK: u64 = 2;
pub const MSG_TRUNC: u64 = 0x20;

/// Bytes written by a function that has `message`, or 0 where what it writes is not in memory of its own.
#[inline(always)]
pub fn sent(slot: u32, socket: Option<Socket>, message: u64, result: i32, time: u64) -> Option<()> {
    if result <= 0 {
        return None;
    }
    let caller = connection::caller(ids())?;
    let state = connection::prepare(slot, &caller, &socket?)?;
    let transfer = &mut state.transfer;
    transfer.direction = u32::from(EGRESS);
    transfer.time = time;
    transfer.exact = 1;
    moved(slot, transfer, message, result)
}

/// Bytes read by a function that has `message`, or 0 where they do not go to memory.
#[inline(always)]
pub fn received(slot: u32, socket: Option<Socket>, message: u64, flags: u64, result: i32) -> Option<()> {
    if result < 0 || flags & MSG_PEEK != 0 {
        return None;
    }
    let caller = connection::caller(ids())?;
    let socket = socket?;
    let time = unsafe { bpf_ktime_get_ns() };
    if result == 0 {
        // The twin has nothing to add.
        if slot & 1 == 0 {
            connection::ended(&caller, socket.sock, INGRESS, time);
        }
        return Some(());
    }
    let state = connection::prepare(slot, &caller, &socket)?;
    let transfer = &mut state.transfer;
    transfer.direction = u32::from(INGRESS);
    transfer.time = time;
    transfer.exact = 0;
    let message = if flags & MSG_TRUNC != 0 { 0 } else { message };
    moved(slot, transfer, message, result)
}

#[inline(always)]
fn moved(slot: u32, transfer: *mut Transfer, message: u64, result: i32) -> Option<()> {
    let transfer = unsafe { &mut *transfer };
    transfer.length = result as u32;
    transfer.behind = 0;
    transfer.memory = Memory::none();
    transfer.skip = 0;
    if message != 0 {
        memory::passed(slot, transfer, message);
    }
    connection::redwire_transferred(slot);
    Some(())
}

/// accept(2) has given `socket` its `struct sock`.
#[inline(always)]
pub fn accepted(slot: u32, socket: u64) -> Option<()> {
    let caller = connection::caller(ids())?;
    let socket = Socket::of_socket(socket)?;
    connection::opened(slot, &caller, &socket, opener::REMOTE, unsafe {
        bpf_ktime_get_ns()
    });
    Some(())
}

/// connect(2) has succeeded.
#[inline(always)]
pub fn connected(slot: u32, socket: u64, result: i32) -> Option<()> {
    if result != 0 {
        return None;
    }
    let caller = connection::caller(ids())?;
    let socket = Socket::of_socket(socket)?;
    connection::opened(slot, &caller, &socket, opener::LOCAL, unsafe {
        bpf_ktime_get_ns()
    });
    Some(())
}

/// shutdown(2).
#[inline(always)]
pub fn shut_down(socket: u64, how: u64, result: i32) -> Option<()> {
    if result != 0 {
        return None;
    }
    let caller = connection::caller(ids())?;
    let socket = Socket::of_socket(socket)?;
    connection::shut_down(&caller, socket.sock, how, unsafe { bpf_ktime_get_ns() });
    Some(())
}

/// The last reference to a unix socket is gone.
#[inline(always)]
pub fn released(socket: u64) -> Option<()> {
    let socket = Socket::of_socket(socket)?;
    let connection = CONNECTIONS.get_ptr(&socket.sock)?;
    connection::close(unsafe { &*connection }, socket.sock, ids().1);
    Some(())
}
