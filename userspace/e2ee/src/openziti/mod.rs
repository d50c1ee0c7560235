//! OpenZiti's methods: `crypto_kx` and `crypto_secretstream_xchacha20poly1305` of libsodium, and P-256 with
//! AES-256-GCM for clients started with that.

mod aes_gcm;
mod exchange;
mod stream;

pub(crate) use aes_gcm::{Direction, PointPair};
pub use aes_gcm::{POINT_LENGTH, TAG_LENGTH};
pub use exchange::{KeyExchangeError, KeyPair, PUBLIC_KEY_LENGTH, PublicKey, SessionKeys};
pub use stream::{HEADER_LENGTH, Inbound, Outbound, RECORD_OVERHEAD};
