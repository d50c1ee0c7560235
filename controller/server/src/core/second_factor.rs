//! Asks for a second factor again.

use std::sync::Arc;

use nightgate_model::id::IdentityId;
use nightgate_store::{Author, SecondFactor, Step, StoreError, Whose};

use super::Core;

/// Why an identity is not asked for its second factor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequireError {
    /// There is no such identity.
    #[error("the identity is not known")]
    Unknown,
    /// There is nothing to ask for.
    #[error("the identity has no second factor to ask for; it may be put in quarantine instead")]
    NoFactor,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Asks all sessions of an identity for its second factor: until a code is given they are good for nothing else, and
/// their circuits end.
///
/// # Errors
/// The identity is unknown or has no second factor, or the store fails.
pub(crate) async fn require(
    core: &Arc<Core>,
    author: Author,
    identity: IdentityId,
    reason: String,
) -> Result<(), RequireError> {
    let by = author.name.clone();
    let asked = identity.clone();
    core.edit(author, move |memory| {
        if !memory.model.identities.contains_key(&identity) {
            return Err(RequireError::Unknown);
        }
        if memory.model.verified_mfa(&identity).is_none() {
            return Err(RequireError::NoFactor);
        }
        Ok((vec![Step::SetSecondFactor(Whose::Identity(identity), SecondFactor::Due)], ()))
    })
    .await?;
    tracing::warn!(identity = %asked, by, reason, "second factor asked for again");
    Ok(())
}
