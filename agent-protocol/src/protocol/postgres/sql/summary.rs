//! A statement's operations and their targets (semantic conventions, "Generating a summary of the query").

use super::commands::command;
use super::lexer::Token;
use super::{NAME, SUMMARY};
use std::ops::Range;

/// Brackets within brackets that are followed.
const DEPTH: usize = 32;

/// Names of common table expressions that are known to be no tables.
const EXPRESSIONS: usize = 16;

/// What a name at this place would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Expect {
    #[default]
    Nothing,
    /// A table, or a function's call, as after FROM.
    Source,
    /// A table, or what takes one's place, as after INTO.
    Target,
    /// A common table expression's name, after WITH.
    Expression,
    /// What CREATE, ALTER or DROP is about.
    Kind,
}

#[derive(Debug, Clone, Copy, Default)]
struct Level {
    expect: Expect,
    /// A query, so that FROM is its clause.
    query: bool,
    /// In a list of tables: a comma is followed by one more.
    tables: bool,
    /// In a list of common table expressions, before the main statement.
    expressions: bool,
    /// Nothing but its bracket was seen.
    fresh: bool,
}

/// A name that may go on, or turn out to be a function's.
struct Name {
    from: usize,
    /// May be followed by a bracket.
    target: bool,
    dotted: bool,
}

/// Follows a statement's tokens.
pub(super) struct Summary {
    from: usize,
    full: bool,
    operation: Option<&'static str>,
    levels: [Level; DEPTH],
    depth: usize,
    /// The last word, as far as it matters; `None` for any other token.
    last: Option<&'static str>,
    first: bool,
    name: Option<Name>,
    expressions: [u64; EXPRESSIONS],
    expressions_known: usize,
    collection: Option<Range<usize>>,
    /// The main statement changes the first table that it names.
    changes: bool,
    several: bool,
}

/// Words that matter behind them, beside the commands.
const WORDS: &[&str] = &[
    "AS", "DISTINCT", "DO", "FOR", "FROM", "KEY", "OF", "ON", "VERBOSE",
];

/// Words that end a list of tables.
fn ends_tables(word: &[u8]) -> bool {
    const ENDS: &[&str] = &[
        "WHERE",
        "GROUP",
        "ORDER",
        "HAVING",
        "LIMIT",
        "OFFSET",
        "FETCH",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "WINDOW",
        "FOR",
        "RETURNING",
        "SET",
        "VALUES",
        "WHEN",
    ];
    ENDS.iter().any(|end| word.eq_ignore_ascii_case(end.as_bytes()))
}

/// Words that may be between a keyword and the name that it announces.
fn is_filler(word: &[u8]) -> bool {
    const FILLERS: &[&str] = &[
        "ONLY",
        "LATERAL",
        "IF",
        "NOT",
        "EXISTS",
        "TABLE",
        "RECURSIVE",
        "OR",
        "REPLACE",
        "TEMP",
        "TEMPORARY",
        "UNLOGGED",
        "UNIQUE",
        "MATERIALIZED",
        "GLOBAL",
        "LOCAL",
        "CONCURRENTLY",
    ];
    FILLERS
        .iter()
        .any(|filler| word.eq_ignore_ascii_case(filler.as_bytes()))
}

