//! From a query string to its statements: where they end, and their text without literals.

use super::commands::command;
use super::lexer::{Lexer, Token};
use super::summary::Summary;
use super::{Deallocates, Entry, NAME, PREPARE, STATEMENTS, Script, TEXT, TEXTS};
use std::ops::Range;

/// Brackets within brackets whose lists are collapsed.
const DEPTH: usize = 32;

/// Reads `source` into `script`, which is empty. `whole`: nothing is behind it.
pub(super) fn analyse(source: &[u8], whole: bool, plain_backslash: bool, script: &mut Script) {
    script.sets_strings = names_strings(source);
    let mut lexer = Lexer::new(source, plain_backslash);
    let mut count = 0;
    loop {
        let (end, empty) = statement(&mut lexer, script);
        count += usize::from(!empty);
        match end {
            Token::Semicolon => {}
            Token::End if whole => {
                script.count = Some(count);
                return;
            }
            _ => return,
        }
    }
}

/// Whether the setting `standard_conforming_strings` occurs.
fn names_strings(source: &[u8]) -> bool {
    let (before, after) = (b"standard", b"_conforming_strings");
    memchr::memchr_iter(b'_', source).any(|at| {
        let name = at
            .checked_sub(before.len())
            .and_then(|from| source.get(from..at + after.len()));
        name.is_some_and(|name| name.eq_ignore_ascii_case(b"standard_conforming_strings"))
    })
}

