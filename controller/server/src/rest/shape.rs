//! Entities in the shapes of OpenZiti's edge API. Clients insist on fields that say nothing here.

mod service;
mod session;

use std::collections::HashSet;

use nightgate_model::{
    entity::{
        AuthPolicy, Ca, Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Identity, IdentityKind,
        ServiceEdgeRouterPolicy, ServicePolicy, Terminator,
    },
    id::{Identifier as _, IdentityId, RouterId, ServiceId},
};
use nightgate_pki::ForeignCertificate;
use nightgate_store::{EnrollmentId, Kept, Model, PendingEnrollment, Stored, Timestamp};
use serde_json::{Map, Value, json};

pub(super) use self::{
    service::{ConfigTypes, service, service_for},
    session::{api_session, session},
};
use super::{authenticator::Authenticator, management};
use crate::{
    clock::{rfc3339, timestamp},
    core::Memory,
};

/// A name beside an id.
pub(super) fn reference(path: &str, id: &str, name: &str) -> Value {
    json!({ "id": id, "name": name, "entity": path, "_links": links(path, id) })
}

/// An identity, for operators and for itself; `authenticated` are those that have a session, `pending` its
/// enrollments.
pub(super) fn identity(
    stored: &Stored<Identity>,
    memory: &Memory,
    authenticated: &HashSet<&IdentityId>,
    pending: &[(&EnrollmentId, &PendingEnrollment)],
) -> Value {
    let identity = &stored.entity;
    let id = identity.id.as_str();
    let kind = match identity.kind {
        IdentityKind::Default => "Default",
        IdentityKind::Router => "Router",
    };
    let policy = memory.model.auth_policy(&identity.id);
    let connected = memory.live.is_connected(&RouterId::new(id));
    let own = json!({
        "type": reference("identity-types", kind, kind),
        "typeId": kind,
        "isAdmin": identity.is_admin,
        "isDefaultAdmin": false,
        "isMfaEnabled": memory.model.verified_mfa(&identity.id).is_some(),
        "permissions": [],
        "disabled": identity.disabled,
        "disabledUntil": identity.disabled_until.map(|at| rfc3339(Timestamp(at))),
        "roleAttributes": identity.role_attributes,
        "fingerprint": identity.fingerprint,
        "hasApiSession": authenticated.contains(&identity.id),
        "hasEdgeRouterConnection": connected,
        "edgeRouterConnectionStatus": if connected { "online" } else { "unknown" },
        "appData": {},
        "authPolicyId": identity.auth_policy_id,
        "authPolicy": policy
            .map(|policy| reference("auth-policies", policy.id.as_str(), &policy.name)),
        "authenticators": authenticators_of(stored, &memory.model),
        "enrollment": enrollments(pending, memory),
        "envInfo": {},
        "sdkInfo": {},
        "externalId": null,
        "defaultHostingPrecedence": "default",
        "defaultHostingCost": 0,
        "serviceHostingPrecedences": {},
        "serviceHostingCosts": {},
    });
    stored_entity(stored, own)
}

fn authenticators_of(stored: &Stored<Identity>, model: &Model) -> Value {
    let own = Authenticator::of(stored, model);
    own.map(|one| (one.method.as_str().to_owned(), one.shape(model))).collect::<Map<_, _>>().into()
}

fn enrollments(pending: &[(&EnrollmentId, &PendingEnrollment)], memory: &Memory) -> Value {
    let shaped = pending.iter().map(|(id, pending)| {
        (pending.method.as_str().to_owned(), management::enrollment(id, pending, memory))
    });
    shaped.collect::<Map<_, _>>().into()
}

/// An auth policy.
pub(super) fn auth_policy(stored: &Stored<AuthPolicy>) -> Value {
    let AuthPolicy { primary, secondary, .. } = &stored.entity;
    stored_entity(stored, json!({ "primary": primary, "secondary": secondary }))
}

/// A CA of others.
pub(super) fn ca(stored: &Stored<Ca>) -> Value {
    let ca = &stored.entity;
    let certificate = ForeignCertificate::from_pem(&ca.cert_pem).ok();
    let own = json!({
        "certPem": ca.cert_pem,
        "fingerprint": certificate.map(|certificate| certificate.fingerprint()),
        "isVerified": ca.is_verified,
        "verificationToken": if ca.is_verified { None } else { Some(&ca.id) },
        "isAuthEnabled": ca.is_auth_enabled,
        "isAutoCaEnrollmentEnabled": ca.is_auto_ca_enrollment_enabled,
        "isOttCaEnrollmentEnabled": ca.is_ott_ca_enrollment_enabled,
        "identityRoles": ca.identity_roles,
        "identityNameFormat": ca.identity_name_format,
        "externalIdClaim": null,
    });
    stored_entity(stored, own)
}

/// A config.
pub(super) fn config(stored: &Stored<Config>, model: &Model) -> Value {
    let config = &stored.entity;
    let kind = config.config_type_id.as_str();
    let known = model.config_types.get(&config.config_type_id);
    let own = json!({
        "configTypeId": kind,
        "configType": reference("config-types", kind, known.map_or("", |known| &known.entity.name)),
        "data": config.data,
    });
    stored_entity(stored, own)
}

/// A config type.
pub(super) fn config_type(stored: &Stored<ConfigType>) -> Value {
    let own = json!({ "schema": stored.entity.schema });
    stored_entity(stored, own)
}

