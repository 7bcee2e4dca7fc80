//! Processes that end with their guard.

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to start or to stop: `REDWIRE_PATIENCE` in seconds (an emulated machine is slow), by
/// default 20.
pub fn patience() -> Duration {
    let seconds = std::env::var("REDWIRE_PATIENCE").ok();
    Duration::from_secs(seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(20))
}

/// A running program in a process group of its own, whose output goes to a file. The group is stopped when the
/// guard is dropped, and its leader when the thread that started it dies.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; `name` names its log in `folder`. Standard output goes there as well unless `command`
    /// has it piped: then set `piped`.
    ///
    /// # Errors
    /// Where the program cannot be started.
    pub fn spawn(name: &str, command: &mut Command, folder: &Path, piped: bool) -> Result<Process> {
        std::fs::create_dir_all(folder)?;
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stderr(file.try_clone()?)
            .process_group(0);
        command.stdout(if piped { Stdio::piped() } else { file.into() });
        // SAFETY: between fork and exec nothing but one prctl is called.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
        }
        let child = command
            .spawn()
            .with_context(|| format!("starting {name} ({command:?})"))?;
        Ok(Process {
            child,
            name: name.to_owned(),
            log,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// File of what it wrote.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Its standard output, where that is piped and was not taken yet.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to its group.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // A group that is gone already needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// Where it runs longer than `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {patience:?}\n{}", self.name, self.tail());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end (SIGTERM), and waits for that.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait(patience())
    }

    /// Waits until something listens on `port` of the loopback address.
    ///
    /// # Errors
    /// Where the process ends first, or nothing listens in time.
    pub fn wait_for_port(&mut self, port: u16) -> Result<()> {
        self.wait_until("listens", |_| {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        })
    }

    /// Waits until it wrote `text`.
    ///
    /// # Errors
    /// Where the process ends first, or does not write it in time.
    pub fn wait_for_log(&mut self, text: &str) -> Result<()> {
        self.wait_until(&format!("says '{text}'"), |process| process.log().contains(text))
    }

    fn wait_until(&mut self, what: &str, done: impl Fn(&Process) -> bool) -> Result<()> {
        let patience = patience();
        let deadline = Instant::now() + patience;
        while !done(self) {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before it {what}\n{}", self.name, self.tail());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} runs for {patience:?} before it {what}\n{}",
                    self.name,
                    self.tail()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The last lines it wrote, for an error message.
    pub fn tail(&self) -> String {
        const LINES: usize = 15;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() && self.terminate().is_err() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
        // What the leader left of its group.
        self.signal(Signal::KILL);
    }
}

/// A TCP port that is free at the moment.
///
/// # Errors
/// Where there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
