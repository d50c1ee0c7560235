//! Identity files and the TLS that identities speak.
//!
//! Everything that joins the overlay (applications, routers, gateways, the command line) holds one
//! identity file; this crate reads and writes it and makes TLS configurations of it.

mod believed;
mod credentials;
mod fingerprint;
mod identity;
mod private_file;
mod request;
mod tls;
mod trust;

pub use credentials::{Credentials, CredentialsError, ProofError, ProvenIdentity, Signature};
pub use fingerprint::fingerprint;
pub use identity::{Identity, IdentityError};
pub use nightgate_passphrase::{Passphrase, PassphraseError};
pub use request::{RequestError, key_and_request};
pub use tls::{OldestTls, TlsSetupError, provider};
pub use trust::ClientTrust;
