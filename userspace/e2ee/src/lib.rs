//! End-to-end encryption of circuits on libsodium.
//!
//! There are two methods, one of them in two forms. Each end of a circuit sends a [`Share`] for both, OpenZiti's part in the
//! `PublicKey` header (1003) of Connect and Dial and of their answers, ours in a header that others
//! ignore; [`Proposal`] and [`Protection::answer`] settle on one. Routers between the two ends see
//! only ciphertext.
//!
//! - OpenZiti's: an X25519 key exchange ([`KeyPair`], libsodium's `crypto_kx`) gives one key per
//!   direction, and each direction is one secret stream ([`Outbound`], [`Inbound`], libsodium's
//!   `crypto_secretstream_xchacha20poly1305`). The first Data message of each direction carries
//!   [`Outbound::header`] and nothing else; the body of each later one is one sealed record. An empty
//!   body is never sealed: it only carries flags, such as the end of the stream. The method proves
//!   no identities and does not authenticate the end: a router can put itself in the middle, and cut
//!   a stream short. Its clients can be started with another form of it, which both ends then have to use:
//!   a P-256 key exchange and AES-256-GCM ([`Proposal::aes_gcm`]); a host of ours takes either.
//! - Ours, for two ends that both have [`nightgate_identity::Credentials`]: X-Wing, a signature of
//!   each end over the whole handshake, records of AEGIS-256 or ChaCha20-Poly1305 whose flags are
//!   authenticated too, a last record that says so, and keys that change. `docs/end-to-end-encryption.md`
//!   has it byte by byte.
//!
//! ```
//! use nightgate_e2ee::{Binding, KeyPair, Proposal, Protection};
//!
//! let binding = Binding { service: "service id", instance: "", app_data: b"" };
//! let proposal = Proposal::new(None, binding)?;
//! let offered = proposal.share();
//! let keys = KeyPair::generate()?;
//! let (answer, mut host) =
//!     Protection::answer(Some(&keys), None, binding, &offered.public_key, &offered.handshake)?;
//! let mut dialer = proposal.complete(&answer.public_key, &answer.handshake)?;
//!
//! if let Some(header) = dialer.sealer.header() {
//!     assert_eq!(host.opener.open(&header, 0)?, None);
//! }
//! let record = dialer.sealer.seal(b"hello", 0)?;
//! assert_eq!(host.opener.open(&record, 0)?, Some(b"hello".to_vec()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod native;
mod openziti;
mod proposal;
mod protection;

pub use error::{RecordError, SealError};
pub use native::{
    Binding, Cipher, EARLY_ID_LENGTH, EarlyId, EarlyOffer, EarlySecret, EarlySecrets,
    HandshakeError, LINE_CIRCUITS, LINE_LIFETIME, LINE_PAUSE, Lines, REKEY_AFTER,
};
pub use openziti::{
    HEADER_LENGTH, Inbound, KeyExchangeError, KeyPair, Outbound, POINT_LENGTH, PUBLIC_KEY_LENGTH,
    PublicKey, RECORD_OVERHEAD, SessionKeys, TAG_LENGTH,
};
pub use proposal::{MAX_EARLY_DATA, Proposal};
pub use protection::{
    AgreementError, END, MAX_NATIVE_PLAINTEXT, Method, Opener, Own, Protection, Sealer, Share,
};

#[cfg(test)]
mod testing;
