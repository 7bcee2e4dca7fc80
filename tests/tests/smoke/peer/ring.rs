//! Sending and receiving by io_uring.

use super::{Wire, lacking};
use anyhow::{Result, bail};
use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use std::alloc::{Layout, alloc_zeroed};
use std::collections::VecDeque;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU16, Ordering};

/// Room for what is sent, and for what is received.
const SIZE: usize = 32 << 10;
/// Buffers that the kernel chooses from, and the size of each.
const BUFFERS: u16 = 8;
const BUFFER: usize = 700;
/// Their group.
const GROUP: u16 = 1;

/// What a completion is of.
const SENT: u64 = 1;
const RECEIVED: u64 = 2;
const PROVIDED: u64 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Send,
    Write,
    Vectored,
    Message,
    Fixed,
    ZeroCopy,
    ZeroCopyFixed,
    ZeroCopyMessage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Recv,
    Read,
    Vectored,
    Message,
    Fixed,
    /// The kernel chooses a buffer.
    Provided,
    /// One request for all that comes, into a ring of buffers.
    Multishot,
    /// Submitted together with what is sent, to be done after it.
    Linked,
}

/// One end of a connection. What the kernel reads or writes has its place here, and no operation is under way but
/// the one that is waited for, and the receiving one.
struct Ring {
    // Before the memory that it uses.
    ring: IoUring,
    _stream: OwnedFd,
    target: RawFd,
    flags: squeue::Flags,
    sending: Sending,
    receiving: Receiving,
    out: Box<[u8; SIZE]>,
    back: Box<[u8; SIZE]>,
    pieces: Box<[libc::iovec; 2]>,
    message: Box<libc::msghdr>,
    provided: *mut BufRingEntry,
    /// What was received and not asked for yet.
    pending: VecDeque<u8>,
    /// Whether a receiving operation is under way.
    is_receiving: bool,
    at_end: bool,
}

/// The end `stream`, by the way `name`.
pub(super) fn open(name: &str, stream: OwnedFd) -> Result<Box<dyn Wire>> {
    let (sending, receiving) = match name {
        "send_recv" | "registered_files" | "sqpoll" => (Sending::Send, Receiving::Recv),
        "read_write" => (Sending::Write, Receiving::Read),
        "vectored" => (Sending::Vectored, Receiving::Vectored),
        "messages" => (Sending::Message, Receiving::Message),
        "linked" => (Sending::Send, Receiving::Linked),
        "fixed_buffers" => (Sending::Fixed, Receiving::Fixed),
        "provided_buffers" => (Sending::Send, Receiving::Provided),
        "multishot_recv" => (Sending::Send, Receiving::Multishot),
        "send_zc" => (Sending::ZeroCopy, Receiving::Recv),
        "send_zc_fixed" => (Sending::ZeroCopyFixed, Receiving::Recv),
        "sendmsg_zc" => (Sending::ZeroCopyMessage, Receiving::Recv),
        _ => bail!("there is no way '{name}' of io_uring"),
    };
    let mut builder = IoUring::builder();
    if name == "sqpoll" {
        builder.setup_sqpoll(100);
    }
    let ring = match builder.build(32) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return Err(lacking("io_uring").into()),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring is disabled").into());
        }
        other => other?,
    };
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = match (sending, receiving) {
        (Sending::ZeroCopy | Sending::ZeroCopyFixed, _) => (opcode::SendZc::CODE, "IORING_OP_SEND_ZC"),
        (Sending::ZeroCopyMessage, _) => (opcode::SendMsgZc::CODE, "IORING_OP_SENDMSG_ZC"),
        // Both came with Linux 6.0, and there is no way to ask for the flag of an operation.
        (_, Receiving::Multishot) => (opcode::SendZc::CODE, "IORING_RECV_MULTISHOT"),
        (_, Receiving::Provided) => (opcode::ProvideBuffers::CODE, "IORING_OP_PROVIDE_BUFFERS"),
        _ => (opcode::Send::CODE, "IORING_OP_SEND"),
    };
    if !probe.is_supported(needed.0) {
        return Err(lacking(needed.1).into());
    }
    let mut end = Ring {
        target: stream.as_raw_fd(),
        _stream: stream,
        flags: squeue::Flags::empty(),
        sending,
        receiving,
        out: Box::new([0; SIZE]),
        back: Box::new([0; SIZE]),
        pieces: Box::new(
            [libc::iovec {
                iov_base: null_mut(),
                iov_len: 0,
            }; 2],
        ),
        // SAFETY: zeros are a message without anything.
        message: Box::new(unsafe { zeroed() }),
        provided: null_mut(),
        pending: VecDeque::new(),
        is_receiving: false,
        at_end: false,
        ring,
    };
    // Until 5.11, the kernel's own thread takes nothing but registered files (IORING_FEAT_SQPOLL_NONFIXED).
    let polled = name == "sqpoll" && !end.ring.params().is_feature_sqpoll_nonfixed();
    if name == "registered_files" || polled {
        end.ring.submitter().register_files(&[end.target])?;
        end.target = 0;
        end.flags = squeue::Flags::FIXED_FILE;
    }
    if sending == Sending::Fixed || sending == Sending::ZeroCopyFixed {
        let buffers = [end.out.as_mut_ptr(), end.back.as_mut_ptr()].map(|buffer| libc::iovec {
            iov_base: buffer.cast(),
            iov_len: SIZE,
        });
        // SAFETY: they live as long as the ring.
        unsafe { end.ring.submitter().register_buffers(&buffers)? };
    }
    match receiving {
        Receiving::Provided => {
            let (buffers, size) = (end.back.as_mut_ptr(), BUFFER as i32);
            end.call(
                opcode::ProvideBuffers::new(buffers, size, BUFFERS, GROUP, 0).build(),
                PROVIDED,
            )?;
        }
        Receiving::Multishot => end.provide_ring()?,
        _ => {}
    }
    Ok(Box::new(end))
}

