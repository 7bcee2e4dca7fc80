//! Debian's cloud kernels.

use super::architecture::Architecture;
use crate::debian::{self, Suite};
use anyhow::{Context as _, Result, bail};
use redwire_tests::tools;
use std::cmp::Reverse;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A series of kernels: `6.1`, or the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Series {
    /// Major and minor version.
    Of(u32, u32),
    /// Whatever Debian's newest is.
    Newest,
}

/// The series of the matrix.
pub(crate) const SERIES: &[Series] = &[
    Series::Of(5, 10),
    Series::Of(6, 1),
    Series::Of(6, 12),
    Series::Of(6, 18),
    Series::Newest,
];

/// Where kernels are, from the oldest. A suite of backports keeps some versions between two releases.
const SUITES: &[&str] = &["bullseye", "bookworm", "trixie", "trixie-backports", "forky"];

impl Series {
    /// The suites that may have it; all are asked only for a series that none of the releases is known for.
    fn suites(self) -> &'static [&'static str] {
        match self {
            Series::Of(5, 10) => &["bullseye"],
            Series::Of(6, 1) => &["bookworm"],
            Series::Of(6, 12) => &["trixie"],
            Series::Of(6, 18) => &["trixie-backports"],
            Series::Newest => &["trixie-backports", "forky"],
            Series::Of(..) => SUITES,
        }
    }
}

impl FromStr for Series {
    type Err = String;

    fn from_str(text: &str) -> Result<Series, String> {
        if text == "newest" {
            return Ok(Series::Newest);
        }
        text.split_once('.')
            .and_then(|(major, minor)| Some(Series::Of(major.parse().ok()?, minor.parse().ok()?)))
            .ok_or_else(|| format!("'{text}' is neither 'newest' nor a series such as 6.12"))
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Series::Of(major, minor) => write!(f, "{major}.{minor}"),
            Series::Newest => f.write_str("newest"),
        }
    }
}

/// An unpacked kernel.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// As `uname -r` tells it.
    pub(crate) release: String,
    /// The image.
    pub(crate) image: PathBuf,
    /// `…/modules/RELEASE`
    pub(crate) modules: PathBuf,
}

/// Numbers of a release such as `6.12.117+deb13-cloud-amd64` or `5.10.0-32-cloud-amd64`, to compare it by.
fn version(release: &str) -> Vec<u32> {
    let numbers = release.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    numbers.collect()
}

/// The package of the kernel to take: the newest of the series, else the nearest.
fn choose(names: &[String], series: Series, ending: &str) -> Option<String> {
    let names = names.iter().filter(|name| {
        name.ends_with(ending) && name["linux-image-".len()..].starts_with(|c: char| c.is_ascii_digit())
    });
    let release = |name: &str| version(&name["linux-image-".len()..]);
    match series {
        Series::Newest => names.max_by_key(|name| release(name)),
        Series::Of(major, minor) => names.min_by_key(|name| {
            let version = release(name);
            let (its_major, its_minor) = (version[0], version.get(1).copied().unwrap_or_default());
            let distance = (i64::from(its_major) - i64::from(major)).abs() * 100
                + (i64::from(its_minor) - i64::from(minor)).abs();
            (distance, Reverse(version))
        }),
    }
    .cloned()
}

fn folder(series: Series, architecture: Architecture) -> PathBuf {
    tools::cache().join(format!("vm/kernel-{series}-{}", architecture.debian()))
}

/// The kernel of `series` in the cache.
///
/// # Errors
/// Where it is not there, or not whole.
pub(crate) fn cached(series: Series, architecture: Architecture) -> Result<Kernel> {
    let folder = folder(series, architecture);
    if !folder.join("complete").exists() {
        bail!("{} is not there", folder.display());
    }
    unpacked(&folder)
}

