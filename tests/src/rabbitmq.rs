//! RabbitMQ, on free ports, with its files in the test's folder.

use crate::process::{Process, free_port};
use crate::tools;
use anyhow::{Context as _, Result, bail};
use rustix::fs::{Mode, chmod};
use rustix::process::Signal;
use serde::Deserialize;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Password of the user `guest`, which must be in no output.
pub const PASSWORD: &str = "planted-password-93c5d8";

/// Debian's folder of the server's own scripts; the ones on `PATH` change the user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// A running broker with its management API.
#[derive(Debug)]
pub struct RabbitMq {
    server: Process,
    // Erlang's name service: started first and ended last, since one that the broker starts would outlive it.
    _epmd: Process,
    port: u16,
    management: u16,
}

/// What the broker counted.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Statistics {
    /// Messages published to an exchange that exists.
    pub publish: u64,
    /// Messages confirmed.
    pub confirm: u64,
    /// Messages returned.
    pub return_unroutable: u64,
    /// Deliveries that are to be acknowledged.
    pub deliver: u64,
    /// Deliveries with automatic acknowledgement.
    pub deliver_no_ack: u64,
    /// Acknowledged messages.
    pub ack: u64,
    /// Messages fetched by basic.get that are to be acknowledged.
    pub get: u64,
    /// Messages fetched by basic.get with automatic acknowledgement.
    pub get_no_ack: u64,
    /// basic.get from an empty queue.
    pub get_empty: u64,
}

impl RabbitMq {
    /// Starts it, with `environment` besides; its files go to `folder`.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(folder: &Path, environment: &[(&str, &str)]) -> Result<RabbitMq> {
        let folder = folder.join("rabbitmq");
        std::fs::create_dir_all(&folder)?;
        // The server runs as another user.
        chmod(&folder, Mode::from_raw_mode(0o777))?;
        let (port, management, names, distribution) =
            (free_port()?, free_port()?, free_port()?, free_port()?);
        let epmd = tools::find("epmd").context("Erlang is not installed")?;
        let mut epmd = Process::spawn(
            "epmd",
            Command::new(epmd).args(["-address", "127.0.0.1", "-port", &names.to_string()]),
            &folder,
            false,
        )?;
        epmd.wait_for_port(names)?;
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
             default_pass = {PASSWORD}\n"
        );
        std::fs::write(folder.join("rabbitmq.conf"), config)?;
        std::fs::write(folder.join("plugins"), "[rabbitmq_management].\n")?;
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            "rabbitmq",
            "--regid",
            "rabbitmq",
            "--init-groups",
            SERVER,
        ]);
        command
            .env("HOME", &folder)
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_NODENAME", format!("redwire{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", names.to_string())
            .envs(environment.iter().copied());
        let mut server = Process::spawn("rabbitmq", &mut command, &folder, false)?;
        // Where two cores are busy it takes longer than other servers.
        server
            .wait_for_port(port)
            .or_else(|_| server.wait_for_port(port))?;
        Ok(RabbitMq {
            server,
            _epmd: epmd,
            port,
            management,
        })
    }

    /// Port of AMQP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it where it is, and waits until that is so: what comes waits in its sockets.
    ///
    /// # Errors
    /// Where it does not stop.
    pub fn pause(&self) -> Result<()> {
        self.server.signal(Signal::STOP);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !stopped(self.server.pid())? {
            if Instant::now() > deadline {
                bail!("the broker does not stop");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Lets it go on after [`RabbitMq::pause`].
    pub fn resume(&self) {
        self.server.signal(Signal::CONT);
    }

    /// Its own counters since it started. They lag by its statistics interval of 5 s.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn statistics(&self) -> Result<Statistics> {
        #[derive(Deserialize)]
        struct Overview {
            #[serde(default)]
            message_stats: Statistics,
        }
        let url = format!("http://127.0.0.1:{}/api/overview", self.management);
        let user = format!("guest:{PASSWORD}");
        let output = Command::new("curl")
            .args(["-qsSf", "--noproxy", "*", "-u", &user, &url])
            .output()?;
        if !output.status.success() {
            bail!("{url}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let overview: Overview = serde_json::from_slice(&output.stdout)?;
        Ok(overview.message_stats)
    }
}

/// Whether all threads of a process group are stopped.
fn stopped(group: u32) -> Result<bool> {
    // State and group follow the name in parentheses (proc(5)).
    let state_and_group = |path: &Path| {
        let stat = std::fs::read_to_string(path).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.to_owned();
        Some((state, fields.nth(1)?.parse::<u32>().ok()?))
    };
    for process in std::fs::read_dir("/proc")? {
        let process = process?.path();
        if !matches!(state_and_group(&process.join("stat")), Some((_, found)) if found == group) {
            continue;
        }
        let threads = std::fs::read_dir(process.join("task")).into_iter().flatten();
        for thread in threads.flatten() {
            if matches!(state_and_group(&thread.path().join("stat")), Some((state, _)) if state != "T") {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
