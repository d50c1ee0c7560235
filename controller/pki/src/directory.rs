//! Where an authority keeps its files, and what it encrypts its private keys with.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nightgate_passphrase::{Passphrase, PassphraseError, is_encrypted};

use crate::{
    FileAccess, PkiError,
    files::{read, write},
};

/// Where an authority keeps its files, and what it encrypts its private keys with.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    passphrase: Option<Passphrase>,
}

/// The file of a private key.
#[derive(Clone, Debug)]
pub(crate) struct KeyFile {
    pub(crate) path: PathBuf,
    passphrase: Option<Passphrase>,
}

impl Directory {
    /// A directory whose keys are encrypted, if there is a passphrase.
    pub fn new(path: impl Into<PathBuf>, passphrase: Option<Passphrase>) -> Self {
        Self { path: path.into(), passphrase }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a key.
    pub(crate) fn key(&self, name: &str) -> KeyFile {
        let path = self.path.join(format!("{name}.key"));
        KeyFile { path, passphrase: self.passphrase.clone() }
    }

    /// Encrypts the keys that were written before there was a passphrase.
    pub(crate) fn encrypt_keys(&self) -> Result<(), PkiError> {
        if self.passphrase.is_none() {
            return Ok(());
        }
        let failed = |source| PkiError::File { operation: "read", path: self.path.clone(), source };
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "key") {
                let file = KeyFile { path, passphrase: self.passphrase.clone() };
                if let Some(plain) = file.text()?.filter(|text| !is_encrypted(text)) {
                    file.save(&plain)?;
                }
            }
        }
        Ok(())
    }
}

impl From<&Path> for Directory {
    fn from(path: &Path) -> Self {
        Self::new(path, None)
    }
}

impl KeyFile {
    /// The PEM of the key, decrypted; `None` if there is no file.
    pub(crate) fn load(&self) -> Result<Option<String>, PkiError> {
        let Some(text) = self.text()? else { return Ok(None) };
        if !is_encrypted(&text) {
            return Ok(Some(text));
        }
        let passphrase = self.passphrase.as_ref().ok_or(PassphraseError::Needed);
        let plain = passphrase.and_then(|passphrase| passphrase.decrypt(&text));
        plain.map(Some).map_err(|source| self.failed(source))
    }

    /// Writes the PEM of a key, encrypted if there is a passphrase.
    pub(crate) fn save(&self, pem: &str) -> Result<(), PkiError> {
        let encrypted = self.passphrase.as_ref().map(|passphrase| passphrase.encrypt(pem));
        let encrypted = encrypted.transpose().map_err(|source| self.failed(source))?;
        let text = encrypted.as_deref().unwrap_or(pem);
        write(&self.path, text.as_bytes(), FileAccess::Owner)
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    fn text(&self) -> Result<Option<String>, PkiError> {
        Ok(read(&self.path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn failed(&self, source: PassphraseError) -> PkiError {
        PkiError::Passphrase { path: self.path.clone(), source }
    }
}
