//! What a controller directory was initialized with: `controller.json`.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use nightgate_pki::{FileAccess, write_atomically};
use nightgate_store::AuditBounds;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::{Address, EventBounds};

/// Version of the file's format.
const VERSION: u32 = 1;

/// Where the controller listens and how others reach it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    version: u32,
    /// How clients, routers and operators reach it.
    pub address: Address,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Further host names and addresses that its certificate is valid for.
    #[serde(default)]
    pub names: Vec<String>,
    /// Whether OpenZiti clients of 2022 are served too, with TLS 1.2 and an RSA certificate.
    #[serde(default)]
    pub legacy_clients: bool,
    /// How much of the audit log is kept.
    #[serde(default)]
    pub audit: AuditBounds,
    /// How much of the events is kept in files.
    #[serde(default)]
    pub events: EventBounds,
    /// Where Prometheus is served, in the clear and to anybody who reaches it; none to serve it nowhere.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// UNIX socket where it is served, to the user that the controller runs as, and its group; none for no socket.
    #[serde(default)]
    pub metrics_socket: Option<PathBuf>,
}

/// Why `controller.json` was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read or written.
    #[error("{operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {source}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The file was written by a later version.
    #[error("{}: version {found}, this program knows version {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Version of the file.
        found: u32,
    },
    /// A further name is neither host name nor address.
    #[error("name {0:?}: expected a host name or an IP address")]
    Name(String),
}

impl Settings {
    /// Settings without further names.
    pub fn new(address: Address, listen: SocketAddr) -> Self {
        Self {
            version: VERSION,
            address,
            listen,
            names: Vec::new(),
            legacy_clients: false,
            audit: AuditBounds::default(),
            events: EventBounds::default(),
            metrics: None,
            metrics_socket: None,
        }
    }

    /// Reads the settings of a directory; `None` if it was never initialized.
    ///
    /// # Errors
    /// The file cannot be read, has unknown keys or is of a later version.
    pub fn load(dir: &Path) -> Result<Option<Self>, SettingsError> {
        let path = file(dir);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SettingsError::File { operation: "read", path, source }),
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(settings) if settings.version == VERSION => Ok(Some(settings)),
            Ok(settings) => Err(SettingsError::Version { path, found: settings.version }),
            Err(source) => Err(SettingsError::Shape { path, source }),
        }
    }

    /// Writes the settings of a directory, in one step.
    ///
    /// # Errors
    /// The directory does not exist or is not writable.
    pub fn save(&self, dir: &Path) -> Result<(), SettingsError> {
        let path = file(dir);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|source| SettingsError::Shape { path: path.clone(), source })?;
        write_atomically(&path, &text, FileAccess::Everyone).map_err(|source| SettingsError::File {
            operation: "write",
            path,
            source,
        })
    }

    /// Every host that the server certificate names, the advertised one first.
    pub(crate) fn hosts(&self) -> Result<Vec<ServerName<'static>>, SettingsError> {
        let mut hosts = vec![self.address.host().clone()];
        for name in &self.names {
            let Ok(host) = ServerName::try_from(name.clone()) else {
                return Err(SettingsError::Name(name.clone()));
            };
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Ok(hosts)
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("controller.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new("ctrl.example:443".parse().unwrap(), "[::]:443".parse().unwrap())
    }

    #[test]
    fn settings_survive_the_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Settings::load(dir.path()).unwrap(), None);
        let settings = Settings { names: vec!["localhost".into()], ..settings() };
        settings.save(dir.path()).unwrap();
        assert_eq!(Settings::load(dir.path()).unwrap(), Some(settings));
    }

    #[test]
    fn unknown_keys_and_later_versions_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut document = serde_json::to_value(settings()).unwrap();
        document["listne"] = "0.0.0.0:1".into();
        fs::write(file(dir.path()), document.to_string()).unwrap();
        assert!(matches!(Settings::load(dir.path()), Err(SettingsError::Shape { .. })));
        let later = Settings { version: 2, ..settings() };
        later.save(dir.path()).unwrap();
        assert!(matches!(Settings::load(dir.path()), Err(SettingsError::Version { found: 2, .. })));
    }
}
