//! The interface for operators.

mod audit;
pub(super) mod auth_policies;
mod authenticators;
mod cas;
pub(crate) mod configs;
mod enrollments;
mod entities;
mod events;
mod explain;
mod fabric;
mod find;
mod identities;
mod listed;
mod network;
mod policies;
mod quarantines;
mod resource;
mod routers;
mod services;
mod sessions;
mod signing;
mod summary;
mod terminators;
mod usage;
pub(super) mod validate;

use nightgate_model::api::{Disable, Explanation, SetPassword, SetTerminator};
use nightgate_model::entity::{
    AuthPolicy, Ca, Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Identity, Service,
    ServiceEdgeRouterPolicy, ServicePolicy,
};

pub(super) use self::enrollments::shape as enrollment;
use self::terminators::Terminators;
use super::{
    api::{Access, Api},
    client, schema,
};

/// All management routes, without a prefix.
pub(super) fn api() -> Api {
    Api::new(Access::Anybody)
        .get("/version", "Versions and where the interfaces are", client::version)
        .post("/authenticate", "Begin an API session", client::authenticate)
        .merge(client::mfa())
        .at(Access::Administrator)
        .get("/summary", "How many there are of each kind", summary::summary)
        .merge(entities::api::<Identity>())
        .post("/identities/{id}/disable", "Disable an identity", identities::disable)
        .takes(schema::of::<Disable>())
        .post("/identities/{id}/enable", "Enable it again", identities::enable)
        .put("/identities/{id}/password", "Let it log in with a password", identities::set_password)
        .takes(schema::of::<SetPassword>())
        .delete("/identities/{id}/password", "Take that away", identities::remove_password)
        .delete("/identities/{id}/mfa", "Take its second factor away", identities::remove_mfa)
        .post(
            "/identities/{id}/require-mfa",
            "Ask all its sessions for the second factor again",
            identities::require_mfa,
        )
        .merge(quarantines::api())
        .merge(authenticators::api())
        .merge(enrollments::api())
        .merge(sessions::api())
        .merge(network::api())
        .merge(entities::api::<AuthPolicy>())
        .merge(entities::api::<Ca>())
        .merge(cas::api())
        .merge(entities::api::<EdgeRouter>())
        .merge(entities::api::<ConfigType>())
        .merge(entities::api::<Config>())
        .merge(entities::api::<Service>())
        .merge(entities::api::<ServicePolicy>())
        .merge(entities::api::<EdgeRouterPolicy>())
        .merge(entities::api::<ServiceEdgeRouterPolicy>())
        .get("/terminators", "Where services are hosted now", listed::list::<Terminators>)
        .get("/terminators/{id}", "One of them", listed::one::<Terminators>)
        .patch("/terminators/{id}", "Decide in the place of its host", terminators::patch)
        .takes(schema::of::<SetTerminator>())
        .merge(fabric::api())
        .get("/explain", "Why an identity may use a service, or may not", explain::explain)
        .answers(schema::of::<Explanation>())
        .get("/audit", "Who changed what", audit::list)
        .get("/usage", "What identities have used", usage::list)
        .merge(events::api())
}
