//! Why a dial was refused.

use nightgate_wire::FailureCause;

/// A refused dial: the cause for programs, the detail for people.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{cause}: {detail}")]
pub struct DialRefusal {
    /// Why.
    pub cause: FailureCause,
    /// What exactly, naming the service, router or address.
    pub detail: String,
}

impl DialRefusal {
    /// A refusal.
    pub fn new(cause: FailureCause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }
}
