//! Services as the controller lists them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use nightgate_model::{entity::Permission, id::ServiceId};
use serde::Deserialize;

use crate::rest::ControllerError;

/// A service that the identity may dial or host.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Identifier.
    pub id: ServiceId,
    /// Unique name.
    pub name: String,
    /// What the identity may do with it.
    pub permissions: Vec<Permission>,
    /// Both ends must encrypt end to end.
    pub encryption_required: bool,
    /// Of those on the other side of its circuits, Dial for those who may dial it and Bind for those who may host it:
    /// the sides on which everybody speaks our own method of end-to-end encryption, as far as the controller
    /// knows. Whoever does not on such a side is refused, unless [`EndToEnd::OpenZiti`] is asked for.
    ///
    /// [`EndToEnd::OpenZiti`]: crate::EndToEnd::OpenZiti
    #[serde(default)]
    pub native_ends: Vec<Permission>,
    /// Configuration documents by type name, such as `intercept.v1`.
    #[serde(default)]
    pub config: BTreeMap<String, serde_json::Value>,
}

/// What the controller said once.
#[derive(Clone, Debug)]
pub(crate) struct Known<T> {
    said: T,
    at: Instant,
    /// Something failed since: the controller is asked again, and this counts only if it cannot be reached.
    is_doubtful: bool,
}

impl<T> Known<T> {
    /// What the controller says now.
    pub(crate) fn new(said: T) -> Self {
        Self { said, at: Instant::now(), is_doubtful: false }
    }

    pub(crate) fn said(&self) -> &T {
        &self.said
    }

    /// Something failed that relied on it.
    pub(crate) fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    /// This, if it was said no longer ago.
    pub(crate) fn within(&self, age: Duration) -> Option<&T> {
        (self.at.elapsed() <= age).then_some(&self.said)
    }

    /// This, unless it is in doubt.
    pub(crate) fn sure(self) -> Option<T> {
        (!self.is_doubtful).then_some(self.said)
    }

    /// This, if the controller could not be asked again.
    pub(crate) fn after(self, error: ControllerError) -> Result<T, ControllerError> {
        if matches!(error, ControllerError::Unreachable { .. }) {
            Ok(self.said)
        } else {
            Err(error)
        }
    }
}
