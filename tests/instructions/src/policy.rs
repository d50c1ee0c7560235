//! Who may do what, as routers ask it for each dial.

use std::hint::black_box;

use anyhow::{Result, ensure};
use nightgate_model::{
    authorization::{Authorizations, Rule, Terms},
    entity::{Permission, Role, Semantic},
    id::{IdentityId, ServiceId},
};

use crate::{Case, Run};

pub(crate) const CASES: &[Case] =
    &[Case { name: "policy, decide 64 dials among 1,000 identities", prepare: decide }];

const IDENTITIES: usize = 1_000;
const SERVICES: usize = 200;
/// Identities and services have one attribute of so many each; policy n joins those of number n.
const GROUPS: usize = 50;
/// Half of them are allowed.
const DIALS: usize = 64;

fn decide(_runs: usize) -> Result<Run> {
    let authorizations = Authorizations::new(terms());
    let dials: Vec<(IdentityId, ServiceId)> = (0..DIALS)
        .map(|number| {
            let of_group = 15 * number % GROUPS + GROUPS * (number % 3);
            (identity(15 * number), service(of_group + number % 2))
        })
        .collect();
    Ok(Box::new(move || {
        let allows = |(identity, service): &&(IdentityId, ServiceId)| {
            authorizations.allows(identity, Permission::Dial, service)
        };
        let allowed = black_box(&dials).iter().filter(allows).count();
        ensure!(allowed == DIALS / 2, "{allowed} of {DIALS} are allowed");
        Ok(())
    }))
}

fn identity(number: usize) -> IdentityId {
    IdentityId::new(format!("identity-{number}"))
}

fn service(number: usize) -> ServiceId {
    ServiceId::new(format!("service-{number}"))
}

fn terms() -> Terms {
    let group = |number: usize| format!("group-{}", number % GROUPS);
    let attribute = |number: usize| vec![Role::Attribute(group(number))];
    let rule =
        |number| Rule { semantic: Semantic::AnyOf, from: attribute(number), to: attribute(number) };
    Terms {
        identities: (0..IDENTITIES)
            .map(|number| (identity(number), [group(number)].into()))
            .collect(),
        services: (0..SERVICES).map(|number| (service(number), [group(number)].into())).collect(),
        dial: (0..GROUPS).map(rule).collect(),
        bind: (0..GROUPS).map(rule).collect(),
        ..Terms::default()
    }
}
