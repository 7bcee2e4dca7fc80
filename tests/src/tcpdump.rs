//! A capture of what crosses a port of the loopback interface while a test runs.

use crate::process::Process;
use crate::tools;
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long the last packets may be on their way to the file: the kernel gives libpcap a block of its ring when it is
/// full, or after a second.
const LAST_PACKETS: Duration = Duration::from_millis(1_200);

/// A running tcpdump.
#[derive(Debug)]
pub struct Tcpdump {
    process: Process,
    file: PathBuf,
}

impl Tcpdump {
    /// Captures `port` into a file in `folder`, whole packets.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(folder: &Path, port: u16) -> Result<Tcpdump> {
        let file = folder.join("traffic.pcap");
        let mut command = Command::new(tools::find("tcpdump").context("tcpdump is not installed")?);
        command.args([
            "-i",
            "lo",
            "--immediate-mode",
            "-U",
            "-s",
            "65600",
            "-B",
            "262144",
        ]);
        command.args(["-Z", "root", "-w"]).arg(&file);
        command.args(["tcp", "port", &port.to_string()]);
        let mut process = Process::spawn("tcpdump", &mut command, folder, false)?;
        process.wait_for_log("listening on")?;
        Ok(Tcpdump { process, file })
    }

    /// Stops it. The capture.
    ///
    /// # Errors
    /// Where it does not end, or some packets are not in the file.
    pub fn finish(mut self) -> Result<PathBuf> {
        std::thread::sleep(LAST_PACKETS);
        self.process.terminate()?;
        let said = self.process.log();
        ensure!(
            said.lines().any(|line| line == "0 packets dropped by kernel"),
            "tcpdump: {said}"
        );
        Ok(self.file)
    }
}
