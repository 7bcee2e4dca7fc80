//! HPACK (RFC 7541), for an observer that may have come late.

mod huffman;
mod table;
#[cfg(test)]
mod tests;

use table::{Found, Named, Table};
pub(crate) use table::{Id, STATIC};

/// How much of a block is handed on, measured as a header list (RFC 9113 § 6.5.2): one block can refer to a long entry
/// a hundred thousand times. What goes beyond is unknown.
const LARGEST_LIST: usize = 1 << 20;

/// A header block that breaks the rules of RFC 7541; the state of the table is lost with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What an observer makes of field names, so that only what it needs is kept.
pub(crate) trait FieldName: Clone {
    /// The name.
    fn of(name: &[u8]) -> Self;

    /// The name of an entry of [`STATIC`].
    fn of_static(index: usize) -> Self {
        Self::of(STATIC[index].0.as_bytes())
    }

    /// Whether values of fields of this name are needed.
    fn is_needed(&self) -> bool;
}

/// A field of a decoded block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field<'a, N> {
    /// Name and value; an empty value where that is not needed.
    Known(N, &'a [u8]),
    /// An entry from before we looked.
    Old(Id),
    /// A field with the name of an entry from before we looked, and its value; `None` where that is long.
    Unnamed(Id, Option<&'a [u8]>),
    /// A field that is not looked at.
    Beyond,
}

/// Decodes the header blocks of one direction of a connection.
#[derive(Debug)]
pub(crate) struct Decoder<N> {
    table: Table<N>,
}

impl<N: FieldName> Decoder<N> {
    /// The decoder at the beginning of a connection.
    pub(crate) fn fresh() -> Self {
        Decoder {
            table: Table::fresh(),
        }
    }

    /// A decoder that joins later, or missed a block.
    pub(crate) fn unknown() -> Self {
        Decoder {
            table: Table::unknown(),
        }
    }

    /// It was told what the name of an entry is that was there before we looked.
    pub(crate) fn learn(&mut self, entry: Id, name: &N) {
        self.table.learn(entry, name);
    }

    /// Decodes a whole block. After an error only [`Decoder::unknown`] is a truthful state.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        scratch: &mut Vec<u8>,
        mut field: impl FnMut(Field<'_, N>),
    ) -> Result<(), Malformed> {
        let mut began = false;
        let mut left = LARGEST_LIST;
        let mut tell = |it: Field<'_, N>| {
            let value = match it {
                Field::Known(_, value) | Field::Unnamed(_, Some(value)) => value,
                _ => &[],
            };
            left = left.saturating_sub(32 + value.len());
            field(if left > 0 { it } else { Field::Beyond });
        };
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                // § 4.2: at the beginning of a block only.
                if began {
                    return Err(Malformed);
                }
                let max_size = integer(&mut block, 5)?;
                self.table.resize(max_size);
                continue;
            }
            began = true;
            if first & 0x80 != 0 {
                match self.table.get(integer(&mut block, 7)?) {
                    Found::Entry(name, _, value) => tell(name.field(value)),
                    Found::Unknown(entry) => tell(Field::Old(entry)),
                    Found::Nothing => return Err(Malformed),
                }
                continue;
            }
            let indexing = first & 0xc0 == 0x40;
            let index = integer(&mut block, if indexing { 6 } else { 4 })?;
            let (name, name_length) = if index == 0 {
                let text = string(&mut block)?;
                let text = text.decoded(scratch)?;
                (Named::Known(N::of(text)), text.len() as u32)
            } else {
                match self.table.get(index) {
                    Found::Entry(Named::Known(name), length, _) => (Named::Known(name), length),
                    Found::Entry(Named::As(entry), ..) | Found::Unknown(entry) => (self.table.name(entry), 0),
                    Found::Nothing => return Err(Malformed),
                }
            };
            let value = string(&mut block)?;
            if let Named::Known(known) = &name
                && !known.is_needed()
            {
                if indexing {
                    self.table
                        .insert(name.clone(), name_length, value.decoded_length()?, None);
                }
                tell(name.field(None));
                continue;
            }
            let value = value.decoded(scratch)?;
            tell(name.clone().field(Some(value)));
            if indexing {
                self.table
                    .insert(name, name_length, value.len() as u32, Some(value));
            }
        }
        Ok(())
    }
}

/// The largest of the dynamic table size updates that begin a block; `None` where there is none.
pub(crate) fn largest_size_update(mut block: &[u8]) -> Option<u32> {
    let mut largest = None;
    while block.first().is_some_and(|first| first & 0xe0 == 0x20) {
        largest = largest.max(Some(integer(&mut block, 5).ok()?));
    }
    largest
}

/// An integer with a prefix of so many bits (§ 5.1).
fn integer(block: &mut &[u8], prefix: u32) -> Result<u32, Malformed> {
    let (&first, mut rest) = block.split_first().ok_or(Malformed)?;
    let mask = (1u64 << prefix) - 1;
    let mut value = u64::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first().ok_or(Malformed)?;
            rest = after;
            if shift > 28 {
                return Err(Malformed);
            }
            value += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    u32::try_from(value).map_err(|_| Malformed)
}

/// A string literal as it stands in the block.
#[derive(Clone, Copy)]
struct Text<'a> {
    huffman: bool,
    bytes: &'a [u8],
}

impl<'a> Text<'a> {
    fn decoded<'s>(self, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Malformed>
    where
        'a: 's,
    {
        if !self.huffman {
            return Ok(self.bytes);
        }
        scratch.clear();
        huffman::decode(self.bytes, |byte| scratch.push(byte))?;
        Ok(scratch)
    }

    fn decoded_length(self) -> Result<u32, Malformed> {
        if !self.huffman {
            return Ok(self.bytes.len() as u32);
        }
        let mut length = 0;
        huffman::decode(self.bytes, |_| length += 1)?;
        Ok(length)
    }
}

/// A string literal (§ 5.2).
fn string<'a>(block: &mut &'a [u8]) -> Result<Text<'a>, Malformed> {
    let huffman = block.first().ok_or(Malformed)? & 0x80 != 0;
    let length = integer(block, 7)? as usize;
    let (bytes, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    Ok(Text { huffman, bytes })
}
