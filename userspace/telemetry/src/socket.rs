//! UNIX sockets at which a process answers: metrics, operators.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

/// Rights of a socket at which metrics are asked for: who runs the process, and its group.
pub const SCRAPER_RIGHTS: u32 = 0o660;

/// Opens a socket with these rights, not blocking. One that nobody answers at any more is replaced; any other file stays.
///
/// # Errors
/// The path cannot be used: another file is there ([`io::ErrorKind::AlreadyExists`]), or another process listens
/// ([`io::ErrorKind::AddrInUse`]).
pub fn open_socket(path: &Path, rights: u32) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another file is there"));
        }
        // Whoever has too much to do, or takes datagrams, does not answer otherwise.
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?;
            }
            Ok(_) | Err(_) => {
                let text = "another process listens there";
                return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
            }
        },
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(rights))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_socket_replaces_one_that_was_left_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.sock");
        let listener = open_socket(&path, SCRAPER_RIGHTS).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SCRAPER_RIGHTS);
        let refused = open_socket(&path, SCRAPER_RIGHTS).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        open_socket(&path, SCRAPER_RIGHTS).unwrap();

        let datagrams = folder.path().join("datagrams.sock");
        let _others = UnixDatagram::bind(&datagrams).unwrap();
        let refused = open_socket(&datagrams, SCRAPER_RIGHTS).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);

        let file = folder.path().join("file");
        fs::write(&file, "mine").unwrap();
        assert_eq!(
            open_socket(&file, SCRAPER_RIGHTS).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read(&file).unwrap(), b"mine");
        assert!(open_socket(&folder.path().join("none/metrics.sock"), SCRAPER_RIGHTS).is_err());
    }
}
