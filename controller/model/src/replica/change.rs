//! What leads from one replica to the next.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Digest, LinkReport, Replica, ReplicaIdentity, ReplicaRouter, edit::Edit};
use crate::{
    authorization::TermsEdit,
    entity::{Service, Terminator},
    id::{ApiSessionId, IdentityId, RouterId, ServiceId, TerminatorId},
};

/// What leads from one replica to a later one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeSet {
    /// Index of the replica that it changes.
    pub from: u64,
    /// Index of what results.
    pub index: u64,
    /// Digest of what results.
    pub digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_keys: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_cas: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Edit::is_empty")]
    ended_sessions: Edit<ApiSessionId, ()>,
    #[serde(default, skip_serializing_if = "Edit::is_empty")]
    routers: Edit<RouterId, ReplicaRouter>,
    #[serde(default, skip_serializing_if = "Edit::is_empty")]
    identities: Edit<IdentityId, ReplicaIdentity>,
    #[serde(default, skip_serializing_if = "Edit::is_empty")]
    services: Edit<ServiceId, Service>,
    #[serde(default, skip_serializing_if = "TermsEdit::is_empty")]
    terms: TermsEdit,
    #[serde(default, skip_serializing_if = "Edit::is_empty")]
    terminators: Edit<(RouterId, TerminatorId), Terminator>,
    /// All links of a router at a time.
    #[serde(default, skip_serializing_if = "Edit::is_empty")]
    links: Edit<RouterId, Vec<LinkReport>>,
}

/// A change set that does not fit the replica it was applied to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Misfit {
    /// It changes another one.
    #[error("the changes are of index {from}, this replica has {index}")]
    Index {
        /// What it changes.
        from: u64,
        /// What there is.
        index: u64,
    },
    /// What results is not what the sender has.
    #[error("the changes lead to {result}, the sender has {expected}")]
    Digest {
        /// What results.
        result: Digest,
        /// What should.
        expected: Digest,
    },
}

/// Names of the parts, for the digest.
mod part {
    pub(super) const TOKEN_KEYS: &str = "token_keys";
    pub(super) const CLIENT_CAS: &str = "client_cas";
    pub(super) const ENDED_SESSIONS: &str = "ended_sessions";
    pub(super) const ROUTERS: &str = "routers";
    pub(super) const IDENTITIES: &str = "identities";
    pub(super) const SERVICES: &str = "services";
    pub(super) const TERMINATORS: &str = "terminators";
    pub(super) const LINKS: &str = "links";
}

impl ChangeSet {
    /// What leads from `old`, whose digest is given, to `new`. Its cost is that of looking at both, but not at parts
    /// that they share.
    pub fn between((old, digest): (&Replica, Digest), new: &Replica) -> Self {
        let mut changes = Self {
            from: old.index,
            index: new.index,
            digest,
            token_keys: (old.token_keys != new.token_keys).then(|| new.token_keys.clone()),
            client_cas: (old.client_cas != new.client_cas).then(|| new.client_cas.clone()),
            ended_sessions: Edit::between(
                old.ended_sessions.iter().map(|id| (id.clone(), &())),
                new.ended_sessions.iter().map(|id| (id.clone(), &())),
            ),
            routers: Edit::between(
                old.routers.iter().map(|router| (router.id.clone(), router)),
                new.routers.iter().map(|router| (router.id.clone(), router)),
            ),
            identities: maps(&old.identities, &new.identities),
            services: maps(&old.services, &new.services),
            terms: TermsEdit::between(&old.authorizations, &new.authorizations),
            terminators: if Arc::ptr_eq(&old.terminators, &new.terminators) {
                Edit::default()
            } else {
                Edit::between(
                    old.terminators.iter().map(|it| (key(it), it)),
                    new.terminators.iter().map(|it| (key(it), it)),
                )
            },
            links: if Arc::ptr_eq(&old.links, &new.links) {
                Edit::default()
            } else {
                Edit::between(by_router(&old.links), by_router(&new.links))
            },
        };
        let (mut result, mut digest) = (old.clone(), digest);
        changes.clone().carry_out(&mut result, &mut digest);
        changes.digest = digest;
        changes
    }

    /// Applies the changes to a replica and its digest. What does not fit changes nothing.
    ///
    /// # Errors
    /// The changes are of another replica.
    pub fn apply(self, replica: &mut Replica, digest: &mut Digest) -> Result<(), Misfit> {
        let (from, expected) = (self.from, self.digest);
        if from != replica.index {
            return Err(Misfit::Index { from, index: replica.index });
        }
        let (mut new, mut result) = (replica.clone(), *digest);
        let fits = self.carry_out(&mut new, &mut result);
        if !fits || result != expected {
            return Err(Misfit::Digest { result, expected });
        }
        (*replica, *digest) = (new, result);
        Ok(())
    }

