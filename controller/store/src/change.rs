//! The changes that the store accepts, each one transaction.

use nightgate_model::{
    id::{CaId, IdentityId, RouterId},
    kind::EntityKind,
    quarantine::Quarantine,
    token::EnrollmentMethod,
};
use sha2::{Digest as _, Sha256};

use crate::{AnyEntity, AuditRecord, Mfa, SecondFactor, Tags, Timestamp, Whose};

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
    /// Notes something beside an entity, in the place of what was noted before.
    SetTags(EntityKind, String, Tags),
    /// Removes an entity, with its sessions and its pending enrollment.
    Delete(EntityKind, String),
    /// Notes why an identity is in quarantine, in the place of an earlier note.
    Quarantine(Quarantine),
    /// Forgets that note.
    Release(IdentityId),
    /// Lets an identity or router enroll.
    Enroll(EnrollmentTarget, Enrollment),
    /// Takes a pending enrollment back.
    DeleteEnrollment(EnrollmentId),
    /// Lets an identity log in with a password, in the place of one that it had.
    SetPassword(PasswordLogin),
    /// Takes the password of an identity away.
    RemovePassword(IdentityId),
    /// Gives an identity a second factor, in the place of one that it had, or notes which of its codes were used.
    SetMfa(Mfa),
    /// Takes the second factor of an identity away.
    RemoveMfa(IdentityId),
    /// Says how API sessions stand with a second factor.
    SetSecondFactor(Whose, SecondFactor),
    /// Lets an identity or router authenticate with a certificate, in the place of one that it had. A router's own
    /// identity gets it too, if it has one to authenticate with.
    Certify(EnrollmentTarget, Certificate),
    /// Ends the API sessions of an identity that began so.
    EndSessions(IdentityId, By),
    /// Issues the certificate that follows the present one, in the place of an earlier offer.
    OfferCertificate(EnrollmentTarget, OfferedCertificate),
    /// Takes the certificate of an identity away; sessions that began with it end.
    Decertify(IdentityId),
    /// Uses up an enrollment token and records what the identity or router will authenticate with.
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

/// What an API session begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// A certificate.
    Certificate,
    /// A password.
    Password,
}

/// A certificate that an identity or router authenticates with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// SHA-1 of its DER, lower-case hex.
    pub fingerprint: String,
    /// The certificate, PEM; empty if it was issued before certificates were kept.
    pub pem: String,
    /// The CA of others that it comes from; none if it is our own.
    pub ca: Option<CaId>,
    /// Fingerprint of the certificate that this one goes back to by renewals; its own where there was none.
    pub origin: String,
    /// One of our own that takes its place as soon as its holder has shown to hold it.
    pub offered: Option<OfferedCertificate>,
}

impl Certificate {
    /// A certificate that follows no other.
    pub fn first(fingerprint: String, pem: String, ca: Option<CaId>) -> Self {
        Self { origin: fingerprint.clone(), fingerprint, pem, ca, offered: None }
    }

    /// The certificate that was offered to follow this one, if it is the one of this fingerprint.
    pub fn successor(&self, fingerprint: &str) -> Option<Self> {
        let offered = self.offered.as_ref().filter(|offered| offered.fingerprint == fingerprint)?;
        let OfferedCertificate { fingerprint, pem } = offered.clone();
        Some(Self { fingerprint, pem, ca: None, origin: self.origin.clone(), offered: None })
    }
}

/// A certificate that was issued and not yet used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OfferedCertificate {
    /// SHA-1 of its DER, lower-case hex.
    pub fingerprint: String,
    /// The certificate, PEM.
    pub pem: String,
}

/// Names a pending enrollment: the first half of the SHA-256 of its token, lower-case hex, so that it says
/// nothing of the token.
pub type EnrollmentId = String;

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

    /// The name of the enrollment.
    pub fn id(&self) -> EnrollmentId {
        hex(&self.digest()[..16])
    }

    pub(crate) fn digest(&self) -> Vec<u8> {
        Sha256::digest(self.0.as_bytes()).to_vec()
    }
}

/// A new enrollment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrollment {
    /// The one-time token.
    pub token: EnrollmentToken,
    /// How it is redeemed.
    pub method: EnrollmentMethod,
    /// Which CA the certificate must come from, for [`EnrollmentMethod::Ottca`].
    pub ca: Option<CaId>,
    /// The name to log in with, for [`EnrollmentMethod::Updb`].
    pub username: Option<String>,
    /// The token is refused from here on.
    pub expires_at: Timestamp,
}

/// An enrollment that nobody has redeemed yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PendingEnrollment {
    /// Whose.
    pub target: EnrollmentTarget,
    /// How it is redeemed.
    pub method: EnrollmentMethod,
    /// Which CA the certificate must come from, for [`EnrollmentMethod::Ottca`].
    pub ca: Option<CaId>,
    /// The name to log in with, for [`EnrollmentMethod::Updb`].
    pub username: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The token is refused from here on.
    pub expires_at: Timestamp,
}

/// What an enrollment token or a certificate is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EnrollmentTarget {
    /// An identity.
    Identity(IdentityId),
    /// An edge router.
    Router(RouterId),
}

/// What enrolled, and what it authenticates with from now on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Redeemed {
    /// An identity.
    Identity {
        /// Which.
        id: IdentityId,
        /// Its certificate.
        certificate: Certificate,
    },
    /// An identity, by a password.
    Password(PasswordLogin),
    /// An edge router, and its own identity if it has one.
    Router {
        /// Which.
        id: RouterId,
        /// Its certificate.
        certificate: Certificate,
        /// `host:port` where it will accept clients and links.
        address: Option<String>,
    },
}

impl Redeemed {
    /// The kind and the id of what enrolled.
    pub fn subject(&self) -> (EntityKind, &str) {
        match self {
            Self::Identity { id, .. } | Self::Password(PasswordLogin { identity: id, .. }) => {
                (EntityKind::Identity, id.as_str())
            }
            Self::Router { id, .. } => (EntityKind::EdgeRouter, id.as_str()),
        }
    }
}

impl EnrollmentTarget {
    /// The kind and the id of what enrolls.
    pub fn subject(&self) -> (EntityKind, &str) {
        match self {
            Self::Identity(id) => (EntityKind::Identity, id.as_str()),
            Self::Router(id) => (EntityKind::EdgeRouter, id.as_str()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
