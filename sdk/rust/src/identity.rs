//! The identity file: a private key, its certificate, and whom to trust.

use std::{
    fmt, fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

/// What precedes inline PEM text in the identity file.
const PEM_PREFIX: &str = "pem:";

/// An enrolled identity: everything an application needs to join the overlay.
///
/// The file format is OpenZiti's. Whoever can read the file is the identity, so
/// [`save`](Self::save) makes it readable by its owner only.
#[derive(Clone)]
pub struct Identity {
    controller: String,
    key_pem: String,
    certificates_pem: String,
    trusted_pem: String,
}

/// An identity file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("read identity file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("write identity file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The text is not JSON of the expected shape.
    #[error("identity file: expected JSON with ztAPI and id.key, id.cert, id.ca")]
    Shape(#[source] serde_json::Error),
    /// A part is kept elsewhere than in the file.
    #[error("identity file: id.{part} is not inline, expected it to start with {PEM_PREFIX:?}")]
    NotInline {
        /// `key`, `cert` or `ca`.
        part: &'static str,
    },
    /// A part holds no usable PEM.
    #[error("identity file: id.{part} holds no usable PEM")]
    Pem {
        /// `key`, `cert` or `ca`.
        part: &'static str,
        /// What the PEM reader found.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
}

#[derive(Deserialize, Serialize)]
struct IdentityFile {
    #[serde(rename = "ztAPI")]
    controller: String,
    #[serde(default, rename = "ztAPIs")]
    controllers: Vec<String>,
    id: Credentials,
}

#[derive(Deserialize, Serialize)]
struct Credentials {
    key: String,
    cert: String,
    ca: String,
}

impl Identity {
    pub(crate) fn new(
        controller: String,
        key_pem: String,
        certificates_pem: String,
        trusted_pem: String,
    ) -> Result<Self, IdentityError> {
        let identity = Self { controller, key_pem, certificates_pem, trusted_pem };
        identity.private_key()?;
        identity.certificates()?;
        identity.trusted()?;
        Ok(identity)
    }

    /// Reads an identity file.
    ///
    /// # Errors
    /// The file cannot be read or is no identity file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path)
            .map_err(|source| IdentityError::Read { path: path.to_owned(), source })?;
        Self::from_json(&text)
    }

    /// Writes the identity file, readable and writable by its owner only. An existing file is
    /// replaced in one step: it holds either the old or the new identity at every moment.
    ///
    /// # Errors
    /// The folder is missing or cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), IdentityError> {
        let path = path.as_ref();
        replace_file(path, self.to_json().as_bytes())
            .map_err(|source| IdentityError::Write { path: path.to_owned(), source })
    }

    /// Reads the text of an identity file.
    ///
    /// # Errors
    /// The text is not an identity file's.
    pub fn from_json(text: &str) -> Result<Self, IdentityError> {
        let file: IdentityFile = serde_json::from_str(text).map_err(IdentityError::Shape)?;
        let inline = |part, value: &str| {
            value
                .strip_prefix(PEM_PREFIX)
                .map(str::to_owned)
                .ok_or(IdentityError::NotInline { part })
        };
        Self::new(
            file.controller,
            inline("key", &file.id.key)?,
            inline("cert", &file.id.cert)?,
            inline("ca", &file.id.ca)?,
        )
    }

    /// The text of the identity file. It contains the private key.
    pub fn to_json(&self) -> String {
        let inline = |pem: &str| format!("{PEM_PREFIX}{pem}");
        let file = IdentityFile {
            controller: self.controller.clone(),
            controllers: vec![self.controller.clone()],
            id: Credentials {
                key: inline(&self.key_pem),
                cert: inline(&self.certificates_pem),
                ca: inline(&self.trusted_pem),
            },
        };
        serde_json::to_string_pretty(&file).expect("text fields serialize")
    }

    /// The controller's URL, `https://host:port`.
    pub fn controller(&self) -> &str {
        &self.controller
    }

    /// The private key, for TLS.
    ///
    /// # Errors
    /// The identity file holds no usable key.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, IdentityError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|source| IdentityError::Pem { part: "key", source })
    }

    /// The certificate of the identity, then its issuers if the file has them.
    ///
    /// # Errors
    /// The identity file holds no usable certificate.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        certificates(&self.certificates_pem, "cert")
    }

    /// The certificates to trust.
    ///
    /// # Errors
    /// The identity file holds no usable certificate.
    pub fn trusted(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        certificates(&self.trusted_pem, "ca")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("controller", &self.controller).finish_non_exhaustive()
    }
}

fn certificates(
    pem: &str,
    part: &'static str,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| IdentityError::Pem { part, source })?;
    if found.is_empty() {
        let source = rustls_pki_types::pem::Error::NoItemsFound;
        return Err(IdentityError::Pem { part, source });
    }
    Ok(found)
}

/// Writes a file that only its owner can read, through a neighbour that takes its place.
fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", uuid::Uuid::new_v4().simple()));
    let neighbour = path.with_file_name(name);
    let written = write_private(&neighbour, content).and_then(|()| fs::rename(&neighbour, path));
    if written.is_err() {
        // The reason to report is why the write failed, not whether the remains could be removed.
        drop(fs::remove_file(&neighbour));
    }
    written
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_identity_loads_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.json");
        let identity = sample();

        identity.save(&path).unwrap();
        identity.save(&path).unwrap();

        let loaded = Identity::load(&path).unwrap();
        assert_eq!(loaded.to_json(), identity.to_json());
        assert_eq!(loaded.controller(), "https://ctrl.example:443");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[cfg(unix)]
    #[test]
    fn saved_identity_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.json");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

        sample().save(&path).unwrap();

        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn failed_save_leaves_nothing_behind_and_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("web.json");

        let error = sample().save(&path).unwrap_err();

        assert!(error.to_string().contains("absent/web.json"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn key_kept_outside_the_file_is_refused_by_name() {
        let json = sample().to_json().replacen("\"pem:-----BEGIN PRIVATE", "\"file:///x", 1);

        let error = Identity::from_json(&json).unwrap_err();

        assert!(matches!(error, IdentityError::NotInline { part: "key" }), "{error}");
    }

    #[test]
    fn debug_output_does_not_show_the_key() {
        assert!(!format!("{:?}", sample()).contains("PRIVATE"));
    }

    fn sample() -> Identity {
        let made = rcgen::generate_simple_self_signed(vec!["web".into()]).unwrap();
        Identity::new(
            "https://ctrl.example:443".into(),
            made.signing_key.serialize_pem(),
            made.cert.pem(),
            made.cert.pem(),
        )
        .unwrap()
    }
}
