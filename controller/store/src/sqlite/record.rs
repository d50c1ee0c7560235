//! Entities to rows and back: what differs between the tables. Every table has `id`, `name`,
//! `created_at` and `updated_at` besides.

use std::collections::BTreeSet;

use nightgate_model::{
    auth::{DEFAULT, default_policy},
    entity::{AuthPolicy, Ca, Config, ConfigType, EdgeRouter, Identity, IdentityKind, Service},
    id::{AuthPolicyId, CaId, ConfigId, ConfigTypeId, IdentityId, RouterId, ServiceId},
};
use rusqlite::{
    Row,
    types::{FromSql, Value},
};
use serde::{Serialize, de::DeserializeOwned};

use super::database;
use crate::{Kept, StoreError};

mod policy;

/// An entity that is a row.
pub(super) trait Record: Kept {
    /// Its table.
    const TABLE: &'static str;
    /// The table's further columns.
    const COLUMNS: &'static [&'static str];

    /// The values of [`Self::COLUMNS`].
    fn values(&self) -> Result<Vec<Value>, StoreError>;

    /// Reads a row.
    fn read(row: &Columns<'_>) -> Result<Self, StoreError>;
}

/// A row, read by the names of its columns.
pub(super) struct Columns<'a>(pub(super) &'a Row<'a>);

impl Columns<'_> {
    /// The value of a column.
    pub(super) fn get<T: FromSql>(&self, column: &str) -> Result<T, StoreError> {
        self.0.get(column).map_err(database("read column"))
    }

    /// The value of a column that holds JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        parse(column, &self.get::<String>(column)?)
    }
}

/// Reads the JSON of a column.
pub(super) fn parse<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Damaged { what, source })
}

/// Writes the JSON of a column.
pub(super) fn json(what: &'static str, value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Damaged { what, source })
}

impl Record for Identity {
    const TABLE: &'static str = "identities";
    const COLUMNS: &'static [&'static str] = &[
        "router",
        "is_admin",
        "disabled",
        "disabled_until",
        "role_attributes",
        "fingerprint",
        "auth_policy",
    ];

    fn values(&self) -> Result<Vec<Value>, StoreError> {
        let router = match self.kind {
            IdentityKind::Router => Some(self.id.as_str().to_owned()),
            IdentityKind::Default => None,
        };
        Ok(vec![
            router.into(),
            self.is_admin.into(),
            self.disabled.into(),
            self.disabled_until.into(),
            json("identity attributes", &self.role_attributes)?.into(),
            self.fingerprint.clone().into(),
            // SQLite adds a column that refers to others only if it is empty at first.
            Some(self.auth_policy_id.to_string()).filter(|id| id != DEFAULT).into(),
        ])
    }

    fn read(row: &Columns<'_>) -> Result<Self, StoreError> {
        let kind = match row.get::<Option<String>>("router")? {
            Some(_) => IdentityKind::Router,
            None => IdentityKind::Default,
        };
        Ok(Self {
            id: IdentityId::new(row.get::<String>("id")?),
            name: row.get("name")?,
            kind,
            is_admin: row.get("is_admin")?,
            disabled: row.get("disabled")?,
            disabled_until: row.get("disabled_until")?,
            role_attributes: row.json("role_attributes")?,
            fingerprint: row.get("fingerprint")?,
            auth_policy_id: row
                .get::<Option<String>>("auth_policy")?
                .map_or_else(default_policy, AuthPolicyId::new),
        })
    }
}

impl Record for EdgeRouter {
    const TABLE: &'static str = "edge_routers";
    const COLUMNS: &'static [&'static str] = &[
        "is_tunneler_enabled",
        "disabled",
        "role_attributes",
        "fingerprint",
        "address",
        "cost",
        "no_traversal",
    ];

    fn values(&self) -> Result<Vec<Value>, StoreError> {
        Ok(vec![
            self.is_tunneler_enabled.into(),
            self.disabled.into(),
            json("router attributes", &self.role_attributes)?.into(),
            self.fingerprint.clone().into(),
            self.address.clone().into(),
            i64::from(self.cost).into(),
            self.no_traversal.into(),
        ])
    }

    fn read(row: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: RouterId::new(row.get::<String>("id")?),
            name: row.get("name")?,
            is_tunneler_enabled: row.get("is_tunneler_enabled")?,
            disabled: row.get("disabled")?,
            role_attributes: row.json("role_attributes")?,
            fingerprint: row.get("fingerprint")?,
            address: row.get("address")?,
            cost: row.get("cost")?,
            no_traversal: row.get("no_traversal")?,
        })
    }
}

