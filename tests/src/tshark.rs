//! What tshark dissects in a capture: an independent witness of what crossed the wire.

use crate::{Totals, tools};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The values of `fields` in each packet that `protocol` is in, its messages on `port` taken for that. A field that
/// occurs more than once has its values in the order of the packet.
///
/// # Errors
/// Where tshark is not installed or fails.
pub fn fields(capture: &Path, port: u16, protocol: &str, fields: &[&str]) -> Result<Vec<Vec<Vec<String>>>> {
    let mut command = Command::new(tools::find("tshark").context("tshark is not installed")?);
    command.args([
        "-n",
        "-d",
        &format!("tcp.port=={port},{protocol}"),
        "-Y",
        protocol,
    ]);
    command.args(["-T", "fields", "-E", "separator=/t", "-E", "aggregator=,"]);
    command.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = command.arg("-r").arg(capture).output()?;
    ensure!(
        output.status.success(),
        "tshark: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let values = |field: &str| field.split(',').map(str::to_owned).collect();
    let packet = |line: &str| line.split('\t').map(values).collect();
    Ok(text.lines().map(packet).collect())
}

/// One side's messages on a PostgreSQL connection, up to each that ends a group.
#[derive(Debug, Default)]
struct Groups {
    ended: Vec<(Vec<String>, String)>,
    open: Vec<String>,
}

impl Groups {
    fn take(&mut self, message: String, ends: bool) {
        if ends {
            self.ended.push((std::mem::take(&mut self.open), message));
        } else {
            self.open.push(message);
        }
    }
}

/// Statements on a PostgreSQL `port` by what became of them: the first word of their command tag, `error` and SQLSTATE,
/// or `aborted`; `PREPARE` for a Parse with a name without a Bind of it. And the rows that the server sent.
///
/// The server answers every simple query and every Sync with one ReadyForQuery (manual, section "Message Flow"): so
/// the answers are known to each.
///
/// # Errors
/// Where tshark fails, or finds what does not go together.
pub fn postgres(capture: &Path, port: u16) -> Result<(Totals, u64)> {
    const FIELDS: &[&str] = &[
        "tcp.stream",
        "pgsql.frontend",
        "pgsql.type",
        "pgsql.tag",
        "pgsql.code",
        "pgsql.statement",
    ];
    let mut totals = Totals::new();
    let mut count = |what: &str, n: u64| *totals.entry(what.to_owned()).or_default() += n;
    let mut connections: BTreeMap<String, [Groups; 2]> = BTreeMap::new();
    let mut rows = 0;
    for packet in fields(capture, port, "pgsql", FIELDS)? {
        let [stream, frontend, types, tags, codes, statements] = &packet[..] else {
            anyhow::bail!("{packet:?}");
        };
        let of_kind = |kind: &str| types.iter().filter(|name| *name == kind).count();
        let [client, server] = connections.entry(stream.concat()).or_default();
        if frontend[0] == "1" {
            // Which of the names are of a Parse: Describe and Close may have one of a portal instead.
            let (parses, binds) = (of_kind("Parse"), of_kind("Bind"));
            let others = of_kind("Describe") + of_kind("Close");
            ensure!(
                parses == 0 || [parses + binds, parses + binds + others].contains(&statements.len()),
                "{packet:?}"
            );
            let all_have = statements.len() > parses + binds;
            let mut names = statements.iter();
            for kind in types {
                let named = match kind.as_str() {
                    "Parse" | "Bind" => names.next(),
                    "Describe" | "Close" if all_have => names.next(),
                    _ => None,
                };
                // One that a Bind of the same batch runs is part of that.
                let runs = |name: &&String| binds > 0 && names.clone().any(|other| other == *name);
                if kind == "Parse" && named.is_some_and(|name| !name.is_empty() && !runs(&name)) {
                    count("PREPARE", 1);
                }
                let ends = matches!(kind.as_str(), "Startup message" | "Simple query" | "Sync");
                client.take(kind.clone(), ends);
            }
        } else {
            let (mut tags, mut codes) = (tags.iter(), codes.iter());
            for kind in types {
                match kind.as_str() {
                    "Ready for query" => server.take(String::new(), true),
                    "Command completion" => {
                        let tag = tags.next().context("a completion without tag")?;
                        let verb = tag.split(' ').next().unwrap_or_default();
                        server.take(verb.to_owned(), false);
                    }
                    "Error" => {
                        let code = codes.next().context("an error without code")?;
                        server.take(format!("error {code}"), false);
                    }
                    "Notice" => _ = codes.next(),
                    "Data row" => rows += 1,
                    _ => {}
                }
            }
        }
    }
    for (stream, [client, server]) in connections {
        ensure!(
            client.ended.len() == server.ended.len(),
            "stream {stream}: {} groups, {} answers",
            client.ended.len(),
            server.ended.len()
        );
        for ((asked, end), (answers, _)) in client.ended.into_iter().zip(server.ended) {
            for answer in &answers {
                count(answer, 1);
            }
            if end == "Sync" {
                let executes = asked.iter().filter(|kind| *kind == "Execute").count();
                let aborted = executes.saturating_sub(answers.len());
                count("aborted", aborted as u64);
            }
        }
    }
    totals.retain(|_, count| *count > 0);
    Ok((totals, rows))
}

/// What clients of Redis on `port` sent and were answered.
#[derive(Debug, Default)]
pub struct Redis {
    /// Commands by name and number of arguments: `SET 2`.
    pub commands: Totals,
    /// Error replies by their first word, those within the reply of EXEC too.
    pub errors: Totals,
}

/// Commands on a Redis `port`. tshark reads RESP2: arrays of bulk strings, and errors wherever they are. It has no
/// inline commands, and takes the pushes, maps and nulls of RESP3 apart without telling what they are.
///
/// # Errors
/// Where tshark fails, or finds what does not go together.
pub fn redis(capture: &Path, port: u16) -> Result<Redis> {
    const FIELDS: &[&str] = &[
        "tcp.dstport",
        "resp.array.length",
        "resp.bulk_string.value",
        "resp.error",
    ];
    let mut found = Redis::default();
    for packet in fields(capture, port, "resp", FIELDS)? {
        let [destination, lengths, words, errors] = &packet[..] else {
            anyhow::bail!("{packet:?}");
        };
        if destination.concat() == port.to_string() {
            let mut words = words.iter();
            for length in lengths {
                let length: usize = length.parse().with_context(|| format!("{packet:?}"))?;
                let name = words.next().context("a command without words")?;
                let bytes: Vec<u8> = (0..name.len() / 2)
                    .map(|at| u8::from_str_radix(&name[2 * at..2 * at + 2], 16))
                    .collect::<Result<_, _>>()?;
                let command = format!("{} {}", String::from_utf8(bytes)?.to_uppercase(), length - 1);
                *found.commands.entry(command).or_default() += 1;
                ensure!(
                    words.by_ref().take(length - 1).count() == length - 1,
                    "{packet:?}"
                );
            }
            ensure!(words.next().is_none(), "{packet:?}");
        } else {
            for error in errors.iter().filter(|error| !error.is_empty()) {
                let prefix = error.split(' ').next().unwrap_or_default();
                *found.errors.entry(prefix.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(found)
}
