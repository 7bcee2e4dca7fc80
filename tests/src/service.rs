//! The test services: one small HTTP API, several servers.

use crate::process::{Process, free_port};
use crate::{Counts, tools};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// FastAPI under uvicorn.
    FastApi,
    /// Python's `http.server`.
    Stdlib,
    /// Node's `http`.
    Node,
    /// Go's `net/http`.
    Go,
    /// nginx, with static files of its own; the rest comes from the server at this port.
    Nginx(u16),
}

/// Sizes that nginx has under `/bytes/`, as files.
const STATIC_SIZES: &[usize] = &[0, 100, 1_000, 100_000, LARGE];

/// A body of 100 MB.
pub const LARGE: usize = 100_000_000;

/// A running service.
#[derive(Debug)]
pub struct Service {
    process: Process,
    server: Server,
    folder: PathBuf,
    port: u16,
}

impl Service {
    /// Starts one called `name`, with `environment` besides; its files go to `folder`.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(server: Server, name: &str, folder: &Path, environment: &[(&str, &str)]) -> Result<Service> {
        let port = free_port()?;
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let programs = tools::programs();
        let mut command = match server {
            Server::FastApi => {
                let mut command = Command::new(tools::python());
                command.args([
                    "-m",
                    "uvicorn",
                    "fastapi_app:app",
                    "--host",
                    "127.0.0.1",
                    "--log-level",
                    "warning",
                ]);
                command.args([
                    "--no-access-log",
                    "--backlog",
                    "1024",
                    "--port",
                    &port.to_string(),
                ]);
                command.current_dir(programs.join("python"));
                command
            }
            Server::Stdlib => {
                let mut command = Command::new(tools::python());
                command
                    .arg(programs.join("python/stdlib_server.py"))
                    .arg(port.to_string());
                command
            }
            Server::Node => {
                let mut command = Command::new("node");
                command
                    .arg(programs.join("node/server.mjs"))
                    .arg(port.to_string());
                command
            }
            Server::Go => {
                let mut command = Command::new(tools::go_programs().join("server"));
                command.arg(port.to_string());
                command
            }
            Server::Nginx(upstream) => nginx(&folder, port, upstream)?,
        };
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(environment.iter().copied());
        let mut process = Process::spawn("server", &mut command, &folder, false)?;
        process.wait_for_port(port)?;
        Ok(Service {
            process,
            server,
            folder,
            port,
        })
    }

    /// Starts one that is selected by its environment, as `name`.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn selected(server: Server, name: &str, folder: &Path) -> Result<Service> {
        Service::start(server, name, folder, &selected_as(name))
    }

    /// `http://address:port`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id; for nginx that of the master process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Responses it gave, by its own count. The question for it is a request, too: ask when the agent has stopped.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn counts(&self) -> Result<Counts> {
        if let Server::Nginx(_) = self.server {
            let mut counts = Counts::new();
            for line in std::fs::read_to_string(self.folder.join("access.log"))?.lines() {
                *counts.entry(line.parse()?).or_default() += 1;
            }
            return Ok(counts);
        }
        self.ask("/counts")
    }

    /// Durations of its answers to `/delay`, in nanoseconds, in their order.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn durations(&self) -> Result<Vec<u64>> {
        self.ask("/durations")
    }

    fn ask<T: for<'a> serde::Deserialize<'a>>(&self, path: &str) -> Result<T> {
        let url = format!("{}{path}", self.url());
        let output = Command::new("curl")
            .args(["-sSf", "--noproxy", "*", &url])
            .output()?;
        if !output.status.success() {
            bail!("{url}: {}", String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).with_context(|| url)
    }
}

/// The environment that selects a process, and names it.
pub fn selected_as(name: &str) -> [(&str, &str); 2] {
    [("REDWIRE_ENABLE", "true"), ("REDWIRE_SERVICE_NAME", name)]
}

fn nginx(folder: &Path, port: u16, upstream: u16) -> Result<Command> {
    let files = folder.join("static/bytes");
    std::fs::create_dir_all(&files)?;
    for size in STATIC_SIZES {
        // Sparse: its size is all that counts.
        std::fs::File::create(files.join(size.to_string()))?.set_len(*size as u64)?;
    }
    let names = BTreeMap::from([
        ("@FOLDER@", folder.display().to_string()),
        ("@PORT@", port.to_string()),
        ("@UPSTREAM@", upstream.to_string()),
    ]);
    let mut config = std::fs::read_to_string(tools::programs().join("nginx/nginx.conf"))?;
    for (name, value) in names {
        config = config.replace(name, &value);
    }
    let path = folder.join("nginx.conf");
    std::fs::write(&path, config)?;
    let mut command = Command::new(tools::find("nginx").context("nginx is not installed")?);
    command.arg("-p").arg(folder).arg("-c").arg(path);
    Ok(command)
}
