use nightgate_abi::mirror::{MirrorSensor, MirrorSession, MirrorSessionId, NUMBERS};
use nightgate_config::{SensorName, SessionName};

use crate::plan::Plan;

/// Which number of the kernel is which session's and sensor's, from one plan to the next.
///
/// A flow knows its session by number, and so does a copy on its way to the sensor. So what is as it was keeps its
/// number wherever it stands, and anything else gets one that was not used for as long as there are others: never does
/// what is meant for one sensor reach another because sessions changed places.
#[derive(Clone, Debug, Default)]
pub struct Numbering {
    sessions: Numbers<SessionIdentity>,
    sensors: Numbers<SensorIdentity>,
}

/// Numbers that nothing refers to any more.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Over {
    /// Those of sessions.
    pub sessions: Vec<MirrorSessionId>,
    /// Those of sensors.
    pub sensors: Vec<u8>,
}

type SensorIdentity = (SensorName, MirrorSensor);

/// A session is another one when its sensors are: its copies under way must not reach the new ones.
type SessionIdentity = (SessionName, MirrorSession, Vec<SensorIdentity>);

impl Numbering {
    /// Gives the sessions and sensors of a plan their numbers. Those of the first plan are their places.
    #[must_use]
    pub fn assign(&mut self, mut plan: Plan) -> Plan {
        let sessions = self.sessions.assign(&session_identities(&plan));
        let sensors = self.sensors.assign(&sensor_identities(&plan));
        let sensors = sensors.into_iter().filter_map(|number| u8::try_from(number).ok());
        plan.renumber(sessions.into_iter().filter_map(MirrorSessionId::new), sensors);
        plan
    }

    /// Whether a number is that of a session of the plan in force or of the one before.
    #[must_use]
    pub fn holds_session(&self, id: MirrorSessionId) -> bool {
        self.sessions.holds(id.number())
    }

    /// Likewise of a sensor.
    #[must_use]
    pub fn holds_sensor(&self, number: u8) -> bool {
        self.sensors.holds(number.into())
    }

    /// Notes that a plan which has its numbers is in force.
    pub fn settle(&mut self, plan: &Plan) -> Over {
        let ids = plan.sessions().iter().map(|session| session.id.number());
        let sessions = self.sessions.settle(ids.zip(session_identities(plan)).collect());
        let numbers = plan.sensors().iter().map(|sensor| sensor.number.into());
        let sensors = self.sensors.settle(numbers.zip(sensor_identities(plan)).collect());
        Over {
            sessions: sessions.into_iter().filter_map(MirrorSessionId::new).collect(),
            sensors: sensors.into_iter().filter_map(|number| u8::try_from(number).ok()).collect(),
        }
    }
}

fn sensor_identities(plan: &Plan) -> Vec<SensorIdentity> {
    plan.sensors().iter().map(|sensor| (sensor.name.clone(), sensor.value)).collect()
}

fn session_identities(plan: &Plan) -> Vec<SessionIdentity> {
    let sensors = sensor_identities(plan);
    // In the order of their names: which one a flow's copies go to does not depend on the order in the file.
    let of = |names: &[SensorName]| -> Vec<SensorIdentity> {
        let mut own: Vec<_> =
            sensors.iter().filter(|(name, _)| names.contains(name)).cloned().collect();
        own.sort_by(|one, other| one.0.cmp(&other.0));
        own
    };
    plan.sessions()
        .iter()
        .map(|session| {
            // The numbers of the sensors follow from what they are.
            let value = MirrorSession { sensors: Default::default(), ..session.value };
            (session.name.clone(), value, of(&session.sensors))
        })
        .collect()
}

/// Numbers from 1 to [`NUMBERS`], and whose they are.
#[derive(Clone, Debug)]
struct Numbers<T> {
    next: u16,
    in_use: Vec<(u16, T)>,
    /// Of the plan before: its rules may come back.
    given_up: Vec<(u16, T)>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { next: 1, in_use: Vec::new(), given_up: Vec::new() }
    }
}

impl<T: Clone + PartialEq> Numbers<T> {
    fn assign(&mut self, wanted: &[T]) -> Vec<u16> {
        let known = |wanted: &T| {
            let mut known = self.in_use.iter().chain(&self.given_up);
            known.find(|(_, item)| item == wanted).map(|(number, _)| *number)
        };
        let numbers: Vec<Option<u16>> = wanted.iter().map(known).collect();
        numbers.into_iter().map(|number| number.unwrap_or_else(|| self.unused())).collect()
    }

