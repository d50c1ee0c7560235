//! The version of the boundary between kernel and userspace grows with every change of it.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::{sources, workspace::Workspace};

/// What `ebpf/abi/abi.lock` remembers.
#[derive(Debug, Eq, PartialEq)]
struct Lock {
    version: u32,
    sha256: String,
}

/// Compares the sources of `ebpf/abi` with what was accepted last.
///
/// # Errors
/// The sources or the lock cannot be read.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let current = Lock::of_sources(workspace)?;
    let accepted = match fs::read_to_string(path(workspace)) {
        Ok(text) => Some(Lock::parse(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context("read ebpf/abi/abi.lock"),
    };
    Ok(compare(accepted.as_ref(), &current).into_iter().collect())
}

/// Accepts the sources of `ebpf/abi` as they are under the version they carry.
///
/// # Errors
/// The version shrank, or the lock cannot be written.
pub(crate) fn accept(workspace: &Workspace) -> Result<()> {
    let current = Lock::of_sources(workspace)?;
    let path = path(workspace);
    if let Ok(text) = fs::read_to_string(&path) {
        let accepted = Lock::parse(&text)?;
        if current.version < accepted.version {
            bail!("abi::VERSION went from {} back to {}", accepted.version, current.version);
        }
    }
    fs::write(&path, current.to_text()).with_context(|| format!("write {}", path.display()))
}

fn compare(accepted: Option<&Lock>, current: &Lock) -> Option<String> {
    const ACCEPT: &str = "then run `cargo xtask check --accept-abi`";
    match accepted {
        None => Some(format!("ebpf/abi/abi.lock is missing: look at ebpf/abi, {ACCEPT}")),
        Some(accepted) if accepted == current => None,
        Some(accepted) if accepted.version == current.version => Some(format!(
            "ebpf/abi/src changed and VERSION is still {}: grow it (unless only comments changed), {ACCEPT}",
            current.version
        )),
        Some(accepted) => Some(format!(
            "abi::VERSION is {}, the lock says {}: {ACCEPT}",
            current.version, accepted.version
        )),
    }
}

impl Lock {
    fn of_sources(workspace: &Workspace) -> Result<Self> {
        let mut digest = Sha256::new();
        let mut version = None;
        for file in sources::rust_files(&workspace.root().join("ebpf/abi/src"))? {
            digest.update(file.path.as_os_str().as_encoded_bytes());
            digest.update([0]);
            digest.update(file.without_tests());
            digest.update([0]);
            version = version.or_else(|| version_in(&file.text));
        }
        let version = version.context("ebpf/abi/src has no line `pub const VERSION: u32 = N;`")?;
        let sha256 = digest.finalize().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").ok();
            text
        });
        Ok(Self { version, sha256 })
    }

    fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='))
                .map(str::trim)
                .with_context(|| format!("ebpf/abi/abi.lock: no line `{name} = ...`"))
        };
        let version = field("version")?.parse().context("ebpf/abi/abi.lock: version")?;
        Ok(Self { version, sha256: field("sha256")?.to_owned() })
    }

    fn to_text(&self) -> String {
        format!(
            "# The sources of the kernel boundary as they were accepted; `cargo xtask check` compares.\n\
             version = {}\nsha256 = {}\n",
            self.version, self.sha256
        )
    }
}

fn version_in(text: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        line.strip_prefix("pub const VERSION: u32 =")?.trim().strip_suffix(';')?.parse().ok()
    })
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.root().join("ebpf/abi/abi.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(version: u32, sha256: &str) -> Lock {
        Lock { version, sha256: sha256.to_owned() }
    }

    #[test]
    fn a_lock_survives_its_file() {
        let original = lock(7, "ab");
        assert_eq!(Lock::parse(&original.to_text()).unwrap(), original);
        assert!(Lock::parse("version = 7\n").is_err());
    }

    #[test]
    fn a_change_without_a_new_version_is_refused() {
        let accepted = lock(1, "aa");
        assert_eq!(compare(Some(&accepted), &lock(1, "aa")), None);
        assert!(compare(Some(&accepted), &lock(1, "bb")).unwrap().contains("grow it"));
        assert!(compare(Some(&accepted), &lock(2, "bb")).unwrap().contains("lock says 1"));
        assert!(compare(None, &accepted).unwrap().contains("missing"));
    }

    #[test]
    fn the_version_is_found_in_the_source() {
        assert_eq!(version_in("/// Doc.\npub const VERSION: u32 = 12;\n"), Some(12));
        assert_eq!(version_in("pub const OTHER: u32 = 12;\n"), None);
    }
}
