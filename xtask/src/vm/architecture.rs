//! What differs by the machine's architecture.

/// An architecture that a machine is emulated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Architecture {
    /// x86-64
    Amd64,
    /// aarch64
    Arm64,
}

impl Architecture {
    /// This host's.
    pub(crate) fn host() -> Architecture {
        if cfg!(target_arch = "aarch64") {
            Architecture::Arm64
        } else {
            Architecture::Amd64
        }
    }

    /// Debian's name.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }

    /// The emulator, and what it needs to be told.
    pub(crate) fn qemu(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Architecture::Amd64 => ("qemu-system-x86_64", &["-machine", "pc"]),
            Architecture::Arm64 => ("qemu-system-aarch64", &["-machine", "virt"]),
        }
    }

    /// The kernel's console, which is the emulator's first serial line.
    pub(crate) fn console(self) -> &'static str {
        match self {
            Architecture::Amd64 => "ttyS0",
            Architecture::Arm64 => "ttyAMA0",
        }
    }
}
