//! Packages of any suite of Debian, whatever this machine's own is: apt with a sources list and a state of its own,
//! on the mirror that the machine is set to.

use crate::step;
use anyhow::{Context as _, Result, bail, ensure};
use redwire_tests::tools;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Signs every suite.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A suite (`bookworm`, `trixie-backports`) for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suite {
    name: String,
    architecture: String,
    folder: PathBuf,
}

/// The lists of `main`, without translations, which apt would fetch for this system's languages.
const UPDATE: &str = r#"
folder=$1 suite=$2 architecture=$3 keyring=$4
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/*$' | head -n 1)
[ -n "$mirror" ] || { echo 'no Debian mirror is configured'; exit 1; }
[ -e "$keyring" ] || { echo "$keyring is missing: package debian-archive-keyring"; exit 1; }
mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$folder/parts"
# Nothing is installed as far as this apt knows: what depends on what is told whole.
: > "$folder/status"
echo "deb [signed-by=$keyring arch=$architecture] $mirror $suite main" > "$folder/sources.list"
cat > "$folder/apt.conf" <<END
Dir::Etc::sourcelist "$folder/sources.list";
Dir::Etc::sourceparts "$folder/parts";
Dir::State::lists "$folder/lists";
Dir::State::status "$folder/status";
Dir::Cache "$folder/cache";
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
END
APT_CONFIG="$folder/apt.conf" apt-get update
"#;

/// The archives of packages, unpacked over each other into a folder that has Debian's merged `/usr`.
const UNPACK: &str = r#"
into=$1; shift
for archive; do dpkg-deb --fsys-tarfile "$archive" | tar -x --keep-directory-symlink -C "$into"; done
"#;

impl Suite {
    /// The suite `name` for Debian's `architecture`; its lists are fetched where they are not there yet, or `anew`.
    ///
    /// # Errors
    /// Where this machine has no apt with a mirror of Debian, or that has no such suite.
    pub(crate) fn open(name: &str, architecture: &str, anew: bool) -> Result<Suite> {
        let suite = Suite {
            name: name.to_owned(),
            architecture: architecture.to_owned(),
            folder: tools::cache().join(format!("debian/{name}-{architecture}")),
        };
        let complete = suite.folder.join("complete");
        if anew || !complete.exists() {
            let mut update = Command::new("sh");
            update.args(["-e", "-c", UPDATE, "sh"]).arg(&suite.folder);
            update.args([name, architecture, KEYRING]);
            step::run(
                &format!("lists of Debian's {name} for {architecture}"),
                &mut update,
            )?;
            std::fs::write(complete, "")?;
        }
        Ok(suite)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("APT_CONFIG", self.folder.join("apt.conf"));
        command
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .command("apt-cache", arguments)
            .output()
            .context("apt-cache")?;
        ensure!(
            output.status.success(),
            "apt-cache {arguments:?} in {}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Names of the suite's packages that begin with `prefix`.
    ///
    /// # Errors
    /// Where the lists cannot be read.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self
            .ask(&["pkgnames", prefix])?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// The packages that the package `name` depends on.
    ///
    /// # Errors
    /// Where there is no such package.
    pub(crate) fn depends(&self, name: &str) -> Result<Vec<String>> {
        let text = self.ask(&["show", "--no-all-versions", name])?;
        let depends = text.lines().find_map(|line| line.strip_prefix("Depends: "));
        let names = depends.unwrap_or_default().split(", ");
        let names = names.filter_map(|dependency| dependency.split(' ').next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Fetches `packages` (`NAME` or `NAME=VERSION`) alone into `folder`. Their files.
    ///
    /// # Errors
    /// Where one is not to be had.
    pub(crate) fn download<P: AsRef<OsStr>>(&self, packages: &[P], folder: &Path) -> Result<Vec<PathBuf>> {
        std::fs::create_dir_all(folder)?;
        let mut download = self.command("apt-get", &["download"]);
        let names: Vec<String> = packages
            .iter()
            .map(|package| package.as_ref().to_string_lossy().into_owned())
            .collect();
        step::run(&names.join(" "), download.args(packages).current_dir(folder))?;
        archives(folder)
    }

    /// Fetches `packages` and everything that they depend on. Their files.
    ///
    /// # Errors
    /// Where one is not to be had.
    pub(crate) fn closure(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join("cache/archives");
        let mut clean = self.command("apt-get", &["clean"]);
        step::run("an empty apt cache", &mut clean)?;
        let mut install = self.command("apt-get", &["install", "--yes", "--download-only"]);
        let what = format!("packages of {} for {}", self.name, self.architecture);
        step::run(&what, install.args(packages))?;
        archives(&folder)
    }
}

/// Files of packages in `folder`, sorted.
fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("deb")) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("apt put no package into {}", folder.display());
    }
    Ok(files)
}

/// Unpacks `archives` into `folder`; none of their scripts is run.
///
/// # Errors
/// Where one cannot be unpacked.
pub(crate) fn unpack(archives: &[PathBuf], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut unpack = Command::new("sh");
    unpack.args(["-e", "-c", UNPACK, "sh"]).arg(folder).args(archives);
    step::run(&format!("unpacking {} packages", archives.len()), &mut unpack)
}
