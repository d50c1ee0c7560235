//! What ends at once, without the controller: a circuit that an alert is about, and an identity's whole traffic.

use std::time::Instant;

use nightgate_model::id::IdentityId;
use nightgate_wire::link::CircuitId;

use crate::{EndId, FailureCause, Router};

impl Router {
    /// Ends the circuit of this id, at whichever of its ends this router is.
    pub fn cut(&mut self, circuit: CircuitId, now: Instant) {
        let ends = self.ends.iter().filter(|(_, end)| end.circuit == circuit);
        for end in ends.map(|(id, _)| *id).collect::<Vec<EndId>>() {
            self.end_circuit(end, FailureCause::Unauthorized);
        }
        self.settle(now);
    }

    /// Allows an identity nothing any more, whatever the model says: its circuits end, and what it hosts is hosted no
    /// longer. Holds until [`Self::unbar`], or until a model comes that does not know the identity: from then on
    /// the model has the say again.
    pub fn bar(&mut self, identity: IdentityId, now: Instant) {
        self.barred.insert(identity);
        self.end_revoked();
        self.settle(now);
    }

    /// Leaves it to the model again.
    pub fn unbar(&mut self, identity: &IdentityId) {
        self.barred.remove(identity);
    }

    /// Identities that are barred.
    pub fn barred(&self) -> impl Iterator<Item = &IdentityId> {
        self.barred.iter()
    }
}
