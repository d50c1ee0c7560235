//! The controller's certificate authority, enrollment tokens and session tokens.
//!
//! One directory holds everything: the root, an intermediate that signs all other certificates, the
//! TLS server certificate, and the key of session tokens. What is missing is made on first start;
//! a certificate file is written after its key, so a half-made pair is made again, never used.
//!
//! Time is always an argument.

mod authority;
mod bundle;
mod ca;
mod check;
mod directory;
mod error;
mod files;
mod foreign;
mod issue;
mod pair;
mod request;
mod rollover;
mod seal;
mod token;

pub use authority::{Authority, ServerIdentity};
pub use bundle::CaBundle;
pub use check::check;
pub use directory::Directory;
pub use error::PkiError;
pub use files::{FileAccess, write_atomically};
pub use foreign::{ForeignCertificate, ForeignError};
pub use issue::{Issued, IssuedWithKey, fingerprint};
pub use nightgate_passphrase::{Passphrase, PassphraseError};
pub use request::{RequestError, check as check_request};
pub use rollover::{Described, describe, roll_over, roll_over_root};
pub use seal::{Seal, SealError};
pub use token::{Claims, TokenError, TokenKey};
