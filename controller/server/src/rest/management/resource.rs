//! What makes an entity of the model a resource of the management interface.

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
};

use nightgate_model::{id::IdentityId, token::EnrollmentMethod};
use nightgate_store::{
    EnrollmentId, EnrollmentTarget, Kept, Model, PendingEnrollment, Step, Stored,
};
use serde_json::Value;

use crate::{
    core::Memory,
    rest::{Failure, caller::Caller},
};

/// An entity that operators list, create, change and delete over REST. [`super::entities`] does it.
pub(super) trait Resource: Kept<Spec: Send> + Send + Sync + 'static {
    /// Fields that a list can be filtered and sorted by, besides those that every entity has.
    const FIELDS: &'static [&'static str];
    /// Fields of OpenZiti that it does not have, and the values, as JSON, that ask for nothing else than what is so
    /// anyway. Any other value is refused.
    const DEFAULTS: &'static [(&'static str, &'static [&'static str])] = &[];
    /// Fields whose parts a PATCH changes one by one (RFC 7396); of others it replaces the whole value.
    const NESTED: &'static [&'static str] = &[];
    /// How a new one enrolls, if it does.
    const ENROLLMENT: Option<EnrollmentMethod> = None;

    /// The entity as OpenZiti's clients expect it.
    fn shape(stored: &Stored<Self>, view: &View<'_>) -> Value;

    /// Refuses an entity that makes no sense in the model.
    fn check(&self, model: &Model) -> Result<(), Failure>;

    /// Refuses a change that the caller must not make.
    fn check_change(
        &self,
        _before: &Self,
        _caller: &Caller,
        _model: &Model,
    ) -> Result<(), Failure> {
        Ok(())
    }

    /// Refuses a deletion that would leave the model broken.
    fn check_delete(&self, _caller: &Caller, _model: &Model) -> Result<(), Failure> {
        Ok(())
    }

    /// What else is done when it is created.
    fn with_created(&self) -> Vec<Step> {
        Vec::new()
    }

    /// What else is done when it is changed.
    fn with_changed(&self, _model: &Model) -> Vec<Step> {
        Vec::new()
    }

    /// What else is done, before, when it is deleted.
    fn with_deleted(&self, _model: &Model) -> Vec<Step> {
        Vec::new()
    }
}

/// The memory, as one answer shows it.
pub(super) struct View<'a> {
    /// The memory.
    pub(super) memory: &'a Memory,
    authenticated: OnceCell<HashSet<&'a IdentityId>>,
    enrollments: OnceCell<HashMap<&'a IdentityId, Pending<'a>>>,
}

type Pending<'a> = Vec<(&'a EnrollmentId, &'a PendingEnrollment)>;

impl<'a> View<'a> {
    /// A view of the memory as it is.
    pub(super) fn new(memory: &'a Memory) -> Self {
        Self { memory, authenticated: OnceCell::new(), enrollments: OnceCell::new() }
    }

    /// The identities that have an API session.
    pub(super) fn authenticated(&self) -> &HashSet<&'a IdentityId> {
        self.authenticated.get_or_init(|| self.memory.authenticated())
    }

    /// The pending enrollments of an identity.
    pub(super) fn enrollments_of(
        &self,
        identity: &IdentityId,
    ) -> &[(&'a EnrollmentId, &'a PendingEnrollment)] {
        let all = self.enrollments.get_or_init(|| {
            let mut all = HashMap::<_, Pending<'a>>::new();
            for (id, pending) in &self.memory.model.enrollments {
                if let EnrollmentTarget::Identity(identity) = &pending.target {
                    all.entry(identity).or_default().push((id, pending));
                }
            }
            all
        });
        all.get(identity).map(Vec::as_slice).unwrap_or_default()
    }
}
