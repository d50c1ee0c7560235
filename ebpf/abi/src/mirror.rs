//! Mirror sessions: where copies of a service's packets go, and what became of each copy.

mod encapsulation;
mod session;

pub use encapsulation::Encapsulation;
pub use session::{
    INTERFACES_OF_SESSION, MirrorSensor, MirrorSession, SENSORS, SENSORS_OF_SESSION, directions,
};

use crate::{Slot, flow::Direction};

/// Sessions of one gateway at a time.
pub const SESSIONS: u16 = 64;

/// Numbers of sessions are 1 to this: more than there are sessions, so that one that is given up is free for a while
/// before another session gets it, and no copy on its way reaches the other one's sensor.
pub const NUMBERS: u16 = 255;

/// Map of [`MirrorSession`] by session number, a `u32`.
pub const SESSIONS_MAP: &str = "MIRROR_SESSIONS";

/// Map of [`MirrorSensor`] by sensor number, a `u32` from 1 to [`NUMBERS`], of which the same holds as of sessions'.
pub const SENSORS_MAP: &str = "MIRROR_SENSORS";

/// Map of [`crate::Counter`] per CPU by sensor number: what was sent to the sensor.
pub const SENSOR_COUNTERS_MAP: &str = "MIRROR_SENSOR_COUNTERS";

/// Map of [`crate::Bucket`] by session number, for [`MirrorSession::rate`].
pub const BUCKETS_MAP: &str = "MIRROR_BUCKETS";

/// Map of [`crate::Counter`] per CPU by [`counter_index`]. Bytes are those of the copy before encapsulation.
pub const COUNTERS_MAP: &str = "MIRROR_COUNTERS";

/// Slots of [`COUNTERS_MAP`]: a row of outcomes for each session, and row 0 for numbers that no session has.
pub const COUNTERS: u32 = (NUMBERS as u32 + 1) * Outcome::COUNT;

/// Value of the packet mark on encapsulated copies, so that they are never judged or mirrored again.
pub const ENCAPSULATED_MARK: u32 = 0x4e47_0002;

/// Map of the next sequence number of each session, 64 bits, by session number.
pub const SEQUENCES_MAP: &str = "MIRROR_SEQUENCES";

/// Largest VLAN of a tag (IEEE 802.1Q: 0 and 4095 are reserved).
pub const VLAN_MAX: u16 = 4094;

/// Value of [`MirrorSession::vlan`]: the tag says the service, see [`MirrorSession::vlan_of`].
pub const VLAN_BY_SERVICE: u16 = u16::MAX;

/// In the place of a claim: the flow is not mirrored, whatever else says so.
pub const NEVER: u16 = u16::MAX;

/// A session's claim to a flow, of which the lowest wins: the session's place in the configuration, 1 to [`SESSIONS`],
/// in the upper byte, its number in the lower one. 0 is no session's.
pub const fn claim(place: u16, id: MirrorSessionId) -> u16 {
    place << 8 | id.number()
}

/// The parameters of a filter's entry: the [`claim`] of the session that mirrors what the entry matches, 0 for none, or
/// [`NEVER`].
pub fn filter_slot(claim: u16) -> Slot {
    let mut slot = Slot::default();
    slot.0[0] = claim.into();
    slot
}

/// The number of a flow's session, 0 for none, by the claims of its service and of the filter entry whose parameters
/// these are: each 0 for none, or [`NEVER`].
#[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
#[inline(always)]
pub const fn session_of_flow(of_service: u16, filter: Option<&Slot>) -> u16 {
    let of_filter = match filter {
        Some(slot) => slot.0[0] as u16,
        None => 0,
    };
    if of_service == NEVER || of_filter == NEVER {
        0
    } else if of_service == 0 || (of_filter != 0 && of_filter < of_service) {
        of_filter & 0xff
    } else {
        of_service & 0xff
    }
}

/// Number of a session: 1 to [`NUMBERS`]. A copy carries it in its packet mark from the cloning
/// program to the encapsulating one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MirrorSessionId(u16);

