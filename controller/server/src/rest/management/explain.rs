//! `GET /explain`: whether, and why or why not, an identity can use a service.

mod path;

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use nightgate_model::{
    api::{Explanation, ExplanationStep},
    entity::{Identity, IdentityKind, Permission, Service},
    id::RouterId,
    quarantine::Quarantine,
};
use nightgate_store::Timestamp;
use serde::Deserialize;

use crate::{
    clock::rfc3339,
    core::{Core, Memory},
    rest::{Failure, answer, caller::Admin, management::find, shape::reachable_routers},
};

/// Identities that are named at most, of those that may host.
const MAX_NAMED: usize = 5;

/// Query of `GET /explain`; identity and service by name or id.
#[derive(Deserialize)]
pub(crate) struct Parameters {
    identity: String,
    service: String,
    #[serde(rename = "type")]
    permission: Permission,
}

/// `GET /explain?identity=NAME&service=NAME&type=Dial|Bind`.
pub(crate) async fn explain(
    State(core): State<Arc<Core>>,
    _: Admin,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(parameters) = parameters
        .map_err(|rejection| Failure::bad_request("INVALID_QUERY", rejection.body_text()))?;
    Ok(answer::ok(core.read_evaluated(|memory| explanation(memory, &parameters))))
}

fn explanation(memory: &Memory, parameters: &Parameters) -> Explanation {
    let Parameters { identity, service, permission } = parameters;
    let mut steps = Vec::new();
    let found = (find::identity(memory, identity), find::service(memory, service));
    if let (Some(identity), Some(service)) = found {
        let policies = memory.model.policies.values().map(|stored| &stored.entity);
        steps = nightgate_policy::explain(identity, service, *permission, policies);
        if let Some(quarantine) = memory.model.quarantines.get(&identity.id) {
            let until = rfc3339(Timestamp(quarantine.until));
            let Quarantine { by, reason, .. } = quarantine;
            let state = if quarantine.second_factor {
                "has to show its second factor again".to_owned()
            } else {
                format!("is in quarantine until {until}")
            };
            let detail = format!("{} {state}, by {by}: {reason}", identity.name);
            steps.insert(0, step("quarantine", false, detail));
        }
        if *permission == Permission::Dial {
            steps.push(hosted(memory, service));
        }
        steps.extend(reachable(memory, identity, service));
        if *permission == Permission::Dial && steps.iter().all(|step| step.ok) {
            steps.push(path::linked(memory, identity, service));
        }
    }
    if found.0.is_none() {
        steps.push(step("identity", false, format!("there is no identity {identity}")));
    }
    if found.1.is_none() {
        steps.push(step("service", false, format!("there is no service {service}")));
    }
    let verb = match permission {
        Permission::Dial => "dial",
        Permission::Bind => "bind",
    };
    let obstacle = steps.iter().find(|step| !step.ok);
    Explanation {
        allowed: obstacle.is_none(),
        verdict: match obstacle {
            None => format!("{identity} can {verb} {service}"),
            Some(step) => format!("{identity} cannot {verb} {service}: {}", step.detail),
        },
        steps,
    }
}

/// Whether anyone who may hosts the service.
fn hosted(memory: &Memory, service: &Service) -> ExplanationStep {
    let authorizations = memory.authorizations();
    let of_service: Vec<_> =
        memory.live.terminators().filter(|terminator| terminator.service == service.id).collect();
    let usable: Vec<_> = of_service
        .iter()
        .filter(|t| authorizations.allows(&t.host, Permission::Bind, &service.id))
        .filter(|t| authorizations.reaches(&t.host, &service.id, &t.router))
        .collect();
    let named: BTreeSet<_> = usable.iter().map(|t| t.instance.as_str()).collect();
    let hosts = |terminator: &nightgate_model::entity::Terminator| {
        let host = memory.model.identities.get(&terminator.host);
        let router = memory.model.routers.get(&terminator.router);
        format!(
            "{} at router {}",
            host.map_or("?", |stored| &stored.entity.name),
            router.map_or("?", |stored| &stored.entity.name)
        )
    };
    match (usable.as_slice(), of_service.as_slice()) {
        ([], []) => {
            let detail =
                format!("nobody hosts {} now; {}", service.name, may_host(memory, service));
            step("terminator", false, detail)
        }
        ([], [first, ..]) => {
            let detail = format!(
                "{} is hosted by {}, which may not bind it there",
                service.name,
                hosts(first)
            );
            step("terminator", false, detail)
        }
        (_, _) if !named.contains("") => {
            let names = Vec::from_iter(named).join(", ");
            let detail = format!("{} is hosted by name only; dial one of: {names}", service.name);
            step("terminator", true, detail)
        }
        ([first, ..], _) => {
            let detail = format!("{} is hosted by {}", service.name, hosts(first));
            step("terminator", true, detail)
        }
    }
}

/// Who could host a service, for those who wonder why nobody does.
fn may_host(memory: &Memory, service: &Service) -> String {
    let authorizations = memory.authorizations();
    let mut names = memory
        .model
        .identities
        .values()
        .map(|stored| &stored.entity)
        .filter(|identity| !identity.disabled)
        .filter(|identity| authorizations.allows(&identity.id, Permission::Bind, &service.id))
        .map(|identity| identity.name.as_str());
    let first: Vec<_> = names.by_ref().take(MAX_NAMED).collect();
    match (first.is_empty(), names.count()) {
        (true, _) => "no Bind policy lets anyone".to_owned(),
        (false, 0) => format!("{} may", first.join(", ")),
        (false, more) => format!("{} and {more} more may", first.join(", ")),
    }
}

/// Whether the identity has a router to use for the service: a gateway its own, others any that policies
/// let it use and that is reachable.
fn reachable(memory: &Memory, identity: &Identity, service: &Service) -> Vec<ExplanationStep> {
    let candidates: Vec<_> = match identity.kind {
        IdentityKind::Router => {
            let own = RouterId::new(identity.id.as_str());
            if !memory.live.is_connected(&own) {
                let detail = format!("router {} is not connected", identity.name);
                return vec![step("router", false, detail)];
            }
            memory.model.routers.get(&own).into_iter().collect()
        }
        IdentityKind::Default => reachable_routers(memory),
    };
    let explained = candidates.iter().map(|router| {
        nightgate_policy::explain_routers(
            identity,
            service,
            &router.entity,
            memory.model.router_policies.values().map(|stored| &stored.entity),
            memory.model.service_router_policies.values().map(|stored| &stored.entity),
        )
    });
    let mut refused = Vec::new();
    for (router, steps) in candidates.iter().zip(explained) {
        if steps.iter().all(|step| step.ok) {
            let detail = format!("router {} is reachable", router.entity.name);
            return steps.into_iter().chain([step("router", true, detail)]).collect();
        }
        refused.extend(steps.into_iter().filter(|step| !step.ok));
    }
    if refused.is_empty() {
        let detail = "no connected router advertises an address for clients";
        refused.push(step("router", false, detail.into()));
    }
    refused
}

fn step(check: &str, ok: bool, detail: String) -> ExplanationStep {
    ExplanationStep { check: check.into(), ok, detail }
}
