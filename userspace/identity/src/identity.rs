//! The identity file: a private key, its certificate, and whom to trust.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use nightgate_passphrase::{Passphrase, PassphraseError, is_encrypted};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::private_file;

/// Port of `https` URLs that name none (RFC 9110 section 4.2.2).
const HTTPS_PORT: u16 = 443;

/// What precedes inline PEM text in the identity file.
const PEM_PREFIX: &str = "pem:";

/// How PEM text begins (RFC 7468 section 2).
const PEM_BEGIN: &str = "-----BEGIN ";

/// An enrolled identity: everything an application needs to join the overlay.
///
/// The file format is OpenZiti's. Whoever can read the file is the identity, so
/// [`save`](Self::save) makes it readable by its owner only, and [`encrypted`](Self::encrypted) by nobody
/// without a passphrase.
#[derive(Clone)]
pub struct Identity {
    controller: String,
    key_pem: String,
    certificates_pem: String,
    trusted_pem: String,
    path: Option<PathBuf>,
    encrypted: Option<EncryptedKey>,
}

/// The key as it is kept.
#[derive(Clone)]
struct EncryptedKey {
    passphrase: Passphrase,
    pem: String,
}

/// An identity file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("read identity file {}; if there is none, `nightgate enroll TOKEN.jwt --out FILE` makes one", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What the file holds is no identity.
    #[error("{} cannot be used; it has to be what an enrollment wrote", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<Self>,
    },
    /// The file cannot be written.
    #[error("write identity file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The key is encrypted, and cannot be opened; or cannot be encrypted.
    #[error("identity file{}: {source}", shown(path.as_deref()))]
    Passphrase {
        /// The file, if the identity came from one.
        path: Option<PathBuf>,
        /// Why not.
        source: PassphraseError,
    },
    /// The text is not JSON of the expected shape.
    #[error("identity file: expected JSON with ztAPI and id.key, id.cert, id.ca")]
    Shape(#[source] serde_json::Error),
    /// The controller's URL cannot be used.
    #[error("identity file: ztAPI is {url:?}, expected https://host:port")]
    Controller {
        /// What the file says.
        url: String,
    },
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
    /// An identity of its parts: the controller's URL, and key, certificates and CA as PEM.
    ///
    /// # Errors
    /// A part holds no usable PEM.
    pub fn new(
        controller: String,
        key_pem: String,
        certificates_pem: String,
        trusted_pem: String,
    ) -> Result<Self, IdentityError> {
        let (path, encrypted) = (None, None);
        let identity = Self { controller, key_pem, certificates_pem, trusted_pem, path, encrypted };
        identity.private_key()?;
        identity.certificates()?;
        identity.trusted()?;
        Ok(identity)
    }

    /// Reads an identity file. If its key is encrypted, it is opened with the passphrase that the process is started
    /// with: [`Passphrase::from_environment`].
    ///
    /// # Errors
    /// The file cannot be read or is no identity file, or the passphrase is missing or wrong.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        Self::read(path.as_ref(), of_environment)
    }

    /// Reads an identity file, and opens its key with this passphrase, if it is encrypted.
    ///
    /// # Errors
    /// The file cannot be read or is no identity file, or the passphrase is wrong.
    pub fn load_with(
        path: impl AsRef<Path>,
        passphrase: &Passphrase,
    ) -> Result<Self, IdentityError> {
        Self::read(path.as_ref(), || Ok(passphrase.clone()))
    }

    fn read(
        path: &Path,
        passphrase: impl FnOnce() -> Result<Passphrase, PassphraseError>,
    ) -> Result<Self, IdentityError> {
        let text = fs::read_to_string(path)
            .map_err(|source| IdentityError::Read { path: path.to_owned(), source })?;
        let path = path.to_owned();
        match Self::parse(&text, passphrase) {
            Ok(identity) => Ok(Self { path: Some(path), ..identity }),
            Err(IdentityError::Passphrase { source, .. }) => {
                Err(IdentityError::Passphrase { path: Some(path), source })
            }
            Err(source) => Err(IdentityError::Unusable { path, source: Box::new(source) }),
        }
    }

    /// The same identity, whose key is encrypted with this passphrase wherever it is kept from now on. Other
    /// programs than Nightgate's do not read such files.
    ///
    /// # Errors
    /// The key cannot be encrypted: it is not in PKCS #8.
    pub fn encrypted(self, passphrase: Passphrase) -> Result<Self, IdentityError> {
        let refused = |source| IdentityError::Passphrase { path: self.path.clone(), source };
        let pem = passphrase.encrypt(&self.key_pem).map_err(refused)?;
        Ok(Self { encrypted: Some(EncryptedKey { passphrase, pem }), ..self })
    }

    /// The same identity, whose key is kept in the clear from now on.
    #[must_use]
    pub fn decrypted(self) -> Self {
        Self { encrypted: None, ..self }
    }

    /// Whether its key is encrypted where it is kept.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted.is_some()
    }

    /// The file it was loaded from; none if it came from somewhere else.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The same identity with a later certificate, in the same file once it is saved there, under the same passphrase.
    ///
    /// # Errors
    /// A part holds no usable PEM, or the key cannot be encrypted.
    pub fn renewed(
        &self,
        key_pem: String,
        certificates_pem: String,
        trusted_pem: String,
    ) -> Result<Self, IdentityError> {
        let renewed = Self::new(self.controller.clone(), key_pem, certificates_pem, trusted_pem)?;
        let renewed = Self { path: self.path.clone(), ..renewed };
        match &self.encrypted {
            Some(EncryptedKey { passphrase, .. }) => renewed.encrypted(passphrase.clone()),
            None => Ok(renewed),
        }
    }

    /// Whether two thirds of its certificate's life are over: when to renew it. `now` is in seconds since the Unix epoch.
    pub fn is_due(&self, now: i64) -> bool {
        self.validity().is_some_and(|(begin, end)| now >= begin + (end - begin) / 3 * 2)
    }

    /// When its certificate begins and ends, in seconds since the Unix epoch; none if it cannot be read.
    pub fn validity(&self) -> Option<(i64, i64)> {
        let certificates = self.certificates().ok()?;
        let (_, leaf) = X509Certificate::from_der(certificates.first()?).ok()?;
        let validity = leaf.validity();
        Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
    }

    /// Writes the identity file, readable and writable by its owner only. An existing file is replaced in one
    /// step, and keeps its owner: it holds either the old or the new identity at every moment.
    ///
    /// # Errors
    /// The folder is missing or cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), IdentityError> {
        let path = path.as_ref();
        private_file::replace(path, self.to_json().as_bytes())
            .map_err(|source| IdentityError::Write { path: path.to_owned(), source })
    }

    /// Reads the text of an identity file; an encrypted key as [`load`](Self::load) does.
    ///
    /// # Errors
    /// The text is not an identity file's, or the passphrase is missing or wrong.
    pub fn from_json(text: &str) -> Result<Self, IdentityError> {
        Self::parse(text, of_environment)
    }

    fn parse(
        text: &str,
        passphrase: impl FnOnce() -> Result<Passphrase, PassphraseError>,
    ) -> Result<Self, IdentityError> {
        let file: IdentityFile = serde_json::from_str(text).map_err(IdentityError::Shape)?;
        let inline = |part, value: &str| match value.strip_prefix(PEM_PREFIX) {
            Some(pem) => Ok(pem.to_owned()),
            // As OpenZiti's C SDK wrote it until 2022.
            None if value.starts_with(PEM_BEGIN) => Ok(value.to_owned()),
            None => Err(IdentityError::NotInline { part }),
        };
        let key = inline("key", &file.id.key)?;
        let certificates = inline("cert", &file.id.cert)?;
        let trusted = inline("ca", &file.id.ca)?;
        if !is_encrypted(&key) {
            return Self::new(file.controller, key, certificates, trusted);
        }
        let refused = |source| IdentityError::Passphrase { path: None, source };
        let passphrase = passphrase().map_err(refused)?;
        let plain = passphrase.decrypt(&key).map_err(refused)?;
        let identity = Self::new(file.controller, plain, certificates, trusted)?;
        Ok(Self { encrypted: Some(EncryptedKey { passphrase, pem: key }), ..identity })
    }

    /// The text of the identity file. It contains the private key, encrypted if there is a passphrase.
    pub fn to_json(&self) -> String {
        let inline = |pem: &str| format!("{PEM_PREFIX}{pem}");
        let file = IdentityFile {
            controller: self.controller.clone(),
            controllers: vec![self.controller.clone()],
            id: Credentials {
                key: inline(self.encrypted.as_ref().map_or(&self.key_pem, |key| &key.pem)),
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

    /// Host and port of the controller, from its URL; port 443 when the URL names none.
    ///
    /// # Errors
    /// The URL is not `https://host[:port]`.
    pub fn controller_address(&self) -> Result<(String, u16), IdentityError> {
        let wrong = || IdentityError::Controller { url: self.controller.clone() };
        let rest = self.controller.strip_prefix("https://").ok_or_else(wrong)?;
        split_address(rest.split('/').next().unwrap_or_default()).ok_or_else(wrong)
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

    /// The common name of the certificate's subject: the id under which it was enrolled. `None` when
    /// the certificate has none.
    ///
    /// # Errors
    /// The identity file holds no usable certificate.
    pub fn common_name(&self) -> Result<Option<String>, IdentityError> {
        let certificates = self.certificates()?;
        let parsed = certificates
            .first()
            .and_then(|leaf| X509Certificate::from_der(leaf).ok())
            .map(|(_, certificate)| certificate);
        let name = parsed.as_ref().and_then(|leaf| leaf.subject().iter_common_name().next());
        Ok(name.and_then(|name| name.as_str().ok()).map(str::to_owned))
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

fn of_environment() -> Result<Passphrase, PassphraseError> {
    Passphrase::from_environment()?.ok_or(PassphraseError::Needed)
}

/// A space and the path, if there is one.
fn shown(path: Option<&Path>) -> String {
    path.map(|path| format!(" {}", path.display())).unwrap_or_default()
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_address(address: &str) -> Option<(String, u16)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => address.split_at(address.find(':').unwrap_or(address.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None if port.is_empty() => HTTPS_PORT,
        None => return None,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
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

#[cfg(test)]
mod tests;
