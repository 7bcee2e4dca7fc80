//! The state of a connection, and what a call on it means.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use redwire_common::{
    CloseEvent, ConnectionState as Connection, EGRESS, EndEvent, INGRESS, counter, kind, need,
    not_needed_slot, opener,
};

use crate::chunks;
use crate::emit;
use crate::kernel::{self, AF_UNIX, Socket};
use crate::maps::{CONNECTIONS, NOT_NEEDED, PORTS, count, selected_flag, setting};
use crate::memory::Memory;
use crate::scratch::{self, Slot};
use crate::thread;

/// Who makes a call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Caller {
    /// Thread id.
    pub tid: u32,
    /// Thread group id.
    pub tgid: u32,
    /// 1: its process is selected; else only a port can be.
    pub selected: u64,
}

/// The caller, if the call may be looked at: its process is selected, or connections are by port.
#[inline(always)]
pub fn caller(ids: (u32, u32)) -> Option<Caller> {
    let (tid, tgid) = ids;
    let selected = u64::from(unsafe { selected_flag(tgid)?.read() });
    if selected != 0 || setting!(by_port) != 0 && tgid != setting!(agent) {
        Some(Caller { tid, tgid, selected })
    } else {
        None
    }
}

/// Whether this connection of an unselected process is selected by its port.
#[inline(always)]
fn port_is_selected(sock: u64) -> bool {
    let Some((local, remote)) = kernel::ports(sock) else {
        return false;
    };
    PORTS.get_ptr(&local).is_some() || PORTS.get_ptr(&remote).is_some()
}

/// A program's slot, set to work on a call.
#[inline(always)]
pub fn prepare(slot: u32, caller: &Caller, socket: &Socket) -> Option<&'static mut Slot> {
    let state = scratch::slot(slot)?;
    state.caller = *caller;
    state.socket = *socket;
    Some(state)
}

/// The connection's state, made now where it is new. `opener` says how it came about, where that is known.
#[inline(always)]
fn enter(slot: u32, state: *mut Slot, opener: u32) -> Option<&'static mut Connection> {
    let state = unsafe { &mut *state };
    let sock = state.socket.sock;
    if let Some(connection) = CONNECTIONS.get_ptr_mut(&sock) {
        let connection = unsafe { &mut *connection };
        // TCP tells of every end (see `tcp_state`), a unix socket only of a close(2) that somebody calls.
        let same = || connection.family != AF_UNIX || Some(connection.inode) == kernel::inode(&state.socket);
        if opener == u32::from(opener::UNKNOWN) && same() {
            return Some(connection);
        }
    }
    if redwire_create(slot, opener) == 0 {
        return None;
    }
    let connection = CONNECTIONS.get_ptr_mut(&sock)?;
    Some(unsafe { &mut *connection })
}

/// [`create`] as a global function (see `scratch`).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_create(slot: u32, opener: u32) -> u64 {
    let created = scratch::slot(slot).and_then(|state| create(&state.caller, &state.socket, opener as u8));
    u64::from(created.is_some())
}

#[inline(always)]
fn create(caller: &Caller, socket: &Socket, opener: u8) -> Option<()> {
    let family = kernel::stream_family(socket)?;
    if caller.selected == 0 && (family == AF_UNIX || !port_is_selected(socket.sock)) {
        return None;
    }
    let mut connection = Connection {
        inode: kernel::inode(socket)?,
        next: [0; 2],
        origin: [0; 2],
        family,
        opener,
        origin_known: 0,
        announced: 0,
        over: 0,
        padding: [0; 2],
    };
    if family == AF_UNIX {
        connection.origin_known = (opener != opener::UNKNOWN) as u8;
    } else {
        // A connection in the making (SYN_SENT) has no receive sequence yet.
        if kernel::ports(socket.sock)?.1 == 0 {
            return None;
        }
        // A write may be answered by a reset before it returns, and a connection be reset before it is accepted.
        connection.over = kernel::is_closed(socket.sock) as u8;
        connection.next = [kernel::write_seq(socket.sock)?, kernel::copied_seq(socket.sock)?];
        connection.origin = kernel::origins(socket.sock).unwrap_or_default();
        connection.origin_known = (opener != opener::UNKNOWN) as u8;
        if opener != opener::UNKNOWN {
            connection.origin = connection.next;
        }
    }
    CONNECTIONS.insert(&socket.sock, &connection, 0).ok()
}

