//! Sending and receiving by calls.

use super::{Wire, check, lacking, pattern};
use anyhow::{Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::zeroed;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

/// The end `stream`, by the way `name`.
pub(super) fn open(name: &str, stream: OwnedFd) -> Result<Box<dyn Wire>> {
    // A file is read and written by read(2) and write(2), also where it is a socket.
    let file = File::from(stream);
    Ok(match name {
        "plain" => Box::new(Plain(file)),
        "vectored" => Box::new(Vectored(file)),
        "messages" => Box::new(Messages(file)),
        "mmsg" => Box::new(ManyMessages(file)),
        "sendfile" => Box::new(Sendfile(file, content()?)),
        "splice" => Box::new(Splice::new(file)?),
        "peek" => Box::new(Peek {
            file,
            truncating: false,
        }),
        "trunc" => Box::new(Peek {
            file,
            truncating: true,
        }),
        "zerocopy" => Box::new(ZeroCopy::new(file)?),
        "partial" => Box::new(Partial::new(file)?),
        _ => bail!("there is no way '{name}'"),
    })
}

/// A file that holds the pattern.
fn content() -> Result<File> {
    let file = rustix::fs::memfd_create("content", rustix::fs::MemfdFlags::empty())?;
    let mut file = File::from(file);
    file.write_all(&pattern(1 << 20))?;
    Ok(file)
}

/// What a call of libc returned.
fn checked(returned: isize) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

/// read(2) and write(2).
struct Plain(File);

impl Wire for Plain {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// readv(2) and writev(2), of pieces of different sizes, some of them empty.
struct Vectored(File);

impl Wire for Vectored {
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (first, rest) = bytes.split_at(bytes.len().min(7));
            let (second, third) = rest.split_at(rest.len() / 2);
            let pieces = [first, &[], second, third].map(IoSlice::new);
            let sent = self.0.write_vectored(&pieces)?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (first, rest) = buffer.split_at_mut(buffer.len().min(13));
        let (second, third) = rest.split_at_mut(rest.len() / 3);
        let mut pieces = [first, &mut [], second, third].map(IoSliceMut::new);
        self.0.read_vectored(&mut pieces)
    }
}

/// A message of one piece.
fn message(piece: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: zeros are a message without anything.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = piece;
    message.msg_iovlen = 1;
    message
}

/// The piece that `bytes` are; the kernel does not write to what is sent.
fn piece(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn piece_mut(buffer: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    }
}

/// sendmsg(2) and recvmsg(2).
struct Messages(File);

impl Wire for Messages {
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut piece = piece(bytes);
            let message = message(&mut piece);
            // SAFETY: the message and its piece live.
            let sent = checked(unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const message, 0) })?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut piece = piece_mut(buffer);
        let mut message = message(&mut piece);
        // SAFETY: the message and its piece live.
        checked(unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, 0) })
    }
}

/// sendmmsg(2) and recvmmsg(2), two messages at a time.
struct ManyMessages(File);

/// Two messages of a piece each.
fn two(pieces: &mut [libc::iovec; 2]) -> [libc::mmsghdr; 2] {
    pieces.each_mut().map(|piece| libc::mmsghdr {
        msg_hdr: message(piece),
        msg_len: 0,
    })
}

impl Wire for ManyMessages {
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let mut pieces = [piece(first), piece(second)];
            let mut messages = two(&mut pieces);
            // SAFETY: the messages and their pieces live.
            let sent = unsafe { libc::sendmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), 2, 0) };
            let sent = checked(sent as isize)?;
            let lengths = messages[..sent].iter().map(|message| message.msg_len as usize);
            bytes = &bytes[lengths.sum::<usize>()..];
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (first, second) = buffer.split_at_mut(buffer.len().div_ceil(2));
        let size = first.len();
        let mut pieces = [piece_mut(first), piece_mut(second)];
        let mut messages = two(&mut pieces);
        let flags = libc::MSG_WAITFORONE;
        // SAFETY: the messages and their pieces live.
        let received = unsafe {
            libc::recvmmsg(
                self.0.as_raw_fd(),
                messages.as_mut_ptr(),
                2,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        let received = checked(received as isize)?;
        let [first, second] = messages.map(|message| message.msg_len as usize);
        if received < 2 || second == 0 {
            return Ok(first);
        }
        // The second message lies behind the first one's room, not behind what is in there.
        buffer.copy_within(size..size + second, first);
        Ok(first + second)
    }
}

/// Bodies by sendfile(2).
struct Sendfile(File, File);

impl Wire for Sendfile {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn send_body(&mut self, size: usize) -> io::Result<()> {
        let mut offset = 0;
        while (offset as usize) < size {
            let rest = size - offset as usize;
            rustix::fs::sendfile(&self.0, &self.1, Some(&mut offset), rest)?;
        }
        Ok(())
    }
}

/// Bodies by splice(2): from a file through a pipe to the socket, and from the socket through another pipe.
struct Splice {
    file: File,
    content: File,
    out: (OwnedFd, OwnedFd),
    back: (File, OwnedFd),
}

impl Splice {
    fn new(file: File) -> Result<Splice> {
        let (read, write) = rustix::pipe::pipe()?;
        Ok(Splice {
            file,
            content: content()?,
            out: rustix::pipe::pipe()?,
            back: (read.into(), write),
        })
    }
}

