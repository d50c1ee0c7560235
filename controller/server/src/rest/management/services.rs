//! Services.

use nightgate_model::entity::Service;
use nightgate_store::{Model, Stored};
use serde_json::Value;

use super::{
    configs,
    resource::{Resource, View},
    validate,
};
use crate::rest::{Failure, shape};

impl Resource for Service {
    const FIELDS: &'static [&'static str] =
        &["roleAttributes", "encryptionRequired", "config", "configs", "terminatorStrategy"];

    const DEFAULTS: &'static [(&'static str, &'static [&'static str])] =
        &[("maxIdleTimeMillis", &["0", "null"])];

    fn shape(stored: &Stored<Self>, _view: &View<'_>) -> Value {
        shape::service(stored)
    }

    fn check(&self, model: &Model) -> Result<(), Failure> {
        validate::name(&self.name)?;
        validate::attributes(&self.role_attributes)?;
        configs::check_service(self, model)
    }
}
