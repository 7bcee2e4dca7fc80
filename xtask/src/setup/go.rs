//! Go, the collector, and the Go test programs.

use crate::step;
use anyhow::{Context as _, Result, bail};
use redwire_tests::tools;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest Go that builds the collector.
const GO_MINIMUM: (u32, u32) = (1, 26);
/// The Go that is fetched where the system's is older.
const GO_VERSION: &str = "1.26.8";

/// A Go that is new enough: the system's, else one that the system's fetches as a module.
///
/// # Errors
/// Where there is none, and none can be had.
pub(crate) fn toolchain() -> Result<PathBuf> {
    let system = tools::find("go").context("Go is missing")?;
    let output = Command::new(&system)
        .args(["version"])
        .env("GOTOOLCHAIN", "local")
        .output()?;
    if version(&String::from_utf8_lossy(&output.stdout)).is_some_and(|version| version >= GO_MINIMUM) {
        return Ok(system);
    }
    let folder = tools::cache().join(format!("go-{GO_VERSION}"));
    let go = folder.join("bin/go");
    if !go.exists() {
        step::run(
            &format!("Go {GO_VERSION}"),
            Command::new("sh")
                .args(["-e", "-c", TOOLCHAIN, "sh"])
                .arg(&system)
                .arg(&folder)
                .arg(module()?),
        )?;
    }
    Ok(go)
}

/// The module that holds the toolchain for this machine.
fn module() -> Result<String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("Go {GO_VERSION} is needed, and not fetched for {other}: please install it"),
    };
    Ok(format!(
        "golang.org/toolchain@v0.0.1-go{GO_VERSION}.linux-{architecture}"
    ))
}

/// Files of a module are read-only, and none is executable.
const TOOLCHAIN: &str = r#"
go=$1 folder=$2 module=$3
mkdir -p "$folder.new/modules"
GOPATH= GOMODCACHE="$folder.new/modules" GOFLAGS= "$go" mod download "$module"
chmod -R u+w "$folder.new"
mv "$folder.new/modules/$module" "$folder.new/go"
chmod +x "$folder.new"/go/bin/* "$folder.new"/go/pkg/tool/*/*
rm -rf "$folder"
mv "$folder.new/go" "$folder"
rm -rf "$folder.new"
"#;

/// Major and minor version in `go version`'s answer.
fn version(answer: &str) -> Option<(u32, u32)> {
    let mut numbers = answer.split(' ').nth(2)?.strip_prefix("go")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// `program` with this Go as the one that it finds on its path.
fn with(go: &Path, program: impl AsRef<OsStr>) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = go
        .parent()
        .map(Path::to_owned)
        .into_iter()
        .chain(std::env::split_paths(&path));
    let mut command = Command::new(program);
    command.env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
    // A folder with a colon in its name cannot be on a path: then what is on it already has to do.
    command.env("PATH", std::env::join_paths(folders).unwrap_or(path));
    command
}

/// The OpenTelemetry Collector with the components of `tests/collector/builder.yaml`.
///
/// # Errors
/// Where it does not build.
pub(crate) fn collector(go: &Path) -> Result<()> {
    let binary = tools::collector();
    if binary.exists() {
        return Ok(());
    }
    let folder = binary.parent().context("the collector's folder")?;
    std::fs::create_dir_all(folder)?;
    let builder = format!(
        "go.opentelemetry.io/collector/cmd/builder@v{}",
        tools::COLLECTOR_VERSION
    );
    step::run(
        "collector: its builder",
        with(go, go)
            .args(["install", "-trimpath", &builder])
            .env("GOBIN", folder),
    )?;
    let mut generate = with(go, folder.join("builder"));
    generate
        .args(["--skip-compilation", "--config"])
        .arg(tools::workspace().join("tests/collector/builder.yaml"));
    step::run("collector: its sources", generate.current_dir(folder))?;
    let mut build = with(go, go);
    build.args([
        "build",
        "-trimpath",
        "-ldflags",
        "-s -w",
        "-o",
        "../otelcol.new",
        ".",
    ]);
    let what = format!(
        "OpenTelemetry Collector {} (some minutes)",
        tools::COLLECTOR_VERSION
    );
    step::run(&what, build.current_dir(folder.join("source")))?;
    Ok(std::fs::rename(folder.join("otelcol.new"), binary)?)
}

/// The Go test programs; Go itself knows what is up to date.
///
/// # Errors
/// Where they do not build.
pub(crate) fn programs(go: &Path) -> Result<()> {
    let output = tools::go_programs();
    std::fs::create_dir_all(&output)?;
    let mut build = with(go, go);
    build
        .args(["build", "-trimpath", "-o"])
        .arg(&output)
        .arg("./...")
        .current_dir(tools::programs().join("go"));
    let result = build.output()?;
    if !result.status.success() {
        bail!("Go test programs: {}", String::from_utf8_lossy(&result.stderr));
    }
    Ok(())
}