/// Reads up to the statement's end. Returns the token that it ended with, and whether nothing was in it.
fn statement(lexer: &mut Lexer<'_>, script: &mut Script) -> (Token, bool) {
    let from = script.texts.len();
    let names = script.names.len();
    let kept = script.entries.len() < STATEMENTS;
    script.names.push_str(PREPARE);
    let mut text = Text::new(from, !kept || from + TEXT > TEXTS);
    let mut summary = Summary::new(script.names.len());
    let mut body = Body::default();
    let mut deallocates = Deallocates::Nothing;
    // Whether the first keyword was there, and a setting's value is.
    let (mut begun, mut known, mut masked, mut empty) = (false, false, false, true);
    let mut depth = 0_u32;
    let end = loop {
        let token = lexer.next();
        let source = lexer.source();
        let word = if token == Token::Word { source } else { &[] };
        match token {
            Token::End | Token::Doubt => break token,
            Token::Semicolon if depth == 0 && body.depth == 0 => break token,
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        empty = false;
        // Brackets before it, as in `(SELECT …) UNION …`, are no part of the name.
        if !begun && token != Token::Open {
            begun = true;
            known = command(word).is_some();
        }
        if begun && !known {
            continue;
        }
        summary.token(token, source, &mut script.names);
        body.word(word, depth, summary.operation());
        if summary.operation() == Some("DEALLOCATE") {
            deallocated(token, source, &mut deallocates);
        }
        if masked {
            continue;
        }
        text.token(token, lexer, &mut script.texts);
        // A setting's value may be a bare word.
        if summary.operation() == Some("SET") && (source == b"=" || word.eq_ignore_ascii_case(b"to")) {
            text.push(&mut script.texts, "?", true);
            masked = true;
        }
    };
    empty &= end != Token::Doubt;
    if empty || !kept {
        script.texts.truncate(from);
        script.names.truncate(names);
        return (end, empty);
    }
    if !known {
        script.texts.truncate(from);
    } else if end == Token::Doubt && !masked {
        text.push(&mut script.texts, "?", true);
    }
    let (summary, collection, operation) = summary.finish(&mut script.names);
    script.entries.push(Entry {
        text: from..script.texts.len(),
        operation,
        summary,
        collection,
        deallocates,
    });
    (end, false)
}

/// Takes note of a word of `DEALLOCATE [PREPARE] { name | ALL }`.
fn deallocated(token: Token, source: &[u8], deallocates: &mut Deallocates) {
    let text = String::from_utf8_lossy(source);
    *deallocates = match token {
        Token::Word if source.eq_ignore_ascii_case(b"all") => Deallocates::All,
        Token::Word => Deallocates::One(text.to_ascii_lowercase().into()),
        Token::QuotedName => Deallocates::One(text.trim_matches('"').replace("\"\"", "\"").into()),
        _ => return,
    };
}

/// A routine's body in `BEGIN ATOMIC … END` holds semicolons that end no statement.
#[derive(Default)]
struct Body {
    words: u32,
    routine: bool,
    depth: u32,
}

impl Body {
    fn word(&mut self, word: &[u8], brackets: u32, operation: Option<&str>) {
        if word.is_empty() || operation != Some("CREATE") {
            return;
        }
        let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
        self.words += 1;
        // CREATE [OR REPLACE] { FUNCTION | PROCEDURE }
        if self.words <= 4 && (is(b"function") || is(b"procedure")) {
            self.routine = true;
        }
        if !self.routine || brackets > 0 {
            return;
        }
        if is(b"begin") || self.depth > 0 && is(b"case") {
            self.depth += 1;
        } else if is(b"end") {
            self.depth = self.depth.saturating_sub(1);
        }
    }
}

/// A level of brackets, in offsets of `Script::texts`.
#[derive(Debug, Clone, Default)]
struct Level {
    open: usize,
    /// Where the current element begins, where equal neighbours are one: `IN (…)`, `ARRAY[…]`.
    element: Option<usize>,
    previous: Option<Range<usize>>,
    /// After VALUES: the brackets at this level are rows, and equal neighbours are one.
    values: bool,
    row: Option<Range<usize>>,
}

/// The text of the statement at hand.
struct Text {
    from: usize,
    full: bool,
    levels: [Level; DEPTH],
    depth: usize,
    last: Token,
    /// The list behind the last word is to be collapsed.
    before_list: bool,
    /// After IS or NOT, TRUE is no literal.
    after_is: bool,
    /// Where a sign is that can only belong to a number behind it, and whether space was before it.
    sign: Option<(usize, bool)>,
}

/// The same, but for the numbers of parameters.
fn same(a: &str, b: &str) -> bool {
    fn shape(text: &str) -> impl Iterator<Item = u8> {
        let mut parameter = false;
        text.trim_start().bytes().filter(move |&byte| {
            parameter = byte == b'$' || parameter && byte.is_ascii_digit();
            !parameter || byte == b'$'
        })
    }
    shape(a).eq(shape(b))
}

impl Text {
    fn new(from: usize, full: bool) -> Text {
        Text {
            from,
            full,
            levels: std::array::from_fn(|_| Level::default()),
            depth: 0,
            last: Token::End,
            before_list: false,
            after_is: false,
            sign: None,
        }
    }

    fn push(&mut self, out: &mut String, text: &str, spaced: bool) {
        let spaced = spaced && out.len() > self.from;
        if self.full || out.len() - self.from + text.len() + usize::from(spaced) > TEXT {
            self.full = true;
            return;
        }
        if spaced {
            out.push(' ');
        }
        out.push_str(text);
    }

    fn token(&mut self, token: Token, lexer: &Lexer<'_>, out: &mut String) {
        let source = lexer.source();
        let spaced = lexer.spaced;
        let before_list = std::mem::take(&mut self.before_list);
        let after_is = std::mem::take(&mut self.after_is);
        let sign = self.sign.take();
        if let Some(level) = self.levels.get_mut(self.depth)
            && !matches!(token, Token::Open | Token::Comma)
            && level.row.is_some()
        {
            level.values = false;
        }
        match token {
            Token::Word | Token::QuotedName if source.len() > NAME + 4 => self.push(out, "?", spaced),
            Token::Word => self.word(source, spaced, after_is, out),
            Token::Text => self.push(out, "?", spaced),
            Token::Number => {
                let spaced = match sign {
                    Some((at, spaced)) if !self.full => {
                        out.truncate(at);
                        spaced
                    }
                    _ => spaced,
                };
                self.push(out, "?", spaced);
            }
            Token::Operator => {
                let prefix = matches!(self.last, Token::Operator | Token::Open | Token::Comma);
                if prefix && matches!(source, b"+" | b"-") {
                    self.sign = Some((out.len(), spaced));
                }
                self.source(source, spaced, out);
            }
            Token::Open => {
                let open = out.len();
                self.source(source, spaced, out);
                self.depth += 1;
                let element = before_list.then_some(out.len());
                if let Some(level) = self.levels.get_mut(self.depth) {
                    *level = Level {
                        open,
                        element,
                        ..Level::default()
                    };
                }
            }
            Token::Close => self.close(source, spaced, out),
            Token::Comma => {
                self.element(out);
                self.source(source, spaced, out);
                if let Some(level) = self.levels.get_mut(self.depth) {
                    level.element = level.element.map(|_| out.len());
                }
            }
            Token::QuotedName | Token::Parameter | Token::Semicolon | Token::Dot => {
                self.source(source, spaced, out);
            }
            Token::End | Token::Doubt => {}
        }
        self.last = token;
    }

    fn source(&mut self, source: &[u8], spaced: bool, out: &mut String) {
        self.push(out, &String::from_utf8_lossy(source), spaced);
    }

    fn word(&mut self, word: &[u8], spaced: bool, after_is: bool, out: &mut String) {
        let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
        let row = self.depth.checked_sub(1).and_then(|depth| self.levels.get(depth));
        let in_row = row.is_some_and(|level| level.values);
        if (is(b"true") || is(b"false")) && !after_is || is(b"null") && in_row {
            self.push(out, "?", spaced);
            return;
        }
        self.after_is = is(b"is") || is(b"not");
        self.before_list = is(b"in") || is(b"array");
        if is(b"values")
            && let Some(level) = self.levels.get_mut(self.depth)
        {
            level.values = true;
            level.row = None;
        }
        self.source(word, spaced, out);
    }

    /// An element ends: it goes where it is like the one before.
    fn element(&mut self, out: &mut String) {
        let Some(level) = self.levels.get_mut(self.depth) else {
            return;
        };
        let Some(from) = level.element else { return };
        if self.full {
            return;
        }
        let element = from..out.len();
        let texts = level.previous.clone().and_then(|previous| out.get(previous));
        match (texts, out.get(element.clone()), &level.previous) {
            (Some(a), Some(b), Some(previous)) if same(a, b) => out.truncate(previous.end),
            _ => level.previous = Some(element),
        }
    }

    fn close(&mut self, source: &[u8], spaced: bool, out: &mut String) {
        self.element(out);
        self.source(source, spaced, out);
        let open = self.levels.get(self.depth).map(|level| level.open);
        self.depth = self.depth.saturating_sub(1);
        let (Some(open), Some(level), false) = (open, self.levels.get_mut(self.depth), self.full) else {
            return;
        };
        if !level.values {
            return;
        }
        let row = open..out.len();
        let texts = level.row.clone().and_then(|previous| out.get(previous));
        match (texts, out.get(row.clone()), &level.row) {
            (Some(a), Some(b), Some(previous)) if same(a, b) => out.truncate(previous.end),
            _ => level.row = Some(row),
        }
    }
}