    fn holds(&self, number: u16) -> bool {
        self.in_use.iter().chain(&self.given_up).any(|(held, _)| *held == number)
    }

    /// Takes note of what is in use now. Returns the numbers that were given up before that.
    fn settle(&mut self, wanted: Vec<(u16, T)>) -> Vec<u16> {
        let is_wanted = |(old, _): &(u16, T)| wanted.iter().any(|(number, _)| number == old);
        let over =
            self.given_up.iter().filter(|old| !is_wanted(old)).map(|(old, _)| *old).collect();
        self.given_up = self.in_use.iter().filter(|old| !is_wanted(old)).cloned().collect();
        self.in_use = wanted;
        over
    }

    /// The next number that is free. There are more than three plans have sessions.
    fn unused(&mut self) -> u16 {
        loop {
            let number = self.next;
            self.next = number % NUMBERS + 1;
            if !self.holds(number) {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::SensorPath;

    /// A plan of these sessions, each with its VNI and sensors.
    fn plan(sessions: &[(&str, u32, &str)]) -> Plan {
        let sessions: String = sessions
            .iter()
            .map(|(id, vni, sensors)| {
                format!("    - {{ id: {id}, services: [{id}], sensor: [{sensors}], vni: {vni} }}\n")
            })
            .collect();
        let text = format!(
            "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n  lan: {{ interfaces: [lan0] }}\nmirror:\n  \
             sensors:\n    ids: {{ address: 10.9.0.2, interface: mon0 }}\n    ids2: {{ address: 10.9.0.3, \
             interface: mon0 }}\n  sessions:\n{sessions}"
        );
        let mirror = nightgate_config::parse(&text, "test").unwrap().gateway.unwrap().mirror;
        let path =
            SensorPath { ifindex: 7, mtu: 9_000, source: "10.9.0.1".parse().ok(), cuts: false };
        let paths: BTreeMap<_, _> =
            ["ids", "ids2"].map(|name| (SensorName::new(name).unwrap(), path)).into();
        Plan::new(&mirror.unwrap(), &paths, 1_500).unwrap()
    }

    fn numbers(plan: &Plan) -> Vec<u16> {
        plan.sessions().iter().map(|session| session.id.number()).collect()
    }

    #[test]
    fn a_session_keeps_its_number_where_it_stands_and_its_claim_says_the_place() {
        let mut all = Numbering::default();
        let first = all.assign(plan(&[("web", 1, "ids"), ("db", 2, "ids, ids2")]));
        assert_eq!(numbers(&first), [1, 2]);
        assert_eq!(first.sessions()[1].value.sensors[..3], [1, 2, 0]);
        assert_eq!(all.settle(&first), Over::default());
        let second =
            all.assign(plan(&[("mail", 3, "ids2"), ("db", 2, "ids, ids2"), ("web", 1, "ids")]));
        assert_eq!(numbers(&second), [3, 2, 1]);
        assert_eq!(second.claim_of("web", None), 3 << 8 | 1);
        assert_eq!(second.claim(0), Some(1 << 8 | 3));
        assert_eq!(second.sessions()[0].value.sensors[..2], [2, 0]);
    }

    #[test]
    fn a_session_that_changes_gets_another_number_and_the_old_one_comes_back_with_it() {
        let mut all = Numbering::default();
        let first = all.assign(plan(&[("web", 1, "ids")]));
        all.settle(&first);
        for (round, other) in [(2, ("web", 9, "ids")), (3, ("web", 1, "ids2"))] {
            let second = all.assign(plan(&[other]));
            assert_eq!(numbers(&second), [round]);
            all.settle(&second);
            let back = all.assign(plan(&[("web", 1, "ids")]));
            assert_eq!(numbers(&back), [1], "the rules before may come back");
            all.settle(&back);
            let over = all.settle(&back).sessions;
            assert_eq!(over.iter().map(|id| id.number()).collect::<Vec<_>>(), [round]);
        }
    }

    #[test]
    fn a_number_that_was_given_up_is_the_last_to_be_used_again() {
        let mut all = Numbering::default();
        let mut before = BTreeSet::new();
        for vni in 0..1_000 {
            let next = all.assign(plan(&[("web", vni, "ids")]));
            let number = numbers(&next)[0];
            assert!(before.insert(number) || before.len() == usize::from(NUMBERS));
            all.settle(&next);
        }
    }
}
