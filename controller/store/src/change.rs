//! The changes that the store accepts, each one transaction.

use nightgate_model::{
    id::{IdentityId, RouterId},
    kind::EntityKind,
};
use sha2::{Digest as _, Sha256};

use crate::{AnyEntity, AuditRecord, Timestamp};

/// A change of the model: all of its steps or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// What the audit log says about it.
    pub audit: Vec<AuditRecord>,
}

/// One step of a [`Change`].
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Adds an entity.
    Create(AnyEntity),
    /// Replaces an entity. An identity that is disabled loses its API sessions.
    Update(AnyEntity),
    /// Removes an entity, with its sessions and its pending enrollment.
    Delete(EntityKind, String),
    /// Lets an identity or router enroll.
    Enroll(EnrollmentTarget, Enrollment),
    /// Lets an identity log in with a password, in the place of one that it had.
    SetPassword(PasswordLogin),
    /// Takes the password of an identity away.
    RemovePassword(IdentityId),
    /// Uses up an enrollment token and records the certificate that was issued for it.
    Redeem {
        /// The token.
        token: EnrollmentToken,
        /// What enrolled.
        redeemed: Redeemed,
    },
}

impl From<Vec<Step>> for Change {
    fn from(steps: Vec<Step>) -> Self {
        Self { steps, audit: Vec::new() }
    }
}

/// How an identity logs in with a password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PasswordLogin {
    /// Which identity.
    pub identity: IdentityId,
    /// Unique name to log in with.
    pub username: String,
    /// The password's hash in the PHC string format; never the password.
    pub hash: String,
}

/// A one-time token. Only its SHA-256 is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EnrollmentToken(String);

impl EnrollmentToken {
    /// Wraps the token's text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The token's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn digest(&self) -> Vec<u8> {
        Sha256::digest(self.0.as_bytes()).to_vec()
    }
}

/// A pending enrollment of the entity it is created with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrollment {
    /// The one-time token.
    pub token: EnrollmentToken,
    /// The token is refused from here on.
    pub expires_at: Timestamp,
}

/// What an enrollment token is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EnrollmentTarget {
    /// An identity.
    Identity(IdentityId),
    /// An edge router.
    Router(RouterId),
}

/// What enrolled, and the certificate it got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Redeemed {
    /// An identity.
    Identity {
        /// Which.
        id: IdentityId,
        /// SHA-1 of its certificate's DER, lower-case hex.
        fingerprint: String,
    },
    /// An edge router, and its own identity if it has one.
    Router {
        /// Which.
        id: RouterId,
        /// SHA-1 of its certificate's DER, lower-case hex.
        fingerprint: String,
        /// `host:port` where it will accept clients and links.
        address: Option<String>,
    },
}

impl Redeemed {
    /// The kind and the id of what enrolled.
    pub fn subject(&self) -> (EntityKind, &str) {
        match self {
            Self::Identity { id, .. } => (EntityKind::Identity, id.as_str()),
            Self::Router { id, .. } => (EntityKind::EdgeRouter, id.as_str()),
        }
    }
}
