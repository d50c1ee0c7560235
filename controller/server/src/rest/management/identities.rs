//! Identities.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use nightgate_model::{
    api::{Disable, SetPassword},
    entity::{AuthPolicy, Identity, IdentityKind},
    id::IdentityId,
    token::EnrollmentMethod,
};
use nightgate_store::{Model, PasswordLogin, Step, Stored};
use serde_json::{Value, json};

use super::{
    auth_policies::{self, check_password},
    entities::{self, Common, Seen, update},
    resource::{Resource, View},
    services::forget_host,
    validate,
};
use crate::{
    clock,
    core::{Core, require_second_factor, steps_to_remove_factor},
    rest::{
        Failure, answer,
        body::{Body, Raw, parse},
        caller::{Admin, Caller},
        shape,
    },
};

impl Resource for Identity {
    const FIELDS: &'static [&'static str] = &[
        "typeId",
        "isAdmin",
        "disabled",
        "disabledUntil",
        "roleAttributes",
        "fingerprint",
        "authPolicyId",
        "hasApiSession",
        "hasEdgeRouterConnection",
        "edgeRouterConnectionStatus",
    ];
    const DEFAULTS: &'static [(&'static str, &'static [&'static str])] = &[
        ("type", &["\"Default\"", "\"User\"", "\"Device\"", "\"Service\""]),
        ("appData", &["{}", "null"]),
        ("externalId", &["\"\"", "null"]),
        ("defaultHostingCost", &["0", "null"]),
        ("defaultHostingPrecedence", &["\"default\"", "null"]),
        ("serviceHostingCosts", &["{}", "null"]),
        ("serviceHostingPrecedences", &["{}", "null"]),
    ];
    const ENROLLMENT: Option<EnrollmentMethod> = Some(EnrollmentMethod::Ott);

    fn shape(stored: &Stored<Self>, view: &View<'_>) -> Value {
        let pending = view.enrollments_of(&stored.entity.id);
        shape::identity(stored, view.memory, view.authenticated(), pending)
    }

    fn check(&self, model: &Model) -> Result<(), Failure> {
        validate::name(&self.name)?;
        validate::attributes(&self.role_attributes)?;
        if model.auth_policies.contains_key(&self.auth_policy_id) {
            return Ok(());
        }
        Err(Failure::invalid(format!(
            "authPolicyId: there is no auth policy {}",
            self.auth_policy_id
        )))
    }

    /// An administrator remains, whoever changes whom: nobody takes the means from itself.
    fn check_change(&self, before: &Self, caller: &Caller, model: &Model) -> Result<(), Failure> {
        let is_own = self.id == caller.identity.id;
        if is_own && (self.disabled || !self.is_admin) {
            let message = "an administrator cannot disable itself or give up being one";
            return Err(Failure::conflict(message));
        }
        if let Some(policy) = policy_of(self, model).filter(|_| is_own) {
            auth_policies::check_own(policy, caller)?;
        }
        match before.kind {
            IdentityKind::Router if self.name != before.name => {
                Err(Failure::conflict("the identity belongs to a router; rename the router"))
            }
            IdentityKind::Router | IdentityKind::Default => Ok(()),
        }
    }

    /// Sessions that its policy forbids end.
    fn with_changed(&self, model: &Model) -> Vec<Step> {
        let policy = policy_of(self, model);
        policy.map_or_else(Vec::new, |policy| auth_policies::forbidden(&self.id, policy))
    }

    fn with_deleted(&self, model: &Model) -> Vec<Step> {
        forget_host(&self.id, model)
    }

    fn check_delete(&self, caller: &Caller, _model: &Model) -> Result<(), Failure> {
        if self.id == caller.identity.id {
            return Err(Failure::conflict("an administrator cannot delete its own identity"));
        }
        match self.kind {
            IdentityKind::Router => {
                Err(Failure::conflict("the identity belongs to a router; delete the router"))
            }
            IdentityKind::Default => Ok(()),
        }
    }
}

fn policy_of<'a>(identity: &Identity, model: &'a Model) -> Option<&'a AuthPolicy> {
    model.auth_policies.get(&identity.auth_policy_id).map(|stored| &stored.entity)
}

/// `POST /identities/{id}/disable`: its sessions and circuits end.
pub(super) async fn disable(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response, Failure> {
    let wanted: Disable = if body.is_empty() { Disable::default() } else { parse(&body)? };
    let until = match wanted.duration_minutes {
        0 => None,
        minutes => Some(clock::timestamp().0 + i64::from(minutes) * 60_000),
    };
    let set = move |identity| Ok(Identity { disabled: true, disabled_until: until, ..identity });
    update(&core, caller, id, Seen::of(&headers), Common::default(), set).await?;
    Ok(answer::ok(json!({})))
}

/// `POST /identities/{id}/enable`.
pub(super) async fn enable(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let set = |identity| Ok(Identity { disabled: false, disabled_until: None, ..identity });
    update(&core, caller, id, Seen::of(&headers), Common::default(), set).await?;
    Ok(answer::ok(json!({})))
}

/// `PUT /identities/{id}/password`: the name to log in with is the identity's unless the body says
/// otherwise.
pub(super) async fn set_password(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Body(wanted): Body<SetPassword>,
) -> Result<Response, Failure> {
    core.read(|memory| check_password(&IdentityId::new(&id), &wanted.password, &memory.model))?;
    let hash = core.passwords.hash(wanted.password).await?;
    core.edit(caller.author(), move |memory| {
        let identity = &entities::find::<Identity>(&memory.model, &id)?.entity;
        let username = wanted.username.unwrap_or_else(|| identity.name.clone());
        validate::name(&username)?;
        let login = PasswordLogin { identity: identity.id.clone(), username, hash };
        Ok::<_, Failure>((vec![Step::SetPassword(login)], ()))
    })
    .await?;
    Ok(answer::ok(json!({})))
}

/// `DELETE /identities/{id}/password`.
pub(super) async fn remove_password(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.edit(caller.author(), move |memory| {
        let identity = entities::find::<Identity>(&memory.model, &id)?.entity.id.clone();
        Ok::<_, Failure>((vec![Step::RemovePassword(identity)], ()))
    })
    .await?;
    Ok(answer::ok(json!({})))
}

/// `DELETE /identities/{id}/mfa`: for whoever has lost the device and the recovery codes. If the policy asks for a second
/// factor, its sessions wait until another one is enrolled.
pub(super) async fn remove_mfa(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.edit(caller.author(), move |memory| {
        let identity = entities::find::<Identity>(&memory.model, &id)?.entity.id.clone();
        if !memory.model.mfas.contains_key(&identity) {
            return Err(Failure::not_found("the second factor"));
        }
        Ok((steps_to_remove_factor(&memory.model, &identity), ()))
    })
    .await?;
    Ok(answer::ok(json!({})))
}

/// `POST /identities/{id}/require-mfa`: its circuits end, and until a code is given no others begin.
pub(super) async fn require_mfa(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    require_second_factor(&core, caller.author(), IdentityId::new(id)).await?;
    Ok(answer::ok(json!({})))
}