/// FNV-1a, of the name in lower case.
fn fingerprint(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Summary {
    /// `from`: where it begins in the string that is handed in.
    pub(super) fn new(from: usize) -> Summary {
        Summary {
            from,
            full: false,
            operation: None,
            levels: [Level::default(); DEPTH],
            depth: 0,
            last: None,
            first: true,
            name: None,
            expressions: [0; EXPRESSIONS],
            expressions_known: 0,
            collection: None,
            changes: false,
            several: false,
        }
    }

    pub(super) fn operation(&self) -> Option<&'static str> {
        self.operation
    }

    fn level(&mut self) -> Option<&mut Level> {
        self.levels.get_mut(self.depth)
    }

    fn expect(&mut self, expect: Expect) {
        if let Some(level) = self.level() {
            level.expect = expect;
        }
    }

    pub(super) fn token(&mut self, token: Token, source: &[u8], out: &mut String) {
        if let Some(name) = &mut self.name {
            let named = matches!(token, Token::Word | Token::QuotedName);
            if token == Token::Dot && !name.dotted {
                name.dotted = true;
                self.piece(source, out);
                return;
            }
            if named && name.dotted {
                name.dotted = false;
                self.piece(source, out);
                return;
            }
            self.commit(token == Token::Open, out);
        }
        let last = self.last.take();
        let Some(level) = self.levels.get_mut(self.depth) else {
            // Too deep to follow: only the way out.
            match token {
                Token::Open => self.depth += 1,
                Token::Close => self.depth -= 1,
                _ => {}
            }
            return;
        };
        match token {
            Token::Word => self.word(source, last, out),
            Token::QuotedName => match level.expect {
                Expect::Source | Expect::Target => self.begin_name(source, out),
                Expect::Expression => self.expression(source),
                Expect::Kind | Expect::Nothing => {}
            },
            Token::Open => {
                let expect = match level.expect {
                    Expect::Source => Expect::Source,
                    _ => Expect::Nothing,
                };
                level.expect = Expect::Nothing;
                self.depth += 1;
                if let Some(level) = self.level() {
                    *level = Level {
                        expect,
                        fresh: true,
                        ..Level::default()
                    };
                }
            }
            Token::Close => self.depth = self.depth.saturating_sub(1),
            Token::Comma if level.expressions => level.expect = Expect::Expression,
            Token::Comma if level.tables => level.expect = Expect::Source,
            Token::Operator | Token::Text | Token::Number | Token::Parameter => {
                level.expect = Expect::Nothing
            }
            _ => {}
        }
        if token != Token::Open {
            self.first = false;
            if let Some(level) = self.level() {
                level.fresh = false;
            }
        }
    }

    fn word(&mut self, word: &[u8], last: Option<&'static str>, out: &mut String) {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
        let command = command(word);
        let matters = WORDS.iter().find(|known| is(known)).copied();
        self.last = command.or(matters);
        let Some(&Level {
            expect,
            query,
            fresh,
            expressions,
            ..
        }) = self.levels.get(self.depth)
        else {
            return;
        };
        if let Some(command) = command
            && self.is_operation(command, last, fresh || self.first, expressions)
        {
            self.begin_operation(command, out);
            return;
        }
        if ends_tables(word)
            && let Some(level) = self.level()
        {
            level.tables = false;
            level.expect = Expect::Nothing;
            return;
        }
        match expect {
            _ if is_filler(word) && expect != Expect::Kind => return,
            Expect::Source | Expect::Target => return self.begin_name(word, out),
            Expect::Expression => return self.expression(word),
            Expect::Kind if is("TABLE") || is("VIEW") => {
                self.push(&String::from_utf8_lossy(word).to_ascii_uppercase(), out);
                let tables = self.operation == Some("DROP");
                if let Some(level) = self.level() {
                    level.expect = Expect::Target;
                    level.tables = tables;
                }
                return;
            }
            Expect::Kind if !is_filler(word) => self.expect(Expect::Nothing),
            _ => {}
        }
        let lists = matches!(self.operation, Some("DELETE" | "MERGE"));
        if is("FROM") && query && last != Some("DISTINCT") || is("USING") && lists && self.depth == 0 {
            if let Some(level) = self.level() {
                level.expect = Expect::Source;
                level.tables = true;
            }
        } else if is("JOIN") {
            self.expect(Expect::Source);
        } else if is("INTO") && query {
            self.expect(Expect::Target);
        }
    }

    /// Whether a command's keyword begins an operation here, and is not part of another's clause.
    fn is_operation(&self, command: &str, last: Option<&'static str>, fresh: bool, main: bool) -> bool {
        if self.first {
            return true;
        }
        let nests = matches!(
            self.operation,
            Some(
                "SELECT"
                    | "INSERT"
                    | "UPDATE"
                    | "DELETE"
                    | "MERGE"
                    | "WITH"
                    | "VALUES"
                    | "TABLE"
                    | "CREATE"
                    | "EXPLAIN"
                    | "PREPARE"
                    | "DECLARE"
                    | "COPY"
            )
        );
        let begins = fresh || main || matches!(last, Some("AS" | "EXPLAIN" | "ANALYZE" | "VERBOSE"));
        match command {
            "SELECT" => nests,
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" => {
                nests && (begins || self.operation == Some("EXPLAIN") && last.is_none())
            }
            "WITH" => nests && (fresh || matches!(last, Some("AS" | "EXPLAIN" | "FOR"))),
            "VALUES" | "TABLE" => main && self.depth == 0 && self.operation == Some("WITH"),
            _ => false,
        }
    }

    fn begin_operation(&mut self, command: &'static str, out: &mut String) {
        let main = self.levels.get(self.depth).is_some_and(|level| level.expressions);
        let first = std::mem::take(&mut self.first);
        if first || main && self.depth == 0 && self.operation == Some("WITH") {
            self.operation = Some(command);
            self.changes = !matches!(
                command,
                "SELECT" | "WITH" | "VALUES" | "TABLE" | "EXPLAIN" | "PREPARE" | "DECLARE"
            );
            if self.changes && !first {
                self.collection = None;
            }
        }
        if command != "WITH" {
            self.push(command, out);
        }
        let Some(level) = self.level() else { return };
        level.expressions = command == "WITH";
        level.fresh = false;
        level.query = matches!(command, "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "MERGE");
        level.tables = matches!(command, "TRUNCATE" | "LOCK");
        level.expect = match command {
            "WITH" => Expect::Expression,
            "UPDATE" | "COPY" | "TRUNCATE" | "LOCK" | "CALL" | "TABLE" => Expect::Target,
            "CREATE" | "ALTER" | "DROP" => Expect::Kind,
            _ => Expect::Nothing,
        };
    }

    /// A common table expression's name.
    fn expression(&mut self, name: &[u8]) {
        self.expect(Expect::Nothing);
        if let Some(slot) = self.expressions.get_mut(self.expressions_known) {
            *slot = fingerprint(name);
            self.expressions_known += 1;
        }
    }

    fn begin_name(&mut self, piece: &[u8], out: &mut String) {
        let expect = self.levels.get(self.depth).map(|level| level.expect);
        self.expect(Expect::Nothing);
        self.name = Some(Name {
            from: out.len(),
            target: expect == Some(Expect::Target),
            dotted: false,
        });
        if out.len() > self.from {
            out.push(' ');
        }
        self.piece(piece, out);
    }

    fn piece(&mut self, piece: &[u8], out: &mut String) {
        if piece.len() > NAME + 4 || self.full {
            // Not a name to show, nor what is behind it.
            self.full = true;
            self.several = true;
        } else {
            out.push_str(&String::from_utf8_lossy(piece));
        }
    }

    /// The name is complete. One with a bracket behind it is a function, where tables are read.
    fn commit(&mut self, bracket: bool, out: &mut String) {
        let Some(name) = self.name.take() else { return };
        let from = name.from + usize::from(name.from > self.from);
        let text = out.get(from..).unwrap_or_default();
        let known = self.expressions.get(..self.expressions_known).unwrap_or_default();
        if bracket && !name.target || known.contains(&fingerprint(text.as_bytes())) || self.full {
            out.truncate(name.from);
            return;
        }
        if out.len() - self.from > SUMMARY {
            out.truncate(name.from);
            (self.full, self.several) = (true, true);
            return;
        }
        let range = from..out.len();
        if matches!(self.operation, Some("CALL")) || range.is_empty() {
            self.several |= range.is_empty();
            return;
        }
        match &self.collection {
            None => self.collection = Some(range),
            Some(known) if !self.changes => self.several |= out.get(known.clone()) != out.get(range),
            Some(_) => {}
        }
    }

    fn push(&mut self, text: &str, out: &mut String) {
        let space = usize::from(out.len() > self.from);
        if self.full || out.len() - self.from + space + text.len() > SUMMARY {
            self.full = true;
            return;
        }
        if space > 0 {
            out.push(' ');
        }
        out.push_str(text);
    }

    /// Ranges of the summary and of the one table that the statement is about, and the operation.
    pub(super) fn finish(
        mut self,
        out: &mut String,
    ) -> (Range<usize>, Option<Range<usize>>, Option<&'static str>) {
        self.commit(false, out);
        let collection = self.collection.filter(|_| self.changes || !self.several);
        (self.from..out.len(), collection, self.operation)
    }
}