/// Tells user space of the connection. 0 where that did not get through: then nothing else would be understood. A
/// global function (see `scratch`).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_announce(slot: u32) -> u64 {
    scratch::slot(slot).map_or(0, |state| u64::from(announce(state).is_some()))
}

#[inline(always)]
fn announce(state: &mut Slot) -> Option<()> {
    let sock = state.socket.sock;
    let connection = unsafe { &mut *CONNECTIONS.get_ptr_mut(&sock)? };
    let event = &mut state.open;
    event.kind = kind::OPEN;
    event.tgid = state.caller.tgid;
    event.sock = sock;
    event.time = state.transfer.time;
    event.origin = connection.origin;
    event.family = connection.family;
    event.opener = connection.opener;
    event.origin_known = connection.origin_known;
    event.path_length = 0;
    event.padding = 0;
    event.inode = connection.inode;
    if connection.family == AF_UNIX {
        event.path_length = kernel::unix_path(sock, &mut event.path);
    } else {
        if let Some((local, remote)) = kernel::addresses(sock, connection.family) {
            event.local_address = local;
            event.remote_address = remote;
        }
        if let Some((local, remote)) = kernel::ports(sock) {
            event.local_port = local;
            event.remote_port = remote;
        }
    }
    let announced = emit::event(event);
    connection.announced = announced as u8;
    announced.then_some(())
}

/// Bytes that went through a socket by one call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Transfer {
    pub time: u64,
    pub memory: Memory,
    /// Bytes of `memory` before the first.
    pub skip: u64,
    pub length: u32,
    /// Bytes that the same call moved behind these.
    pub behind: u32,
    pub direction: u32,
    /// 1: nobody else has moved bytes of this direction since: the socket is locked.
    pub exact: u32,
}

/// Tells of the bytes of a slot's transfer, unless that was done. A global function (see `scratch`).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn redwire_transferred(slot: u32) -> u64 {
    let Some(state) = scratch::slot(slot) else {
        return 0;
    };
    let sock = state.socket.sock;
    let Some(connection) = enter(slot, state, opener::UNKNOWN.into()) else {
        return 0;
    };
    let told = tell(slot, state, connection);
    if connection.over != 0 {
        close_if_done(connection, sock, state.caller.tgid);
    }
    u64::from(told.is_some())
}

/// Where a call's bytes begin.
enum Place {
    At(u32),
    /// It cannot be told whether they begin there.
    Perhaps(u32),
    /// They were told of.
    Told,
}

#[inline(always)]
fn place(slot: u32, state: &Slot, connection: &mut Connection) -> Option<Place> {
    let (socket, transfer) = (&state.socket, &state.transfer);
    let way = (transfer.direction & 1) as usize;
    let expected = connection.next[way];
    if connection.family == AF_UNIX {
        return Some(if thread::twin_told(state.caller.tid, slot) {
            Place::Told
        } else {
            Place::At(expected)
        });
    }
    let egress = transfer.direction == u32::from(EGRESS);
    let end = if egress {
        kernel::write_seq(socket.sock)?
    } else {
        kernel::copied_seq(socket.sock)?
    };
    let end = end.wrapping_sub(transfer.behind);
    let mut start = end.wrapping_sub(transfer.length);
    // For a connection that is new to us, `next` was read after the call.
    let new = connection.announced == 0 && expected == end.wrapping_add(transfer.behind);
    // A read that takes the last bytes also takes the FIN, which has a position of its own.
    let first = if new { connection.origin[way] } else { expected };
    if !egress && start == first.wrapping_add(1) && kernel::fin_received(socket.sock) {
        start = first;
    }
    if new {
        let before = origins_before(connection, way, start);
        // The SYN of the end that connects is acknowledged too, and counted.
        connection.origin_known =
            (connection.origin[1] == before[1] && before[0].wrapping_sub(connection.origin[0]) <= 1) as u8;
        connection.origin[0] = before[0];
        return Some(Place::At(start));
    }
    let ahead = start.wrapping_sub(expected) as i32;
    if ahead == 0 {
        return Some(Place::At(start));
    }
    if end.wrapping_sub(expected) as i32 <= 0 {
        return Some(Place::Told);
    }
    if ahead > 0 {
        count(counter::UNSEEN_BYTES, ahead as u64);
        if transfer.exact != 0 {
            return Some(Place::At(start));
        }
    }
    // Two calls at once on one direction: which bytes lie where can't be told.
    Some(Place::Perhaps(start))
}

