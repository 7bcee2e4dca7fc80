//! A Redis server of the tests' own.

use crate::client::output;
use crate::process::{Process, free_port};
use crate::{Totals, tools};
use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running server.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    folder: tempfile::TempDir,
    port: u16,
}

/// Bytes of a server's clients.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// All that the server has read and written so far, without the answer to this question.
    pub total: u64,
    /// Of this question.
    pub question: u64,
    /// Of its answer.
    pub answer: u64,
}

impl Redis {
    /// Starts one with `environment` besides.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(folder: &Path, environment: &[(&str, &str)]) -> Result<Redis> {
        let port = free_port()?;
        // A path of a socket has at most 107 bytes (unix(7)).
        let sockets = tempfile::tempdir()?;
        let mut command = Command::new(tools::find("redis-server").context("Redis is not installed")?);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--unixsocket"]);
        command.arg(sockets.path().join("redis.sock"));
        command.envs(environment.iter().copied());
        let mut process = Process::spawn("redis", &mut command, folder, false)?;
        process.wait_for_log("Ready to accept connections")?;
        Ok(Redis {
            process,
            folder: sockets,
            port,
        })
    }

    /// Its port on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// redis-benchmark with each of `commands` as often as `each` says, `depth` of them at a time. What it sends.
    ///
    /// # Errors
    /// Where it fails.
    pub fn benchmark(
        &self,
        depth: u64,
        each: u64,
        commands: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Totals> {
        let mut benchmark =
            Command::new(tools::find("redis-benchmark").context("redis-benchmark is not installed")?);
        benchmark.args(["-q", "-p", &self.port.to_string(), "-n", &each.to_string()]);
        benchmark.args(["-P", &depth.to_string(), "-t", &commands.join(",").to_lowercase()]);
        output(benchmark.envs(environment.iter().copied()))?;
        let mut counts: Totals = commands
            .iter()
            .map(|command| ((*command).to_owned(), each))
            .collect();
        // It asks for `save` and `appendonly` first.
        counts.insert("CONFIG GET".to_owned(), 2);
        Ok(counts)
    }

    /// Bytes read and written, by the server's own count (`INFO stats`).
    ///
    /// # Errors
    /// Where the server does not tell.
    pub fn traffic(&self) -> Result<Traffic> {
        const QUESTION: &[u8] = b"*2\r\n$4\r\nINFO\r\n$5\r\nstats\r\n";
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(QUESTION)?;
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        reader.read_line(&mut head)?;
        let length: usize = head.trim_start_matches('$').trim_end().parse()?;
        let mut text = vec![0; length + 2];
        reader.read_exact(&mut text)?;
        let text = String::from_utf8(text)?;
        let number = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            Ok(line.with_context(|| format!("no {name} in {text}"))?.parse()?)
        };
        Ok(Traffic {
            total: number("total_net_input_bytes:")? + number("total_net_output_bytes:")?,
            question: QUESTION.len() as u64,
            answer: (head.len() + text.len()) as u64,
        })
    }

    /// Calls by command, by the server's own count (`INFO commandstats`), without this question.
    ///
    /// # Errors
    /// Where the server does not tell.
    pub fn statistics(&self) -> Result<Totals> {
        let mut cli = Command::new(tools::find("redis-cli").context("redis-cli is not installed")?);
        let text = output(cli.args(["-p", &self.port.to_string(), "info", "commandstats"]))?;
        let mut totals = Totals::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("cmdstat_")) {
            let (name, rest) = line.split_once(":calls=").context("a name and its calls")?;
            let calls: u64 = rest.split(',').next().context("a number")?.parse()?;
            // `config|get`, and commands that were refused before they counted as calls.
            let rejected = rest.split("rejected_calls=").nth(1).context("refused calls")?;
            let rejected: u64 = rejected.split(',').next().context("a number")?.trim().parse()?;
            totals.insert(name.to_uppercase().replace('|', " "), calls + rejected);
        }
        Ok(totals)
    }
}
