//! What routers report of themselves: links, circuits, and what becomes of dials.

mod paths;

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::State, response::Response};
use nightgate_model::{
    activity::{CircuitReport, CircuitRole, DialOutcomes},
    id::ServiceId,
    replica::LinkReport,
};
use nightgate_wire::{FailureCause, Leg};
use serde_json::json;

use crate::{
    core::{Core, Memory},
    events::{identity_name, router_name, service_name},
    rest::{
        Failure,
        api::{Access, Api},
        caller::Admin,
        query::{ListQuery, Names},
    },
};

/// All routes.
pub(super) fn api() -> Api {
    Api::new(Access::Administrator)
        .get("/fabric/routers", "Routers and what they carry", routers)
        .get("/fabric/paths", "Which path would be chosen, and what else there is", paths::list)
        .get("/fabric/links", "Links between routers", links)
        .get("/fabric/circuits", "Circuits as routers last reported them", circuits)
        .get("/fabric/services", "What became of dials, and which leg is ill", services)
}

async fn routers(
    State(core): State<Arc<Core>>,
    _: Admin,
    query: ListQuery,
) -> Result<Response, Failure> {
    const FIELDS: &[&str] = &["isOnline", "address", "links", "terminators", "circuits"];
    core.read(|memory| {
        let links = memory.live.report().links;
        let all = memory.model.routers.values().map(|stored| &stored.entity);
        let names = |router: &&nightgate_model::entity::EdgeRouter| Names {
            id: router.id.to_string(),
            name: router.name.clone(),
        };
        query.answer(FIELDS, all, names, |router| {
            let own = memory.live.terminators().filter(|t| t.router == router.id).count();
            json!({
                "id": router.id,
                "name": router.name,
                "isOnline": memory.live.is_connected(&router.id),
                "address": memory.live.address(&router.id).or(router.address.as_deref()),
                "links": links.iter().filter(|link| link.from == router.id).count(),
                "terminators": own,
                "circuits": memory.live.activity(&router.id).map_or(0, |it| it.circuit_count),
            })
        })
    })
}

async fn links(
    State(core): State<Arc<Core>>,
    _: Admin,
    query: ListQuery,
) -> Result<Response, Failure> {
    const FIELDS: &[&str] = &["from", "to", "cost"];
    core.read(|memory| {
        let names = |link: &LinkReport| {
            let id = format!("{}-{}", link.from, link.to);
            Names { name: id.clone(), id }
        };
        query.answer(FIELDS, memory.live.report().links.into_iter(), names, |link| {
            json!({
                "from": router_name(&memory.model, &link.from),
                "fromId": link.from,
                "to": router_name(&memory.model, &link.to),
                "toId": link.to,
                "cost": link.cost,
            })
        })
    })
}

async fn circuits(
    State(core): State<Arc<Core>>,
    _: Admin,
    query: ListQuery,
) -> Result<Response, Failure> {
    const FIELDS: &[&str] = &["service", "dialer", "host", "sent", "received"];
    core.read(|memory| {
        // The end of the dialer knows best; of a circuit that only others tell of, whoever does.
        let mut known: BTreeMap<&str, &CircuitReport> = BTreeMap::new();
        for circuit in memory.live.activities().flat_map(|activity| &activity.circuits) {
            let rank = |circuit: &CircuitReport| match circuit.role {
                CircuitRole::Dialer => 0,
                CircuitRole::Host => 1,
                CircuitRole::Transit => 2,
            };
            let best = known.entry(&circuit.id).or_insert(circuit);
            if rank(circuit) < rank(best) {
                *best = circuit;
            }
        }
        let names = |circuit: &&CircuitReport| {
            let id = circuit.id.clone();
            Names { name: id.clone(), id }
        };
        query.answer(FIELDS, known.into_values(), names, |circuit| {
            let path: Vec<_> =
                circuit.path.iter().map(|id| router_name(&memory.model, id)).collect();
            json!({
                "id": circuit.id,
                "service": circuit.service.as_ref().map(|id| service_name(&memory.model, id)),
                "serviceId": circuit.service,
                "dialer": circuit.dialer.as_ref().map(|id| identity_name(&memory.model, id)),
                "dialerId": circuit.dialer,
                "host": circuit.host.as_ref().map(|id| identity_name(&memory.model, id)),
                "hostId": circuit.host,
                "path": path,
                "sent": circuit.sent,
                "received": circuit.received,
            })
        })
    })
}

/// What became of the dials of one service.
#[derive(Default)]
pub(super) struct Dials {
    pub(super) opened: u64,
    milliseconds: u64,
    pub(super) failed: BTreeMap<FailureCause, u64>,
}

async fn services(
    State(core): State<Arc<Core>>,
    _: Admin,
    query: ListQuery,
) -> Result<Response, Failure> {
    const FIELDS: &[&str] = &["opened", "failed", "ill"];
    core.read(|memory| {
        let mut services: BTreeMap<&ServiceId, Dials> = BTreeMap::new();
        for outcomes in memory.live.activities().flat_map(|activity| &activity.dials) {
            if memory.model.services.contains_key(&outcomes.service) {
                services.entry(&outcomes.service).or_default().count(outcomes);
            }
        }
        let names = |(id, _): &(&ServiceId, Dials)| Names {
            id: id.to_string(),
            name: service_name(&memory.model, id),
        };
        query.answer(FIELDS, services.into_iter(), names, |(id, dials)| {
            json!({
                "id": id,
                "name": service_name(&memory.model, id),
                "opened": dials.opened,
                "failed": dials.failed.values().sum::<u64>(),
                "causes": dials.failed,
                "ill": dials.ill().map(Leg::as_str),
                "meanMilliseconds": dials.milliseconds.checked_div(dials.opened),
            })
        })
    })
}

impl Dials {
    /// As connected routers last reported them.
    pub(super) fn of(memory: &Memory, service: &ServiceId) -> Self {
        let reported = memory.live.activities().flat_map(|activity| &activity.dials);
        let mut dials = Self::default();
        reported.filter(|it| it.service == *service).for_each(|it| dials.count(it));
        dials
    }

    fn count(&mut self, outcomes: &DialOutcomes) {
        match &outcomes.cause {
            None => {
                self.opened += outcomes.count;
                self.milliseconds += outcomes.milliseconds;
            }
            // A word that this release does not know is of another one.
            Some(word) => {
                if let Some(cause) = FailureCause::from_word(word) {
                    *self.failed.entry(cause).or_default() += outcomes.count;
                }
            }
        }
    }

    /// The leg on which most failed; none where only policy or the ends refused.
    pub(super) fn ill(&self) -> Option<Leg> {
        let mut legs: BTreeMap<Leg, u64> = BTreeMap::new();
        for (cause, count) in &self.failed {
            *legs.entry(cause.leg()).or_default() += count;
        }
        legs.remove(&Leg::None);
        legs.into_iter().max_by_key(|(_, count)| *count).map(|(leg, _)| leg)
    }
}
