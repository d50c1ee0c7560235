//! Files that are either the old or the new version, also after a crash.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::PkiError;

/// Who may read a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileAccess {
    /// Mode 0600: keys, and what contains keys.
    Owner,
    /// Mode 0644: certificates.
    Everyone,
}

/// Replaces a file in one step: a temporary file is written and synced, renamed over `path`, and the
/// directory synced.
///
/// # Errors
/// The directory does not exist, is not writable, or the disk fails.
pub fn write_atomically(path: &Path, contents: &[u8], access: FileAccess) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    let temporary = temporary_name(path);
    remove_if_present(&temporary)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(match access {
            FileAccess::Owner => 0o600,
            FileAccess::Everyone => 0o644,
        })
        .open(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

/// Writes one file of the authority.
pub(crate) fn write(path: &Path, contents: &[u8], access: FileAccess) -> Result<(), PkiError> {
    write_atomically(path, contents, access).map_err(|source| PkiError::File {
        operation: "write",
        path: path.into(),
        source,
    })
}

/// Reads one file of the authority; `None` if it does not exist.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, PkiError> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File { operation: "read", path: path.into(), source }),
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

pub(crate) fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_file_is_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        write_atomically(&path, b"secret", FileAccess::Owner).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_leftover_of_a_crash_does_not_block_the_next_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(temporary_name(&path), b"half").unwrap();
        write_atomically(&path, b"whole", FileAccess::Everyone).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert!(!temporary_name(&path).exists());
    }
}
