//! Entities in the shapes of OpenZiti's edge API. Clients insist on fields that say nothing here.

use std::collections::HashSet;

use nightgate_model::{
    configs::MirrorV1,
    entity::{
        AuthPolicy, Ca, Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Identity, IdentityKind,
        Permission, Service, ServiceEdgeRouterPolicy, ServicePolicy, Terminator,
    },
    id::{ConfigId, Identifier as _, IdentityId, RouterId, ServiceId},
};
use nightgate_pki::ForeignCertificate;
use nightgate_store::{
    ApiSession, EnrollmentId, Kept, Model, PendingEnrollment, SecondFactor, Stored, Timestamp,
};
use serde_json::{Map, Value, json};

use super::{
    authenticator::{Authenticator, Method},
    management,
};
use crate::{
    clock::{rfc3339, timestamp},
    core::{Memory, ServiceSession, resolved_config},
    mfa::LENGTHS,
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

/// A service, for operators.
pub(super) fn service(stored: &Stored<Service>) -> Value {
    let service = &stored.entity;
    let own = json!({
        "roleAttributes": service.role_attributes,
        "encryptionRequired": service.encryption_required,
        "config": service.config,
        "configs": service.configs,
        "terminatorStrategy": service.terminator_strategy,
        "maxIdleTimeMillis": 0,
        "permissions": [],
        "postureQueries": [],
    });
    stored_entity(stored, own)
}

/// A service, for someone who may use it: with what it may do and the config types it asked for.
pub(super) fn service_for(
    stored: &Stored<Service>,
    permissions: &[Permission],
    (wanted, caller): (&ConfigTypes, &Identity),
    (model, native_ends): (&Model, &[Permission]),
) -> Value {
    let mut shaped = service(stored);
    let documents = resolved_config(&stored.entity, model).into_iter();
    let documents = documents.filter(|(kind, _)| wanted.includes(kind)).filter_map(|(kind, it)| {
        let told = told(&kind, &it, caller)?;
        Some((kind, told))
    });
    shaped["config"] = documents.collect::<Map<String, Value>>().into();
    let shared = stored.entity.configs.iter().filter(|id| is_for(caller, id, model));
    shaped["configs"] = shared.map(|id| id.to_string()).collect();
    shaped["permissions"] = permissions.iter().map(|permission| permission.as_str()).collect();
    // Ours: clients of OpenZiti ignore it.
    shaped["nativeEnds"] = native_ends.iter().map(|permission| permission.as_str()).collect();
    shaped
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

/// An API session, with its token.
pub(super) fn api_session(session: &ApiSession, identity: &Identity, token: &str) -> Value {
    let remaining = (session.expires_at.0 - timestamp().0) / 1000;
    let method = if session.fingerprint.is_some() { Method::Cert } else { Method::Updb };
    let own = json!({
        "token": token,
        "identityId": identity.id,
        "identity": reference("identities", identity.id.as_str(), &identity.name),
        "configTypes": session.config_types,
        "expiresAt": rfc3339(session.expires_at),
        "expirationSeconds": remaining.max(0),
        "lastActivityAt": rfc3339(timestamp()),
        "cachedLastActivityAt": rfc3339(timestamp()),
        "cachedUpdatedAt": rfc3339(timestamp()),
        "authQueries": auth_queries(session),
        "postureQueries": [],
        "isMfaRequired": session.second_factor != SecondFactor::NotNeeded,
        "isMfaComplete": session.second_factor != SecondFactor::Due,
        "isCertExtendable": method == Method::Cert && identity.kind == IdentityKind::Default,
        "improperClientCertChain": false,
        "authenticatorId": method.id(&identity.id),
        "deviceId": "",
        "ipAddress": "",
    });
    entity("api-sessions", session.id.as_str(), (session.created_at, timestamp()), own)
}

/// What an API session still has to show: OpenZiti's name of a one-time password by time is MFA.
fn auth_queries(session: &ApiSession) -> Value {
    if session.second_factor != SecondFactor::Due {
        return json!([]);
    }
    let (shortest, longest) = LENGTHS;
    json!([{
        "typeId": "MFA",
        "provider": "ziti",
        "httpMethod": "POST",
        "httpUrl": "./authenticate/mfa",
        "minLength": shortest,
        "maxLength": longest,
        "format": "alphaNumeric",
    }])
}

/// A service session, with its token.
pub(super) fn session(
    session: &ServiceSession,
    api_session: &ApiSession,
    token: &str,
    memory: &Memory,
) -> Value {
    let service = session.service.as_str();
    let own = json!({
        "token": token,
        "type": session.permission,
        "serviceId": service,
        "service": reference("services", service, name_of_service(&memory.model, session)),
        "apiSessionId": api_session.id,
        "apiSession": reference("api-sessions", api_session.id.as_str(), ""),
        "identityId": api_session.identity,
        "expiresAt": rfc3339(api_session.expires_at),
        "edgeRouters": routers_for(memory, &api_session.identity, &session.service),
        "authQueries": [],
        "postureQueries": [],
    });
    entity("sessions", &session.id, (session.created_at, session.created_at), own)
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

/// Config types that a client asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ConfigTypes {
    /// `all`.
    All,
    /// These.
    Named(Vec<String>),
}

impl ConfigTypes {
    /// Reads names; one of them may be `all`.
    pub(super) fn new(names: Vec<String>) -> Self {
        if names.iter().any(|name| name == "all") { Self::All } else { Self::Named(names) }
    }

    fn includes(&self, kind: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|name| name == kind),
        }
    }
}

/// What a client is told of a document. Whoever uses a service is not to learn from us that it is mirrored, except for the
/// tunnelers that are to do it.
fn told(kind: &str, document: &Value, caller: &Identity) -> Option<Value> {
    match kind {
        MirrorV1::TYPE => MirrorV1::for_tunneler(document, &caller.name).map(Value::Object),
        _ => Some(document.clone()),
    }
}

fn is_for(caller: &Identity, config: &ConfigId, model: &Model) -> bool {
    let known = model.configs.get(config).and_then(|stored| {
        let kind = model.config_types.get(&stored.entity.config_type_id)?;
        Some((&kind.entity.name, &stored.entity.data))
    });
    known.is_none_or(|(kind, data)| told(kind, data, caller).is_some())
}

fn name_of_service<'a>(model: &'a Model, session: &ServiceSession) -> &'a str {
    model.services.get(&session.service).map_or("", |stored| stored.entity.name.as_str())
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
