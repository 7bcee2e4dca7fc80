//! Offsets of kernel struct members and what else differs between kernels, from the running kernel's BTF.

use anyhow::{Context as _, Result, anyhow, bail};
use btf_rs::{Backend, Btf, Type};
use redwire_common::Offsets;
use std::fs::File;
use std::io::{self, BufRead as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::path::Path;

/// Where the kernel shows its BTF (`CONFIG_DEBUG_INFO_BTF`).
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What of kernel types the kernel programs have to know.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Of members.
    pub offsets: Offsets,
    /// Arguments of `tcp_recvmsg`: see `Settings::recvmsg_arguments`.
    pub recvmsg_arguments: u32,
    /// What of an iterator's type tells its kind.
    pub iter_mask: u32,
    /// `ITER_UBUF`, `ITER_IOVEC` and `ITER_BVEC`, where the kernel has them.
    pub iter_kinds: [Option<u32>; 3],
    /// Size of `struct page`, in bytes.
    pub page_struct: u32,
    /// Those of the functions asked for that the kernel has.
    pub functions: Vec<&'static str>,
}

/// Reads the layout from the BTF at `path`.
///
/// # Errors
/// Where there is no BTF, or a member is not where any supported kernel has it.
pub fn read(path: &Path, functions: &[&'static str]) -> Result<Layout> {
    let btf = open(path)?;
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
    // Linux 5.14 gave the kind a member of its own, and 6.4 another name to the vector.
    let split = offset(&btf, "iov_iter", "iter_type")?;
    let either = |first: &str, second: &str| -> Result<u32> {
        offset(&btf, "iov_iter", first)?.map_or_else(|| at("iov_iter", second), Ok)
    };
    let kind = |name| enumerator(&btf, "iter_type", name);
    let offsets = Offsets {
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
        sock_socket: at("sock", "sk_socket")?,
        socket_sk: at("socket", "sk")?,
        msghdr_msg_iter: at("msghdr", "msg_iter")?,
        iov_iter_type: split.map_or_else(|| at("iov_iter", "type"), Ok)?,
        iov_iter_iov_offset: at("iov_iter", "iov_offset")?,
        iov_iter_iov: either("__iov", "iov")?,
    };
    Ok(Layout {
        offsets,
        recvmsg_arguments: recvmsg_arguments(&btf, path)?,
        // Before, the lowest bit was the direction.
        iter_mask: if split.is_some() { 0xff } else { 0xfe },
        iter_kinds: [kind("ITER_UBUF")?, kind("ITER_IOVEC")?, kind("ITER_BVEC")?],
        page_struct: size(&btf, "page")?,
        functions: functions
            .iter()
            .copied()
            .filter(|name| parameters(&btf, name).is_ok_and(|found| found.is_some()))
            .collect(),
    })
}

fn open(path: &Path) -> Result<Btf> {
    let copied = copy(path).with_context(|| {
        format!(
            "{}: no BTF of this kernel; Redwire needs a kernel built with CONFIG_DEBUG_INFO_BTF=y (distribution \
             kernels since about 5.10 are), or a file with its BTF by --btf",
            path.display()
        )
    })?;
    let copy = format!("/proc/self/fd/{}", copied.as_raw_fd());
    Btf::from_file_with_backend(copy, Backend::Mmap)
        .map_err(|error| anyhow!("{}: this is no BTF of a kernel: {error}", path.display()))
}

/// A copy in memory: kernels before about 6.15 let their BTF be read, and refuse to map it.
fn copy(path: &Path) -> io::Result<File> {
    let mut from = File::open(path)?;
    // SAFETY: a name that ends with a zero byte; the result is checked.
    let fd = unsafe { libc::memfd_create(c"btf".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else has.
    let mut to = unsafe { File::from_raw_fd(fd) };
    io::copy(&mut from, &mut to)?;
    Ok(to)
}

/// The value of an enumerator; `None` where the kernel has none of that name.
fn enumerator(btf: &Btf, name: &str, member: &str) -> Result<Option<u32>> {
    for found in btf.resolve_types_by_name(name).unwrap_or_default() {
        let Type::Enum(found) = found else { continue };
        for candidate in &found.members {
            if btf.resolve_name(candidate)? == member {
                return Ok(Some(candidate.val()));
            }
        }
    }
    Ok(None)
}

/// Size in bytes of a struct.
fn size(btf: &Btf, name: &str) -> Result<u32> {
    let types = btf.resolve_types_by_name(name).unwrap_or_default();
    types
        .iter()
        .find_map(|found| match found {
            Type::Struct(found) => u32::try_from(found.size()).ok(),
            _ => None,
        })
        .with_context(|| format!("BTF has no struct {name}"))
}

/// How many arguments `tcp_recvmsg` has: its name does not tell which, so that a number that is not known is refused.
fn recvmsg_arguments(btf: &Btf, path: &Path) -> Result<u32> {
    match parameters(btf, "tcp_recvmsg")?.map(|names| names.len()) {
        Some(n @ 4..=6) => Ok(n as u32),
        other => bail!(
            "{}: tcp_recvmsg has {other:?} arguments; this kernel is not supported yet",
            path.display()
        ),
    }
}

/// Names of a function's parameters; `None` where the kernel has no such function.
fn parameters(btf: &Btf, name: &str) -> Result<Option<Vec<String>>> {
    for found in btf.resolve_types_by_name(name).unwrap_or_default() {
        let Type::Func(function) = found else { continue };
        if let Type::FuncProto(prototype) = btf.resolve_chained_type(&function)? {
            let names = prototype
                .parameters
                .iter()
                .map(|parameter| btf.resolve_name(parameter).unwrap_or_default());
            return Ok(Some(names.collect()));
        }
    }
    Ok(None)
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

/// Addresses of kernel variables; 0 where the kernel has none of that name, or does not tell (`kptr_restrict`,
/// CAP_SYSLOG).
pub(super) fn symbols<const N: usize>(names: [&str; N]) -> [u64; N] {
    let mut found = [0; N];
    let Ok(file) = File::open("/proc/kallsyms") else {
        return found;
    };
    for line in io::BufReader::new(file)
        .lines()
        .map_while(std::result::Result::ok)
    {
        let mut words = line.split_ascii_whitespace();
        let (Some(address), _, Some(name)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if let Some(place) = names.iter().position(|wanted| *wanted == name) {
            found[place] = u64::from_str_radix(address, 16).unwrap_or(0);
        }
    }
    found
}
