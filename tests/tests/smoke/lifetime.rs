//! What the agent leaves behind.

use crate::report::{Outcome, Report};
use crate::stage::{agent, folder};
use anyhow::{Result, ensure};
use redwire_tests::bpf::Objects;
use redwire_tests::collector::Collector;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// How long the kernel may take to free what nobody holds any more.
const FREEING: Duration = Duration::from_secs(20);

/// Waits until none of `objects` is loaded.
fn gone(objects: &Objects) -> Result<()> {
    let deadline = Instant::now() + FREEING;
    loop {
        let left = Objects::loaded()?.common(objects);
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "still loaded: {left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Probes that were made by name in tracefs, which no process holds, and functions that a trampoline is attached to;
/// empty where the kernel has no such list.
fn attached() -> String {
    let lists = ["kprobe_events", "uprobe_events", "enabled_functions"];
    let lists = lists.map(|list| std::fs::read_to_string(format!("/sys/kernel/tracing/{list}")));
    lists.map(Result::unwrap_or_default).join("")
}

/// After SIGKILL, nothing is loaded or attached any more.
pub(crate) fn killed(test: &str) -> Result<Vec<Report>> {
    let folder = folder(test)?;
    let collector = Collector::start(&folder)?;
    let before = attached();
    let mut agent = agent(&folder, &collector)?;
    let held = Objects::held_by(agent.process().pid())?;
    ensure!(
        !held.programs.is_empty() && !held.maps.is_empty(),
        "the agent holds {held:?}"
    );
    ensure!(
        held.common(&Objects::loaded()?) == held,
        "not loaded: some of {held:?}"
    );
    agent.process().signal(Signal::KILL);
    agent.process().wait(FREEING)?;
    gone(&held)?;
    let after = attached();
    ensure!(after == before, "attached before:\n{before}\nand after:\n{after}");
    Ok(vec![Report::plain(test, Outcome::Passed)])
}

/// Memory of the kernel that programs, maps and probes live in, in KiB (proc(5), meminfo).
fn memory() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Ok(["SUnreclaim:", "VmallocUsed:", "Percpu:"]
        .iter()
        .filter_map(|name| of(name))
        .sum())
}

/// Started and stopped again and again, the agent leaves no program, no map and no memory.
pub(crate) fn churn(test: &str) -> Result<Vec<Report>> {
    // A leak of a ring buffer shows in few cycles, one of a page in many.
    let cycles: u64 = std::env::var("REDWIRE_CHURN").map_or(Ok(5), |cycles| cycles.parse())?;
    let folder = folder(test)?;
    let collector = Collector::start(&folder)?;
    let before = attached();
    let mut first = None;
    for _ in 0..cycles {
        let mut agent = agent(&folder, &collector)?;
        let held = Objects::held_by(agent.process().pid())?;
        ensure!(!held.is_empty(), "the agent holds nothing");
        agent.stop()?;
        gone(&held)?;
        if first.is_none() {
            first = Some(memory()?);
        }
    }
    let after = attached();
    ensure!(after == before, "attached before:\n{before}\nand after:\n{after}");
    // Other processes of a machine use the kernel's memory, too: only an emulated machine is quiet.
    if let (Some(first), true) = (first, std::env::var_os("REDWIRE_ALONE").is_some()) {
        let grown = memory()?.saturating_sub(first);
        // 16 KiB a cycle: no map or program is smaller than a page, and a backend has several of both.
        let allowed = 2048 + 16 * (cycles - 1);
        println!("\n    {cycles} cycles: {grown} KiB more, {allowed} allowed");
        ensure!(
            grown <= allowed,
            "{grown} KiB more after {cycles} cycles than after the first"
        );
    }
    Ok(vec![Report::plain(test, Outcome::Passed)])
}
