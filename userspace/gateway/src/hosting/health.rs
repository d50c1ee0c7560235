//! What the outcomes of health checks make of a terminator.

use std::time::Instant;

use nightgate_model::{
    configs::{Check, Effect, ListenOptions, Trigger},
    entity::Precedence,
};

/// What dialers choose a terminator by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Before all costs.
    pub precedence: Precedence,
    /// The lower, the better.
    pub cost: u16,
}

/// The health of one terminator's server.
#[derive(Debug)]
pub(super) struct Health {
    configured: Standing,
    unhealthy: bool,
    /// Above the configured cost.
    surcharge: i32,
    streaks: Vec<Option<Streak>>,
}

/// Outcomes of one check that are all the same.
#[derive(Clone, Copy, Debug)]
struct Streak {
    passed: bool,
    count: u16,
    since: Instant,
}

impl Health {
    /// Well, as far as is known.
    pub(super) fn new(options: &ListenOptions, checks: usize) -> Self {
        let configured = Standing { precedence: options.precedence, cost: options.cost };
        Self { configured, unhealthy: false, surcharge: 0, streaks: vec![None; checks] }
    }

    /// What dialers should choose the terminator by.
    pub(super) fn standing(&self) -> Standing {
        let cost = i32::from(self.configured.cost).saturating_add(self.surcharge);
        Standing {
            precedence: if self.unhealthy {
                Precedence::Failed
            } else {
                self.configured.precedence
            },
            cost: u16::try_from(cost).unwrap_or(u16::MAX),
        }
    }

    /// Takes the outcome of the check of this index; gives whether an event is to be sent.
    pub(super) fn record(
        &mut self,
        index: usize,
        check: &Check,
        passed: bool,
        now: Instant,
    ) -> bool {
        let Some(slot) = self.streaks.get_mut(index) else { return false };
        let before = slot.filter(|streak| streak.passed == passed);
        let changed = slot.is_some() && before.is_none();
        let streak = match before {
            Some(before) => Streak { count: before.count.saturating_add(1), ..before },
            None => Streak { passed, count: 1, since: now },
        };
        *slot = Some(streak);
        let mut event = false;
        for action in &check.actions {
            let triggered = match action.trigger {
                Trigger::Pass => passed,
                Trigger::Fail => !passed,
                Trigger::Change => changed,
            };
            let lasted = now.saturating_duration_since(streak.since);
            if triggered && streak.count >= action.consecutive && lasted >= action.lasting {
                event |= self.apply(action.effect);
            }
        }
        event
    }

    fn apply(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::MarkHealthy => self.unhealthy = false,
            Effect::MarkUnhealthy => self.unhealthy = true,
            Effect::ChangeCost(change) => {
                let most = i32::from(u16::MAX - self.configured.cost);
                self.surcharge = self.surcharge.saturating_add(change).clamp(0, most);
            }
            Effect::SendEvent => return true,
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nightgate_model::configs::{HealthAction, Probe};

    use super::*;

    fn check(actions: &[(Trigger, u16, u64, Effect)]) -> Check {
        let action = |(trigger, consecutive, seconds, effect): &(Trigger, u16, u64, Effect)| {
            let lasting = Duration::from_secs(*seconds);
            HealthAction { trigger: *trigger, consecutive: *consecutive, lasting, effect: *effect }
        };
        Check {
            probe: Probe::Port("10.0.0.1:80".into()),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            actions: actions.iter().map(action).collect(),
        }
    }

    fn health(cost: u16) -> Health {
        Health::new(&ListenOptions { cost, ..ListenOptions::default() }, 1)
    }

    #[test]
    fn failures_in_a_row_mark_unhealthy_and_a_lasting_success_heals() {
        let check = check(&[
            (Trigger::Fail, 2, 0, Effect::MarkUnhealthy),
            (Trigger::Pass, 1, 10, Effect::MarkHealthy),
        ]);
        let mut health = health(5);
        let start = Instant::now();
        let mut after = |second: u64, passed| {
            health.record(0, &check, passed, start + Duration::from_secs(second));
            health.standing().precedence
        };
        assert_eq!(after(0, false), Precedence::Default);
        assert_eq!(after(1, true), Precedence::Default);
        assert_eq!(after(2, false), Precedence::Default);
        assert_eq!(after(3, false), Precedence::Failed);
        assert_eq!(after(4, true), Precedence::Failed);
        assert_eq!(after(13, true), Precedence::Failed);
        assert_eq!(after(14, true), Precedence::Default);
    }

    #[test]
    fn cost_grows_with_failures_and_never_falls_below_the_configured_one() {
        let check = check(&[
            (Trigger::Fail, 1, 0, Effect::ChangeCost(40_000)),
            (Trigger::Pass, 1, 0, Effect::ChangeCost(-30_000)),
        ]);
        let mut health = health(7);
        let mut after = |passed| {
            health.record(0, &check, passed, Instant::now());
            health.standing().cost
        };
        let outcomes = [false, false, true, true, true, true].map(&mut after);
        assert_eq!(outcomes, [40_007, u16::MAX, 35_535, 5_535, 7, 7]);
    }

    #[test]
    fn an_event_tells_of_a_change_and_not_of_the_first_outcome() {
        let check = check(&[(Trigger::Change, 1, 0, Effect::SendEvent)]);
        let mut health = health(0);
        let outcomes = [false, false, true, true, false];
        let events = outcomes.map(|passed| health.record(0, &check, passed, Instant::now()));
        assert_eq!(events, [false, false, true, false, true]);
    }
}
