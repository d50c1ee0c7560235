//! Why a change was not stored.

use nightgate_model::kind::EntityKind;

/// Why a change was not stored, or the state not read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another entity of this kind has the name.
    #[error("there is already {kind} {name:?}")]
    NameTaken {
        /// Kind of entity.
        kind: EntityKind,
        /// The name.
        name: String,
    },
    /// The entity does not exist.
    #[error("there is no {kind} with id {id:?}")]
    NotFound {
        /// Kind of entity.
        kind: EntityKind,
        /// The id.
        id: String,
    },
    /// Another identity logs in with the name.
    #[error("another identity logs in as {username:?}")]
    UsernameTaken {
        /// The name.
        username: String,
    },
    /// Another identity or router authenticates with the certificate.
    #[error("the certificate {fingerprint} belongs to another identity or router")]
    CertificateTaken {
        /// SHA-1 of its DER, lower-case hex.
        fingerprint: String,
    },
    /// The enrollment token was used, was never issued, or belongs to something else.
    #[error("the enrollment token is not valid (any more)")]
    TokenInvalid,
    /// A stored value cannot be read.
    #[error("stored {what} is damaged: {source}")]
    Damaged {
        /// Which value.
        what: &'static str,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
    /// The file was written by a later version.
    #[error(
        "the database has schema version {found}, this program knows up to {known}; use a newer program"
    )]
    Newer {
        /// Version of the file.
        found: i64,
        /// Version of this program.
        known: i64,
    },
    /// The database failed.
    #[error("{operation}: {source}")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// The database file cannot be created.
    #[error("create database {}: {source}", path.display())]
    Create {
        /// The file.
        path: std::path::PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}
