//! OpenZiti's method: `crypto_kx` and `crypto_secretstream_xchacha20poly1305` of libsodium.

mod exchange;
mod stream;

pub use exchange::{KeyExchangeError, KeyPair, PUBLIC_KEY_LENGTH, PublicKey, SessionKeys};
pub use stream::{HEADER_LENGTH, Inbound, Outbound, RECORD_OVERHEAD};
