//! Whether a sensor is in order, by checks of it.

/// What is wrong with a sensor.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Trouble {
    /// There is no such interface.
    NoInterface,
    /// The interface is switched off, or nothing is plugged in.
    LinkDown,
    /// No route to it by its interface.
    NoRoute,
    /// Nobody answers for its address, or for that of the router before it.
    NoNeighbour,
    /// It does not answer echo requests.
    NoAnswer,
    /// Its port takes no connections.
    PortClosed,
}

impl Trouble {
    /// The word that operators see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoInterface => "no-interface",
            Self::LinkDown => "link-down",
            Self::NoRoute => "no-route",
            Self::NoNeighbour => "no-neighbour",
            Self::NoAnswer => "no-answer",
            Self::PortClosed => "port-closed",
        }
    }
}

/// Good checks in a row that bring a sensor back.
const GOOD: u32 = 2;

/// A sensor's health: a single check that fails changes nothing, and neither does a single good one after that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Health {
    /// Why it gets no copies; `None` while it gets them.
    pub trouble: Option<Trouble>,
    /// How often it has been taken out or brought back.
    pub changes: u64,
    /// Checks in a row that say otherwise.
    against: u32,
    /// Failed checks in a row that take it out.
    limit: u32,
}

impl Health {
    /// In order until so many checks in a row have failed.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { trouble: None, changes: 0, against: 0, limit }
    }

    /// Takes note of a check.
    pub fn note(&mut self, check: Result<(), Trouble>) {
        let (trouble, needed) = match (self.trouble, check) {
            (None, Err(trouble)) => (Some(trouble), self.limit),
            (Some(_), Ok(())) => (None, GOOD),
            (Some(_), Err(trouble)) => {
                self.trouble = Some(trouble);
                self.against = 0;
                return;
            }
            (None, Ok(())) => {
                self.against = 0;
                return;
            }
        };
        self.against += 1;
        if self.against >= needed {
            self.against = 0;
            self.trouble = trouble;
            self.changes += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensor_goes_after_some_failures_in_a_row_and_comes_back_after_two_good_checks() {
        let bad = Err(Trouble::NoNeighbour);
        let mut health = Health::new(3);
        let steps = [
            (bad, true, 0),
            (bad, true, 0),
            (Ok(()), true, 0),
            (bad, true, 0),
            (bad, true, 0),
            (bad, false, 1),
            (Ok(()), false, 1),
            (bad, false, 1),
            (Ok(()), false, 1),
            (Ok(()), true, 2),
        ];
        for (step, (check, is_up, changes)) in steps.into_iter().enumerate() {
            health.note(check);
            assert_eq!((health.trouble.is_none(), health.changes), (is_up, changes), "step {step}");
        }
    }

    #[test]
    fn the_latest_trouble_is_told() {
        let mut health = Health::new(1);
        health.note(Err(Trouble::NoNeighbour));
        health.note(Err(Trouble::LinkDown));
        assert_eq!((health.trouble, health.changes), (Some(Trouble::LinkDown), 1));
    }
}