/// A service policy.
pub(super) fn policy(stored: &Stored<ServicePolicy>) -> Value {
    let policy = &stored.entity;
    let own = json!({
        "type": policy.permission,
        "semantic": policy.semantic,
        "identityRoles": policy.identity_roles,
        "serviceRoles": policy.service_roles,
        "identityRolesDisplay": [],
        "serviceRolesDisplay": [],
        "postureCheckRoles": [],
        "postureCheckRolesDisplay": [],
    });
    stored_entity(stored, own)
}

/// An edge-router policy.
pub(super) fn edge_router_policy(stored: &Stored<EdgeRouterPolicy>) -> Value {
    let policy = &stored.entity;
    let own = json!({
        "semantic": policy.semantic,
        "identityRoles": policy.identity_roles,
        "edgeRouterRoles": policy.edge_router_roles,
        "identityRolesDisplay": [],
        "edgeRouterRolesDisplay": [],
        "isSystem": false,
    });
    stored_entity(stored, own)
}

/// A service-edge-router policy.
pub(super) fn service_edge_router_policy(stored: &Stored<ServiceEdgeRouterPolicy>) -> Value {
    let policy = &stored.entity;
    let own = json!({
        "semantic": policy.semantic,
        "serviceRoles": policy.service_roles,
        "edgeRouterRoles": policy.edge_router_roles,
        "serviceRolesDisplay": [],
        "edgeRouterRolesDisplay": [],
    });
    stored_entity(stored, own)
}

/// An edge router.
pub(super) fn edge_router(stored: &Stored<EdgeRouter>, memory: &Memory) -> Value {
    let router = &stored.entity;
    let is_online = memory.live.is_connected(&router.id);
    let address = memory.live.address(&router.id).or(router.address.as_deref());
    let protocols = match address {
        Some(address) => json!({ "tls": format!("tls://{address}") }),
        None => json!({}),
    };
    let own = json!({
        "hostname": address.and_then(host).unwrap_or_default(),
        "address": address,
        "isOnline": is_online,
        "isVerified": router.fingerprint.is_some(),
        "isTunnelerEnabled": router.is_tunneler_enabled,
        "fingerprint": router.fingerprint,
        "disabled": router.disabled,
        "supportedProtocols": protocols,
        "urls": protocols,
        "roleAttributes": router.role_attributes,
        "appData": {},
        "cost": router.cost,
        "noTraversal": router.no_traversal,
        "syncStatus": if is_online { "SYNC_DONE" } else { "SYNC_UNKNOWN" },
    });
    stored_entity(stored, own)
}

/// The routers that clients can connect to: connected, enabled, with an address.
pub(super) fn reachable_routers(memory: &Memory) -> Vec<&Stored<EdgeRouter>> {
    let mut routers: Vec<_> = memory
        .model
        .routers
        .values()
        .filter(|stored| !stored.entity.disabled)
        .filter(|stored| memory.live.address(&stored.entity.id).is_some())
        .collect();
    routers.sort_by(|a, b| a.entity.name.cmp(&b.entity.name));
    routers
}

/// Where a service is hosted, for someone who may use it. When that began is not kept, so the times are
/// those of the answer.
pub(super) fn terminator_for(terminator: &Terminator, memory: &Memory) -> Value {
    let service = terminator.service.as_str();
    let known = memory.model.services.get(&terminator.service);
    let own = json!({
        "serviceId": service,
        "service": reference("services", service, known.map_or("", |known| &known.entity.name)),
        "routerId": terminator.router,
        "identity": terminator.instance,
    });
    entity("terminators", terminator.id.as_str(), (timestamp(), timestamp()), own)
}

/// The routers that an identity can use a service through now, shaped.
pub(super) fn routers_for(
    memory: &Memory,
    identity: &IdentityId,
    service: &ServiceId,
) -> Vec<Value> {
    let authorizations = memory.authorizations();
    reachable_routers(memory)
        .into_iter()
        .filter(|router| authorizations.reaches(identity, service, &router.entity.id))
        .map(|router| edge_router(router, memory))
        .collect()
}

/// Adds what every entity of the model has.
fn stored_entity<E: Kept>(stored: &Stored<E>, own: Value) -> Value {
    let at = (stored.created_at, stored.updated_at);
    let mut shaped = entity(E::KIND.path(), stored.entity.id().text(), at, own);
    shaped["name"] = stored.entity.name().into();
    shaped["tags"] = json!(stored.tags);
    shaped
}

/// Adds what everything that is listed has.
pub(super) fn entity(
    path: &str,
    id: &str,
    (created, updated): (Timestamp, Timestamp),
    own: Value,
) -> Value {
    let mut shaped = own;
    shaped["id"] = id.into();
    shaped["createdAt"] = rfc3339(created).into();
    shaped["updatedAt"] = rfc3339(updated).into();
    shaped["tags"] = json!({});
    shaped["_links"] = links(path, id);
    shaped
}

fn links(path: &str, id: &str) -> Value {
    json!({ "self": { "href": format!("./{path}/{id}") } })
}

/// The host of `host:port`, without brackets.
fn host(address: &str) -> Option<&str> {
    let (host, _) = address.rsplit_once(':')?;
    Some(host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host))
}
