//! `redwire replay` of captures that a generator made from scratch: every file format, link layer and kind of
//! damage, with one exchange whose times and ends are known.

use crate::plain;
use crate::scene::folder;
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::tools;
use redwire_tests::transactions::{Line, replay};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn tests() -> Vec<Trial> {
    vec![plain("captures::made", made)]
}

fn made(test: &str) -> Result<()> {
    let folder = folder(test)?;
    let program = tools::programs().join("python/captures.py");
    ensure!(
        Command::new(tools::python())
            .arg(program)
            .arg(&folder)
            .status()?
            .success(),
        "the generator failed"
    );
    let mut wrong = Vec::new();
    for (kind, lines) in [("one", 1), ("none", 0)] {
        for capture in files(&folder.join(kind))? {
            if let Err(error) = check(&capture, lines) {
                wrong.push(format!("{kind}/{}: {error:#}", name(&capture)));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = files.collect::<std::io::Result<Vec<PathBuf>>>()?;
    files.sort();
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    Ok(files)
}

fn name(capture: &Path) -> String {
    capture
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The status that `replay` must end with is the extension of the name, 0 where there is none.
fn check(capture: &Path, expected: usize) -> Result<()> {
    let (status, lines, said) = replay(capture)?;
    let name = name(capture);
    let wanted = name
        .rsplit_once('.')
        .map_or(0, |(_, status)| status.parse().unwrap_or(-1));
    ensure!(status == Some(wanted), "status {status:?}, not {wanted}: {said}");
    ensure!(wanted != 3 || said.contains("offset"), "no offset in '{said}'");
    ensure!(lines.len() == expected, "{} transactions: {said}", lines.len());
    // The first byte of the request came with the second of its packets.
    let start = match name.as_str() {
        "reordered" => 1_000_002_000,
        _ => 1_000_001_000,
    };
    lines.iter().try_for_each(|line| exchange(line, start))
}

/// The exchange that the generator puts into every capture.
fn exchange(line: &Line, start: u64) -> Result<()> {
    let six = line.connection["client"].starts_with('[');
    let (client, server) = if six {
        ("2001:db8::1", "2001:db8::2")
    } else {
        ("192.0.2.1", "192.0.2.2")
    };
    let end = |address: &str, port: u16| match six {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    };
    let connection = BTreeMap::from([
        ("client".to_owned(), end(client, 40000)),
        ("server".to_owned(), end(server, 8080)),
    ]);
    ensure!(line.connection == connection, "{:?}", line.connection);
    let times = (line.start_unix_nano, line.end_unix_nano);
    ensure!(times == (start, 1_000_003_000), "{times:?}");
    ensure!(
        line.kind == "CLIENT" && line.status == "error",
        "{} {}",
        line.kind,
        line.status
    );
    ensure!(
        line.trace_id.len() == 32 && line.span_id.len() == 16,
        "{} {}",
        line.trace_id,
        line.span_id
    );
    ensure!(line.parent_span_id.is_none(), "{:?}", line.parent_span_id);
    let expected = [
        ("http.request.method", "GET".into()),
        ("http.response.status_code", 404.into()),
        ("error.type", "404".into()),
        ("network.protocol.version", "1.1".into()),
        ("network.peer.address", server.into()),
        ("network.peer.port", 8080.into()),
        ("client.address", client.into()),
        ("client.port", 40000.into()),
        ("server.address", "shop.example".into()),
    ];
    for (key, value) in expected {
        let found: Option<&serde_json::Value> = line.attributes.get(key);
        ensure!(found == Some(&value), "{key} is {found:?}");
    }
    Ok(())
}