/// The next connection of `listener`, by IORING_OP_ACCEPT.
pub(super) fn accept(listener: RawFd) -> io::Result<OwnedFd> {
    let mut ring = IoUring::new(2)?;
    let entry = opcode::Accept::new(Fd(listener), null_mut(), null_mut()).build();
    // SAFETY: there is nothing that it uses.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let completion = ring.completion().next().ok_or(io::ErrorKind::UnexpectedEof)?;
    let socket = result(&completion)?;
    // SAFETY: the kernel has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket as RawFd) })
}

/// What an operation returned.
fn result(completion: &cqueue::Entry) -> io::Result<usize> {
    usize::try_from(completion.result()).map_err(|_| io::Error::from_raw_os_error(-completion.result()))
}

impl Ring {
    /// Has the buffers of [`Receiving::Multishot`] in a ring that is shared with the kernel.
    fn provide_ring(&mut self) -> Result<()> {
        let layout = Layout::from_size_align(4096, 4096)?;
        // SAFETY: its size is not zero. It is never freed: the kernel may use it until the process ends.
        self.provided = unsafe { alloc_zeroed(layout) }.cast();
        let address = self.provided as u64;
        // SAFETY: it holds that many entries, and lives as long as the ring.
        let registered = unsafe {
            self.ring
                .submitter()
                .register_buf_ring_with_flags(address, BUFFERS, GROUP, 0)
        };
        registered.map_err(|_| lacking("IORING_REGISTER_PBUF_RING"))?;
        for buffer in 0..BUFFERS {
            self.provide(buffer);
        }
        Ok(())
    }

    /// Gives a buffer (back) to the kernel.
    fn provide(&mut self, buffer: u16) {
        // SAFETY: the ring's memory is there, and only this thread moves its tail.
        unsafe {
            let tail = &*BufRingEntry::tail(self.provided).cast::<AtomicU16>();
            let place = tail.load(Ordering::Relaxed);
            let entry = &mut *self.provided.add(usize::from(place % BUFFERS));
            entry.set_addr(self.back.as_ptr().add(usize::from(buffer) * BUFFER) as u64);
            entry.set_len(BUFFER as u32);
            entry.set_bid(buffer);
            tail.store(place.wrapping_add(1), Ordering::Release);
        }
    }

