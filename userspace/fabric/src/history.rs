//! Which circuits have ended, for the shell to tell of.

use std::collections::VecDeque;

use crate::{CircuitInfo, EndId, FailureCause, Router, end::End, end::EndState};

/// Circuits that the shell has not asked about yet; as many as can end at once.
const MAX_ENDED: usize = crate::neighbour::MAX_CIRCUITS;

/// A circuit that stood and is over.
#[derive(Clone, Debug)]
pub struct EndedCircuit {
    /// The end that it had here.
    pub end: EndId,
    /// As it was last.
    pub info: CircuitInfo,
    /// Why it ended; none if the client of this end ended it.
    pub cause: Option<FailureCause>,
}

/// Circuits that have ended, the first one first.
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<EndedCircuit>);

impl Router {
    /// The next circuit that is over. Nobody has to ask.
    pub fn poll_ended(&mut self) -> Option<EndedCircuit> {
        self.history.0.pop_front()
    }

    /// A circuit that has an end here.
    pub fn circuit(&self, end: EndId) -> Option<CircuitInfo> {
        self.ends.get(&end).map(End::info)
    }

    /// Notes the end of a circuit that stood.
    pub(crate) fn note_ended(&mut self, id: EndId, end: &End, cause: FailureCause) {
        let stood = !matches!(end.state, EndState::Waiting(_));
        if stood && self.history.0.len() < MAX_ENDED {
            let by_client = end.state == EndState::Closing && cause == FailureCause::ClosedByPeer;
            let cause = (!by_client).then_some(cause);
            self.history.0.push_back(EndedCircuit { end: id, info: end.info(), cause });
        }
    }
}

impl End {
    /// What there is to say of it.
    pub(crate) fn info(&self) -> CircuitInfo {
        CircuitInfo {
            id: self.circuit.to_string(),
            role: self.role,
            service: Some(self.service.clone()),
            dialer: Some(self.dialer.clone()),
            host: Some(self.host.clone()),
            path: self.routers.clone(),
            sent: self.send.sent(),
            received: self.receive.received(),
            window: self.receive.window(),
            moves: self.healing.moves,
        }
    }
}
