//! Offsets of kernel struct members, from the running kernel's BTF.

use anyhow::{Context as _, Result, anyhow, bail};
use btf_rs::{Backend, Btf, Type};
use redwire_common::Offsets;
use std::path::Path;

/// Where the kernel shows its BTF (`CONFIG_DEBUG_INFO_BTF`).
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Reads the offsets from the BTF at `path`.
///
/// # Errors
/// Where there is no BTF, or a member is not where any supported kernel has it.
pub fn read(path: &Path) -> Result<Offsets> {
    let btf = Btf::from_file_with_backend(path, Backend::Mmap).map_err(|error| {
        anyhow!(
            "{}: no BTF of this kernel ({error}); Redwire needs a kernel built with CONFIG_DEBUG_INFO_BTF=y \
             (distribution kernels since about 5.10 are), or a file with its BTF by --btf",
            path.display()
        )
    })?;
    let at = |structure: &str, member: &str| -> Result<u32> {
        offset(&btf, structure, member)?.with_context(|| {
            format!(
                "{}: struct {structure} has no member {member}; this kernel is not supported yet",
                path.display()
            )
        })
    };
    // Since 6.13 (`file_ref_t`) the count of a file with one reference is 0, before it was 1.
    let file_ref = offset(&btf, "file", "f_ref")?;
    if at("socket", "sk")? != at("socket", "file")? + 8 {
        bail!("struct socket: sk is not behind file; this kernel is not supported yet");
    }
    Ok(Offsets {
        task_files: at("task_struct", "files")?,
        task_mm: at("task_struct", "mm")?,
        task_tgid: at("task_struct", "tgid")?,
        task_pid: at("task_struct", "pid")?,
        task_signal: at("task_struct", "signal")?,
        signal_live: at("signal_struct", "live")?,
        files_fdt: at("files_struct", "fdt")?,
        fdtable_max_fds: at("fdtable", "max_fds")?,
        fdtable_fd: at("fdtable", "fd")?,
        file_private_data: at("file", "private_data")?,
        file_inode: at("file", "f_inode")?,
        file_count: file_ref.map_or_else(|| at("file", "f_count"), Ok)?,
        file_count_single: u32::from(file_ref.is_none()),
        inode_mode: at("inode", "i_mode")?,
        inode_ino: at("inode", "i_ino")?,
        inode_sb: at("inode", "i_sb")?,
        super_block_dev: at("super_block", "s_dev")?,
        socket_file: at("socket", "file")?,
        socket_ino: at("socket_alloc", "vfs_inode")? + at("inode", "i_ino")?,
        sock_family: at("sock_common", "skc_family")?,
        sock_state: at("sock_common", "skc_state")?,
        inet_sport: at("inet_sock", "inet_sport")?,
        sock_dport: at("sock_common", "skc_dport")?,
        sock_daddr: at("sock_common", "skc_daddr")?,
        sock_rcv_saddr: at("sock_common", "skc_rcv_saddr")?,
        sock_v6_daddr: at("sock_common", "skc_v6_daddr")?,
        sock_v6_rcv_saddr: at("sock_common", "skc_v6_rcv_saddr")?,
        sock_type: at("sock", "sk_type")?,
        sock_protocol: at("sock", "sk_protocol")?,
        tcp_copied_seq: at("tcp_sock", "copied_seq")?,
        tcp_write_seq: at("tcp_sock", "write_seq")?,
        tcp_rcv_nxt: at("tcp_sock", "rcv_nxt")?,
        tcp_bytes_received: at("tcp_sock", "bytes_received")?,
        tcp_snd_una: at("tcp_sock", "snd_una")?,
        tcp_bytes_acked: at("tcp_sock", "bytes_acked")?,
        unix_addr: at("unix_sock", "addr")?,
        unix_peer: at("unix_sock", "peer")?,
        unix_address_len: at("unix_address", "len")?,
        unix_address_name: at("unix_address", "name")?,
        mm_env_start: at("mm_struct", "env_start")?,
        mm_env_end: at("mm_struct", "env_end")?,
        mm_exe_file: at("mm_struct", "exe_file")?,
    })
}

/// Offset in bytes of a member, looked for in unnamed structs and unions inside, too.
fn offset(btf: &Btf, structure: &str, member: &str) -> Result<Option<u32>> {
    let types = btf
        .resolve_types_by_name(structure)
        .with_context(|| format!("BTF has no struct {structure}"))?;
    for candidate in types {
        if let Type::Struct(found) = candidate
            && let Some(bits) = bit_offset(btf, &found, member, 0)?
        {
            if bits % 8 != 0 {
                bail!("struct {structure}: {member} is a bit field");
            }
            return Ok(Some(bits / 8));
        }
    }
    Ok(None)
}

/// No kernel nests unnamed members deeper.
const MAX_DEPTH: u32 = 8;

fn bit_offset(btf: &Btf, structure: &btf_rs::Struct, member: &str, depth: u32) -> Result<Option<u32>> {
    for candidate in &structure.members {
        let name = btf.resolve_name(candidate).unwrap_or_default();
        if name == member {
            return Ok(Some(candidate.bit_offset()));
        }
        if name.is_empty()
            && depth < MAX_DEPTH
            && let Type::Struct(inner) | Type::Union(inner) = btf.resolve_chained_type(candidate)?
            && let Some(bits) = bit_offset(btf, &inner, member, depth + 1)?
        {
            return Ok(Some(candidate.bit_offset() + bits));
        }
    }
    Ok(None)
}

/// Whether `bpf_get_current_task_btf` is there (bpf-helpers(7): Linux 5.11).
pub fn kernel_has_typed_pointers() -> bool {
    procfs::sys::kernel::Version::current().is_ok_and(|version| (version.major, version.minor) >= (5, 11))
}
