//! Who may do what: roles and attributes, so that it stays small however many pairs they allow, with an
//! index that answers at once.

mod change;
mod index;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

pub use self::change::Changes;
pub(crate) use self::change::TermsEdit;
use self::index::Relation;
use crate::{
    entity::{Permission, Role, Semantic},
    id::{Identifier, IdentityId, RouterId, ServiceId},
};

/// Which identity may dial or bind which service, and through which router.
///
/// What is not allowed here is refused. A router's own identity always may use that router.
///
/// A clone shares everything with what it was cloned from, until one of them changes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(from = "Terms", into = "Terms")]
pub struct Authorizations {
    parts: Arc<Parts>,
    dial: Arc<Relation>,
    bind: Arc<Relation>,
    identity_routers: Arc<Relation>,
    service_routers: Arc<Relation>,
}

impl Eq for Authorizations {}

/// All else follows from the terms.
impl PartialEq for Authorizations {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

/// Which services at least one of some identities may dial or bind.
#[derive(Clone, Debug)]
pub struct ServicesOfAny<'a> {
    relation: &'a Relation,
    rules: Vec<usize>,
}

/// What authorizations follow from.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Terms {
    /// Attributes of the identities that are allowed anything.
    pub identities: BTreeMap<IdentityId, BTreeSet<String>>,
    /// Attributes of the services.
    pub services: BTreeMap<ServiceId, BTreeSet<String>>,
    /// Attributes of the routers.
    pub routers: BTreeMap<RouterId, BTreeSet<String>>,
    /// Identities that may dial services.
    pub dial: Vec<Rule>,
    /// Identities that may bind services.
    pub bind: Vec<Rule>,
    /// Identities that may use routers.
    pub identity_routers: Vec<Rule>,
    /// Services that routers may carry.
    pub service_routers: Vec<Rule>,
}

/// Attributes by entity. A copy shares everything with its original but what is changed.
type Attributes<I> = rpds::RedBlackTreeMapSync<I, BTreeSet<String>>;

/// [`Terms`], as they are kept.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Parts {
    identities: Attributes<IdentityId>,
    services: Attributes<ServiceId>,
    routers: Attributes<RouterId>,
    dial: Arc<Vec<Rule>>,
    bind: Arc<Vec<Rule>>,
    identity_routers: Arc<Vec<Rule>>,
    service_routers: Arc<Vec<Rule>>,
}

/// Relates the entities that roles select on one side to those on the other.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Rule {
    /// How `#attribute` roles combine, on both sides.
    pub semantic: Semantic,
    /// Roles of one side.
    pub from: Vec<Role>,
    /// Roles of the other side.
    pub to: Vec<Role>,
}

impl Authorizations {
    /// Evaluates the terms for every entity they name.
    pub fn new(terms: Terms) -> Self {
        let parts = Parts::from(terms);
        let Parts { identities, services, routers, dial, bind, identity_routers, service_routers } =
            &parts;
        Self {
            dial: Relation::new(dial, identities, services).into(),
            bind: Relation::new(bind, identities, services).into(),
            identity_routers: Relation::new(identity_routers, identities, routers).into(),
            service_routers: Relation::new(service_routers, services, routers).into(),
            parts: parts.into(),
        }
    }

    /// Grants one permission, through every router.
    pub fn grant(&mut self, identity: IdentityId, permission: Permission, service: ServiceId) {
        let mut terms = Terms::from(std::mem::take(self));
        let rule = |from: &str, to: Role| Rule {
            semantic: Semantic::AnyOf,
            from: vec![Role::Id(from.into())],
            to: vec![to],
        };
        let granted = rule(identity.text(), Role::Id(service.text().into()));
        match permission {
            Permission::Dial => terms.dial.push(granted),
            Permission::Bind => terms.bind.push(granted),
        }
        terms.identity_routers.push(rule(identity.text(), Role::All));
        terms.service_routers.push(rule(service.text(), Role::All));
        terms.identities.entry(identity).or_default();
        terms.services.entry(service).or_default();
        *self = Self::new(terms);
    }

    /// Whether the identity may dial or bind the service. Absent means no.
    pub fn allows(
        &self,
        identity: &IdentityId,
        permission: Permission,
        service: &ServiceId,
    ) -> bool {
        self.permitted(permission).relates(identity.text(), service.text())
    }

    /// The services the identity may dial or bind, in id order.
    pub fn services(
        &self,
        identity: &IdentityId,
        permission: Permission,
    ) -> impl Iterator<Item = &ServiceId> {
        let rules = self.permitted(permission).rules_from(identity.text());
        let candidates = if rules.is_empty() { None } else { Some(self.parts.services.keys()) };
        let relation = self.permitted(permission);
        candidates.into_iter().flatten().filter(move |id| relation.meets(rules, id.text()))
    }

    /// The services that at least one of the identities may dial or bind.
    pub fn services_of_any<'a>(
        &self,
        identities: impl Iterator<Item = &'a IdentityId>,
        permission: Permission,
    ) -> ServicesOfAny<'_> {
        let relation = self.permitted(permission);
        let rules = relation.rules_from_any(identities.map(Identifier::text));
        ServicesOfAny { relation, rules }
    }

    /// Whether the identity may use the router.
    pub fn may_use(&self, identity: &IdentityId, router: &RouterId) -> bool {
        identity.text() == router.text()
            || self.identity_routers.relates_any(identity.text(), router.text())
    }

    /// Whether the router may carry the service.
    pub fn carries(&self, router: &RouterId, service: &ServiceId) -> bool {
        self.service_routers.relates_any(service.text(), router.text())
    }

    /// Whether the identity may use the service through the router, if it may use it at all.
    pub fn reaches(&self, identity: &IdentityId, service: &ServiceId, router: &RouterId) -> bool {
        self.may_use(identity, router) && self.carries(router, service)
    }

    fn permitted(&self, permission: Permission) -> &Relation {
        match permission {
            Permission::Dial => &self.dial,
            Permission::Bind => &self.bind,
        }
    }
}

impl ServicesOfAny<'_> {
    /// Whether the service is among them.
    pub fn contains(&self, service: &ServiceId) -> bool {
        self.relation.meets(&self.rules, service.text())
    }
}

impl From<Terms> for Authorizations {
    fn from(terms: Terms) -> Self {
        Self::new(terms)
    }
}

impl From<Authorizations> for Terms {
    fn from(authorizations: Authorizations) -> Self {
        let parts = &authorizations.parts;
        Self {
            identities: collected(&parts.identities),
            services: collected(&parts.services),
            routers: collected(&parts.routers),
            dial: parts.dial.to_vec(),
            bind: parts.bind.to_vec(),
            identity_routers: parts.identity_routers.to_vec(),
            service_routers: parts.service_routers.to_vec(),
        }
    }
}

impl From<Terms> for Parts {
    fn from(terms: Terms) -> Self {
        Self {
            identities: terms.identities.into_iter().collect(),
            services: terms.services.into_iter().collect(),
            routers: terms.routers.into_iter().collect(),
            dial: terms.dial.into(),
            bind: terms.bind.into(),
            identity_routers: terms.identity_routers.into(),
            service_routers: terms.service_routers.into(),
        }
    }
}

fn collected<I: Clone + Ord>(attributes: &Attributes<I>) -> BTreeMap<I, BTreeSet<String>> {
    attributes.iter().map(|(id, attributes)| (id.clone(), attributes.clone())).collect()
}
