//! Rows of text as a table of a given width.

use std::fmt::Write as _;

/// A column.
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// Numbers stand to the right.
    pub(crate) is_number: bool,
    /// A text is cut down to so many characters where the terminal is narrow, and to [`HARD`] where there is still no
    /// room; a number never is.
    pub(crate) least: usize,
    /// Characters at most, however wide the terminal.
    pub(crate) most: usize,
    /// Columns with a higher one go first where there is still no room; 0 stays.
    pub(crate) drop: u8,
}

/// How a cell looks on a terminal with colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Look {
    #[default]
    Plain,
    Bold,
    Warn,
    Fail,
}

impl Look {
    /// Select Graphic Rendition (ECMA-48 § 8.3.117).
    pub(crate) fn paint(self, text: &str) -> String {
        let code = match self {
            Look::Plain => return text.to_owned(),
            Look::Bold => 1,
            Look::Warn => 33,
            Look::Fail => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A text with how it looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) look: Look,
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        let look = Look::Plain;
        Cell { text, look }
    }
}

const GAP: usize = 2;

/// Characters of a text that says nothing any more.
const HARD: usize = 6;

/// The table with its titles, each line ended, no line wider than `width`.
pub(crate) fn table<const N: usize>(
    columns: &[Column; N],
    rows: &[[Cell; N]],
    width: Option<usize>,
    has_colour: bool,
) -> String {
    let widths = fit(columns, rows, width);
    let titles: [Cell; N] = std::array::from_fn(|at| Cell {
        text: columns[at].title.to_owned(),
        look: Look::Bold,
    });
    let mut text = String::new();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        // Spaces wait until something stands behind them.
        let mut spaces = 0;
        for ((cell, column), &width) in row.iter().zip(columns).zip(&widths) {
            if width == 0 {
                continue;
            }
            let shown = printable(&cell.text, width);
            let free = width - shown.chars().count();
            let before = if column.is_number { free } else { 0 };
            spaces += before;
            if !shown.is_empty() {
                let _ = write!(line, "{:spaces$}", "");
                spaces = 0;
                line.push_str(&if has_colour {
                    cell.look.paint(&shown)
                } else {
                    shown
                });
            }
            spaces += free - before + GAP;
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Widths of the columns, 0 for those that have no place.
fn fit<const N: usize>(columns: &[Column; N], rows: &[[Cell; N]], width: Option<usize>) -> [usize; N] {
    let longest = |at: usize| {
        rows.iter()
            .map(|row| row[at].text.chars().count())
            .max()
            .unwrap_or(0)
    };
    let mut widths: [usize; N] = std::array::from_fn(|at| {
        let natural = longest(at).min(columns[at].most);
        // A column without anything in it says nothing.
        match rows.iter().all(|row| row[at].text.is_empty()) && !rows.is_empty() {
            true => 0,
            false => natural.max(columns[at].title.len()),
        }
    });
    let Some(width) = width else { return widths };
    let total = |widths: &[usize; N]| {
        let shown = widths.iter().filter(|width| **width > 0);
        shown.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
    };
    loop {
        let over = total(&widths).saturating_sub(width);
        if over == 0 {
            return widths;
        }
        // The longest text that can be shorter gives way, else a column.
        if shrink(columns, &mut widths, over, |column| column.least) {
            continue;
        }
        let droppable = |at: &usize| widths[*at] > 0 && columns[*at].drop > 0;
        match (0..N).filter(droppable).max_by_key(|&at| columns[at].drop) {
            Some(at) => widths[at] = 0,
            None if shrink(columns, &mut widths, over, |_| HARD) => {}
            None => return widths,
        }
    }
}

/// Makes the text shorter that is longest beyond its least, if one is.
fn shrink<const N: usize>(
    columns: &[Column; N],
    widths: &mut [usize; N],
    over: usize,
    least: impl Fn(&Column) -> usize,
) -> bool {
    let beyond = |at: usize| match columns[at].is_number {
        true => 0,
        false => widths[at].saturating_sub(least(&columns[at])),
    };
    let longest = (0..N).map(|at| (beyond(at), at)).max();
    let Some((beyond, at)) = longest.filter(|(beyond, _)| *beyond > 0) else {
        return false;
    };
    // By little, so that several long ones get shorter together.
    widths[at] -= over.min(beyond).min(1.max(over / 4));
    true
}

/// Without control characters, which a terminal would obey, and not longer than `width`.
pub(crate) fn printable(text: &str, width: usize) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    if text.chars().count() <= width {
        return clean.collect();
    }
    clean.take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column {
            title: "NAME",
            is_number: false,
            least: 6,
            most: 20,
            drop: 0,
        },
        Column {
            title: "COUNT",
            is_number: true,
            least: 0,
            most: 20,
            drop: 0,
        },
        Column {
            title: "PEER",
            is_number: false,
            least: 6,
            most: 20,
            drop: 1,
        },
    ];

    fn lines(width: Option<usize>) -> Vec<String> {
        let row =
            |name: &str, count: &str, peer: &str| [name, count, peer].map(|text| text.to_owned().into());
        let rows = [
            row("GET /users/{id}", "12", "shop.example:8080"),
            row("a\x1b[2J", "3", ""),
        ];
        let text = table(&COLUMNS, &rows, width, false);
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn as_wide_as_it_needs() {
        assert_eq!(
            lines(None),
            [
                "NAME             COUNT  PEER",
                "GET /users/{id}     12  shop.example:8080",
                "a?[2J                3",
            ]
        );
    }

    #[test]
    fn as_wide_as_the_terminal() {
        for width in 20..60 {
            let lines = lines(Some(width));
            assert!(
                lines.iter().all(|line| line.chars().count() <= width),
                "{width}: {lines:?}"
            );
            assert!(lines[1].contains("12"), "a number is never cut: {lines:?}");
        }
        assert_eq!(lines(Some(36)).len(), 3);
        assert!(lines(Some(30))[1].contains('…'));
        assert!(!lines(Some(14))[0].contains("PEER"), "the first to go");
    }

    #[test]
    fn colours_are_around_the_text_alone() {
        let cell = Cell {
            text: "9".to_owned(),
            look: Look::Fail,
        };
        let text = table(
            &COLUMNS,
            &[["a".to_owned().into(), cell, Cell::default()]],
            None,
            true,
        );
        assert!(text.ends_with("a         \x1b[31m9\x1b[0m\n"), "{text:?}");
    }
}
