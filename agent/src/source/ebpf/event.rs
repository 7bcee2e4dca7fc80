//! Events as the kernel programs wrote them.

use redwire_common::{CloseEvent, DataEvent, EndEvent, ExecEvent, OpenEvent, ProcessEvent, kind};

/// An event, as a view of the ring buffer.
pub(super) enum Event<'a> {
    Data(DataEvent, &'a [u8]),
    Open(Box<OpenEvent>),
    Close(CloseEvent),
    End(EndEvent),
    Exec(ExecEvent, &'a [u8]),
    Fork(ProcessEvent),
    Exit(ProcessEvent),
}

/// `None` for bytes that no kernel program of this version wrote.
pub(super) fn parse(bytes: &[u8]) -> Option<Event<'_>> {
    let (word, _) = bytes.split_first_chunk::<4>()?;
    Some(match u32::from_ne_bytes(*word) {
        kind::DATA => {
            let (event, rest) = view::<DataEvent>(bytes)?;
            Event::Data(event, rest.get(..event.captured as usize)?)
        }
        kind::OPEN => Event::Open(Box::new(view(bytes)?.0)),
        kind::CLOSE => Event::Close(view(bytes)?.0),
        kind::END => Event::End(view(bytes)?.0),
        kind::EXEC => {
            let (event, rest) = view::<ExecEvent>(bytes)?;
            Event::Exec(event, rest.get(..event.environment as usize)?)
        }
        kind::FORK => Event::Fork(view(bytes)?.0),
        kind::EXIT => Event::Exit(view(bytes)?.0),
        _ => return None,
    })
}

/// The event structs: `repr(C)` integers, so that any bytes are a value.
trait Plain: Copy {}
impl Plain for DataEvent {}
impl Plain for OpenEvent {}
impl Plain for CloseEvent {}
impl Plain for EndEvent {}
impl Plain for ExecEvent {}
impl Plain for ProcessEvent {}

fn view<T: Plain>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (head, rest) = bytes.split_at_checked(size_of::<T>())?;
    // SAFETY: `head` has the size of `T`, and any bytes are a `T`.
    Some((unsafe { head.as_ptr().cast::<T>().read_unaligned() }, rest))
}
