//! End-to-end encryption of circuits on libsodium.
//!
//! OpenZiti's method: an X25519 key exchange ([`KeyPair`], libsodium's `crypto_kx`) gives one key per
//! direction, and each direction is one secret stream ([`Outbound`], [`Inbound`], libsodium's
//! `crypto_secretstream_xchacha20poly1305`). The end that dials is the key exchange's client, the end
//! that hosts its server; public keys travel in the `PublicKey` header (1003) of Connect and Dial
//! and of their answers. Routers between the two ends see only ciphertext.
//!
//! On a circuit, the first Data message of each direction carries [`Outbound::header`] and nothing
//! else; the body of each later Data message is one sealed record. An empty body is never sealed: it
//! only carries flags, such as the end of the stream. The method does not authenticate that end, so
//! a router can cut a stream short unnoticed; protocols that care must frame their own messages.
//!
//! ```
//! use nightgate_e2ee::KeyPair;
//!
//! let (dialer, host) = (KeyPair::generate()?, KeyPair::generate()?);
//! let (mut to_host, _) = dialer.dialer_keys(host.public_key())?.into_streams()?;
//! let (_, mut from_dialer) = host.host_keys(dialer.public_key())?.into_streams()?;
//!
//! assert_eq!(from_dialer.open(&to_host.header())?, None);
//! let record = to_host.seal(b"hello")?;
//! assert_eq!(from_dialer.open(&record)?, Some(b"hello".to_vec()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod exchange;
mod stream;

pub use exchange::{KeyExchangeError, KeyPair, PUBLIC_KEY_LENGTH, PublicKey, SessionKeys};
pub use stream::{HEADER_LENGTH, Inbound, Outbound, RECORD_OVERHEAD, RecordError, SealError};
