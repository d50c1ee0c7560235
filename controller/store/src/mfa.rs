//! Second factors of identities, and what API sessions have shown of them.

use nightgate_model::id::{ApiSessionId, IdentityId};

use crate::Timestamp;

/// The second factor of an identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mfa {
    /// Whose.
    pub identity: IdentityId,
    /// Identifier.
    pub id: String,
    /// Its holder has shown a first code. Until then, nobody asks for it.
    pub is_verified: bool,
    /// Its secret and recovery codes, sealed.
    pub sealed: Vec<u8>,
    /// The time step of the last code that was used; that code and earlier ones are refused (RFC 6238 section 5.2).
    pub last_step: u64,
    /// When it was enrolled.
    pub created_at: Timestamp,
}

/// How an API session stands with a second factor.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SecondFactor {
    /// None is asked for.
    #[default]
    NotNeeded,
    /// One is asked for, and until it is shown the session is good for nothing else.
    Due,
    /// It was shown, at this moment.
    Passed(Timestamp),
}

/// Which API sessions a step is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Whose {
    /// One.
    Session(ApiSessionId),
    /// All of an identity.
    Identity(IdentityId),
}
