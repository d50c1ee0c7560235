//! What the audit log holds.

pub use nightgate_model::action::Action;
use nightgate_model::kind::EntityKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Timestamp;

/// What the log says about one step of a change. Holds no secret: tokens and passwords are no part of
/// entities.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRecord {
    /// Who did it.
    pub author: Author,
    /// What was done.
    pub action: Action,
    /// Kind of the entity.
    pub kind: EntityKind,
    /// Id of the entity.
    pub id: String,
    /// Name of the entity at that time.
    pub name: String,
    /// The entity before; none if it was created.
    pub before: Option<Value>,
    /// The entity after; none if it was deleted.
    pub after: Option<Value>,
}

/// Who made a change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Author {
    /// Id of the identity; empty for the controller itself.
    pub id: String,
    /// Its name at that time.
    pub name: String,
}

/// How much of the log is kept.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct AuditBounds {
    /// Most entries.
    pub max_entries: u32,
    /// Greatest age of an entry in days; none for any age.
    pub max_days: Option<u32>,
}

impl Default for AuditBounds {
    /// A million entries, some hundreds of megabytes, of any age.
    fn default() -> Self {
        Self { max_entries: 1_000_000, max_days: None }
    }
}

/// A stored [`AuditRecord`].
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Grows by one with every entry.
    pub number: i64,
    /// When the change was made.
    pub at: Timestamp,
    /// What it says.
    pub record: AuditRecord,
}

impl Author {
    /// The controller itself.
    pub fn controller() -> Self {
        Self { id: String::new(), name: "controller".into() }
    }
}
