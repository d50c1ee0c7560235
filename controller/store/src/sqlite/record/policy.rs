//! Policies to rows and back.

use nightgate_model::{
    entity::{EdgeRouterPolicy, ServiceEdgeRouterPolicy, ServicePolicy},
    id::{EdgeRouterPolicyId, PolicyId, ServiceEdgeRouterPolicyId},
};
use rusqlite::types::Value;

use super::{Columns, Record, json};
use crate::StoreError;

impl Record for ServicePolicy {
    const TABLE: &'static str = "service_policies";
    const COLUMNS: &'static [&'static str] =
        &["permission", "semantic", "identity_roles", "service_roles"];

    fn values(&self) -> Result<Vec<Value>, StoreError> {
        Ok(vec![
            json("policy permission", &self.permission)?.into(),
            json("policy semantic", &self.semantic)?.into(),
            json("policy identity roles", &self.identity_roles)?.into(),
            json("policy service roles", &self.service_roles)?.into(),
        ])
    }

    fn read(row: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: PolicyId::new(row.get::<String>("id")?),
            name: row.get("name")?,
            permission: row.json("permission")?,
            semantic: row.json("semantic")?,
            identity_roles: row.json("identity_roles")?,
            service_roles: row.json("service_roles")?,
        })
    }
}

impl Record for EdgeRouterPolicy {
    const TABLE: &'static str = "edge_router_policies";
    const COLUMNS: &'static [&'static str] = &["semantic", "identity_roles", "edge_router_roles"];

    fn values(&self) -> Result<Vec<Value>, StoreError> {
        Ok(vec![
            json("policy semantic", &self.semantic)?.into(),
            json("policy identity roles", &self.identity_roles)?.into(),
            json("policy edge router roles", &self.edge_router_roles)?.into(),
        ])
    }

    fn read(row: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: EdgeRouterPolicyId::new(row.get::<String>("id")?),
            name: row.get("name")?,
            semantic: row.json("semantic")?,
            identity_roles: row.json("identity_roles")?,
            edge_router_roles: row.json("edge_router_roles")?,
        })
    }
}

impl Record for ServiceEdgeRouterPolicy {
    const TABLE: &'static str = "service_edge_router_policies";
    const COLUMNS: &'static [&'static str] = &["semantic", "service_roles", "edge_router_roles"];

    fn values(&self) -> Result<Vec<Value>, StoreError> {
        Ok(vec![
            json("policy semantic", &self.semantic)?.into(),
            json("policy service roles", &self.service_roles)?.into(),
            json("policy edge router roles", &self.edge_router_roles)?.into(),
        ])
    }

    fn read(row: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: ServiceEdgeRouterPolicyId::new(row.get::<String>("id")?),
            name: row.get("name")?,
            semantic: row.json("semantic")?,
            service_roles: row.json("service_roles")?,
            edge_router_roles: row.json("edge_router_roles")?,
        })
    }
}
