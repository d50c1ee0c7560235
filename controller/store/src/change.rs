//! The changes that the store accepts, each one transaction.

use nightgate_model::{
    entity::{EdgeRouter, Identity, Service, ServicePolicy},
    id::{IdentityId, PolicyId, RouterId, ServiceId},
};
use sha2::{Digest as _, Sha256};

use crate::Timestamp;

/// A change of the model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// Adds an identity.
    CreateIdentity {
        /// The identity.
        identity: Identity,
        /// How it enrolls; none if it has a certificate already.
        enrollment: Option<Enrollment>,
    },
    /// Removes an identity, its sessions and its pending enrollment.
    DeleteIdentity(IdentityId),
    /// Adds an edge router.
    CreateRouter {
        /// The router.
        router: EdgeRouter,
        /// Its own identity, with the same id, if it may dial and host.
        identity: Option<Identity>,
        /// How it enrolls.
        enrollment: Enrollment,
    },
    /// Removes an edge router, its own identity and its pending enrollment.
    DeleteRouter(RouterId),
    /// Adds a service.
    CreateService(Service),
    /// Removes a service.
    DeleteService(ServiceId),
    /// Adds a service policy.
    CreatePolicy(ServicePolicy),
    /// Removes a service policy.
    DeletePolicy(PolicyId),
    /// Uses up an enrollment token and records the certificate that was issued for it.
    Redeem {
        /// The token.
        token: EnrollmentToken,
        /// What enrolled.
        redeemed: Redeemed,
    },
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
