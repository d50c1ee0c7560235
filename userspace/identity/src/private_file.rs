//! Files that only their owner can read.

use std::{fs, io, io::Write as _, path::Path};

/// Writes such a file, through a neighbour that takes its place: a crash leaves either the old content or the new.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", uuid::Uuid::new_v4().simple()));
    let neighbour = path.with_file_name(name);
    let written = write(&neighbour, content).and_then(|()| {
        keep_owner(path, &neighbour);
        fs::rename(&neighbour, path)?;
        sync_folder(path)
    });
    if written.is_err() {
        // The reason to report is why the write failed, not whether the remains could be removed.
        drop(fs::remove_file(&neighbour));
    }
    written
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// What root replaces stays the file of the service that runs as somebody else.
#[cfg(unix)]
fn keep_owner(path: &Path, neighbour: &Path) {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let Ok(before) = fs::metadata(path) else { return };
    // Who may not give files away has one that is its own.
    drop(chown(neighbour, Some(before.uid()), Some(before.gid())));
}

#[cfg(not(unix))]
fn keep_owner(_path: &Path, _neighbour: &Path) {}

/// A name in a folder outlives a power failure once the folder is written (rename(2), fsync(2)).
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}
