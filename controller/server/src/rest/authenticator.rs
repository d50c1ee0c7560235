//! What identities authenticate with, in OpenZiti's shape: at most one certificate and one password each.

use nightgate_model::{entity::Identity, id::IdentityId};
use nightgate_pki::ForeignCertificate;
use nightgate_store::{Certificate, Model, Stored};
use serde_json::{Value, json};

use super::{Failure, shape};
use crate::clock;

/// Fields that lists can be filtered and sorted by.
pub(super) const FIELDS: &[&str] = &["method", "identityId", "fingerprint", "username"];

/// Which of an identity's two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    /// A certificate.
    Cert,
    /// A name and a password.
    Updb,
}

impl Method {
    /// OpenZiti's word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Cert => "cert",
            Self::Updb => "updb",
        }
    }

    /// The id of an authenticator: an identity has one of each method, so no id has to be stored.
    pub(super) fn id(self, identity: &IdentityId) -> String {
        format!("{}-{identity}", self.as_str())
    }
}

/// An authenticator that exists.
pub(super) struct Authenticator<'a> {
    pub(super) method: Method,
    pub(super) identity: &'a Stored<Identity>,
}

impl<'a> Authenticator<'a> {
    /// All of them.
    pub(super) fn all(model: &'a Model) -> impl Iterator<Item = Self> {
        model.identities.values().flat_map(|identity| Self::of(identity, model))
    }

    /// Those of one identity.
    pub(super) fn of(
        identity: &'a Stored<Identity>,
        model: &'a Model,
    ) -> impl Iterator<Item = Self> {
        let has_certificate = identity.entity.fingerprint.is_some();
        let has_password = model.usernames.contains_key(&identity.entity.id);
        let certificate = has_certificate.then_some(Self { method: Method::Cert, identity });
        certificate
            .into_iter()
            .chain(has_password.then_some(Self { method: Method::Updb, identity }))
    }

    /// The one with this id.
    pub(super) fn find(id: &str, model: &'a Model) -> Result<Self, Failure> {
        let found = id.split_once('-').and_then(|(_, identity)| {
            let identity = model.identities.get(&IdentityId::new(identity))?;
            Self::of(identity, model).find(|authenticator| authenticator.id() == id)
        });
        found.ok_or_else(|| Failure::not_found("the authenticator"))
    }

    /// Its id.
    pub(super) fn id(&self) -> String {
        self.method.id(&self.identity.entity.id)
    }

    /// In OpenZiti's shape.
    pub(super) fn shape(&self, model: &Model) -> Value {
        let identity = &self.identity.entity;
        let mut own = json!({
            "method": self.method.as_str(),
            "identityId": identity.id,
            "identity": shape::reference("identities", identity.id.as_str(), &identity.name),
        });
        let details = match self.method {
            Method::Cert => certificate(identity, model.certificates.get(&identity.id)),
            Method::Updb => json!({ "username": model.usernames.get(&identity.id) }),
        };
        if let (Some(own), Value::Object(details)) = (own.as_object_mut(), details) {
            own.extend(details);
        }
        let at = (self.identity.created_at, self.identity.updated_at);
        shape::entity("authenticators", &self.id(), at, own)
    }
}

fn certificate(identity: &Identity, certificate: Option<&Certificate>) -> Value {
    let parsed = certificate.and_then(|certificate| leaf(&certificate.pem));
    let ca = certificate.and_then(|certificate| certificate.ca.as_ref());
    json!({
        "fingerprint": identity.fingerprint,
        "certPem": certificate.map_or("", |certificate| &certificate.pem),
        "caId": ca,
        "isIssuedByNetwork": ca.is_none(),
        "isExtendRequested": false,
        "isKeyRollRequested": false,
        "notAfter": parsed.map(|parsed| clock::rfc3339(clock::timestamp_of(parsed.not_after()))),
    })
}

/// The first certificate of a chain.
pub(super) fn leaf(pem: &str) -> Option<ForeignCertificate> {
    let end = pem.find("-----END CERTIFICATE-----")? + "-----END CERTIFICATE-----".len();
    ForeignCertificate::from_pem(&pem[..end]).ok()
}
