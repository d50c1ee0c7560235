//! Bodies of the management API (`/edge/management/v1`) that the command line sends and reads.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::entity::{Permission, Role, Semantic};

/// Success envelope: `{"data": ..., "meta": {...}}`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Envelope<T> {
    /// The answer.
    pub data: T,
    /// Paging and the like.
    #[serde(default)]
    pub meta: serde_json::Value,
}

/// Failure envelope: `{"error": {...}, "meta": {}}`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ErrorEnvelope {
    /// What went wrong.
    pub error: ApiError,
    /// Nothing yet.
    #[serde(default)]
    pub meta: serde_json::Value,
}

/// What went wrong, as OpenZiti clients expect it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// Closed list of upper-case words, for programs.
    pub code: String,
    /// For people: what was wrong and what to do.
    pub message: String,
    /// Identifies the request in the controller's log.
    pub request_id: String,
}

/// Body of `POST /identities`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CreateIdentity {
    /// Unique name.
    pub name: String,
    /// May use the management API.
    #[serde(default)]
    pub is_admin: bool,
    /// Attributes.
    #[serde(default)]
    pub role_attributes: BTreeSet<String>,
}

/// Body of `POST /edge-routers`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CreateEdgeRouter {
    /// Unique name.
    pub name: String,
    /// Gets an identity of its own, so that it may dial and host (a gateway).
    #[serde(default)]
    pub is_tunneler_enabled: bool,
    /// Attributes of that identity.
    #[serde(default)]
    pub role_attributes: BTreeSet<String>,
}

/// Body of `POST /services`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CreateService {
    /// Unique name.
    pub name: String,
    /// Attributes.
    #[serde(default)]
    pub role_attributes: BTreeSet<String>,
    /// Both ends must encrypt end to end. Default true.
    #[serde(default = "default_true")]
    pub encryption_required: bool,
    /// Configuration documents by type name.
    #[serde(default)]
    pub config: BTreeMap<String, serde_json::Value>,
}

/// Body of `POST /service-policies`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CreateServicePolicy {
    /// Unique name.
    pub name: String,
    /// What it allows.
    #[serde(rename = "type")]
    pub permission: Permission,
    /// How attributes combine.
    pub semantic: Semantic,
    /// Selects identities.
    pub identity_roles: Vec<Role>,
    /// Selects services.
    pub service_roles: Vec<Role>,
}

/// Answer of a create call.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// Id of the new entity.
    pub id: String,
    /// Enrollment token of a new identity or router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment_jwt: Option<String>,
}

/// Body of `POST /enroll?method=erott&token=TOKEN`, by which an edge router redeems its token.
///
/// An identity sends the bare PEM of its request instead (`method=ott`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EnrollRouter {
    /// Certificate signing request, PEM.
    pub csr: String,
    /// `host:port` where the router will accept clients and links; its host goes into the
    /// certificate. None for a router that only dials out.
    #[serde(default)]
    pub address: Option<String>,
}

/// Answer of `POST /enroll`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolled {
    /// The new certificate and its issuer, PEM.
    pub cert: String,
    /// Certificates to trust, PEM.
    pub ca: String,
}

/// `meta.pagination` of a list.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    /// Most entries of this answer.
    pub limit: usize,
    /// Entries skipped before this answer.
    pub offset: usize,
    /// Entries there are.
    pub total_count: usize,
}

/// Answer of `GET /explain?identity=NAME&service=NAME&type=Dial|Bind`: why, or why not.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether it is allowed and would work.
    pub allowed: bool,
    /// One sentence.
    pub verdict: String,
    /// The checks in the order they are made.
    pub steps: Vec<ExplanationStep>,
}

/// One check of an [`Explanation`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ExplanationStep {
    /// What was checked: `identity`, `service`, `policy`, `terminator`, `router`.
    pub check: String,
    /// Whether it passed.
    pub ok: bool,
    /// What was found, naming the policy, attribute or router.
    pub detail: String,
}

fn default_true() -> bool {
    true
}
