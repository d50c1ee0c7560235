//! The host's own resolver configuration, pointed at the private DNS while the gateway runs.
//!
//! What was there before is kept beside the last good rules, and put back when the gateway stops, or after a crash by the
//! next start or by `gateway down`; unless somebody else has changed the file meanwhile, whose work stays.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::state::{StateError, StateFolder};

/// A resolver configuration that is ours for now.
#[derive(Debug)]
pub struct Resolver {
    path: PathBuf,
    state: StateFolder,
}

/// A resolver configuration that cannot be taken or given back.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// The file cannot be used.
    #[error("{operation} {}: {source}; it is named by dns.resolv_conf", path.display())]
    File {
        /// What was to be done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it did not work.
        source: io::Error,
    },
    /// What was there before cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What was there before.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Kept {
    path: PathBuf,
    before: Before,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Before {
    Nothing,
    File(String),
    Link(PathBuf),
}

/// First line of what we write.
const MARK: &str = "# Written by nightgate: what was here comes back when the gateway stops.\n";

/// Port that resolver configurations mean (RFC 1035 section 4.2).
const PORT: u16 = 53;

impl Resolver {
    /// Points a resolver configuration at servers. Those at other ports than 53 it cannot name.
    ///
    /// # Errors
    /// The file cannot be written, or what was there cannot be kept; it stays as it is then.
    pub fn take(
        path: &Path,
        servers: impl IntoIterator<Item = SocketAddr>,
        state: &StateFolder,
    ) -> Result<Self, ResolverError> {
        if let Some(kept) = state.resolver::<Kept>()
            && (kept.path != path || !is_ours(&kept.path))
        {
            Self::give_back(state)?;
        }
        if state.resolver::<Kept>().is_none() {
            let before = look(path).map_err(failed("read", path))?;
            state.keep_resolver(&Kept { path: path.to_owned(), before })?;
        }
        let servers = servers.into_iter().filter(|server| server.port() == PORT);
        let lines = servers.map(|server: SocketAddr| line(server.ip()));
        let text: String = std::iter::once(MARK.to_owned()).chain(lines).collect();
        replace(path, &text).map_err(failed("write", path))?;
        info!(path = %path.display(), "the host's resolver asks the private DNS");
        Ok(Self { path: path.to_owned(), state: state.clone() })
    }

    /// Puts back what was there before any gateway with this state took it, if one did.
    ///
    /// # Errors
    /// The file cannot be written; what was there stays kept.
    pub fn give_back(state: &StateFolder) -> Result<(), ResolverError> {
        let Some(Kept { path, before }) = state.resolver() else { return Ok(()) };
        if is_ours(&path) {
            put(&path, &before).map_err(failed("write", &path))?;
            info!(path = %path.display(), "the host's resolver is as it was before");
        } else {
            warn!(path = %path.display(), "somebody else has changed the host's resolver, it stays so");
        }
        Ok(state.forget_resolver()?)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts back what was there before.
    ///
    /// # Errors
    /// As for [`Resolver::give_back`].
    pub fn release(self) -> Result<(), ResolverError> {
        Self::give_back(&self.state)
    }
}

fn line(server: IpAddr) -> String {
    format!("nameserver {server}\n")
}

fn is_ours(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.starts_with(MARK))
}

fn look(path: &Path) -> io::Result<Before> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => fs::read_link(path).map(Before::Link),
        Ok(_) => fs::read_to_string(path).map(Before::File),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Before::Nothing),
        Err(error) => Err(error),
    }
}

fn put(path: &Path, before: &Before) -> io::Result<()> {
    match before {
        Before::Nothing => fs::remove_file(path),
        Before::File(text) => replace(path, text),
        Before::Link(target) => {
            let link = beside(path);
            remove(&link)?;
            symlink(target, &link)?;
            fs::rename(link, path)
        }
    }
}

/// Replaces a file, or a link by a file; a reader sees the old one or the new. A file that is mounted there can only be
/// written in its place.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = beside(path);
    fs::write(&new, text)?;
    match fs::rename(&new, path) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            remove(&new)?;
            fs::write(path, text)
        }
        renamed => renamed,
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".nightgate");
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ResolverError {
    let path = path.to_owned();
    move |source| ResolverError::File { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "nameserver 192.0.2.1\nsearch example\n";

    #[test]
    fn what_was_there_comes_back_after_a_stop_and_after_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let (path, state) = (folder.path().join("resolv.conf"), state(folder.path()));
        fs::write(&path, BEFORE).unwrap();

        let resolver = Resolver::take(&path, servers(), &state).unwrap();
        assert_eq!(read(&path), format!("{MARK}nameserver 10.1.0.1\nnameserver fd00::1\n"));
        resolver.release().unwrap();
        assert_eq!(read(&path), BEFORE);

        // It crashes, starts again, and crashes again.
        for _ in 0..2 {
            Resolver::take(&path, servers(), &state).unwrap();
        }
        assert!(read(&path).starts_with(MARK));
        Resolver::give_back(&state).unwrap();
        assert_eq!(read(&path), BEFORE);
        Resolver::give_back(&state).unwrap();
        assert_eq!(read(&path), BEFORE);
    }

    #[test]
    fn a_link_comes_back_as_a_link_and_nothing_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, state) = (folder.path().join("resolv.conf"), state(folder.path()));
        let target = folder.path().join("stub");
        fs::write(&target, BEFORE).unwrap();
        symlink(&target, &path).unwrap();
        Resolver::take(&path, servers(), &state).unwrap().release().unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), target);
        assert_eq!(read(&target), BEFORE);

        fs::remove_file(&path).unwrap();
        Resolver::take(&path, servers(), &state).unwrap().release().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_somebody_else_has_written_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, state) = (folder.path().join("resolv.conf"), state(folder.path()));
        fs::write(&path, BEFORE).unwrap();
        let resolver = Resolver::take(&path, servers(), &state).unwrap();
        fs::write(&path, "nameserver 192.0.2.2\n").unwrap();
        resolver.release().unwrap();
        assert_eq!(read(&path), "nameserver 192.0.2.2\n");

        // And is what comes back the next time.
        Resolver::take(&path, servers(), &state).unwrap().release().unwrap();
        assert_eq!(read(&path), "nameserver 192.0.2.2\n");
    }

    fn servers() -> Vec<SocketAddr> {
        ["10.1.0.1:53", "[fd00::1]:53", "10.1.0.1:5353"].map(|text| text.parse().unwrap()).to_vec()
    }

    fn state(folder: &Path) -> StateFolder {
        StateFolder::of_gateway(&folder.join("state"), Path::new("/run/gw.sock"))
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }
}
