//! The kinds of entities that operators manage.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of entity.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "camelCase")]
pub enum EntityKind {
    /// Identity.
    Identity,
    /// Edge router.
    EdgeRouter,
    /// Auth policy.
    AuthPolicy,
    /// Certificate authority of others.
    Ca,
    /// Config type.
    ConfigType,
    /// Config.
    Config,
    /// Service.
    Service,
    /// Service policy.
    ServicePolicy,
    /// Edge-router policy.
    EdgeRouterPolicy,
    /// Service-edge-router policy.
    ServiceEdgeRouterPolicy,
}

impl EntityKind {
    /// All kinds, each after those that it can refer to.
    pub const ALL: [Self; 10] = [
        Self::EdgeRouter,
        Self::AuthPolicy,
        Self::Ca,
        Self::Identity,
        Self::ConfigType,
        Self::Config,
        Self::Service,
        Self::ServicePolicy,
        Self::EdgeRouterPolicy,
        Self::ServiceEdgeRouterPolicy,
    ];

    /// Its folder in the management API.
    pub fn path(self) -> &'static str {
        match self {
            Self::Identity => "identities",
            Self::EdgeRouter => "edge-routers",
            Self::AuthPolicy => "auth-policies",
            Self::Ca => "cas",
            Self::ConfigType => "config-types",
            Self::Config => "configs",
            Self::Service => "services",
            Self::ServicePolicy => "service-policies",
            Self::EdgeRouterPolicy => "edge-router-policies",
            Self::ServiceEdgeRouterPolicy => "service-edge-router-policies",
        }
    }
}

impl fmt::Display for EntityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::EdgeRouter => "edge router",
            Self::AuthPolicy => "auth policy",
            Self::Ca => "CA",
            Self::ConfigType => "config type",
            Self::Config => "config",
            Self::Service => "service",
            Self::ServicePolicy => "service policy",
            Self::EdgeRouterPolicy => "edge-router policy",
            Self::ServiceEdgeRouterPolicy => "service-edge-router policy",
        })
    }
}
