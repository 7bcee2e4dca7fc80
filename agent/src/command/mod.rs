//! What each subcommand does.

pub mod check;
pub mod ps;

use crate::cli::{CaptureArgs, SelectionArgs};
use crate::config::{ByteSize, Executable, File, Selection};
use crate::source::ebpf::{Options, offsets};
use anyhow::{Context as _, Result, bail};

/// The selection that flags, environment and file give.
///
/// # Errors
/// Where a glob is none.
pub fn selection(args: &SelectionArgs, file: &File) -> Result<Selection> {
    let part = &file.selection;
    let globs = if args.executables.is_empty() {
        &part.executables
    } else {
        &args.executables
    };
    let either = |flags: &[u32], file: &[u32]| {
        if flags.is_empty() {
            file.to_vec()
        } else {
            flags.to_vec()
        }
    };
    Ok(Selection {
        pids: either(&args.pids, &part.pids),
        executables: globs
            .iter()
            .map(|glob| Executable::new(glob))
            .collect::<Result<_>>()?,
        ports: if args.ports.is_empty() {
            part.ports.clone()
        } else {
            args.ports.clone()
        },
        environment: !args.no_environment && part.environment.unwrap_or(true),
        children: !args.no_children && part.children.unwrap_or(true),
    })
}

/// The configuration file, where one is named.
///
/// # Errors
/// Where it cannot be read.
pub fn file(args: &SelectionArgs) -> Result<File> {
    args.config
        .as_deref()
        .map_or_else(|| Ok(File::default()), File::read)
}

/// Ring buffer of an agent that is told nothing else: at 1 KiB an event, a fifth of a second at 80,000 events/s.
const RING_BUFFER: ByteSize = ByteSize(16 << 20);

/// The smallest ring buffer: more than one piece of payload must fit.
const RING_BUFFER_MIN: u64 = 64 << 10;

/// How the kernel programs are to be loaded.
///
/// # Errors
/// Where the ring buffer's size is none.
pub fn capture(args: &CaptureArgs, file: &File, selection: &Selection) -> Result<Options> {
    let ring = args
        .ring_buffer
        .or(file.capture.ring_buffer)
        .unwrap_or(RING_BUFFER);
    if !ring.0.is_power_of_two() || ring.0 < RING_BUFFER_MIN {
        bail!(
            "--ring-buffer {ring}: must be a power of two and at least {}",
            ByteSize(RING_BUFFER_MIN)
        );
    }
    Ok(Options {
        btf: args
            .btf
            .clone()
            .or_else(|| file.capture.btf.clone())
            .unwrap_or_else(|| offsets::KERNEL_BTF.into()),
        ring_bytes: u32::try_from(ring.0).with_context(|| format!("--ring-buffer {ring}: at most 2GiB"))?,
        by_environment: selection.environment,
        by_executable: !selection.executables.is_empty(),
        ports: selection.ports.clone(),
        follow: selection.children,
        kernel_log: args.kernel_log,
    })
}
