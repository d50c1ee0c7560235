//! What operators decide about certificate authorities of others.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Entity;
use crate::{ca::DEFAULT_NAME_FORMAT, entity::Ca, id::CaId, kind::EntityKind};

/// What operators decide about a [`Ca`].
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CaSpec {
    /// Unique name.
    pub name: String,
    /// Its certificate, PEM. Cannot be changed.
    pub cert_pem: String,
    /// Identities may authenticate with its certificates.
    #[serde(default)]
    pub is_auth_enabled: bool,
    /// Whoever holds a certificate of it may enroll.
    #[serde(default)]
    pub is_auto_ca_enrollment_enabled: bool,
    /// Identities may be made that enroll once with one of its certificates.
    #[serde(default)]
    pub is_ott_ca_enrollment_enabled: bool,
    /// Attributes of the identities that enroll by themselves.
    #[serde(default)]
    pub identity_roles: BTreeSet<String>,
    /// Their names. Default `[caName] - [commonName]`.
    #[serde(default = "default_format")]
    pub identity_name_format: String,
}

impl Entity for Ca {
    type Id = CaId;
    type Spec = CaSpec;
    const KIND: EntityKind = EntityKind::Ca;

    fn id(&self) -> &CaId {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn new(id: CaId, spec: CaSpec) -> Self {
        Self {
            id,
            name: spec.name,
            cert_pem: spec.cert_pem,
            is_verified: false,
            is_auth_enabled: spec.is_auth_enabled,
            is_auto_ca_enrollment_enabled: spec.is_auto_ca_enrollment_enabled,
            is_ott_ca_enrollment_enabled: spec.is_ott_ca_enrollment_enabled,
            identity_roles: spec.identity_roles,
            identity_name_format: spec.identity_name_format,
        }
    }

    fn spec(&self) -> CaSpec {
        let ca = self.clone();
        CaSpec {
            name: ca.name,
            cert_pem: ca.cert_pem,
            is_auth_enabled: ca.is_auth_enabled,
            is_auto_ca_enrollment_enabled: ca.is_auto_ca_enrollment_enabled,
            is_ott_ca_enrollment_enabled: ca.is_ott_ca_enrollment_enabled,
            identity_roles: ca.identity_roles,
            identity_name_format: ca.identity_name_format,
        }
    }

    fn set(&mut self, spec: CaSpec) {
        let is_verified = self.is_verified;
        *self = Self { is_verified, ..Self::new(self.id.clone(), spec) };
    }
}

fn default_format() -> String {
    DEFAULT_NAME_FORMAT.into()
}
