//! Identities that are cut off for a while, with the reason why.

use std::sync::Arc;

use nightgate_model::{
    entity::{EdgeRouter, Identity, IdentityKind},
    id::{IdentityId, RouterId},
    quarantine::{LONGEST, Quarantine, QuarantineRequest},
};
use nightgate_store::{Author, Model, SecondFactor, Step, StoreError, Whose};

use super::Core;
use crate::clock;

/// Role attribute of the routers whose alerts may cut identities off.
const PERMIT: &str = "quarantine";

/// Why an identity is not put in quarantine, or not released.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuarantineError {
    /// There is no such identity.
    #[error("the identity is not known")]
    Unknown,
    /// It is not in quarantine.
    #[error("the identity is not in quarantine")]
    Free,
    /// The router that asks is not permitted to.
    #[error(
        "router {router} lacks the role attribute {PERMIT:?}; give it to routers whose alerts cut identities off"
    )]
    NotPermitted {
        /// Its name.
        router: String,
    },
    /// Alerts must not lock operators out.
    #[error("the identity is an administrator; disable it by hand if it has to be")]
    Administrator,
    /// There is nothing to ask for.
    #[error("the identity has no second factor to ask for; put it in quarantine instead")]
    NoFactor,
    /// Alerts must not take a gateway from everybody behind it.
    #[error("the identity is a router's; disable the router by hand if it has to be")]
    Router,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Puts an identity in quarantine at once: it is disabled, its sessions and circuits end. A later end takes the
/// place of an earlier one. If a code of its second factor is enough, and it has one, it is asked for it instead.
///
/// # Errors
/// The identity is unknown, an administrator's or a router's, or the store fails.
pub(crate) async fn begin(
    core: &Arc<Core>,
    author: Author,
    request: QuarantineRequest,
) -> Result<(), QuarantineError> {
    let now = clock::timestamp().0;
    let identity = request.identity.clone();
    let (by, reason) = (author.name.clone(), request.reason.clone());
    let asks_for_code = core
        .edit(author.clone(), move |memory| {
            let may_ask = request.second_factor;
            let quarantine = request.begun(now, &author.name);
            let steps = may_ask.then(|| steps_to_ask(&memory.model, &quarantine)).flatten();
            let asks = steps.is_some();
            let steps = match steps {
                Some(steps) => steps,
                None => steps_to_begin(&memory.model, quarantine)?,
            };
            Ok::<_, QuarantineError>((steps, asks))
        })
        .await?;
    if asks_for_code {
        tracing::warn!(%identity, by, reason, "identity is asked for its second factor again");
    } else {
        tracing::warn!(%identity, by, reason, "identity in quarantine");
    }
    Ok(())
}

/// Asks an identity for its second factor again, as an operator wants it.
///
/// # Errors
/// The identity is unknown or has no second factor, or the store fails.
pub(crate) async fn require_second_factor(
    core: &Arc<Core>,
    author: Author,
    identity: IdentityId,
) -> Result<(), QuarantineError> {
    let now = clock::timestamp().0;
    let (by, asked) = (author.name.clone(), identity.clone());
    core.edit(author.clone(), move |memory| {
        if !memory.model.identities.contains_key(&identity) {
            return Err(QuarantineError::Unknown);
        }
        let seconds = LONGEST;
        let reason = String::new();
        let request =
            QuarantineRequest { identity, seconds, reason, second_factor: true, evidence: None };
        let quarantine = request.begun(now, &author.name);
        let steps = steps_to_ask(&memory.model, &quarantine).ok_or(QuarantineError::NoFactor)?;
        Ok((steps, ()))
    })
    .await?;
    tracing::warn!(identity = %asked, by, "identity is asked for its second factor again");
    Ok(())
}

