//! The lexical structure of SQL as PostgreSQL has it (manual, § 4.1; `scan.l`).
//!
//! A literal must never be taken for code. Where the server's own reading depends on its version or on a setting
//! that is not known, the lexer answers [`Token::Doubt`] and the caller goes no further.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Keyword or unquoted identifier.
    Word,
    /// `"identifier"`, also with `U&`.
    QuotedName,
    /// String or bit string of any kind.
    Text,
    /// Number.
    Number,
    /// `$1`.
    Parameter,
    /// `(` or `[`.
    Open,
    /// `)` or `]`.
    Close,
    Comma,
    Semicolon,
    Dot,
    /// Any other character that may be in SQL.
    Operator,
    /// Nothing follows.
    End,
    /// What follows cannot be told apart from a literal.
    Doubt,
}

pub(super) struct Lexer<'a> {
    bytes: &'a [u8],
    /// Where the next token is looked for.
    at: usize,
    /// Where the last token began.
    start: usize,
    /// White space or a comment was before the last token.
    pub(super) spaced: bool,
    /// `standard_conforming_strings` is known to be on: a backslash in a plain string is one.
    plain_backslash: bool,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn begins_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_name(byte: u8) -> bool {
    begins_name(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl<'a> Lexer<'a> {
    pub(super) fn new(bytes: &'a [u8], plain_backslash: bool) -> Lexer<'a> {
        Lexer {
            bytes,
            at: 0,
            start: 0,
            spaced: false,
            plain_backslash,
        }
    }

    /// The source of the last token.
    pub(super) fn source(&self) -> &'a [u8] {
        self.bytes.get(self.start..self.at).unwrap_or_default()
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn skip_while(&mut self, accept: impl Fn(u8) -> bool) {
        let rest = self.rest();
        self.at += rest.iter().position(|&byte| !accept(byte)).unwrap_or(rest.len());
    }

    pub(super) fn next(&mut self) -> Token {
        self.spaced = false;
        loop {
            self.start = self.at;
            let Some(&byte) = self.bytes.get(self.at) else {
                return Token::End;
            };
            if is_space(byte) {
                self.skip_while(is_space);
            } else if self.rest().starts_with(b"--") {
                self.skip_while(|byte| !is_newline(byte));
            } else if self.rest().starts_with(b"/*") {
                if !self.comment() {
                    return Token::Doubt;
                }
            } else {
                return self.token(byte);
            }
            self.spaced = true;
        }
    }

    /// Block comments nest. False where one does not end.
    fn comment(&mut self) -> bool {
        let mut depth = 0_u32;
        loop {
            let rest = self.rest();
            let Some(next) = memchr::memchr2(b'/', b'*', rest) else {
                return false;
            };
            self.at += next;
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return true;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    fn token(&mut self, byte: u8) -> Token {
        match byte {
            b'\'' => self.string(0, self.plain_backslash),
            b'"' => self.quoted_name(0),
            b'$' => self.dollar(),
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_ascii_digit() => self.number(),
            b'(' | b'[' => self.single(Token::Open),
            b')' | b']' => self.single(Token::Close),
            b',' => self.single(Token::Comma),
            b';' => self.single(Token::Semicolon),
            b'.' => self.single(Token::Dot),
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*' | b'/'
            | b'%' | b'<' | b'>' | b'=' | b':' => self.single(Token::Operator),
            _ if begins_name(byte) => self.word(byte),
            _ => Token::Doubt,
        }
    }

    fn single(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    fn word(&mut self, byte: u8) -> Token {
        match (byte.to_ascii_lowercase(), self.peek(1), self.peek(2)) {
            (b'e', b'\'', _) => return self.escape_string(1),
            // No backslash means anything in these, whatever the setting.
            (b'b' | b'x', b'\'', _) => return self.string(1, true),
            (b'n', b'\'', _) => return self.string(1, self.plain_backslash),
            (b'u', b'&', b'\'') => return self.string(2, self.plain_backslash),
            (b'u', b'&', b'"') => return self.quoted_name(2),
            _ => {}
        }
        self.skip_while(continues_name);
        Token::Word
    }

    /// A string in which only a quote is special, from its quote at `prefix` on.
    fn string(&mut self, prefix: usize, plain_backslash: bool) -> Token {
        self.at += prefix + 1;
        loop {
            let Some(quote) = memchr::memchr(b'\'', self.rest()) else {
                return Token::Doubt;
            };
            let before = self.rest().get(..quote).unwrap_or_default();
            let backslashes = before.iter().rev().take_while(|&&byte| byte == b'\\').count();
            if !plain_backslash && backslashes % 2 == 1 {
                return Token::Doubt;
            }
            self.at += quote + 1;
            if self.peek(0) == b'\'' {
                self.at += 1;
            } else if !self.continuation() {
                return Token::Text;
            }
        }
    }

    /// A string with backslash escapes, from its quote at `prefix` on.
    fn escape_string(&mut self, prefix: usize) -> Token {
        self.at += prefix + 1;
        loop {
            let Some(next) = memchr::memchr2(b'\'', b'\\', self.rest()) else {
                return Token::Doubt;
            };
            self.at += next;
            match (self.peek(0), self.peek(1)) {
                (b'\\', _) | (_, b'\'') => self.at += 2,
                _ => {
                    self.at += 1;
                    if !self.continuation() {
                        return Token::Text;
                    }
                }
            }
        }
    }

    /// Strings with only white space and a newline between them are one, of the first one's kind (§ 4.1.2.1).
    fn continuation(&mut self) -> bool {
        let from = self.at;
        let mut newline = false;
        loop {
            match self.peek(0) {
                byte if is_space(byte) => {
                    newline |= is_newline(byte);
                    self.at += 1;
                }
                b'-' if self.peek(1) == b'-' => self.skip_while(|byte| !is_newline(byte)),
                b'\'' if newline => {
                    self.at += 1;
                    return true;
                }
                _ => {
                    self.at = from;
                    return false;
                }
            }
        }
    }

    fn quoted_name(&mut self, prefix: usize) -> Token {
        self.at += prefix + 1;
        loop {
            let Some(quote) = memchr::memchr(b'"', self.rest()) else {
                return Token::Doubt;
            };
            self.at += quote + 1;
            if self.peek(0) != b'"' {
                return Token::QuotedName;
            }
            self.at += 1;
        }
    }

    /// `$1`, or a dollar-quoted string (§ 4.1.2.4).
    fn dollar(&mut self) -> Token {
        self.at += 1;
        if self.peek(0).is_ascii_digit() {
            self.skip_while(|byte| byte.is_ascii_digit());
            // Since version 15 an error, before it a name begins here.
            return if begins_name(self.peek(0)) {
                Token::Doubt
            } else {
                Token::Parameter
            };
        }
        if begins_name(self.peek(0)) {
            self.skip_while(|byte| byte != b'$' && continues_name(byte));
        }
        if self.peek(0) != b'$' {
            return Token::Doubt;
        }
        self.at += 1;
        let tag = self.source();
        match memchr::memmem::find(self.rest(), tag) {
            Some(end) => {
                self.at += end + tag.len();
                Token::Text
            }
            None => Token::Doubt,
        }
    }

    fn number(&mut self) -> Token {
        let digits = |byte: u8| byte.is_ascii_digit() || byte == b'_';
        if self.peek(0) == b'0' && matches!(self.peek(1) | 0x20, b'x' | b'o' | b'b') {
            self.at += 2;
            self.skip_while(|byte| byte.is_ascii_hexdigit() || byte == b'_');
        } else {
            self.skip_while(digits);
            // `1..10` is two numbers.
            if self.peek(0) == b'.' && self.peek(1) != b'.' {
                self.at += 1;
                self.skip_while(digits);
            }
            if self.peek(0) | 0x20 == b'e' {
                let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
                if self.peek(1 + sign).is_ascii_digit() {
                    self.at += 1 + sign;
                    self.skip_while(digits);
                }
            }
        }
        // Since version 15 an error, before it a name begins here.
        if begins_name(self.peek(0)) {
            Token::Doubt
        } else {
            Token::Number
        }
    }
}