impl Wire for Splice {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Little at a time: the rest of the body is for the pipe.
        let size = buffer.len().min(24);
        self.file.read(&mut buffer[..size])
    }

    fn receive_body(&mut self, begin: usize, size: usize) -> io::Result<()> {
        let flags = rustix::pipe::SpliceFlags::empty();
        let mut body = vec![0; size];
        let mut at = begin;
        while at < size {
            let moved = rustix::pipe::splice(&self.file, None, &self.back.1, None, size - at, flags)?;
            if moved == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.back.0.read_exact(&mut body[at..at + moved])?;
            at += moved;
        }
        check(&body, begin)
    }

    fn send_body(&mut self, size: usize) -> io::Result<()> {
        let flags = rustix::pipe::SpliceFlags::empty();
        let mut offset = 0;
        while (offset as usize) < size {
            let rest = size - offset as usize;
            let mut moved =
                rustix::pipe::splice(&self.content, Some(&mut offset), &self.out.1, None, rest, flags)?;
            while moved > 0 {
                moved -= rustix::pipe::splice(&self.out.0, None, &self.file, None, moved, flags)?;
            }
        }
        Ok(())
    }
}

/// Heads are looked at by MSG_PEEK until they are whole, then received exactly. Bodies are looked at and received, or
/// thrown away by MSG_TRUNC (tcp(7)).
struct Peek {
    file: File,
    truncating: bool,
}

impl Wire for Peek {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut size = buffer.len();
        loop {
            let (peeked, _) = recv(&self.file, &mut *buffer, RecvFlags::PEEK)?;
            if peeked == 0 {
                return Ok(0);
            }
            let end = buffer[..peeked]
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            // Bodies have no such line.
            size = end.map_or(size.min(peeked), |end| end + 4);
            if end.is_some()
                || !buffer[..peeked].starts_with(b"POST") && !buffer[..peeked].starts_with(b"HTTP")
            {
                break;
            }
            std::thread::yield_now();
        }
        let (received, _) = recv(&self.file, &mut buffer[..size], RecvFlags::empty())?;
        Ok(received)
    }

    fn receive_body(&mut self, begin: usize, size: usize) -> io::Result<()> {
        let mut at = begin;
        let mut buffer = [0; 1024];
        while at < size {
            let received = if self.truncating {
                let (socket, rest) = (self.file.as_raw_fd(), size - at);
                // SAFETY: nothing is written.
                checked(unsafe { libc::recv(socket, std::ptr::null_mut(), rest, libc::MSG_TRUNC) })?
            } else {
                let rest = buffer.len().min(size - at);
                recv(&self.file, &mut buffer[..rest], RecvFlags::PEEK)?;
                recv(&self.file, &mut buffer[..rest], RecvFlags::empty())?.0
            };
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += received;
        }
        Ok(())
    }
}

/// MSG_ZEROCOPY, with the notifications read.
struct ZeroCopy {
    file: File,
    under_way: usize,
}

impl ZeroCopy {
    fn new(file: File) -> Result<ZeroCopy> {
        let one: libc::c_int = 1;
        let size = size_of_val(&one) as libc::socklen_t;
        let (level, name) = (libc::SOL_SOCKET, libc::SO_ZEROCOPY);
        // SAFETY: the option's value is a number of this size.
        let set = unsafe { libc::setsockopt(file.as_raw_fd(), level, name, (&raw const one).cast(), size) };
        checked(set as isize).map_err(|_| lacking("SO_ZEROCOPY"))?;
        Ok(ZeroCopy { file, under_way: 0 })
    }

    /// Waits until the kernel is done with what was sent.
    fn notified(&mut self) -> io::Result<()> {
        while self.under_way > 0 {
            poll(&mut [PollFd::new(&self.file, PollFlags::empty())], None)?;
            let mut control = [0u64; 16];
            // SAFETY: zeros are a message without anything.
            let mut message: libc::msghdr = unsafe { zeroed() };
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control) as _;
            // SAFETY: the message and its room live.
            let received =
                unsafe { libc::recvmsg(self.file.as_raw_fd(), &raw mut message, libc::MSG_ERRQUEUE) };
            match checked(received) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                other => other?,
            };
            // SAFETY: the kernel filled the room; there is one notification in it, a sock_extended_err.
            let (low, high) = unsafe {
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                let error = libc::CMSG_DATA(header)
                    .cast::<libc::sock_extended_err>()
                    .read_unaligned();
                (error.ee_info, error.ee_data)
            };
            self.under_way = self.under_way.saturating_sub((high - low + 1) as usize);
        }
        Ok(())
    }
}

impl Wire for ZeroCopy {
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let flags = SendFlags::from_bits_retain(libc::MSG_ZEROCOPY as u32);
            let sent = send(&self.file, bytes, flags)?;
            self.under_way += 1;
            bytes = &bytes[sent..];
        }
        self.notified()
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

/// Without blocking: calls move a part of what they could, or nothing (EAGAIN), and are tried again.
struct Partial(File);

impl Partial {
    fn new(file: File) -> Result<Partial> {
        rustix::io::ioctl_fionbio(&file, true)?;
        rustix::net::sockopt::set_socket_send_buffer_size(&file, 8 << 10)?;
        Ok(Partial(file))
    }

    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        poll(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), flags)], None)?;
        Ok(())
    }
}

impl Wire for Partial {
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match send(&self.0, bytes, SendFlags::empty()) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut received = Vec::with_capacity(buffer.len().min(3_000));
        loop {
            // Tried first, and waited for only then.
            match recv(&self.0, spare_capacity(&mut received), RecvFlags::empty()) {
                Ok(_) => break,
                Err(Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(error) => return Err(error.into()),
            }
        }
        buffer[..received.len()].copy_from_slice(&received);
        Ok(received.len())
    }
}
