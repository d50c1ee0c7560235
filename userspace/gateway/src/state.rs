//! The rules that a restart uses, kept on disk.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::admin::RuleFile;

/// Folder where a gateway keeps the last good rules that an operator has applied.
#[derive(Clone, Debug)]
pub struct StateFolder(PathBuf);

/// A file of the folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}, expected a folder that root may write", path.display())]
pub struct StateError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What is kept.
#[derive(Debug, Deserialize, Serialize)]
struct Kept {
    /// Text of the configuration that the gateway ran with when the rules were applied.
    configuration: String,
    /// Contents of the files that it names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    files: BTreeMap<String, String>,
    /// The rules.
    file: RuleFile,
}

/// Name of the file with the rules.
const FILE: &str = "rules.json";
/// Name of the file with the configuration.
const GOOD: &str = "good.json";
/// Name of the file with the recorded flows.
const LEARNED: &str = "learned.json";
/// Name of the file with the host's own resolver configuration.
const RESOLVER: &str = "resolver.json";

impl StateFolder {
    /// The folder for the gateway that its operators reach at `admin_socket`, below `root`.
    pub fn of_gateway(root: &Path, admin_socket: &Path) -> Self {
        let socket = admin_socket.to_string_lossy();
        Self(root.join(socket.trim_start_matches('/').replace('/', "-")))
    }

    /// The rules to start with: those that were applied last, unless the configuration has changed since, by
    /// which the operator says that it counts.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn newest(&self, configuration: &RuleFile) -> Result<RuleFile, StateError> {
        let path = self.0.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(configuration.clone());
            }
            Err(source) => return Err(StateError { operation: "read", path, source }),
        };
        let kept: Kept = serde_json::from_slice(&text).map_err(|error| StateError {
            operation: "read",
            path,
            source: error.into(),
        })?;
        let is_same = kept.configuration == configuration.text && kept.files == configuration.files;
        Ok(if is_same { kept.file } else { configuration.clone() })
    }

    /// Keeps the flows that have been recorded.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep_learned(&self, learned: &impl Serialize) -> Result<(), StateError> {
        self.write(LEARNED, learned)
    }

    /// What [`StateFolder::keep_learned`] has kept; `None` if there is nothing that can be read.
    pub fn learned<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&fs::read(self.0.join(LEARNED)).ok()?).ok()
    }

    /// Keeps the host's own resolver configuration.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep_resolver(&self, before: &impl Serialize) -> Result<(), StateError> {
        self.write(RESOLVER, before)
    }

    /// What [`StateFolder::keep_resolver`] has kept; `None` if there is nothing that can be read.
    pub fn resolver<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&fs::read(self.0.join(RESOLVER)).ok()?).ok()
    }

    /// Keeps it no longer.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn forget_resolver(&self) -> Result<(), StateError> {
        let path = self.0.join(RESOLVER);
        fs::remove_file(&path).map_err(|source| StateError { operation: "remove", path, source })
    }

    /// Keeps a configuration that a gateway has started with.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep_good(&self, configuration: &RuleFile) -> Result<(), StateError> {
        self.write(GOOD, configuration)
    }

    /// The configuration that a gateway has started with last from the file of this name, whichever its
    /// admin socket; `None` if there is none.
    pub fn last_good(root: &Path, name: &str) -> Option<RuleFile> {
        let folders = fs::read_dir(root).ok()?.flatten();
        let mut kept = folders.filter_map(|folder| {
            let text = fs::read(folder.path().join(GOOD)).ok()?;
            serde_json::from_slice::<RuleFile>(&text).ok()
        });
        kept.find(|file| file.name == name)
    }

    /// Keeps rules; a reader sees the old file or the new, whatever happens meanwhile.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep(&self, configuration: &RuleFile, file: &RuleFile) -> Result<(), StateError> {
        let RuleFile { text, files, .. } = configuration.clone();
        let kept = Kept { configuration: text, files, file: file.clone() };
        self.write(FILE, &kept)
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        let path = self.0.join(name);
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.0)?;
            let new = path.with_extension("new");
            fs::write(&new, serde_json::to_vec(value)?)?;
            fs::File::open(&new)?.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(&self.0)?.sync_all()
        };
        write().map_err(|source| StateError { operation: "write", path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applied_rules_count_until_the_configuration_changes() {
        let root = tempfile::tempdir().unwrap();
        let folder = StateFolder::of_gateway(root.path(), Path::new("/run/nightgate/gw.sock"));
        let (old, new) = (file("gateway.yaml", "a"), file("gateway.yaml", "b"));
        assert_eq!(folder.newest(&old).unwrap(), old);

        let applied = file("rules.yaml", "c");
        folder.keep(&old, &applied).unwrap();
        assert_eq!(folder.newest(&old).unwrap(), applied);
        assert_eq!(folder.newest(&new).unwrap(), new);

        // So does a file that it names.
        let mut listed = old.clone();
        listed.files.insert("bad.txt".into(), "192.0.2.1".into());
        assert_eq!(folder.newest(&listed).unwrap(), listed);
        folder.keep(&listed, &applied).unwrap();
        assert_eq!(folder.newest(&listed).unwrap(), applied);
        assert_eq!(folder.newest(&old).unwrap(), old);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_old_rule_set() {
        let root = tempfile::tempdir().unwrap();
        let folder = StateFolder::of_gateway(root.path(), Path::new("gw.sock"));
        fs::create_dir(root.path().join("gw.sock")).unwrap();
        fs::write(root.path().join("gw.sock").join(FILE), "{").unwrap();
        assert!(folder.newest(&file("gateway.yaml", "a")).unwrap_err().to_string().contains(FILE));
    }

    #[test]
    fn the_last_good_configuration_is_found_by_the_name_of_its_file() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(StateFolder::last_good(root.path(), "/etc/gw.yaml"), None);
        let (a, b) = (file("/etc/gw.yaml", "a"), file("/etc/other.yaml", "b"));
        StateFolder::of_gateway(root.path(), Path::new("/run/a.sock")).keep_good(&a).unwrap();
        StateFolder::of_gateway(root.path(), Path::new("/run/b.sock")).keep_good(&b).unwrap();
        assert_eq!(StateFolder::last_good(root.path(), "/etc/gw.yaml"), Some(a));
    }

    fn file(name: &str, text: &str) -> RuleFile {
        RuleFile::new(name, text)
    }
}
