//! The model on disk, for a router that starts while the controller is away.
//!
//! The file is one line of JSON and, on the next, the SHA-256 of that line in hexadecimal. It says for which router
//! it is, the model's index, and when the controller was last heard.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use nightgate_model::{id::RouterId, replica::Replica};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Version of the file's form.
const FORMAT: u32 = 1;

/// Largest file that is read, in bytes.
const LONGEST: u64 = 1 << 30;

/// Only its owner reads and writes the file: whoever writes it says who may do what here.
const MODE: u32 = 0o600;

/// How far in the future the controller may have been heard: clocks are set.
const CLOCK_SLACK: Duration = Duration::from_secs(300);

/// A model, and when it was confirmed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SavedModel {
    /// When the controller was last heard; whole seconds.
    pub(crate) heard: SystemTime,
    pub(crate) replica: Arc<Replica>,
}

/// A file that cannot be used. The router starts without it and allows nothing until the controller comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SavedError {
    #[error("{operation} {}; the router's user needs a folder that it may write: set router.offline.file", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{} can be read or written by others; if its content can be trusted, `chmod 600` it, else remove it", .0.display())]
    Exposed(PathBuf),
    #[error("{} is longer than {LONGEST} bytes; remove it", .0.display())]
    TooLong(PathBuf),
    #[error("{} is damaged, its checksum is another; remove it", .0.display())]
    Checksum(PathBuf),
    #[error("{} is not understood by this release; remove it", path.display())]
    Form { path: PathBuf, source: serde_json::Error },
    #[error("{} has form {form}, this release reads {FORMAT}; remove it", path.display())]
    Version { path: PathBuf, form: u32 },
    #[error("{} is of router {router}; each router needs a router.offline.file of its own", path.display())]
    Foreign { path: PathBuf, router: RouterId },
    #[error("{} says index {said}, its model {index}; remove it", path.display())]
    Index { path: PathBuf, said: u64, index: u64 },
    #[error("{} was written in the future; set the system's clock", .0.display())]
    Future(PathBuf),
}

#[derive(Deserialize, Serialize)]
struct Form<R> {
    form: u32,
    router: RouterId,
    index: u64,
    /// Seconds since 1970.
    heard: u64,
    replica: R,
}

/// Reads the model that was saved for this router; `None` if there is no file.
pub(crate) fn read(
    path: &Path,
    router: &RouterId,
    now: SystemTime,
) -> Result<Option<SavedModel>, SavedError> {
    let failed = |source| SavedError::Io { operation: "read", path: path.into(), source };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if metadata.mode() & 0o077 != 0 {
        return Err(SavedError::Exposed(path.into()));
    }
    if metadata.len() > LONGEST {
        return Err(SavedError::TooLong(path.into()));
    }
    decode(&fs::read(path).map_err(failed)?, path, router, now).map(Some)
}

fn decode(
    text: &[u8],
    path: &Path,
    router: &RouterId,
    now: SystemTime,
) -> Result<SavedModel, SavedError> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let (model, sum) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if sum != checksum(model).as_bytes() {
        return Err(SavedError::Checksum(path.into()));
    }
    let form = |source| SavedError::Form { path: path.into(), source };
    let Version { form: version } = serde_json::from_slice(model).map_err(form)?;
    if version != FORMAT {
        return Err(SavedError::Version { path: path.into(), form: version });
    }
    let saved: Form<Replica> = serde_json::from_slice(model).map_err(form)?;
    if saved.router != *router {
        return Err(SavedError::Foreign { path: path.into(), router: saved.router });
    }
    if saved.index != saved.replica.index {
        let (said, index) = (saved.index, saved.replica.index);
        return Err(SavedError::Index { path: path.into(), said, index });
    }
    let heard = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(saved.heard));
    let heard = heard.filter(|heard| *heard <= now + CLOCK_SLACK);
    let heard = heard.ok_or_else(|| SavedError::Future(path.into()))?;
    Ok(SavedModel { heard, replica: saved.replica.into() })
}

/// What every form has.
#[derive(Deserialize)]
struct Version {
    form: u32,
}

/// Saves a model: whoever reads the file, or finds it after a crash, finds the old one or the new.
pub(crate) fn write(path: &Path, router: &RouterId, saved: &SavedModel) -> Result<(), SavedError> {
    let write = || -> io::Result<()> {
        let heard = saved.heard.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let form = Form {
            form: FORMAT,
            router: router.clone(),
            index: saved.replica.index,
            heard: heard.as_secs(),
            replica: &*saved.replica,
        };
        let mut text = serde_json::to_vec(&form)?;
        let sum = checksum(&text);
        text.push(b'\n');
        text.extend_from_slice(sum.as_bytes());
        text.push(b'\n');
        let new = path.with_added_extension("new");
        // Not the one that somebody else may have put there and may still write.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    write().map_err(|source| SavedError::Io { operation: "write", path: path.into(), source })
}

fn checksum(text: &[u8]) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn model(index: u64) -> SavedModel {
        let replica =
            Replica { index, token_keys: vec!["key\nof two lines".into()], ..Replica::default() };
        SavedModel { heard: at(1_000), replica: replica.into() }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_saved_last_is_read_and_only_its_owner_may() {
        let folder = tempfile::tempdir().unwrap();
        let (path, router) = (folder.path().join("hub.model"), RouterId::new("hub"));
        assert_eq!(read(&path, &router, at(1_001)).unwrap(), None);
        write(&path, &router, &model(1)).unwrap();
        // A write that was cut off leaves this.
        fs::write(folder.path().join("hub.model.new"), "half").unwrap();
        write(&path, &router, &model(2)).unwrap();
        assert_eq!(read(&path, &router, at(1_001)).unwrap(), Some(model(2)));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = read(&path, &router, at(1_001)).unwrap_err();
        assert!(matches!(refused, SavedError::Exposed(_)), "{refused}");
    }

    #[test]
    fn a_file_of_another_router_or_of_the_future_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, router) = (folder.path().join("hub.model"), RouterId::new("hub"));
        write(&path, &router, &model(1)).unwrap();
        let foreign = read(&path, &RouterId::new("edge"), at(1_001)).unwrap_err();
        assert!(matches!(foreign, SavedError::Foreign { .. }), "{foreign}");
        let future = read(&path, &router, at(600)).unwrap_err();
        assert!(matches!(future, SavedError::Future(_)), "{future}");
        assert!(read(&path, &router, at(800)).is_ok(), "clocks are set");
    }

    #[test]
    fn no_damaged_byte_and_no_cut_goes_unnoticed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, router) = (folder.path().join("hub.model"), RouterId::new("hub"));
        write(&path, &router, &model(1)).unwrap();
        let whole = fs::read(&path).unwrap();
        for at_byte in 0..whole.len() - 1 {
            let mut damaged = whole.clone();
            damaged[at_byte] ^= 1;
            assert!(decode(&damaged, &path, &router, at(1_001)).is_err(), "byte {at_byte}");
            assert!(decode(&whole[..at_byte], &path, &router, at(1_001)).is_err(), "cut {at_byte}");
        }
    }
}
