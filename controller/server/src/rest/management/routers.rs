//! Edge routers.

use nightgate_model::{
    auth::default_policy,
    entity::{EdgeRouter, Identity, IdentityKind},
    kind::EntityKind,
    token::EnrollmentMethod,
};
use nightgate_store::{Model, Step, Stored};
use serde_json::Value;

use super::{
    resource::{Resource, View},
    services::forget_host,
    validate,
};
use crate::rest::{Failure, caller::Caller, shape};

impl Resource for EdgeRouter {
    const FIELDS: &'static [&'static str] = &[
        "hostname",
        "address",
        "isOnline",
        "isVerified",
        "isTunnelerEnabled",
        "disabled",
        "roleAttributes",
        "fingerprint",
        "cost",
        "noTraversal",
    ];
    const DEFAULTS: &'static [(&'static str, &'static [&'static str])] =
        &[("appData", &["{}", "null"])];
    const ENROLLMENT: Option<EnrollmentMethod> = Some(EnrollmentMethod::Erott);

    fn shape(stored: &Stored<Self>, view: &View<'_>) -> Value {
        shape::edge_router(stored, view.memory)
    }

    fn check(&self, _model: &Model) -> Result<(), Failure> {
        validate::name(&self.name)?;
        validate::attributes(&self.role_attributes)
    }

    fn check_change(&self, before: &Self, _caller: &Caller, _model: &Model) -> Result<(), Failure> {
        if self.is_tunneler_enabled == before.is_tunneler_enabled {
            return Ok(());
        }
        Err(Failure::conflict(
            "isTunnelerEnabled cannot be changed: the router's certificate was issued for one of \
             the two; create another router",
        ))
    }

    /// A router that may dial and host gets an identity with its own id, name and attributes.
    fn with_created(&self) -> Vec<Step> {
        let identity = Identity {
            id: self.id.as_identity(),
            name: self.name.clone(),
            kind: IdentityKind::Router,
            is_admin: false,
            disabled: false,
            disabled_until: None,
            role_attributes: self.role_attributes.clone(),
            fingerprint: None,
            auth_policy_id: default_policy(),
        };
        if self.is_tunneler_enabled { vec![Step::Create(identity.into())] } else { Vec::new() }
    }

    fn with_changed(&self, model: &Model) -> Vec<Step> {
        let own = model.identities.get(&self.id.as_identity()).map(|stored| &stored.entity);
        let renamed = own.filter(|identity| identity.name != self.name).map(|identity| {
            Step::Update(Identity { name: self.name.clone(), ..identity.clone() }.into())
        });
        renamed.into_iter().collect()
    }

    fn with_deleted(&self, model: &Model) -> Vec<Step> {
        if !self.is_tunneler_enabled {
            return Vec::new();
        }
        let mut steps = forget_host(&self.id.as_identity(), model);
        steps.push(Step::Delete(EntityKind::Identity, self.id.to_string()));
        steps
    }
}
