//! Where the kernel's part of a gateway stays while no process holds it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::{error::PinError, interface::IfIndex};

/// Names of one gateway's links and maps in a BPF file system, and its notes on what they mean, which are beside
/// its admin socket. While the links are there, the programs stay attached, whether or not a process runs.
#[derive(Clone, Debug)]
pub struct Pins {
    bpf: PathBuf,
    notes: PathBuf,
}

/// Folder of all gateways in the BPF file system.
const FOLDER: &str = "nightgate";
/// Folder of a version's maps, without the version.
const MAPS: &str = "maps-";
/// Name of the link of the network namespace.
const LOOKUP: &str = "lookup";
/// How the names of programs begin.
const PROGRAM: &str = "program-";

impl Pins {
    /// The pins of the gateway that its operators reach at `admin_socket`, in the calling thread's network
    /// namespace. `root` is the BPF file system, usually `/sys/fs/bpf`.
    ///
    /// # Errors
    /// The network namespace cannot be identified.
    pub fn of_gateway(root: &Path, admin_socket: &Path) -> Result<Self, PinError> {
        let socket = std::path::absolute(admin_socket).map_err(failed("identify", admin_socket))?;
        let namespace = Path::new("/proc/thread-self/ns/net");
        let namespace = fs::metadata(namespace).map_err(failed("identify", namespace))?.ino();
        let name = format!("{}-net{namespace}", escape(&socket.to_string_lossy()));
        let mut notes = socket.into_os_string();
        notes.push(format!(".notes-net{namespace}"));
        Ok(Self { bpf: root.join(FOLDER).join(name), notes: notes.into() })
    }

    /// Whether there is anything.
    pub fn exist(&self) -> bool {
        self.bpf.exists()
    }

    /// Everything that is kept, in the order of the names.
    ///
    /// # Errors
    /// A folder cannot be listed.
    pub fn files(&self) -> Result<Vec<PathBuf>, PinError> {
        let mut files = Vec::new();
        for folder in [&self.bpf, &self.notes].into_iter().filter(|folder| folder.exists()) {
            for entry in entries(folder)? {
                if entry.is_dir() { files.extend(entries(&entry)?) } else { files.push(entry) }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Detaches the programs from every interface and removes all that is kept. Nothing there is no error.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove(&self) -> Result<(), PinError> {
        remove(&self.bpf)?;
        remove(&self.notes)
    }

    /// Mounts the BPF file system if nothing is mounted there, and makes the folders.
    pub(crate) fn prepare(&self, version: u32) -> Result<(), PinError> {
        if let Some(root) = self.bpf.ancestors().nth(2) {
            mount_bpf(root)?;
        }
        make(&self.maps(version))?;
        make(&self.notes)
    }

    /// Folder of the maps of an ABI version.
    pub(crate) fn maps(&self, version: u32) -> PathBuf {
        self.bpf.join(format!("{MAPS}{version}"))
    }

    /// Where a program of an object is pinned: among the maps it works on, so that it goes with them.
    pub(crate) fn program(&self, version: u32, name: &str, digest: &str) -> PathBuf {
        self.maps(version).join(format!("{PROGRAM}{name}-{digest}"))
    }

    /// Where it is pinned, whatever object it is of.
    pub(crate) fn programs(&self, version: u32, name: &str) -> Result<Vec<PathBuf>, PinError> {
        let start = format!("{PROGRAM}{name}-");
        let is_one = |path: &PathBuf| {
            path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&start))
        };
        Ok(entries(&self.maps(version))?.into_iter().filter(is_one).collect())
    }

    /// Where a program's link is pinned. Interfaces may be renamed, so their number names them.
    pub(crate) fn link(&self, index: IfIndex, role: &str) -> PathBuf {
        self.bpf.join(format!("{index}-{role}"))
    }

    /// Where the link of the program is pinned that is asked for sockets.
    pub(crate) fn lookup(&self) -> PathBuf {
        self.bpf.join(LOOKUP)
    }

    /// Where the meaning of a bank is written down.
    pub(crate) fn note(&self, version: u32, bank: u32) -> PathBuf {
        self.notes.join(format!("{version}-{bank}.json"))
    }

    /// Whether maps of an ABI version other than this are there.
    pub(crate) fn has_other_maps(&self, version: u32) -> bool {
        self.other_maps(version).is_ok_and(|maps| !maps.is_empty())
    }

    /// Removes the maps of other ABI versions.
    pub(crate) fn remove_other_maps(&self, version: u32) -> Result<(), PinError> {
        self.other_maps(version)?.iter().try_for_each(|path| remove(path))
    }

    /// Removes the links that `is_wanted` does not want; the interface carries everything then.
    pub(crate) fn remove_links(
        &self,
        is_wanted: impl Fn(&Path) -> bool,
    ) -> Result<Vec<PathBuf>, PinError> {
        let mut gone = entries(&self.bpf)?;
        gone.retain(|path| !path.is_dir() && !is_wanted(path));
        for path in &gone {
            fs::remove_file(path).map_err(failed("remove", path))?;
        }
        Ok(gone)
    }

    fn other_maps(&self, version: u32) -> Result<Vec<PathBuf>, PinError> {
        let own = self.maps(version);
        let mut maps = entries(&self.bpf)?;
        maps.retain(|path| path.is_dir() && *path != own);
        Ok(maps)
    }
}

/// One name for a path, different for different paths; the BPF file system allows no dots in names.
fn escape(path: &str) -> String {
    path.trim_start_matches('/')
        .bytes()
        .map(|byte| match byte {
            b'/' => "-".to_owned(),
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
            other => format!("_{other:02x}"),
        })
        .collect()
}

pub(crate) fn mount_bpf(root: &Path) -> Result<(), PinError> {
    make(root)?;
    let found = statfs(root).map_err(io::Error::from).map_err(failed("look at", root))?;
    if found.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    mount(Some("bpf"), root, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .map_err(io::Error::from)
        .map_err(failed("mount a BPF file system at", root))?;
    tracing::info!(path = %root.display(), "mounted BPF file system");
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    if namespace("self") != namespace("1") {
        tracing::warn!(
            path = %root.display(),
            "the BPF file system is mounted for this process alone: the firewall ends with it; mount one \
             before, and name it by --bpffs"
        );
    }
    Ok(())
}

pub(crate) fn make(folder: &Path) -> Result<(), PinError> {
    fs::create_dir_all(folder).map_err(failed("make", folder))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, PinError> {
    let list =
        || -> io::Result<_> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    list().map_err(failed("list", folder))
}

fn remove(folder: &Path) -> Result<(), PinError> {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed("remove", folder)(source)),
    }
}

/// Wraps an error of an operation on a file.
pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PinError {
    let path = path.to_owned();
    move |source| PinError { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_sockets_have_different_names_that_a_bpf_file_system_takes() {
        let names = ["/run/a.sock", "/run/a-sock", "/run/a/sock", "/run/a_2esock"].map(escape);
        for (index, name) in names.iter().enumerate() {
            assert!(!name.contains(['.', '/']), "{name}");
            assert!(!names[index + 1..].contains(name), "{name}");
        }
    }
}
