//! Where the table is shown: on a terminal it is drawn over the one before, elsewhere it is printed again.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Columns and rows.
type Size = (usize, usize);

struct Out {
    to: Box<dyn Write + Send>,
    /// What stands on a terminal, to be drawn again below what is written above it.
    shown: String,
}

/// Where the table is shown.
pub struct Screen {
    out: Mutex<Out>,
    is_terminal: bool,
    has_colour: bool,
    size: fn() -> Option<Size>,
}

impl Screen {
    /// Standard output. It is no terminal where `TERM` is `dumb`, and has no colour where `NO_COLOR` is set and not
    /// empty (no-color.org).
    pub fn stdout() -> Screen {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_dumb = variable("TERM").is_some_and(|term| term == "dumb");
        let is_terminal = io::stdout().is_terminal() && !is_dumb;
        Screen {
            is_terminal,
            has_colour: is_terminal && variable("NO_COLOR").is_none(),
            size,
            ..Screen::to(Box::new(io::stdout()))
        }
    }

    /// What is no terminal.
    pub fn to(out: Box<dyn Write + Send>) -> Screen {
        let shown = String::new();
        Screen {
            out: Mutex::new(Out { to: out, shown }),
            is_terminal: false,
            has_colour: false,
            size: || None,
        }
    }

    /// As a terminal of this size, for tests.
    #[cfg(test)]
    pub(crate) fn terminal(
        out: Box<dyn Write + Send>,
        has_colour: bool,
        size: fn() -> Option<Size>,
    ) -> Screen {
        Screen {
            is_terminal: true,
            has_colour,
            size,
            ..Screen::to(out)
        }
    }

    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    pub(crate) fn has_colour(&self) -> bool {
        self.has_colour
    }

    /// Of a terminal that tells.
    pub(crate) fn size(&self) -> Option<Size> {
        (self.size)()
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows `text`, whole lines, in place of what was shown last; with `stays`, what comes later leaves it there.
    pub(crate) fn show(&self, text: &str, stays: bool) {
        let mut out = self.out();
        let result = if self.is_terminal {
            let drawn = format!("{}{}", erase(&out.shown), drawing(text));
            out.shown = if stays { String::new() } else { text.to_owned() };
            out.to.write_all(drawn.as_bytes())
        } else {
            out.to.write_all(text.as_bytes())
        };
        if let Err(error) = result.and_then(|()| out.to.flush()) {
            tracing::debug!(%error, "cannot show the table");
        }
    }

    /// Has `write` write whole lines to the same terminal, above the table.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn above(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut out = self.out();
        if out.shown.is_empty() {
            return write();
        }
        let (erased, drawn) = (erase(&out.shown), drawing(&out.shown));
        // Where the terminal is gone there is nothing to keep in order.
        let _ = out.to.write_all(erased.as_bytes()).and_then(|()| out.to.flush());
        let result = write();
        let _ = out.to.write_all(drawn.as_bytes()).and_then(|()| out.to.flush());
        result
    }
}

/// Goes up to where `shown` begins, and erases from there on, with what was typed behind it.
fn erase(shown: &str) -> String {
    match shown.lines().count() {
        0 => "\r\x1b[J".to_owned(),
        lines => format!("\r\x1b[{lines}A\x1b[J"),
    }
}

/// A line that is wrapped would spoil the count of lines to go up.
fn drawing(text: &str) -> String {
    format!("\x1b[?7l{text}\x1b[?7h")
}

fn size() -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    let is_told = size.ws_col > 0 && size.ws_row > 0;
    is_told.then_some((size.ws_col.into(), size.ws_row.into()))
}