#[inline(always)]
fn tell(slot: u32, state: *mut Slot, connection: *mut Connection) -> Option<()> {
    let (state, connection) = unsafe { (&mut *state, &mut *connection) };
    let transfer = &state.transfer;
    let way = (transfer.direction & 1) as usize;
    let (start, placed) = match place(slot, state, connection)? {
        Place::At(start) => (start, true),
        Place::Perhaps(start) => (start, false),
        Place::Told => return None,
    };
    let length = transfer.length;
    connection.next[way] = start.wrapping_add(length);
    let mut skip = 0;
    let mut header_only = false;
    let mut chunked = false;
    let known = NOT_NEEDED.get_ptr_mut(not_needed_slot(state.socket.sock));
    if let Some(known) = known {
        let known = unsafe { &*known };
        // By hand: the compiler would reckon an index with `or`, which the verifier does not take of a pointer.
        let (need, until) = if way == 0 {
            (known.state[0], known.until[0])
        } else {
            (known.state[1], known.until[1])
        };
        let need = if known.inode == connection.inode && known.sock == state.socket.sock {
            need
        } else {
            need::ALL
        };
        match need {
            need::NOTHING => {
                count(counter::UNNEEDED_BYTES, u64::from(length));
                return Some(());
            }
            need::FROM => {
                let ahead = until.wrapping_sub(start) as i32;
                if ahead > 0 {
                    let unneeded = if (ahead as u32) < length {
                        ahead as u32
                    } else {
                        length
                    };
                    count(counter::UNNEEDED_BYTES, u64::from(unneeded));
                    if ahead as u32 > length {
                        return Some(());
                    }
                    // The call that reaches the end is told, for its time.
                    if ahead as u32 == length {
                        header_only = true
                    } else {
                        skip = ahead as u32
                    }
                }
            }
            need::LENGTHS => {
                count(counter::UNNEEDED_BYTES, u64::from(length));
                header_only = true;
            }
            need::CHUNKS => chunked = placed,
            _ => {}
        }
    }
    if connection.announced == 0 && redwire_announce(slot) == 0 {
        count(counter::LOST_EVENTS, 1);
        count(counter::LOST_BYTES, u64::from(length));
        count(counter::UNCAPTURED_BYTES, u64::from(length));
        return None;
    }
    if !placed {
        count(counter::UNPLACED_CALLS, 1);
    }
    let header = &mut state.header;
    header.kind = kind::DATA;
    header.tgid = state.caller.tgid;
    header.sock = state.socket.sock;
    header.time = transfer.time;
    header.position = start.wrapping_add(skip);
    header.length = length - skip;
    header.captured = 0;
    header.tid = state.caller.tid;
    header.direction = transfer.direction;
    if header_only {
        emit::event(header);
        return Some(());
    }
    if !placed {
        count(counter::UNCAPTURED_BYTES, u64::from(header.length));
        if !emit::event(header) {
            count(counter::LOST_BYTES, u64::from(header.length));
        }
        return Some(());
    }
    if chunked {
        // What lies before the bytes that are left to capture was counted there.
        skip = chunks::redwire_pass(slot) as u32;
        header.position = header.position.wrapping_add(skip);
        header.length = header.length.wrapping_sub(skip);
        if header.length == 0 {
            return Some(());
        }
    }
    let length = header.length;
    let captured = emit::redwire_data(slot, transfer.skip + u64::from(skip));
    count(counter::CAPTURED_BYTES, captured);
    if captured != u64::from(length) {
        count(counter::UNCAPTURED_BYTES, u64::from(length) - captured);
    }
    Some(())
}

