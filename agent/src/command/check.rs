//! `redwire check`: what this kernel and these privileges allow.

use crate::cli::Check;
use crate::config::{File, Selection};
use crate::source::ebpf::backend::{self, BACKENDS};
use crate::source::ebpf::kernel::Kernel;
use crate::source::ebpf::{Source, offsets};
use anyhow::{Result, anyhow};

/// Capabilities (capabilities(7)) by their number.
const CAPABILITIES: &[(u32, &str)] = &[
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

/// Capabilities that `run` needs and this process lacks: CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON, the
/// way it did before they were split off in Linux 5.8.
pub fn missing_capabilities() -> Vec<&'static str> {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    let effective = status.map_or(u64::MAX, |status| status.capeff);
    missing(effective)
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |name: &str| {
        CAPABILITIES
            .iter()
            .any(|(bit, known)| *known == name && effective >> bit & 1 == 1)
    };
    let mut missing = Vec::new();
    if !has("CAP_SYS_ADMIN") {
        missing.extend(["CAP_BPF", "CAP_PERFMON"].into_iter().filter(|name| !has(name)));
    }
    if !has("CAP_SYS_PTRACE") {
        missing.push("CAP_SYS_PTRACE");
    }
    missing
}

/// What to do about missing capabilities.
pub fn capability_advice(missing: &[&str]) -> String {
    format!(
        "missing privilege: {}. Run as root, or grant them (setcap, systemd's AmbientCapabilities=, Kubernetes' \
         securityContext.capabilities.add).",
        missing.join(", ")
    )
}

/// Prints the probe. Whether `run` would work.
///
/// # Errors
/// Where the flags are wrong.
pub fn run(args: &Check) -> Result<bool> {
    let mut well = true;
    let mut line = |good: bool, what: &str, found: String| {
        well &= good;
        println!("{:5} {what:24} {found}", if good { "ok" } else { "FAIL" });
    };
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned());

    line(
        true,
        "kernel",
        read("/proc/sys/kernel/osrelease").unwrap_or_else(|_| "unknown".to_owned()),
    );
    let lockdown = read("/sys/kernel/security/lockdown").unwrap_or_else(|_| "not shown".to_owned());
    line(true, "lockdown", lockdown);
    let missing = missing_capabilities();
    let found = if missing.is_empty() {
        "all that are needed".to_owned()
    } else {
        capability_advice(&missing)
    };
    line(missing.is_empty(), "capabilities", found);

    let options = super::capture(&args.capture, &File::default(), &Selection::default())?;
    let kernel = Kernel::running();
    let layout = match offsets::read(&options.btf, &backend::optional_functions()) {
        Ok(layout) => {
            line(true, "BTF", options.btf.display().to_string());
            Some(layout)
        }
        Err(error) => {
            line(false, "BTF", format!("{error:#}"));
            None
        }
    };
    let mut taken = None;
    for candidate in BACKENDS {
        let found = match &layout {
            None => Err(anyhow!("no BTF")),
            Some(layout) => Source::of(candidate, &options, &kernel, layout),
        };
        let what = format!("backend {candidate}");
        match found {
            Ok(source) => {
                let cost = source.costliest().map_or_else(String::new, |(name, cost)| {
                    format!("; {name} took {cost} instructions of the verifier's 1,000,000")
                });
                drop(source);
                if taken.is_none() && options.hooks.is_none_or(|only| only == candidate) {
                    taken = Some(candidate);
                }
                println!("{:5} {what:24} all programs load and attach{cost}", "ok");
            }
            Err(error) => println!("{:5} {what:24} {error:#}", "no"),
        }
    }
    let well = well && taken.is_some();
    let taken = taken.map_or_else(|| "none".to_owned(), |backend| backend.to_string());
    println!(
        "{:5} {:24} {taken}",
        if well { "" } else { "FAIL" },
        "backend taken"
    );
    if args.report {
        super::report::print();
    }
    Ok(well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities() {
        assert_eq!(missing(1 << 21 | 1 << 19), Vec::<&str>::new());
        assert_eq!(missing(1 << 38 | 1 << 39 | 1 << 19), Vec::<&str>::new());
        assert_eq!(missing(1 << 39 | 1 << 19), ["CAP_PERFMON"]);
        assert_eq!(missing(0), ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"]);
    }
}
