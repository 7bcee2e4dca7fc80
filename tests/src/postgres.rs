//! A PostgreSQL server of the tests' own.

use crate::client::output;
use crate::process::{Process, free_port};
use crate::{Totals, tools};
use anyhow::{Context as _, Result, ensure};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Statements that make the tables of the tests.
const TABLES: &[&str] = &[
    "CREATE TABLE bench AS SELECT id, 0 AS balance FROM generate_series(1, 1000) AS id",
    "CREATE INDEX ON bench (id)",
    "CREATE TABLE history (id int)",
];

/// A running server, with a database `postgres` that everybody may use as `postgres`.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    programs: PathBuf,
    sockets: tempfile::TempDir,
    port: u16,
}

/// The newest version that is installed.
fn programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
    let mut programs: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    programs.sort();
    programs.pop().context("PostgreSQL is not installed")
}

/// `program` as the user of that name: PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    command.arg(program);
    command
}

/// Puts a key and its certificate where the server of `owner` looks for them.
fn certificate(data: &Path, owner: u32) -> Result<()> {
    let (key, certificate) = (data.join("server.key"), data.join("server.crt"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=localhost", "-keyout"]).arg(&key);
    output(openssl.arg("-out").arg(&certificate))?;
    for path in [&key, &certificate] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        chown(path, Some(owner), None)?;
    }
    Ok(())
}

impl Postgres {
    /// Starts one with `environment` besides.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(folder: &Path, environment: &[(&str, &str)]) -> Result<Postgres> {
        Postgres::launch(folder, environment, false)
    }

    /// Starts one that takes encrypted connections too, with a certificate of its own.
    ///
    /// # Errors
    /// Where it does not start, or openssl is not installed.
    pub fn start_encrypting(folder: &Path, environment: &[(&str, &str)]) -> Result<Postgres> {
        Postgres::launch(folder, environment, true)
    }

    fn launch(folder: &Path, environment: &[(&str, &str)], encrypting: bool) -> Result<Postgres> {
        let programs = programs()?;
        let port = free_port()?;
        // Not in the workspace, which another user need not be able to read.
        let sockets = tempfile::tempdir()?;
        let data = sockets.path().join("data");
        std::fs::create_dir(&data)?;
        std::fs::set_permissions(sockets.path(), std::fs::Permissions::from_mode(0o755))?;
        let owner: u32 = output(Command::new("id").args(["-u", "postgres"]))?
            .trim()
            .parse()?;
        for path in [sockets.path(), &data] {
            chown(path, Some(owner), None)?;
        }
        let mut init = as_postgres(&programs.join("initdb"));
        init.args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
            "-D",
        ]);
        output(init.arg(&data))?;
        if encrypting {
            certificate(&data, owner)?;
        }
        let mut command = as_postgres(&programs.join("postgres"));
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "autovacuum=off",
            "max_connections=200",
            "shared_preload_libraries=pg_stat_statements",
            if encrypting { "ssl=on" } else { "ssl=off" },
            &format!("unix_socket_directories={}", sockets.path().display()),
        ] {
            command.args(["-c", setting]);
        }
        command.envs(environment.iter().copied());
        let mut process = Process::spawn("postgres", &mut command, folder, false)?;
        process.wait_for_log("database system is ready to accept connections")?;
        let postgres = Postgres {
            process,
            programs,
            sockets,
            port,
        };
        postgres.sql("create extension pg_stat_statements")?;
        Ok(postgres)
    }

    /// Its port on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id, of which all others of it are children.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Folder of its unix socket.
    pub fn sockets(&self) -> &Path {
        self.sockets.path()
    }

    /// A program of PostgreSQL that will connect to this server, unencrypted, by TCP.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        self.connect(&mut command);
        command
    }

    /// Tells a client where the server is, by the variables of libpq.
    pub fn connect(&self, command: &mut Command) {
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
            .env("PGSSLMODE", "disable")
            .env("PGGSSENCMODE", "disable");
    }

    /// Runs a statement. Its rows, unaligned.
    ///
    /// # Errors
    /// Where the server refuses it.
    pub fn sql(&self, statement: &str) -> Result<String> {
        let mut psql = self.program("psql");
        output(psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement]))
    }

    /// Makes the tables of the tests, by psql. What the server was asked so far: the extension, and these.
    ///
    /// # Errors
    /// Where the server refuses one.
    pub fn tables(&self) -> Result<Totals> {
        for statement in TABLES {
            self.sql(statement)?;
        }
        Ok(Totals::from([("CREATE".to_owned(), 1 + TABLES.len() as u64)]))
    }

    /// pgbench with 4 connections, each with `each` transactions of `script`, whose statements are `operations`, in
    /// a `mode` of the protocol. What it counts.
    ///
    /// # Errors
    /// Where it fails, or does not do all.
    pub fn pgbench(
        &self,
        mode: &str,
        script: &str,
        each: u64,
        operations: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Totals> {
        const CLIENTS: u64 = 4;
        let mut pgbench = self.program("pgbench");
        pgbench.args(["-n", "-M", mode, "-t", &each.to_string()]);
        pgbench.args(["-c", &CLIENTS.to_string(), "-f"]);
        pgbench.arg(tools::programs().join(format!("postgres/{script}.sql")));
        let text = output(pgbench.envs(environment.iter().copied()))?;
        let processed = format!("actually processed: {0}/{0}", each * CLIENTS);
        ensure!(text.contains(&processed), "{text}");
        let mut counts = Totals::new();
        for operation in operations {
            *counts.entry((*operation).to_owned()).or_default() += each * CLIENTS;
            if mode == "prepared" {
                *counts.entry("PREPARE".to_owned()).or_default() += CLIENTS;
            }
        }
        Ok(counts)
    }

    /// Has `user` send a password in clear.
    ///
    /// # Errors
    /// Where the server does not take its new rules.
    pub fn require_password(&self, user: &str) -> Result<()> {
        let path = self.sockets.path().join("data/pg_hba.conf");
        let rules = std::fs::read_to_string(&path)?;
        std::fs::write(&path, format!("host all {user} 127.0.0.1/32 password\n{rules}"))?;
        self.sql("SELECT pg_reload_conf()").map(drop)
    }

    /// Calls by first keyword, by the server's own count (pg_stat_statements) since it started.
    ///
    /// # Errors
    /// Where the server does not tell.
    pub fn statistics(&self) -> Result<Totals> {
        let text = self.sql(
            "select upper(substring(query from '[A-Za-z]+')), sum(calls) from pg_stat_statements group by 1",
        )?;
        text.lines()
            .map(|line| {
                let (name, calls) = line.split_once('|').context("two columns")?;
                Ok((name.to_owned(), calls.parse()?))
            })
            .collect()
    }
}