/// Where both directions stood before a call that moved `way` on from `start`.
#[inline(always)]
fn origins_before(connection: &Connection, way: usize, start: u32) -> [u32; 2] {
    if way == 0 {
        [start, connection.next[1]]
    } else {
        [connection.next[0], start]
    }
}

/// connect(2) or accept(2) succeeded.
#[inline(always)]
pub fn opened(slot: u32, caller: &Caller, socket: &Socket, opener: u8, time: u64) {
    if let Some(state) = prepare(slot, caller, socket) {
        state.transfer.time = time;
        redwire_opened(slot, opener.into());
    }
}

/// A global function (see `scratch`).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_opened(slot: u32, opener: u32) -> u64 {
    let Some(state) = scratch::slot(slot) else {
        return 0;
    };
    let (sock, tgid) = (state.socket.sock, state.caller.tgid);
    // connect(2) on a socket that was connected before.
    if let Some(before) = CONNECTIONS.get_ptr(&sock)
        && unsafe { (*before).over } != 0
    {
        close(unsafe { &*before }, sock, tgid);
    }
    let Some(connection) = enter(slot, state, opener) else {
        return 0;
    };
    redwire_announce(slot);
    if connection.over != 0 {
        close_if_done(connection, sock, tgid);
    }
    1
}

/// Ends the life of a connection. Who comes first tells of it.
#[inline(never)]
pub fn close(connection: &Connection, sock: u64, tgid: u32) {
    let event = CloseEvent {
        kind: kind::CLOSE,
        tgid,
        sock,
        time: unsafe { bpf_ktime_get_ns() },
        position: connection.next,
    };
    // One that was not announced, for want of room, would be taken for an older one at this address.
    let announced = connection.announced != 0;
    if CONNECTIONS.remove(&sock).is_ok() && announced {
        emit::event(&event);
    }
}

/// Ends the life of a connection that is over, unless bytes of it are to be read, or a call is under way that is not
/// told yet. Those that are never read wait for close(2), or else for the end of the socket.
#[inline(never)]
pub fn close_if_done(connection: &Connection, sock: u64, tgid: u32) {
    if is_done(connection, sock) == Some(true) {
        close(connection, sock, tgid);
    }
}

/// Whether all that came was read, and all that went was told. A FIN has a position of its own.
#[inline(always)]
fn is_done(connection: &Connection, sock: u64) -> Option<bool> {
    let [egress, ingress] = connection.next;
    let (written, read) = (kernel::write_seq(sock)?, kernel::copied_seq(sock)?);
    let told = written.wrapping_sub(egress) <= 1 && read.wrapping_sub(ingress) <= 1;
    Some(told && read == kernel::rcv_nxt(sock)?)
}

/// A direction has ended: a read returned 0, or shutdown(2).
#[inline(always)]
pub fn ended(caller: &Caller, sock: u64, direction: u8, time: u64) {
    let Some(connection) = CONNECTIONS.get_ptr_mut(&sock) else {
        return;
    };
    let connection = unsafe { &*connection };
    let tgid = caller.tgid;
    if connection.announced != 0 {
        emit::event(&EndEvent {
            kind: kind::END,
            tgid,
            sock,
            time,
            position: connection.next[(direction & 1) as usize],
            direction,
            padding: [0; 3],
        });
    }
    if connection.over != 0 {
        close_if_done(connection, sock, tgid);
    }
}

/// Directions that `how` of shutdown(2) ends.
#[inline(always)]
pub fn shut_down(caller: &Caller, sock: u64, how: u64, time: u64) {
    if how != 1 {
        ended(caller, sock, INGRESS, time);
    }
    if how != 0 {
        ended(caller, sock, EGRESS, time);
    }
}
