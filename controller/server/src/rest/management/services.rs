//! Services.

use nightgate_model::{entity::Service, id::IdentityId, terminator::MAX_INSTANCE};
use nightgate_store::{Model, Step, Stored};
use serde_json::{Value, json};

use super::{
    configs,
    resource::{Resource, View},
    validate,
};
use crate::rest::{Failure, shape};

/// Most settings of terminators of one service; every router keeps them.
const MAX_SETTINGS: usize = 1_000;

impl Resource for Service {
    const FIELDS: &'static [&'static str] = &[
        "roleAttributes",
        "encryptionRequired",
        "config",
        "configs",
        "terminatorStrategy",
        "terminators",
    ];

    const DEFAULTS: &'static [(&'static str, &'static [&'static str])] =
        &[("maxIdleTimeMillis", &["0", "null"])];

    fn shape(stored: &Stored<Self>, _view: &View<'_>) -> Value {
        let mut shaped = shape::service(stored);
        shaped["terminators"] = json!(stored.entity.terminators);
        shaped
    }

    fn check(&self, model: &Model) -> Result<(), Failure> {
        validate::name(&self.name)?;
        validate::attributes(&self.role_attributes)?;
        check_terminators(self, model)?;
        configs::check_service(self, model)
    }
}

/// Refuses settings of terminators that can mean nothing.
fn check_terminators(service: &Service, model: &Model) -> Result<(), Failure> {
    let count = service.terminators.len();
    if count > MAX_SETTINGS {
        return Err(Failure::invalid(format!("terminators: {count}, limit {MAX_SETTINGS}")));
    }
    for setting in &service.terminators {
        let refused = |reason: String| {
            let message = format!("terminators of {}: {reason}", setting.identity);
            Err(Failure::invalid(message))
        };
        if !model.identities.contains_key(&setting.identity) {
            return refused("there is no identity with this id".into());
        }
        if setting.instance.len() > MAX_INSTANCE {
            let length = setting.instance.len();
            return refused(format!("the instance name has {length} bytes, limit {MAX_INSTANCE}"));
        }
        if setting.is_none() {
            return refused("name a precedence, a cost or both; or leave the entry out".into());
        }
        if service.setting(&setting.identity, &setting.instance) != *setting {
            return refused(format!("instance {:?} stands there twice", setting.instance));
        }
    }
    Ok(())
}

/// What takes an identity out of the settings of terminators.
pub(super) fn forget_host(host: &IdentityId, model: &Model) -> Vec<Step> {
    let services = model.services.values().map(|stored| &stored.entity);
    let concerned = services.filter(|it| it.terminators.iter().any(|it| it.identity == *host));
    let forgotten = concerned.map(|service| {
        let mut service = service.clone();
        service.terminators.retain(|setting| setting.identity != *host);
        Step::Update(service.into())
    });
    forgotten.collect()
}
