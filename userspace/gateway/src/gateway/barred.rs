//! Identities that this gateway bars until the controller has put them in quarantine.

use std::time::{Duration, Instant};

use nightgate_model::quarantine::QuarantineRequest;
use tokio::sync::oneshot;

/// Time between two tries to have an identity put in quarantine by the controller.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// An identity that is barred here.
#[derive(Debug)]
pub(super) struct Barred {
    pub(super) request: QuarantineRequest,
    until: Instant,
    asked: Instant,
    answer: oneshot::Receiver<u64>,
    /// Index of the model from which on the controller's word counts, once it has been told.
    begun: Option<u64>,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// Ask the controller again.
    Ask,
    /// Leave it to the model: the quarantine is in it, is over, or has been released.
    Leave,
}

impl Barred {
    /// From now on, for this time; the controller has been asked, and gives this answer.
    pub(super) fn new(
        request: QuarantineRequest,
        (now, time): (Instant, Duration),
        answer: oneshot::Receiver<u64>,
    ) -> Self {
        Self { request, until: now + time, asked: now, answer, begun: None }
    }

    /// What is to be done, by the model that there is: its index, and whether it has the identity.
    pub(super) fn look(&mut self, now: Instant, (index, is_known): (u64, bool)) -> Step {
        if let Ok(begun) = self.answer.try_recv() {
            self.begun = Some(begun);
        }
        // A model that has the identity although its quarantine began before: somebody has released it.
        let is_answered = self.begun.is_some_and(|begun| begun <= index);
        if !is_known || is_answered || now >= self.until {
            Step::Leave
        } else if self.begun.is_none() && now.duration_since(self.asked) >= ASK_AGAIN {
            Step::Ask
        } else {
            Step::Wait
        }
    }

    /// The controller has been asked again.
    pub(super) fn asked(&mut self, now: Instant, answer: oneshot::Receiver<u64>) {
        (self.asked, self.answer) = (now, answer);
    }
}

#[cfg(test)]
mod tests {
    use nightgate_model::id::IdentityId;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn barred(now: Instant) -> (Barred, oneshot::Sender<u64>) {
        let request = QuarantineRequest {
            identity: IdentityId::new("alice"),
            seconds: HOUR.as_secs(),
            reason: String::new(),
            second_factor: false,
            evidence: None,
        };
        let (told, answer) = oneshot::channel();
        (Barred::new(request, (now, HOUR), answer), told)
    }

    #[test]
    fn a_controller_that_does_not_answer_is_asked_again() {
        let start = Instant::now();
        let (mut barred, told) = barred(start);
        assert_eq!(barred.look(start, (7, true)), Step::Wait);
        let later = start + ASK_AGAIN;
        assert_eq!(barred.look(later, (7, true)), Step::Ask);
        drop(told);
        let (told, answer) = oneshot::channel();
        barred.asked(later, answer);
        assert_eq!(barred.look(later, (7, true)), Step::Wait);
        told.send(9).unwrap();
        // The model that the quarantine is in is on its way.
        assert_eq!(barred.look(later + ASK_AGAIN, (8, true)), Step::Wait);
        assert_eq!(barred.look(later + ASK_AGAIN, (9, false)), Step::Leave);
    }

    #[test]
    fn a_release_before_the_model_has_come_is_not_undone() {
        let start = Instant::now();
        let (mut barred, told) = barred(start);
        told.send(8).unwrap();
        // Index 8 was never seen: the model of the release came in its place, with the identity.
        assert_eq!(barred.look(start, (9, true)), Step::Leave);
    }

    #[test]
    fn it_ends_with_its_time_although_nobody_answers() {
        let start = Instant::now();
        let (mut barred, _told) = barred(start);
        assert_eq!(barred.look(start + HOUR, (7, true)), Step::Leave);
    }
}
