//! The part of the model that routers hold, so that no dial has to ask the controller.

mod change;
mod digest;
mod edit;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

pub use self::{
    change::{ChangeSet, Misfit},
    digest::{Digest, NoDigest},
    edit::{Edit, Splice},
};
use crate::{
    authorization::Authorizations,
    entity::{Service, Terminator},
    id::{ApiSessionId, IdentityId, RouterId, ServiceId},
};

/// Everything a router needs to authenticate clients, authorize dials and choose a path.
///
/// `index` grows with every change of the model and never repeats. Large parts are shared between a replica and the one
/// that follows it, if they did not change.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Replica {
    /// Position in the controller's history of changes.
    pub index: u64,
    /// PEM (SPKI) public keys that session tokens may be signed with, ES256.
    pub token_keys: Vec<String>,
    /// Certificates that clients' certificates may come from, besides those a router trusts already: PEM, one or several in each.
    pub client_cas: Vec<String>,
    /// API sessions that were ended before their time: their tokens are refused, and what began with them ends.
    pub ended_sessions: BTreeSet<ApiSessionId>,
    /// Enrolled routers that are not disabled, in the order of their ids.
    pub routers: Vec<ReplicaRouter>,
    /// Identities that are not disabled.
    #[serde(with = "shared")]
    pub identities: Arc<BTreeMap<IdentityId, ReplicaIdentity>>,
    /// Services by id.
    #[serde(with = "shared")]
    pub services: Arc<BTreeMap<ServiceId, Service>>,
    /// Who may do what.
    pub authorizations: Authorizations,
    /// Where services are hosted, on routers that are connected; in the order of routers, then of ids.
    #[serde(with = "shared")]
    pub terminators: Arc<Vec<Terminator>>,
    /// Links between routers as both of their ends last reported them, in the order of who reported.
    #[serde(with = "shared")]
    pub links: Arc<Vec<LinkReport>>,
}

/// A router as other routers know it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ReplicaRouter {
    /// Identifier.
    pub id: RouterId,
    /// Name.
    pub name: String,
    /// SHA-1 fingerprint of its certificate, lower-case hex.
    pub fingerprint: String,
    /// That of the certificate which it was issued to follow the present one, and may use from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<String>,
    /// That of the certificate which the present one goes back to by renewals; the same where there was none. What
    /// began with an earlier certificate of the same origin goes on.
    #[serde(default)]
    pub origin: String,
    /// `host:port` where it accepts links; none for a router that only dials out.
    pub address: Option<String>,
    /// What a path through it costs at least, besides its links.
    #[serde(default)]
    pub cost: u16,
    /// No circuit passes through it.
    #[serde(default)]
    pub no_traversal: bool,
}

/// An identity as routers know it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ReplicaIdentity {
    /// Name.
    pub name: String,
    /// SHA-1 fingerprint of its certificate, lower-case hex; none before enrollment.
    pub fingerprint: Option<String>,
    /// That of the certificate which the present one goes back to by renewals, as of
    /// [`ReplicaRouter::origin`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

impl ReplicaRouter {
    /// Whether it may present the certificate of this SHA-1 fingerprint.
    pub fn may_present(&self, fingerprint: &str) -> bool {
        self.fingerprint == fingerprint || self.offered.as_deref() == Some(fingerprint)
    }
}

/// A usable link.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LinkReport {
    /// The reporting router.
    pub from: RouterId,
    /// Its neighbour.
    pub to: RouterId,
    /// Cost of crossing it, dimensionless; lower is preferred.
    pub cost: u32,
}

impl Replica {
    /// The service with this name.
    pub fn service_named(&self, name: &str) -> Option<&Service> {
        self.services.values().find(|service| service.name == name)
    }

    /// A terminator as dialers take it.
    pub fn settled(&self, terminator: &Terminator) -> Terminator {
        terminator.settled(self.services.get(&terminator.service))
    }

    /// The router with this id.
    pub fn router(&self, id: &RouterId) -> Option<&ReplicaRouter> {
        self.routers.iter().find(|router| router.id == *id)
    }

    /// The router that may present the certificate of this SHA-1 fingerprint.
    pub fn router_by_fingerprint(&self, fingerprint: &str) -> Option<&ReplicaRouter> {
        self.routers.iter().find(|router| router.may_present(fingerprint))
    }
}

/// What is shared is written and read as if it were not.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        shared: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        T::serialize(shared, serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}
