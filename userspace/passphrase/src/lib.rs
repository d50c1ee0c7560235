//! The passphrase that private keys are encrypted with where they are kept: PKCS #8 with PBES2 (RFC 5958 section 3,
//! RFC 8018 section 6.2), scrypt and AES-256.

use std::{
    env,
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use pkcs8::{
    EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef,
    der::{SecretDocument, pem::LineEnding},
};

/// Environment variable that names the file with the passphrase.
const FILE: &str = "NIGHTGATE_KEY_PASSPHRASE_FILE";

/// Environment variable that is the passphrase; whoever may see the process's environment sees it.
const TEXT: &str = "NIGHTGATE_KEY_PASSPHRASE";

/// Name of the credential that systemd passes on (`LoadCredential=`, systemd.exec(5)).
const CREDENTIAL: &str = "nightgate-key-passphrase";

/// PEM labels (RFC 7468 sections 10 and 11).
const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// What private keys are encrypted with.
#[derive(Clone, Eq, PartialEq)]
pub struct Passphrase(Arc<str>);

/// A passphrase that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Its file cannot be read.
    #[error("read the passphrase of keys from {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is nothing in it, or no text.
    #[error("the passphrase of keys from {from} is empty or not UTF-8")]
    Empty {
        /// Where it comes from.
        from: String,
    },
    /// A key is encrypted, and there is no passphrase.
    #[error(
        "the key is encrypted: give its passphrase by {FILE}, by the systemd credential {CREDENTIAL}, or by {TEXT}"
    )]
    Needed,
    /// A key was encrypted with another one.
    #[error("the key was encrypted with another passphrase, or is damaged")]
    Wrong,
    /// A key cannot be encrypted.
    #[error(
        "the key cannot be encrypted: it is not in PKCS #8 (BEGIN PRIVATE KEY); `openssl pkcs8 -topk8 -nocrypt` makes it so"
    )]
    Key,
}

impl Passphrase {
    /// Takes a text.
    ///
    /// # Errors
    /// It is empty.
    pub fn new(text: &str) -> Result<Self, PassphraseError> {
        Self::of(text.as_bytes(), "the program")
    }

    /// The passphrase that the process is started with, if it is: the text of the file that
    /// `NIGHTGATE_KEY_PASSPHRASE_FILE` names, else the systemd credential `nightgate-key-passphrase`, else
    /// `NIGHTGATE_KEY_PASSPHRASE`. An end of line behind it is not part of it.
    ///
    /// # Errors
    /// A file cannot be read, or the passphrase is empty.
    pub fn from_environment() -> Result<Option<Self>, PassphraseError> {
        Self::from_variables(env::var_os)
    }

    /// The text of a file; an end of line behind it is not part of it.
    ///
    /// # Errors
    /// The file cannot be read, or there is no passphrase in it.
    pub fn from_file(path: &Path) -> Result<Self, PassphraseError> {
        let text =
            fs::read(path).map_err(|source| PassphraseError::Read { path: path.into(), source })?;
        Self::of(&text, &path.display().to_string())
    }

    fn from_variables(
        variable: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Option<Self>, PassphraseError> {
        let credentials = variable("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let credential = credentials.map(|folder| folder.join(CREDENTIAL));
        let named = variable(FILE).map(PathBuf::from);
        let file = named.or_else(|| credential.filter(|credential| credential.exists()));
        if let Some(path) = file {
            return Self::from_file(&path).map(Some);
        }
        variable(TEXT).map(|text| Self::of(text.as_encoded_bytes(), TEXT)).transpose()
    }

    fn of(bytes: &[u8], from: &str) -> Result<Self, PassphraseError> {
        let text = std::str::from_utf8(bytes).map(|text| text.trim_end_matches(['\r', '\n']));
        match text {
            Ok(text) if !text.is_empty() => Ok(Self(text.into())),
            Ok(_) | Err(_) => Err(PassphraseError::Empty { from: from.to_owned() }),
        }
    }

    /// The PEM of an encrypted key of this PEM.
    ///
    /// # Errors
    /// The key is not in PKCS #8.
    pub fn encrypt(&self, pem: &str) -> Result<String, PassphraseError> {
        let (_, plain) = SecretDocument::from_pem(pem).or(Err(PassphraseError::Key))?;
        let key = PrivateKeyInfoRef::try_from(plain.as_bytes()).or(Err(PassphraseError::Key))?;
        let encrypted = key.encrypt(self.0.as_bytes()).or(Err(PassphraseError::Key))?;
        let pem = encrypted.to_pem(ENCRYPTED, LineEnding::LF).or(Err(PassphraseError::Key))?;
        Ok(String::clone(&pem))
    }

    /// The PEM of the key in an encrypted one.
    ///
    /// # Errors
    /// It was encrypted with another passphrase, or is damaged.
    pub fn decrypt(&self, pem: &str) -> Result<String, PassphraseError> {
        let (_, encrypted) = SecretDocument::from_pem(pem).or(Err(PassphraseError::Wrong))?;
        let key = EncryptedPrivateKeyInfoRef::try_from(encrypted.as_bytes())
            .or(Err(PassphraseError::Wrong))?;
        let plain = key.decrypt(self.0.as_bytes()).or(Err(PassphraseError::Wrong))?;
        let pem = plain.to_pem(PLAIN, LineEnding::LF).or(Err(PassphraseError::Wrong))?;
        Ok(String::clone(&pem))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// Whether the text of a key in PEM is encrypted.
pub fn is_encrypted(pem: &str) -> bool {
    pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

    #[test]
    fn only_the_passphrase_opens_a_key() {
        let pem = KeyPair::generate().unwrap().serialize_pem();
        let passphrase = Passphrase::new("correct horse\n").unwrap();
        let encrypted = passphrase.encrypt(&pem).unwrap();
        assert!(is_encrypted(&encrypted) && !is_encrypted(&pem));
        let same = Passphrase::new("correct horse").unwrap().decrypt(&encrypted).unwrap();
        assert_eq!(KeyPair::from_pem(&same).unwrap().serialize_pem(), pem);
        let wrong = Passphrase::new("battery staple").unwrap().decrypt(&encrypted);
        assert!(matches!(wrong, Err(PassphraseError::Wrong)));
        assert!(!format!("{passphrase:?}").contains("horse"));
    }

    #[test]
    fn it_comes_from_a_file_before_a_credential_before_a_variable() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "from the file\n").unwrap();
        let read = |set: &[(&str, &Path)]| {
            Passphrase::from_variables(|name| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.as_os_str().to_owned())
            })
        };
        let said = |set: &[(&str, &Path)]| read(set).unwrap().map(|found| found.0.to_string());
        let text = (TEXT, Path::new("from the variable"));
        let credentials = ("CREDENTIALS_DIRECTORY", dir.path());
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[text, credentials]).as_deref(), Some("from the variable"));
        fs::write(dir.path().join(CREDENTIAL), "from systemd").unwrap();
        assert_eq!(said(&[text, credentials]).as_deref(), Some("from systemd"));
        assert_eq!(said(&[text, credentials, (FILE, &file)]).as_deref(), Some("from the file"));
        fs::write(&file, "\n").unwrap();
        assert!(matches!(read(&[(FILE, &file)]), Err(PassphraseError::Empty { .. })));
        let missing = dir.path().join("missing");
        assert!(matches!(read(&[(FILE, &missing)]), Err(PassphraseError::Read { .. })));
    }
}
