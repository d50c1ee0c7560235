//! The method between our own ends; `docs/end-to-end-encryption.md` describes it.

mod cipher;
mod early;
mod handshake;
mod kept;
mod lines;
mod message;
mod record;
mod resumed;
mod schedule;

pub use cipher::Cipher;
pub use early::{EARLY_ID_LENGTH, EarlyId, EarlyOffer, EarlySecret};
pub use handshake::{Binding, HandshakeError};
pub use kept::EarlySecrets;
pub use lines::{LINE_CIRCUITS, LINE_LIFETIME, LINE_PAUSE, Lines};
pub use record::REKEY_AFTER;

pub(crate) use handshake::{Agreed, Dialing, Host, Now, respond};
pub(crate) use message::is_of_another_version;
pub(crate) use record::{Opening, Sealing};
