//! Who may do what, evaluated when it is first asked for after a change, and from what was evaluated before.

use std::{collections::BTreeSet, sync::OnceLock};

use nightgate_model::{
    authorization::Authorizations,
    id::{IdentityId, RouterId, ServiceId},
    kind::EntityKind,
    quarantine::Quarantine,
};
use nightgate_policy::{Entities, Touched, authorize, reauthorize};
use nightgate_store::{Model, Step, Stored};

/// With more touched entities than this, everything is evaluated anew: that is made for many.
const MOST_TOUCHED: usize = 2_000;

/// The authorizations of one state of the model, once somebody has asked.
#[derive(Default)]
pub(super) struct Evaluation {
    evaluated: OnceLock<Authorizations>,
    /// Of an earlier state, and what was touched since; none if everything has to be evaluated.
    before: Option<(Authorizations, Changed)>,
}

/// What was touched by changes.
#[derive(Clone, Default)]
struct Changed {
    identities: BTreeSet<IdentityId>,
    services: BTreeSet<ServiceId>,
    routers: BTreeSet<RouterId>,
    policies: bool,
    router_policies: bool,
    service_router_policies: bool,
}

impl Evaluation {
    /// The authorizations of the model that this is of.
    pub(super) fn of(&self, model: &Model) -> &Authorizations {
        self.evaluated.get_or_init(|| match &self.before {
            Some((before, changed)) => reauthorize(before, changed.of(model)),
            None => authorize(&all(model)),
        })
    }

    /// That of the model after these steps.
    pub(super) fn after(&self, steps: &[Step]) -> Self {
        let (before, mut changed) = match (self.evaluated.get(), &self.before) {
            (Some(evaluated), _) => (evaluated.clone(), Changed::default()),
            (None, Some(before)) => before.clone(),
            (None, None) => return Self::default(),
        };
        steps.iter().for_each(|step| changed.add(step));
        let before = (changed.entities() <= MOST_TOUCHED).then_some((before, changed));
        Self { evaluated: OnceLock::new(), before }
    }
}

impl Changed {
    fn add(&mut self, step: &Step) {
        match step {
            Step::Create(entity) | Step::Update(entity) => {
                self.add_entity(entity.kind(), entity.id())
            }
            Step::Delete(kind, id) => self.add_entity(*kind, id),
            Step::Quarantine(Quarantine { identity, .. }) | Step::Release(identity) => {
                self.identities.insert(identity.clone());
            }
            // These change nothing that policies look at.
            Step::SetTags(..)
            | Step::Enroll(..)
            | Step::DeleteEnrollment(_)
            | Step::SetPassword(_)
            | Step::RemovePassword(_)
            | Step::SetMfa(_)
            | Step::RemoveMfa(_)
            | Step::SetSecondFactor(..)
            | Step::Certify(..)
            | Step::EndSessions(..)
            | Step::OfferCertificate(..)
            | Step::Decertify(_)
            | Step::Redeem { .. } => {}
        }
    }

    fn add_entity(&mut self, kind: EntityKind, id: &str) {
        match kind {
            EntityKind::Identity => drop(self.identities.insert(IdentityId::new(id))),
            EntityKind::Service => drop(self.services.insert(ServiceId::new(id))),
            EntityKind::EdgeRouter => {
                let router = RouterId::new(id);
                // Its own identity goes with it.
                self.identities.insert(router.as_identity());
                self.routers.insert(router);
            }
            EntityKind::ServicePolicy => self.policies = true,
            EntityKind::EdgeRouterPolicy => self.router_policies = true,
            EntityKind::ServiceEdgeRouterPolicy => self.service_router_policies = true,
            EntityKind::Config
            | EntityKind::ConfigType
            | EntityKind::Ca
            | EntityKind::AuthPolicy => {}
        }
    }

    fn entities(&self) -> usize {
        self.identities.len() + self.services.len() + self.routers.len()
    }

    fn of<'a>(&self, model: &'a Model) -> Touched<'a> {
        let entity = |id| {
            let known = model.identities.get(id).filter(|_| !model.awaits_code(id));
            (IdentityId::clone(id), known.map(|it| &it.entity))
        };
        let service = |id| (ServiceId::clone(id), model.services.get(id).map(|it| &it.entity));
        let router = |id| (RouterId::clone(id), model.routers.get(id).map(|it| &it.entity));
        Touched {
            identities: self.identities.iter().map(entity).collect(),
            services: self.services.iter().map(service).collect(),
            routers: self.routers.iter().map(router).collect(),
            policies: self.policies.then(|| all_of(model.policies.values())),
            router_policies: self.router_policies.then(|| all_of(model.router_policies.values())),
            service_router_policies: self
                .service_router_policies
                .then(|| all_of(model.service_router_policies.values())),
        }
    }
}

fn all(model: &Model) -> Entities<'_> {
    Entities {
        identities: all_of(
            model.identities.values().filter(|it| !model.awaits_code(&it.entity.id)),
        ),
        services: all_of(model.services.values()),
        routers: all_of(model.routers.values()),
        policies: all_of(model.policies.values()),
        router_policies: all_of(model.router_policies.values()),
        service_router_policies: all_of(model.service_router_policies.values()),
    }
}

fn all_of<'a, E>(stored: impl Iterator<Item = &'a Stored<E>>) -> Vec<&'a E> {
    stored.map(|stored| &stored.entity).collect()
}