/// The kernel of `series`, fetched where it is not in the cache yet, or `anew`.
///
/// # Errors
/// Where Debian's mirror has none.
pub(crate) fn fetch(series: Series, architecture: Architecture, anew: bool) -> Result<Kernel> {
    if let (false, Ok(kernel)) = (anew, cached(series, architecture)) {
        return Ok(kernel);
    }
    let debian = architecture.debian();
    let folder = folder(series, architecture);
    let mut found: Vec<(String, Suite)> = Vec::new();
    for suite in series.suites() {
        let suite = Suite::open(suite, debian, anew)?;
        let names = suite.names("linux-image-")?;
        found.extend(choose(&names, series, &format!("-cloud-{debian}")).map(|name| (name, suite)));
    }
    let names: Vec<String> = found.iter().map(|(name, _)| name.clone()).collect();
    let name = choose(&names, series, "").with_context(|| format!("Debian has no cloud kernel {series}"))?;
    if let Series::Of(major, minor) = series
        && version(&name["linux-image-".len()..])[..2] != [major, minor]
    {
        eprintln!("there is no cloud kernel {series} any more: {name} is the nearest");
    }
    let (_, suite) = found
        .iter()
        .find(|(of_suite, _)| *of_suite == name)
        .context("a kernel has its suite")?;
    // From 7.2 on, the package of the image is empty and depends on those of binary and modules.
    let release = name["linux-image-".len()..].to_owned();
    let depends = suite.depends(&name)?;
    let mut packages = vec![name.clone()];
    let parts = ["linux-binary-", "linux-modules-"].map(|part| format!("{part}{release}"));
    packages.extend(depends.into_iter().filter(|name| parts.contains(name)));
    let _ = std::fs::remove_dir_all(&folder);
    let archives = suite.download(&packages, &folder.join("archives"))?;
    debian::unpack(&archives, &folder)?;
    std::fs::remove_dir_all(folder.join("archives"))?;
    std::fs::write(folder.join("release"), &release)?;
    let kernel = unpacked(&folder)?;
    std::fs::write(folder.join("complete"), "")?;
    Ok(kernel)
}

fn unpacked(folder: &Path) -> Result<Kernel> {
    let release = std::fs::read_to_string(folder.join("release"))?;
    let first = |candidates: [String; 2]| {
        let paths = candidates.map(|candidate| folder.join(candidate));
        paths.into_iter().find(|path| path.exists())
    };
    let modules = first([
        format!("usr/lib/modules/{release}"),
        format!("lib/modules/{release}"),
    ]);
    let image = first([
        format!("usr/lib/modules/{release}/vmlinuz"),
        format!("boot/vmlinuz-{release}"),
    ]);
    let (Some(image), Some(modules)) = (image, modules) else {
        bail!("{} holds no kernel {release}", folder.display());
    };
    Ok(Kernel {
        release,
        image,
        modules,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_newest_of_a_series_is_taken_else_the_nearest() {
        let all = names(&[
            "linux-image-6.16.12+deb13-cloud-amd64",
            "linux-image-6.18.9+deb13-cloud-amd64",
            "linux-image-6.18.15+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-amd64",
            "linux-image-cloud-amd64",
        ]);
        let chosen = |series| choose(&all, series, "-cloud-amd64").expect("a kernel");
        assert_eq!(chosen(Series::Of(6, 18)), "linux-image-6.18.15+deb13-cloud-amd64");
        assert_eq!(chosen(Series::Of(6, 15)), "linux-image-6.16.12+deb13-cloud-amd64");
        assert_eq!(chosen(Series::Newest), "linux-image-7.3.4+deb13-cloud-amd64");
        assert_eq!(
            choose(
                &names(&["linux-image-cloud-amd64"]),
                Series::Newest,
                "-cloud-amd64"
            ),
            None
        );
    }

    #[test]
    fn a_series_is_a_version_or_the_newest() {
        assert_eq!("6.1".parse(), Ok(Series::Of(6, 1)));
        assert_eq!("newest".parse(), Ok(Series::Newest));
        for wrong in ["6", "six.one", ""] {
            assert!(wrong.parse::<Series>().is_err(), "{wrong}");
        }
    }
}