    fn push(&mut self, entry: squeue::Entry, user_data: u64, flags: squeue::Flags) -> io::Result<()> {
        let entry = entry.user_data(user_data).flags(flags);
        // SAFETY: what operations use is in `self` or waited for by the caller.
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)
    }

    /// The next completion of `user_data`; what is received meanwhile is kept.
    fn completion(&mut self, user_data: u64) -> io::Result<cqueue::Entry> {
        loop {
            let completion = self.ring.completion().next();
            match completion {
                Some(completion) if completion.user_data() == user_data => return Ok(completion),
                Some(completion) => self.take(&completion)?,
                None => match self.ring.submit_and_wait(1) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => drop(other?),
                },
            }
        }
    }

    /// Does one operation.
    fn call(&mut self, entry: squeue::Entry, user_data: u64) -> io::Result<usize> {
        let flags = if user_data == PROVIDED {
            squeue::Flags::empty()
        } else {
            self.flags
        };
        self.push(entry, user_data, flags)?;
        result(&self.completion(user_data)?)
    }

    /// Keeps what a receiving operation brought.
    fn take(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        self.is_receiving = cqueue::more(completion.flags());
        let size = match result(completion) {
            // All buffers are full, or the operation that it was linked to fell short: it is asked for again.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ECANCELED)) => {
                return Ok(());
            }
            other => other?,
        };
        if size == 0 {
            self.at_end = true;
            return Ok(());
        }
        let Some(buffer) = cqueue::buffer_select(completion.flags()) else {
            self.pending.extend(&self.back[..size]);
            return Ok(());
        };
        let begin = usize::from(buffer) * BUFFER;
        self.pending.extend(&self.back[begin..begin + size]);
        if self.receiving == Receiving::Multishot {
            self.provide(buffer);
            return Ok(());
        }
        let place = self.back[begin..].as_mut_ptr();
        let entry = opcode::ProvideBuffers::new(place, BUFFER as i32, 1, GROUP, buffer).build();
        self.call(entry, PROVIDED).map(drop)
    }

    /// The operation that receives.
    fn receive_entry(&mut self) -> squeue::Entry {
        let fd = Fd(self.target);
        let (back, size) = (self.back.as_mut_ptr(), SIZE as u32);
        // Two pieces, the first of which is soon full.
        self.pieces[0] = libc::iovec {
            iov_base: back.cast(),
            iov_len: 11,
        };
        self.pieces[1] = libc::iovec {
            iov_base: back.wrapping_add(11).cast(),
            iov_len: SIZE - 11,
        };
        self.message.msg_iov = self.pieces.as_mut_ptr();
        self.message.msg_iovlen = 2;
        match self.receiving {
            Receiving::Recv | Receiving::Linked => opcode::Recv::new(fd, back, size).build(),
            Receiving::Read => opcode::Read::new(fd, back, size).offset(u64::MAX).build(),
            Receiving::Vectored => opcode::Readv::new(fd, self.pieces.as_ptr(), 2)
                .offset(u64::MAX)
                .build(),
            Receiving::Message => opcode::RecvMsg::new(fd, &raw mut *self.message).build(),
            Receiving::Fixed => opcode::ReadFixed::new(fd, back, size, 1).offset(u64::MAX).build(),
            Receiving::Provided => opcode::Recv::new(fd, null_mut(), BUFFER as u32)
                .buf_group(GROUP)
                .build(),
            Receiving::Multishot => opcode::RecvMulti::new(fd, GROUP).build(),
        }
    }

    fn start_receiving(&mut self) -> io::Result<()> {
        let entry = self.receive_entry();
        let choosing = self.receiving == Receiving::Provided;
        let more = if choosing {
            squeue::Flags::BUFFER_SELECT
        } else {
            squeue::Flags::empty()
        };
        self.push(entry, RECEIVED, self.flags | more)?;
        self.is_receiving = true;
        Ok(())
    }

    /// The operation that sends the first `size` bytes of `out`, from `begin` on.
    fn send_entry(&mut self, begin: usize, size: usize) -> squeue::Entry {
        let fd = Fd(self.target);
        let out = self.out[begin..].as_mut_ptr();
        let half = size / 2;
        self.pieces[0] = libc::iovec {
            iov_base: out.cast(),
            iov_len: half,
        };
        self.pieces[1] = libc::iovec {
            iov_base: out.wrapping_add(half).cast(),
            iov_len: size - half,
        };
        self.message.msg_iov = self.pieces.as_mut_ptr();
        self.message.msg_iovlen = 2;
        let length = size as u32;
        match self.sending {
            Sending::Send => opcode::Send::new(fd, out, length).build(),
            Sending::Write => opcode::Write::new(fd, out, length).offset(u64::MAX).build(),
            Sending::Vectored => opcode::Writev::new(fd, self.pieces.as_ptr(), 2)
                .offset(u64::MAX)
                .build(),
            Sending::Message => opcode::SendMsg::new(fd, &raw const *self.message).build(),
            Sending::Fixed => opcode::WriteFixed::new(fd, out, length, 0)
                .offset(u64::MAX)
                .build(),
            Sending::ZeroCopy => opcode::SendZc::new(fd, out, length).build(),
            Sending::ZeroCopyFixed => opcode::SendZc::new(fd, out, length).buf_index(Some(0)).build(),
            Sending::ZeroCopyMessage => opcode::SendMsgZc::new(fd, &raw const *self.message).build(),
        }
    }
}

impl Wire for Ring {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(SIZE) {
            self.out[..chunk.len()].copy_from_slice(chunk);
            let mut at = 0;
            while at < chunk.len() {
                let entry = self.send_entry(at, chunk.len() - at);
                // The receiving operation shares no memory with it.
                if self.receiving == Receiving::Linked && !self.is_receiving {
                    self.push(entry, SENT, self.flags | squeue::Flags::IO_LINK)?;
                    self.start_receiving()?;
                } else {
                    self.push(entry, SENT, self.flags)?;
                }
                let completion = self.completion(SENT)?;
                at += result(&completion)?;
                if cqueue::more(completion.flags()) {
                    // The second completion of a zero-copy operation: the kernel is done with the bytes.
                    self.completion(SENT)?;
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.pending.is_empty() && !self.at_end {
            if !self.is_receiving {
                self.start_receiving()?;
            }
            let completion = self.completion(RECEIVED)?;
            self.take(&completion)?;
        }
        let size = self.pending.len().min(buffer.len());
        for (place, byte) in buffer.iter_mut().zip(self.pending.drain(..size)) {
            *place = byte;
        }
        Ok(size)
    }
}
