//! The model in memory, changed by the same [`Change`]s as the store.

use std::collections::BTreeMap;

use nightgate_model::{
    entity::{EdgeRouter, Identity, Service, ServicePolicy},
    id::{IdentityId, PolicyId, RouterId, ServiceId},
};

use crate::{Change, Redeemed};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(pub i64);

/// An entity and when it was made and last changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored<T> {
    /// The entity.
    pub entity: T,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// All entities by id.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Model {
    /// Identities.
    pub identities: BTreeMap<IdentityId, Stored<Identity>>,
    /// Services.
    pub services: BTreeMap<ServiceId, Stored<Service>>,
    /// Service policies.
    pub policies: BTreeMap<PolicyId, Stored<ServicePolicy>>,
    /// Edge routers.
    pub routers: BTreeMap<RouterId, Stored<EdgeRouter>>,
}

impl Model {
    /// Applies a change that the store has accepted.
    pub fn apply(&mut self, change: &Change, at: Timestamp) {
        match change {
            Change::CreateIdentity { identity, .. } => self.add_identity(identity, at),
            Change::DeleteIdentity(id) => {
                self.identities.remove(id);
            }
            Change::CreateRouter { router, identity, .. } => {
                self.routers.insert(router.id.clone(), Stored::new(router, at));
                if let Some(identity) = identity {
                    self.add_identity(identity, at);
                }
            }
            Change::DeleteRouter(id) => {
                if self.routers.remove(id).is_some_and(|router| router.entity.is_tunneler_enabled) {
                    self.identities.remove(&id.as_identity());
                }
            }
            Change::CreateService(service) => {
                self.services.insert(service.id.clone(), Stored::new(service, at));
            }
            Change::DeleteService(id) => {
                self.services.remove(id);
            }
            Change::CreatePolicy(policy) => {
                self.policies.insert(policy.id.clone(), Stored::new(policy, at));
            }
            Change::DeletePolicy(id) => {
                self.policies.remove(id);
            }
            Change::Redeem { redeemed, .. } => self.redeem(redeemed, at),
        }
    }

    /// The identity that enrolled with the certificate of this SHA-1 fingerprint.
    pub fn identity_by_fingerprint(&self, fingerprint: &str) -> Option<&Identity> {
        self.identities
            .values()
            .map(|stored| &stored.entity)
            .find(|identity| identity.fingerprint.as_deref() == Some(fingerprint))
    }

    /// The router that enrolled with the certificate of this SHA-1 fingerprint.
    pub fn router_by_fingerprint(&self, fingerprint: &str) -> Option<&EdgeRouter> {
        self.routers
            .values()
            .map(|stored| &stored.entity)
            .find(|router| router.fingerprint.as_deref() == Some(fingerprint))
    }

    fn add_identity(&mut self, identity: &Identity, at: Timestamp) {
        self.identities.insert(identity.id.clone(), Stored::new(identity, at));
    }

    fn redeem(&mut self, redeemed: &Redeemed, at: Timestamp) {
        let (identity, fingerprint) = match redeemed {
            Redeemed::Identity { id, fingerprint } => (id.clone(), fingerprint),
            Redeemed::Router { id, fingerprint, address } => {
                if let Some(router) = self.routers.get_mut(id) {
                    router.entity.fingerprint = Some(fingerprint.clone());
                    router.entity.address.clone_from(address);
                    router.updated_at = at;
                }
                (id.as_identity(), fingerprint)
            }
        };
        if let Some(identity) = self.identities.get_mut(&identity) {
            identity.entity.fingerprint = Some(fingerprint.clone());
            identity.updated_at = at;
        }
    }
}

impl<T: Clone> Stored<T> {
    fn new(entity: &T, at: Timestamp) -> Self {
        Self { entity: entity.clone(), created_at: at, updated_at: at }
    }
}
