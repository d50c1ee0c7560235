//! The rules that a restart uses, kept on disk.

use std::{
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
    /// The rules.
    file: RuleFile,
}

/// Name of the file.
const FILE: &str = "rules.json";

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
        Ok(if kept.configuration == configuration.text { kept.file } else { configuration.clone() })
    }

    /// Keeps rules; a reader sees the old file or the new, whatever happens meanwhile.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep(&self, configuration: &RuleFile, file: &RuleFile) -> Result<(), StateError> {
        let path = self.0.join(FILE);
        let write = || -> io::Result<()> {
            let kept = Kept { configuration: configuration.text.clone(), file: file.clone() };
            fs::create_dir_all(&self.0)?;
            let new = path.with_extension("new");
            fs::write(&new, serde_json::to_vec(&kept)?)?;
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
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_old_rule_set() {
        let root = tempfile::tempdir().unwrap();
        let folder = StateFolder::of_gateway(root.path(), Path::new("gw.sock"));
        fs::create_dir(root.path().join("gw.sock")).unwrap();
        fs::write(root.path().join("gw.sock").join(FILE), "{").unwrap();
        assert!(folder.newest(&file("gateway.yaml", "a")).unwrap_err().to_string().contains(FILE));
    }

    fn file(name: &str, text: &str) -> RuleFile {
        RuleFile { name: name.into(), text: text.into() }
    }
}
