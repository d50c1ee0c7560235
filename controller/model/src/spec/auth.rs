//! What operators decide about auth policies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Entity;
use crate::{
    auth::{AuthPolicy, PrimaryAuth, SecondaryAuth},
    id::AuthPolicyId,
    kind::EntityKind,
};

/// What operators decide about an [`AuthPolicy`].
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuthPolicySpec {
    /// Unique name.
    pub name: String,
    /// By what an API session may begin.
    #[serde(default)]
    pub primary: PrimaryAuth,
    /// What else identities would have to show.
    #[serde(default)]
    pub secondary: SecondaryAuth,
}

impl Entity for AuthPolicy {
    type Id = AuthPolicyId;
    type Spec = AuthPolicySpec;
    const KIND: EntityKind = EntityKind::AuthPolicy;

    fn id(&self) -> &AuthPolicyId {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn new(id: AuthPolicyId, spec: AuthPolicySpec) -> Self {
        let AuthPolicySpec { name, primary, secondary } = spec;
        Self { id, name, primary, secondary }
    }

    fn spec(&self) -> AuthPolicySpec {
        let Self { id: _, name, primary, secondary } = self.clone();
        AuthPolicySpec { name, primary, secondary }
    }

    fn set(&mut self, spec: AuthPolicySpec) {
        *self = Self::new(self.id.clone(), spec);
    }
}
