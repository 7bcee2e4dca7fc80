//! The elements of payloads: AMQP 0-9-1 section 4.2.5.

/// A place in a payload.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn octet(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(super) fn short(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    pub(super) fn long(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn longlong(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_be_bytes)
    }

    pub(super) fn shortstr(&mut self) -> Option<&'a [u8]> {
        let n = self.octet()?;
        self.take(n.into())
    }

    /// A long string, and a field table or array, which have the same form.
    pub(super) fn longstr(&mut self) -> Option<&'a [u8]> {
        let n = self.long()?;
        self.take(usize::try_from(n).ok()?)
    }
}
