//! Identities that are cut off for a while, with the reason why.

use std::sync::Arc;

use nightgate_model::{
    entity::{EdgeRouter, Identity, IdentityKind},
    id::{IdentityId, RouterId},
    quarantine::{Quarantine, QuarantineRequest},
};
use nightgate_store::{Author, Model, Step, StoreError};

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
    /// Alerts must not take a gateway from everybody behind it.
    #[error("the identity is a router's; disable the router by hand if it has to be")]
    Router,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Puts an identity in quarantine at once: it is disabled, its sessions and circuits end. A later end takes the
/// place of an earlier one.
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
    core.edit(author.clone(), move |memory| {
        let quarantine = request.begun(now, &author.name);
        Ok::<_, QuarantineError>((steps_to_begin(&memory.model, quarantine)?, ()))
    })
    .await?;
    tracing::warn!(%identity, by, reason, "identity in quarantine");
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

/// Ends a quarantine: the identity is as it was before.
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