impl Record for Service {
    const TABLE: &'static str = "services";
    const COLUMNS: &'static [&'static str] =
        &["role_attributes", "encryption_required", "config", "terminator_strategy", "terminators"];

    fn values(&self) -> Result<Vec<Value>, StoreError> {
        Ok(vec![
            json("service attributes", &self.role_attributes)?.into(),
            self.encryption_required.into(),
            json("service config", &self.config)?.into(),
            json("service strategy", &self.terminator_strategy)?.into(),
            json("terminator settings", &self.terminators)?.into(),
        ])
    }

    fn read(row: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: ServiceId::new(row.get::<String>("id")?),
            name: row.get("name")?,
            role_attributes: row.json("role_attributes")?,
            encryption_required: row.get("encryption_required")?,
            config: row.json("config")?,
            terminator_strategy: row.json("terminator_strategy")?,
            terminators: row.json("terminators")?,
            // In a table of their own.
            configs: BTreeSet::new(),
        })
    }
}

impl Record for AuthPolicy {
    const TABLE: &'static str = "auth_policies";
    const COLUMNS: &'static [&'static str] = &["primary_auth", "secondary_auth"];

    fn values(&self) -> Result<Vec<Value>, StoreError> {
        Ok(vec![
            json("primary authentication", &self.primary)?.into(),
            json("secondary authentication", &self.secondary)?.into(),
        ])
    }

    fn read(row: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: AuthPolicyId::new(row.get::<String>("id")?),
            name: row.get("name")?,
            primary: row.json("primary_auth")?,
            secondary: row.json("secondary_auth")?,
        })
    }
}

impl Record for Ca {
    const TABLE: &'static str = "cas";
    const COLUMNS: &'static [&'static str] = &[
        "cert_pem",
        "is_verified",
        "is_auth",
        "is_auto",
        "is_ott",
        "identity_roles",
        "name_format",
    ];

    fn values(&self) -> Result<Vec<Value>, StoreError> {
        Ok(vec![
            self.cert_pem.clone().into(),
            self.is_verified.into(),
            self.is_auth_enabled.into(),
            self.is_auto_ca_enrollment_enabled.into(),
            self.is_ott_ca_enrollment_enabled.into(),
            json("CA attributes", &self.identity_roles)?.into(),
            self.identity_name_format.clone().into(),
        ])
    }

    fn read(row: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: CaId::new(row.get::<String>("id")?),
            name: row.get("name")?,
            cert_pem: row.get("cert_pem")?,
            is_verified: row.get("is_verified")?,
            is_auth_enabled: row.get("is_auth")?,
            is_auto_ca_enrollment_enabled: row.get("is_auto")?,
            is_ott_ca_enrollment_enabled: row.get("is_ott")?,
            identity_roles: row.json("identity_roles")?,
            identity_name_format: row.get("name_format")?,
        })
    }
}

impl Record for ConfigType {
    const TABLE: &'static str = "config_types";
    const COLUMNS: &'static [&'static str] = &["json_schema"];

    fn values(&self) -> Result<Vec<Value>, StoreError> {
        Ok(vec![json("config type schema", &self.schema)?.into()])
    }

    fn read(row: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: ConfigTypeId::new(row.get::<String>("id")?),
            name: row.get("name")?,
            schema: row.json("json_schema")?,
        })
    }
}

impl Record for Config {
    const TABLE: &'static str = "configs";
    const COLUMNS: &'static [&'static str] = &["config_type", "data"];

    fn values(&self) -> Result<Vec<Value>, StoreError> {
        Ok(vec![
            self.config_type_id.as_str().to_owned().into(),
            json("config data", &self.data)?.into(),
        ])
    }

    fn read(row: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: ConfigId::new(row.get::<String>("id")?),
            name: row.get("name")?,
            config_type_id: ConfigTypeId::new(row.get::<String>("config_type")?),
            data: row.json("data")?,
        })
    }
}
