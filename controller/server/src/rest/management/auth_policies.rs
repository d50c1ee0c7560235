//! Auth policies: by what identities may authenticate.

use nightgate_model::{
    auth::{AuthPolicy, DEFAULT},
    id::IdentityId,
};
use nightgate_store::{By, Model, Step, Stored};
use serde_json::Value;

use super::{
    resource::{Resource, View},
    validate,
};
use crate::rest::{Failure, caller::Caller, shape};

impl Resource for AuthPolicy {
    const FIELDS: &'static [&'static str] = &["primary", "secondary"];
    const NESTED: &'static [&'static str] = &["primary", "secondary"];

    fn shape(stored: &Stored<Self>, _view: &View<'_>) -> Value {
        shape::auth_policy(stored)
    }

    fn check(&self, _model: &Model) -> Result<(), Failure> {
        validate::name(&self.name)?;
        // Network files name the default policy so.
        if self.name == DEFAULT {
            return Err(Failure::invalid("name: \"default\" is the id of the default policy"));
        }
        self.unsupported().map_or(Ok(()), |unsupported| Err(Failure::invalid(unsupported)))
    }

    /// Nobody shuts itself out.
    fn check_change(&self, before: &Self, caller: &Caller, _model: &Model) -> Result<(), Failure> {
        if before.id.as_str() == DEFAULT && self.name != before.name {
            return Err(Failure::conflict("the default auth policy keeps its name"));
        }
        if caller.identity.auth_policy_id == before.id {
            check_own(self, caller)?;
        }
        Ok(())
    }

    fn check_delete(&self, _caller: &Caller, model: &Model) -> Result<(), Failure> {
        if self.id.as_str() == DEFAULT {
            return Err(Failure::conflict("the default auth policy stays"));
        }
        let mut identities = model.identities.values().map(|stored| &stored.entity);
        match identities.find(|identity| identity.auth_policy_id == self.id) {
            None => Ok(()),
            Some(identity) => Err(Failure::conflict(format!(
                "identity {:?} is under the auth policy; give it another first",
                identity.name
            ))),
        }
    }

    /// Sessions that begin so no longer end, with their circuits.
    fn with_changed(&self, model: &Model) -> Vec<Step> {
        let identities = model.identities.values().map(|stored| &stored.entity);
        let under = identities.filter(|identity| identity.auth_policy_id == self.id);
        under.flat_map(|identity| forbidden(&identity.id, self)).collect()
    }
}

/// Refuses a policy that an administrator would shut itself out by.
pub(super) fn check_own(policy: &AuthPolicy, caller: &Caller) -> Result<(), Failure> {
    let used = if caller.session.fingerprint.is_some() { By::Certificate } else { By::Password };
    if allows(policy, used) {
        return Ok(());
    }
    Err(Failure::conflict("an administrator cannot forbid itself what it is authenticated with"))
}

/// Ends the sessions that a policy forbids an identity.
pub(super) fn forbidden(identity: &IdentityId, policy: &AuthPolicy) -> Vec<Step> {
    let both = [By::Certificate, By::Password].into_iter();
    let forbidden = both.filter(|by| !allows(policy, *by));
    forbidden.map(|by| Step::EndSessions(identity.clone(), by)).collect()
}

/// Refuses a new password that the identity's policy does not accept.
pub(in crate::rest) fn check_password(
    identity: &IdentityId,
    password: &str,
    model: &Model,
) -> Result<(), Failure> {
    let policy = model.auth_policy(identity);
    match policy.and_then(|policy| policy.primary.updb.lacking(password)) {
        None => Ok(()),
        Some(lacking) => Err(Failure::invalid(format!("password: its policy asks for {lacking}"))),
    }
}

fn allows(policy: &AuthPolicy, by: By) -> bool {
    match by {
        By::Certificate => policy.primary.cert.allowed,
        By::Password => policy.primary.updb.allowed,
    }
}
