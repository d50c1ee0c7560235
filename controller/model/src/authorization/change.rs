//! Changes of what authorizations follow from, at the cost of what changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Authorizations, Rule, index::Relation};
use crate::{
    id::{Identifier, IdentityId, RouterId, ServiceId},
    replica::{Digest, Edit, Splice},
};

/// What leads from one [`Terms`] to others.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TermsEdit {
    #[serde(default, skip_serializing_if = "Edit::is_empty")]
    identities: Edit<IdentityId, BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "Edit::is_empty")]
    services: Edit<ServiceId, BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "Edit::is_empty")]
    routers: Edit<RouterId, BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dial: Option<Splice<Rule>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bind: Option<Splice<Rule>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity_routers: Option<Splice<Rule>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service_routers: Option<Splice<Rule>>,
}

/// Names of the parts, for the digest.
mod part {
    pub(super) const IDENTITIES: &str = "identity_attributes";
    pub(super) const SERVICES: &str = "service_attributes";
    pub(super) const ROUTERS: &str = "router_attributes";
    pub(super) const DIAL: &str = "dial";
    pub(super) const BIND: &str = "bind";
    pub(super) const IDENTITY_ROUTERS: &str = "identity_routers";
    pub(super) const SERVICE_ROUTERS: &str = "service_routers";
}

/// Entities of one side of a relation, and which of them changed.
type Side<'a, I> = (&'a BTreeMap<I, BTreeSet<String>>, &'a [I]);

impl TermsEdit {
    /// What leads from one to the other.
    pub(crate) fn between(old: &Authorizations, new: &Authorizations) -> Self {
        if old.is_same_as(new) {
            return Self::default();
        }
        let (old, new) = (&*old.terms, &*new.terms);
        Self {
            identities: attributes(&old.identities, &new.identities),
            services: attributes(&old.services, &new.services),
            routers: attributes(&old.routers, &new.routers),
            dial: Splice::between(&old.dial, &new.dial),
            bind: Splice::between(&old.bind, &new.bind),
            identity_routers: Splice::between(&old.identity_routers, &new.identity_routers),
            service_routers: Splice::between(&old.service_routers, &new.service_routers),
        }
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Authorizations {
    /// Whether both are one: they have not been changed since one was cloned from the other.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.terms, &other.terms)
    }

    /// Changes the terms, and the digest with them; whether the changes fit.
    #[must_use]
    pub(crate) fn apply(&mut self, edit: TermsEdit, digest: &mut Digest) -> bool {
        if edit.is_empty() {
            return true;
        }
        let identities: Vec<_> = edit.identities.keys().cloned().collect();
        let services: Vec<_> = edit.services.keys().cloned().collect();
        let routers: Vec<_> = edit.routers.keys().cloned().collect();
        let has_new_rules = [
            edit.dial.is_some(),
            edit.bind.is_some(),
            edit.identity_routers.is_some(),
            edit.service_routers.is_some(),
        ];
        let terms = Arc::make_mut(&mut self.terms);
        edit.identities.apply::<BTreeSet<_>>(&mut terms.identities, part::IDENTITIES, digest);
        edit.services.apply::<BTreeSet<_>>(&mut terms.services, part::SERVICES, digest);
        edit.routers.apply::<BTreeSet<_>>(&mut terms.routers, part::ROUTERS, digest);
        for (splice, rules, name) in [
            (edit.dial, &mut terms.dial, part::DIAL),
            (edit.bind, &mut terms.bind, part::BIND),
            (edit.identity_routers, &mut terms.identity_routers, part::IDENTITY_ROUTERS),
            (edit.service_routers, &mut terms.service_routers, part::SERVICE_ROUTERS),
        ] {
            let Some(splice) = splice else { continue };
            digest.remove(name, &(), rules);
            if !splice.apply(rules) {
                return false;
            }
            digest.add(name, &(), rules);
        }
        let identities = (&terms.identities, &*identities);
        let services = (&terms.services, &*services);
        let routers = (&terms.routers, &*routers);
        let [dial, bind, identity_routers, service_routers] = has_new_rules;
        refresh(&mut self.dial, (&terms.dial, dial), identities, services);
        refresh(&mut self.bind, (&terms.bind, bind), identities, services);
        let rules = (&*terms.identity_routers, identity_routers);
        refresh(&mut self.identity_routers, rules, identities, routers);
        let rules = (&*terms.service_routers, service_routers);
        refresh(&mut self.service_routers, rules, services, routers);
        true
    }

    /// Counts all terms in.
    pub(crate) fn add_to(&self, digest: &mut Digest) {
        let terms = &self.terms;
        terms.identities.iter().for_each(|(id, it)| digest.add(part::IDENTITIES, id, it));
        terms.services.iter().for_each(|(id, it)| digest.add(part::SERVICES, id, it));
        terms.routers.iter().for_each(|(id, it)| digest.add(part::ROUTERS, id, it));
        digest.add(part::DIAL, &(), &terms.dial);
        digest.add(part::BIND, &(), &terms.bind);
        digest.add(part::IDENTITY_ROUTERS, &(), &terms.identity_routers);
        digest.add(part::SERVICE_ROUTERS, &(), &terms.service_routers);
    }
}

/// Brings a relation up to date: new rules concern everybody, else only those that changed are looked at.
fn refresh<A: Identifier, B: Identifier>(
    relation: &mut Arc<Relation>,
    (rules, is_new): (&[Rule], bool),
    from: Side<'_, A>,
    to: Side<'_, B>,
) {
    if is_new {
        *relation = Arc::new(Relation::new(rules, from.0, to.0));
    } else if !from.1.is_empty() || !to.1.is_empty() {
        Arc::make_mut(relation).update(rules, from, to);
    }
}

fn attributes<K: Clone + Ord>(
    old: &BTreeMap<K, BTreeSet<String>>,
    new: &BTreeMap<K, BTreeSet<String>>,
) -> Edit<K, BTreeSet<String>> {
    let entries = |(key, value)| (K::clone(key), value);
    Edit::between(old.iter().map(entries), new.iter().map(entries))
}
