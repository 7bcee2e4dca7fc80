//! Attribute keys and values.

use std::fmt;
use std::net::IpAddr;

/// A name of the semantic conventions.
pub type Key = &'static str;

/// An attribute's value; `S` is how text is held: borrowed, owned, or a place in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Value<S> {
    /// Text.
    Str(S),
    /// A number.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// A number where the conventions want text (`error.type=500`).
    Decimal(u64),
    /// An address, as text.
    Ip(IpAddr),
}

/// An attribute that borrows its text.
pub type Attribute<'a> = (Key, Value<&'a str>);

/// An attribute of a series.
pub(crate) type OwnedAttribute = (Key, Value<Box<str>>);

/// Whether two short texts are the same, word by word: `memcmp` of glibc compares up to 32 bytes under an AVX-512 mask,
/// which was measured to take ten times as long.
#[inline]
pub(crate) fn same_text(a: &[u8], b: &[u8]) -> bool {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let same = |(a, b): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b);
    a.len() == b.len()
        && a_rest.len() == b_rest.len()
        && a.iter().zip(b).all(same)
        && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
}

impl<S> Value<S> {
    /// The same value with its text held otherwise.
    #[inline]
    pub(crate) fn map<'s, T>(&'s self, text: impl FnOnce(&'s S) -> T) -> Value<T> {
        match self {
            Value::Str(s) => Value::Str(text(s)),
            Value::Int(n) => Value::Int(*n),
            Value::Bool(b) => Value::Bool(*b),
            Value::Decimal(n) => Value::Decimal(*n),
            Value::Ip(ip) => Value::Ip(*ip),
        }
    }
}

impl<S: AsRef<str>> fmt::Display for Value<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Str(s) => f.write_str(s.as_ref()),
            Value::Int(n) => n.fmt(f),
            Value::Bool(b) => b.fmt(f),
            Value::Decimal(n) => n.fmt(f),
            Value::Ip(ip) => ip.fmt(f),
        }
    }
}

impl<'a> From<&'a str> for Value<&'a str> {
    fn from(text: &'a str) -> Self {
        Value::Str(text)
    }
}

impl From<u16> for Value<&str> {
    fn from(n: u16) -> Self {
        Value::Int(n.into())
    }
}

impl From<u64> for Value<&str> {
    fn from(n: u64) -> Self {
        Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value<&str> {
    fn from(b: bool) -> Self {
        Value::Bool(b)
    }
}

impl From<IpAddr> for Value<&str> {
    fn from(ip: IpAddr) -> Self {
        Value::Ip(ip)
    }
}