impl MirrorSessionId {
    /// The session with this number, if there can be one.
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 1 && number <= NUMBERS { Some(Self(number)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// What a copy's packet mark says on its way from the cloning program to the encapsulating one: the session's number in
/// bits 0 to 7, the direction in bit 8, the service's tag in bits 9 to 31.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CopyMark(pub u32);

impl CopyMark {
    /// The mark of a copy. Of the service's tag, the lower 23 bits count.
    #[inline(always)]
    pub const fn new(session: u16, direction: Direction, service: u32) -> Self {
        Self((session & 0xff) as u32 | (direction as u32) << 8 | service << 9)
    }

    /// Number of the session.
    #[inline(always)]
    pub const fn session(self) -> u32 {
        self.0 & 0xff
    }

    /// Direction of the packet in its flow.
    #[inline(always)]
    pub const fn direction(self) -> Direction {
        if self.0 & 1 << 8 == 0 { Direction::Original } else { Direction::Reply }
    }

    /// Tag of the intercepted service; 0 for none.
    #[inline(always)]
    pub const fn service(self) -> u32 {
        self.0 >> 9
    }
}

/// Index in [`COUNTERS_MAP`] of an outcome of a session, by the session's number. A number above
/// [`NUMBERS`] shares row 0.
#[inline(always)]
pub const fn counter_index(session: u32, outcome: Outcome) -> u32 {
    let row = if session <= NUMBERS as u32 { session } else { 0 };
    row * Outcome::COUNT + outcome as u32
}

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// Closed list of what can become of a copy: the index of a counter, the metric label and the
        /// word that operators see. Every copy that reaches the encapsulating program has exactly one, that
        /// does not say that it does not reach it.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Outcome {
            $($(#[$doc])* $name,)*
        }

        impl Outcome {
            /// Every outcome, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The kebab-case word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

outcomes! {
    /// Due, as frames on the wire: every other outcome is that of one of these, except for those that a queue on the
    /// way has dropped.
    Matched = "matched";
    /// The session has ended.
    Expired = "expired";
    /// Of a flow that is not among those that the session samples.
    SampledOut = "sampled-out";
    /// Of a flow that has sent more than the session copies of one.
    CutOff = "cut-off";
    /// More in a time than the session allows.
    RateLimited = "rate-limited";
    /// No sensor of the session is in order.
    NoSensor = "no-sensor";
    /// There is no mirror device.
    NoDevice = "no-device";
    /// The kernel refused to make the copy.
    Refused = "refused";
    /// Encapsulated and sent to the sensor's link address.
    Mirrored = "mirrored";
    /// Encapsulated and left with the kernel, which is still resolving the sensor's link address. It
    /// holds a few such packets and drops them when there is no answer.
    NoNeighbour = "no-neighbour";
    /// No session has the number in the packet's mark.
    NoSession = "no-session";
    /// Neither IPv4 nor IPv6 below at most one 802.1Q tag.
    NotIp = "not-ip";
    /// Still a large frame to be segmented: the mirror device's offloads are not off.
    NotSegmented = "not-segmented";
    /// No route to the sensor, or one by another interface than the session's.
    NoRoute = "no-route";
    /// Larger than the path to the sensor carries, encapsulation included.
    TooLong = "too-long";
    /// The kernel refused to make room for the outer headers or to write them.
    EncapsulationFailed = "encapsulation-failed";
}

impl Outcome {
    /// How many there are.
    #[expect(clippy::cast_possible_truncation, reason = "there are fewer than 2^32 outcomes")]
    pub const COUNT: u32 = Self::ALL.len() as u32;
}

impl core::fmt::Display for Outcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a flow's hash is made of for [`crate::Flow::mirror_hash`], by a hash of 64 bits of its key.
#[inline(always)]
pub const fn flow_hash(hash: u64) -> u16 {
    (hash >> 48) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_and_outcome_has_a_counter_of_its_own() {
        let mut seen = [false; COUNTERS as usize];
        for session in 0..=u32::from(NUMBERS) {
            for outcome in Outcome::ALL {
                let slot = &mut seen[counter_index(session, *outcome) as usize];
                assert!(!*slot, "session {session}, {outcome}");
                *slot = true;
            }
        }
        assert!(seen.iter().all(|slot| *slot));
    }

    #[test]
    fn unknown_session_numbers_share_the_first_row() {
        for session in [u32::from(NUMBERS) + 1, u32::MAX] {
            assert!(counter_index(session, Outcome::NoSession) < Outcome::COUNT);
        }
    }

    #[test]
    fn session_numbers_start_at_one() {
        assert_eq!(MirrorSessionId::new(0), None);
        assert_eq!(MirrorSessionId::new(NUMBERS + 1), None);
        assert_eq!(MirrorSessionId::new(NUMBERS).unwrap().number(), NUMBERS);
    }

    #[test]
    fn a_mark_keeps_session_direction_and_service_apart() {
        for session in [1, NUMBERS] {
            for service in [0, 1, (1 << 23) - 1] {
                for direction in [Direction::Original, Direction::Reply] {
                    let mark = CopyMark::new(session, direction, service);
                    assert_eq!(mark.session(), u32::from(session));
                    assert_eq!((mark.direction(), mark.service()), (direction, service));
                }
            }
        }
    }

    #[test]
    fn the_lowest_session_mirrors_a_flow_and_never_wins() {
        // The first session has a higher number than the second.
        let [first, second] =
            [(1, 9), (2, 5)].map(|(place, id)| claim(place, MirrorSessionId::new(id).unwrap()));
        let cases = [
            (0, None, 0),
            (first, None, 9),
            (0, Some(second), 5),
            (first, Some(second), 9),
            (second, Some(first), 9),
            (first, Some(0), 9),
            (first, Some(NEVER), 0),
            (NEVER, Some(second), 0),
            (NEVER, None, 0),
        ];
        for (of_service, of_filter, expected) in cases {
            let slot = of_filter.map(filter_slot);
            assert_eq!(
                session_of_flow(of_service, slot.as_ref()),
                expected,
                "{of_service} {of_filter:?}"
            );
        }
    }

    #[test]
    fn words_are_distinct() {
        for (index, outcome) in Outcome::ALL.iter().enumerate() {
            assert!(Outcome::ALL[..index].iter().all(|other| other.as_str() != outcome.as_str()));
        }
    }
}
