//! Why the authority cannot be opened or cannot sign.

use std::{io, path::PathBuf};

/// Why the authority cannot be opened or cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file does not hold what its name says.
    #[error("{}: expected {expected}; restore the file from a backup", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A certificate was made for another key than the one beside it.
    #[error("{} does not belong to {}; restore both from the same backup", certificate.display(), key.display())]
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// A certificate that others depend on is gone.
    #[error("{} is missing although {} exists; restore it from a backup", missing.display(), present.display())]
    Missing {
        /// The file that is gone.
        missing: PathBuf,
        /// The file that depends on it.
        present: PathBuf,
    },
    /// A CA certificate is past its end.
    #[error("{} expired at {at}", path.display())]
    Expired {
        /// The certificate file.
        path: PathBuf,
        /// When, RFC 2822.
        at: String,
    },
    /// The root was rolled over lately.
    #[error(
        "the root was rolled over lately: another roll-over can begin after {until}, when nobody knows the old root alone"
    )]
    RollingOver {
        /// When that is over.
        until: time::OffsetDateTime,
    },
    /// A key or certificate cannot be made.
    #[error("make {what}: {source}")]
    Make {
        /// Which one.
        what: &'static str,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// The CA bundle cannot be encoded.
    #[error("encode the CA bundle as PKCS #7: {source}")]
    Bundle {
        /// Why it failed.
        #[from]
        source: der::Error,
    },
    /// A private key cannot be decrypted or encrypted.
    #[error("{}: {source}", path.display())]
    Passphrase {
        /// The key file.
        path: PathBuf,
        /// Why not.
        source: crate::PassphraseError,
    },
    /// The passphrase of the keys cannot be had.
    #[error(transparent)]
    NoPassphrase(#[from] crate::PassphraseError),
    /// A token key cannot be used.
    #[error("token key: {source}")]
    TokenKey {
        /// Why it failed.
        #[from]
        source: crate::TokenError,
    },
}
