//! Changes of what authorizations follow from, at the cost of what changes.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Attributes, Authorizations, Rule, index::Relation};
use crate::{
    id::{Identifier, IdentityId, RouterId, ServiceId},
    replica::{Digest, Edit, Splice},
};

/// What leads from one [`Terms`](super::Terms) to others.
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

/// Entities whose attributes may have changed; none for what is gone, or allowed nothing any more.
type Attributed<I> = Vec<(I, Option<BTreeSet<String>>)>;

/// What may have changed of what authorizations follow from.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Identities.
    pub identities: Attributed<IdentityId>,
    /// Services.
    pub services: Attributed<ServiceId>,
    /// Routers.
    pub routers: Attributed<RouterId>,
    /// All rules about dialing, if one of them changed.
    pub dial: Option<Vec<Rule>>,
    /// All rules about binding, if one of them changed.
    pub bind: Option<Vec<Rule>>,
    /// All rules about the routers of identities, if one of them changed.
    pub identity_routers: Option<Vec<Rule>>,
    /// All rules about the routers of services, if one of them changed.
    pub service_routers: Option<Vec<Rule>>,
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
type Side<'a, I> = (&'a Attributes<I>, &'a [I]);

impl TermsEdit {
    /// What leads from one to the other.
    pub(crate) fn between(old: &Authorizations, new: &Authorizations) -> Self {
        if old.is_same_as(new) {
            return Self::default();
        }
        let (old, new) = (&*old.parts, &*new.parts);
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
        Arc::ptr_eq(&self.parts, &other.parts)
    }

    /// Evaluates anew what changes touch: entities that have other attributes than before, and entities that a rule selects
    /// which is new or gone.
    pub fn change(&mut self, changes: Changes) {
        let parts = &*self.parts;
        let rules = |old: &[Rule], new: Option<Vec<Rule>>| Splice::between(old, &new?);
        let edit = TermsEdit {
            identities: of(&parts.identities, changes.identities),
            services: of(&parts.services, changes.services),
            routers: of(&parts.routers, changes.routers),
            dial: rules(&parts.dial, changes.dial),
            bind: rules(&parts.bind, changes.bind),
            identity_routers: rules(&parts.identity_routers, changes.identity_routers),
            service_routers: rules(&parts.service_routers, changes.service_routers),
        };
        let fits = self.apply(edit, &mut Digest::default());
        debug_assert!(fits, "the edit was made for these terms");
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
        let terms = Arc::make_mut(&mut self.parts);
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
            digest.remove(name, &(), &**rules);
            if !splice.apply(Arc::make_mut(rules)) {
                return false;
            }
            digest.add(name, &(), &**rules);
        }
        let identities = (&terms.identities, &*identities);
        let services = (&terms.services, &*services);
        let routers = (&terms.routers, &*routers);
        let [dial, bind, identity_routers, service_routers] = has_new_rules;
        refresh(&mut self.dial, (&terms.dial, dial), identities, services);
        refresh(&mut self.bind, (&terms.bind, bind), identities, services);
        let rules = (terms.identity_routers.as_slice(), identity_routers);
        refresh(&mut self.identity_routers, rules, identities, routers);
        let rules = (terms.service_routers.as_slice(), service_routers);
        refresh(&mut self.service_routers, rules, services, routers);
        true
    }

    /// Counts all terms in.
    pub(crate) fn add_to(&self, digest: &mut Digest) {
        let terms = &self.parts;
        terms.identities.iter().for_each(|(id, it)| digest.add(part::IDENTITIES, id, it));
        terms.services.iter().for_each(|(id, it)| digest.add(part::SERVICES, id, it));
        terms.routers.iter().for_each(|(id, it)| digest.add(part::ROUTERS, id, it));
        digest.add(part::DIAL, &(), &*terms.dial);
        digest.add(part::BIND, &(), &*terms.bind);
        digest.add(part::IDENTITY_ROUTERS, &(), &*terms.identity_routers);
        digest.add(part::SERVICE_ROUTERS, &(), &*terms.service_routers);
    }
}

/// Brings a relation up to date: entities that changed are looked at with all rules, all others with those that are new.
fn refresh<A: Identifier, B: Identifier>(
    relation: &mut Arc<Relation>,
    (rules, is_new): (&[Rule], bool),
    from: Side<'_, A>,
    to: Side<'_, B>,
) {
    if is_new {
        Arc::make_mut(relation).set_rules(rules, from.0, to.0);
    }
    if !from.1.is_empty() || !to.1.is_empty() {
        Arc::make_mut(relation).update(from, to);
    }
}

fn attributes<K: Clone + Ord>(
    old: &Attributes<K>,
    new: &Attributes<K>,
) -> Edit<K, BTreeSet<String>> {
    let entries = |(key, value)| (K::clone(key), value);
    Edit::between(old.iter().map(entries), new.iter().map(entries))
}

/// What differs from the attributes that are known.
fn of<I: Clone + Ord>(known: &Attributes<I>, now: Attributed<I>) -> Edit<I, BTreeSet<String>> {
    let news = now.into_iter().filter(|(id, now)| known.get(id) != now.as_ref());
    Edit::new(news)
}