    /// Whether every change had something to change.
    fn carry_out(self, replica: &mut Replica, digest: &mut Digest) -> bool {
        replica.index = self.index;
        for (change, list, name) in [
            (self.token_keys, &mut replica.token_keys, part::TOKEN_KEYS),
            (self.client_cas, &mut replica.client_cas, part::CLIENT_CAS),
        ] {
            if let Some(new) = change {
                digest.remove(name, &(), list);
                digest.add(name, &(), &new);
                *list = new;
            }
        }
        if !self.ended_sessions.is_empty() {
            let ended = std::mem::take(&mut replica.ended_sessions);
            let mut ended: BTreeMap<_, _> = ended.into_iter().map(|id| (id, ())).collect();
            self.ended_sessions.apply::<()>(&mut ended, part::ENDED_SESSIONS, digest);
            replica.ended_sessions = ended.into_keys().collect();
        }
        if !self.routers.is_empty() {
            let routers = std::mem::take(&mut replica.routers);
            let routers = routers.into_iter();
            let mut routers: BTreeMap<_, _> = routers.map(|it| (it.id.clone(), it)).collect();
            self.routers.apply::<ReplicaRouter>(&mut routers, part::ROUTERS, digest);
            replica.routers = routers.into_values().collect();
        }
        if !self.identities.is_empty() {
            let identities = Arc::make_mut(&mut replica.identities);
            self.identities.apply::<ReplicaIdentity>(identities, part::IDENTITIES, digest);
        }
        if !self.services.is_empty() {
            let services = Arc::make_mut(&mut replica.services);
            self.services.apply::<Service>(services, part::SERVICES, digest);
        }
        if !self.terminators.is_empty() {
            let all = replica.terminators.iter().cloned();
            let mut all: BTreeMap<_, _> = all.map(|it| (key(&it), it)).collect();
            self.terminators.apply::<Terminator>(&mut all, part::TERMINATORS, digest);
            replica.terminators = Arc::new(all.into_values().collect());
        }
        if !self.links.is_empty() {
            let all = by_router(&replica.links);
            let mut all: BTreeMap<_, _> =
                all.map(|(router, links)| (router, links.to_vec())).collect();
            self.links.apply::<[LinkReport]>(&mut all, part::LINKS, digest);
            replica.links = Arc::new(all.into_values().flatten().collect());
        }
        replica.authorizations.apply(self.terms, digest)
    }
}

impl Replica {
    /// The digest of everything but the index.
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        digest.add(part::TOKEN_KEYS, &(), &self.token_keys);
        digest.add(part::CLIENT_CAS, &(), &self.client_cas);
        self.ended_sessions.iter().for_each(|id| digest.add(part::ENDED_SESSIONS, id, &()));
        self.routers.iter().for_each(|router| digest.add(part::ROUTERS, &router.id, router));
        self.identities.iter().for_each(|(id, it)| digest.add(part::IDENTITIES, id, it));
        self.services.iter().for_each(|(id, service)| digest.add(part::SERVICES, id, service));
        self.terminators.iter().for_each(|it| digest.add(part::TERMINATORS, &key(it), it));
        for (router, links) in by_router(&self.links) {
            digest.add(part::LINKS, &router, links);
        }
        self.authorizations.add_to(&mut digest);
        digest
    }

    /// Brings lists into the order that change sets need: by their keys.
    pub fn sort(&mut self) {
        self.routers.sort_by(|a, b| a.id.cmp(&b.id));
        Arc::make_mut(&mut self.terminators).sort_by_cached_key(key);
        // Stable: the links of one router stay in its order.
        Arc::make_mut(&mut self.links).sort_by(|a, b| a.from.cmp(&b.from));
    }

    /// Whether both allow the same because they share it: what changed in between is where services are hosted, and
    /// how routers are linked. False does not say that they differ.
    pub fn shares_model_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.identities, &other.identities)
            && Arc::ptr_eq(&self.services, &other.services)
            && self.authorizations.is_same_as(&other.authorizations)
    }
}

fn maps<K: Clone + Ord, V: Clone + PartialEq>(
    old: &Arc<BTreeMap<K, V>>,
    new: &Arc<BTreeMap<K, V>>,
) -> Edit<K, V> {
    if Arc::ptr_eq(old, new) {
        return Edit::default();
    }
    let entries = |(key, value)| (K::clone(key), value);
    Edit::between(old.iter().map(entries), new.iter().map(entries))
}

fn key(terminator: &Terminator) -> (RouterId, TerminatorId) {
    (terminator.router.clone(), terminator.id.clone())
}

/// Links by who reported them, one after the other in the list.
fn by_router(links: &[LinkReport]) -> impl Iterator<Item = (RouterId, &[LinkReport])> {
    links.chunk_by(|a, b| a.from == b.from).map(|chunk| (chunk[0].from.clone(), chunk))
}
