//! `redwire ps`: the processes that are selected, by which rule, what they are called, and what they were seen to speak.

use crate::cli::Ps;
use crate::discover::{self, Process};
use crate::peers;
use anyhow::Result;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Lists them.
///
/// # Errors
/// Where the configuration is wrong.
pub fn run(args: &Ps) -> Result<()> {
    let file = super::file(&args.selection)?;
    let selection = super::selection(&args.selection, &file)?;
    let (processes, hidden) = Process::all();
    let selected: HashMap<u32, u32> = discover::scan(&selection, &processes)
        .into_iter()
        .map(|(process, by)| (process.pid, by))
        .collect();
    let observed = peers::observed();
    for line in discover::unmatched(&selection, &processes) {
        eprintln!("{line}");
    }
    let mut shown = processes;
    shown.retain(|process| {
        args.all || selected.contains_key(&process.pid) || observed.contains_key(&process.pid)
    });
    shown.sort_by_key(|process| process.pid);

    let titles = ["PID", "SELECTED BY", "SERVICE", "PROTOCOLS", "EXECUTABLE"];
    let mut rows = vec![titles.map(str::to_owned)];
    for process in &shown {
        let seen = observed.get(&process.pid);
        let by = match (selected.get(&process.pid), seen) {
            (Some(&by), _) => discover::rules(by),
            (None, Some(seen)) => format!("agent {}", seen.agent),
            (None, None) => "-".to_owned(),
        };
        rows.push([
            process.pid.to_string(),
            by,
            discover::service_name(process),
            seen.map_or_else(|| "-".to_owned(), |seen| seen.protocols.clone()),
            process.executable.clone().unwrap_or_default(),
        ]);
    }
    print!("{}", table(&rows));
    if !selection.ports.is_empty() {
        println!(
            "Connections on port {:?} are selected, too, whichever process has them.",
            selection.ports
        );
    }
    if hidden > 0 {
        let advice = if super::check::missing_capabilities().contains(&"CAP_SYS_PTRACE") {
            "run as root, or with CAP_SYS_PTRACE, to see whether they are selected, and what running agents see of them"
        } else {
            "the kernel refuses it"
        };
        eprintln!("Processes that could not be looked at: {hidden}; {advice}.");
    }
    if shown.is_empty() && hidden == 0 {
        eprintln!("No process is selected. {HOW_TO_SELECT}");
    }
    Ok(())
}

/// What to do when nothing is selected.
pub const HOW_TO_SELECT: &str = "Select by --pid PID, --exe GLOB or --port PORT, or start a process with \
                                 REDWIRE_ENABLE=true in its environment.";

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
