//! What a gateway or tunneler shows to host under an instance name that others host under too.

use std::{fmt, fs, io, path::Path, sync::Arc};

use nightgate_model::{
    id::ServiceId,
    terminator::{MAX_SECRET, seal},
};

/// Shortest secret in bytes: every router knows a hash of it, and might try what it could be.
const SHORTEST: usize = 16;

/// A secret that hosts have in common; none by default.
#[derive(Clone, Default)]
pub struct InstanceSecret(Arc<[u8]>);

/// A secret that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InstanceSecretError {
    /// Its file cannot be read.
    #[error("{key}: read {path}: {source}")]
    Read {
        /// What names the file.
        key: &'static str,
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// It is too short or too long.
    #[error(
        "{key}: {path} holds {found} bytes, expected a random text of {SHORTEST} to {MAX_SECRET}; \
         `openssl rand -hex 32` makes one"
    )]
    Length {
        /// What names the file.
        key: &'static str,
        /// The file.
        path: String,
        /// Its length in bytes, without an end of line.
        found: usize,
    },
}

impl InstanceSecret {
    /// Reads it from the file that `key` names; an end of line behind it is not part of it.
    ///
    /// # Errors
    /// The file cannot be read, or what it holds has not 16 to 1024 bytes.
    pub fn read(key: &'static str, path: &Path) -> Result<Self, InstanceSecretError> {
        let shown = || path.display().to_string();
        let failed = |source| InstanceSecretError::Read { key, path: shown(), source };
        let text = fs::read(path).map_err(failed)?;
        let secret = text.trim_ascii_end();
        if !(SHORTEST..=MAX_SECRET).contains(&secret.len()) {
            return Err(InstanceSecretError::Length { key, path: shown(), found: secret.len() });
        }
        Ok(Self(secret.into()))
    }

    /// The secret, for an SDK, which seals it itself; empty for none.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What routers are told of it; nothing for terminators that have no instance name.
    pub(super) fn sealed(&self, service: &ServiceId, instance: &str) -> String {
        if instance.is_empty() { String::new() } else { seal(service, instance, &self.0) }
    }
}

impl fmt::Debug for InstanceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InstanceSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_without_its_end_of_line_and_seals_names_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let missing = InstanceSecret::read("secret_file", &file).unwrap_err().to_string();
        assert!(missing.starts_with("secret_file: read"), "{missing}");
        for unfit in ["", "too short\n", &"x".repeat(MAX_SECRET + 1)] {
            fs::write(&file, unfit).unwrap();
            let read = InstanceSecret::read("secret_file", &file);
            assert!(matches!(read, Err(InstanceSecretError::Length { .. })));
        }
        fs::write(&file, "correct horse battery\n").unwrap();
        let secret = InstanceSecret::read("secret_file", &file).unwrap();
        let service = ServiceId::new("s");
        // As an SDK's host that shows the same.
        assert_eq!(
            secret.sealed(&service, "blue"),
            seal(&service, "blue", b"correct horse battery")
        );
        assert_eq!(secret.sealed(&service, ""), "");
        assert_eq!(InstanceSecret::default().sealed(&service, "blue"), "");
        assert_eq!(format!("{secret:?}"), "InstanceSecret");
    }
}