/// As [`begin`], for a router of this id. It has to be permitted: whoever holds a router's key could cut off everybody.
///
/// # Errors
/// As for [`begin`].
pub(crate) async fn begin_for_router(
    core: &Arc<Core>,
    router: &RouterId,
    request: QuarantineRequest,
) -> Result<(), QuarantineError> {
    let known = core.read(|memory| memory.model.routers.get(router).map(|r| r.entity.clone()));
    let EdgeRouter { name, role_attributes, .. } = known.ok_or(QuarantineError::Unknown)?;
    if !role_attributes.contains(PERMIT) {
        return Err(QuarantineError::NotPermitted { router: name });
    }
    begin(core, Author { id: router.to_string(), name }, request).await
}

/// Ends a quarantine: the identity is as it was before, but sessions that wait for a code go on waiting.
///
/// # Errors
/// The identity is not in quarantine, or the store fails.
pub(crate) async fn release(
    core: &Arc<Core>,
    author: Author,
    identity: IdentityId,
) -> Result<(), QuarantineError> {
    let released = identity.clone();
    core.edit(author, move |memory| {
        let steps = steps_to_release(&memory.model, &identity).ok_or(QuarantineError::Free)?;
        Ok::<_, QuarantineError>((steps, ()))
    })
    .await?;
    tracing::info!(identity = %released, "identity released from quarantine");
    Ok(())
}

/// What asks for a second factor again; `None` if there is none to ask for. Who is in a quarantine that ends by its time
/// stays there.
fn steps_to_ask(model: &Model, wanted: &Quarantine) -> Option<Vec<Step>> {
    let identity = &wanted.identity;
    model.verified_mfa(identity)?;
    let asked = Step::SetSecondFactor(Whose::Identity(identity.clone()), SecondFactor::Due);
    if model.quarantines.get(identity).is_some_and(|known| !known.second_factor) {
        return Some(vec![asked]);
    }
    let millis = i64::try_from(LONGEST * 1_000).unwrap_or(i64::MAX);
    let until = wanted.since.saturating_add(millis);
    let quarantine = Quarantine { second_factor: true, until, ..wanted.clone() };
    Some(vec![Step::Quarantine(quarantine), asked])
}

fn steps_to_begin(model: &Model, wanted: Quarantine) -> Result<Vec<Step>, QuarantineError> {
    let identity = &model.identities.get(&wanted.identity).ok_or(QuarantineError::Unknown)?.entity;
    if identity.is_admin {
        return Err(QuarantineError::Administrator);
    }
    if identity.kind == IdentityKind::Router {
        return Err(QuarantineError::Router);
    }
    let known = model.quarantines.get(&wanted.identity);
    let until = known.map_or(wanted.until, |known| known.until.max(wanted.until));
    let quarantine = Quarantine { until, ..wanted };
    // Who was disabled by a person stays so: that decision knows no end, or one of its own.
    let is_ours = known.is_some_and(|known| identity.disabled_until == Some(known.until));
    let mut steps = Vec::new();
    if !identity.disabled || is_ours {
        let disabled_until = Some(until);
        steps.push(Step::Update(
            Identity { disabled: true, disabled_until, ..identity.clone() }.into(),
        ));
    }
    steps.push(Step::Quarantine(quarantine));
    Ok(steps)
}

/// What takes the second factor of an identity away. If its policy asks for one, its sessions wait for another.
pub(crate) fn steps_to_remove_factor(model: &Model, identity: &IdentityId) -> Vec<Step> {
    let left =
        if model.requires_totp(identity) { SecondFactor::Due } else { SecondFactor::NotNeeded };
    let sessions = Step::SetSecondFactor(Whose::Identity(identity.clone()), left);
    let released = model.awaits_code(identity).then(|| Step::Release(identity.clone()));
    [Step::RemoveMfa(identity.clone()), sessions].into_iter().chain(released).collect()
}

/// `None` if the identity is in no quarantine.
fn steps_to_release(model: &Model, id: &IdentityId) -> Option<Vec<Step>> {
    let quarantine = model.quarantines.get(id)?;
    let mut steps = vec![Step::Release(id.clone())];
    if let Some(stored) = model.identities.get(id)
        && stored.entity.disabled_until == Some(quarantine.until)
    {
        let identity = stored.entity.clone();
        steps.push(Step::Update(
            Identity { disabled: false, disabled_until: None, ..identity }.into(),
        ));
    }
    Some(steps)
}
