//! Sessions and sensors.

use super::{Encapsulation, VLAN_BY_SERVICE, VLAN_MAX};
use crate::{Address, Rate, flow::Direction};

/// Sensors of one session.
pub const SENSORS_OF_SESSION: usize = 8;

/// Interfaces that one session may be limited to.
pub const INTERFACES_OF_SESSION: usize = 4;

/// Sensors of one gateway at a time.
pub const SENSORS: u16 = 64;

/// Value of [`super::SESSIONS_MAP`]: which packets of its flows a session copies, and where the copies go.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct MirrorSession {
    /// Numbers of the sensors that take copies now; 0 in places that none has.
    pub sensors: [u8; SENSORS_OF_SESSION],
    /// When it ends: nanoseconds since 1970 by `CLOCK_TAI`; 0 for never.
    pub until: u64,
    /// Bytes of a flow, both directions together, after which its packets are not copied any more; 0 for no such number.
    pub cut_after: u64,
    /// How many frames are copied in a time; an interval of 0 for all.
    pub rate: Rate,
    /// Identifier of the session in the encapsulation: VXLAN and GENEVE network identifier (24 bits), GRE key (32),
    /// ERSPAN session (10).
    pub vni: u32,
    /// Bytes of a frame that are copied, at least 64; 0 for all.
    pub snap: u32,
    /// Numbers of the interfaces at which packets are copied: where flows come in, or leave if the gateway itself begins
    /// them; 0 in places that none has, and all 0 for any.
    pub interfaces: [u32; INTERFACES_OF_SESSION],
    /// One flow of so many is copied; 0 and 1 for each.
    pub one_in: u16,
    /// VLAN of the 802.1Q tag that copies get: 1 to [`VLAN_MAX`], [`VLAN_BY_SERVICE`], or 0 for none.
    pub vlan: u16,
    /// [`directions`] that are copied.
    pub directions: u8,
    /// Zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<MirrorSession>() == 72);

/// Values of [`MirrorSession::directions`].
pub mod directions {
    /// Both.
    pub const BOTH: u8 = 0;
    /// What comes from the flow's originator.
    pub const ORIGINAL: u8 = 1;
    /// What goes back to it.
    pub const REPLY: u8 = 2;
}

/// Value of [`super::SENSORS_MAP`]: how copies reach a sensor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct MirrorSensor {
    /// Its address, whose family is that of the outer header. Means nothing with
    /// [`super::Encapsulation::Local`].
    pub address: Address,
    /// Source address of the outer header, same family.
    pub source: Address,
    /// Interface towards it. A route that leads elsewhere is refused.
    pub ifindex: u32,
    /// UDP destination port of encapsulations that have one, host order.
    pub udp_port: u16,
    /// [`Encapsulation::number`](super::Encapsulation::number).
    pub encapsulation: u8,
    /// 1 if its interface leaves nothing to the hardware, so that the kernel makes frames of large segments there, and
    /// completes checksums; else 0.
    pub cuts: u8,
}

const _: () = assert!(size_of::<MirrorSensor>() == 40);

impl MirrorSession {
    /// The VLAN of the tag that a copy of a service's packet gets; 0 for none.
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is less than 2^12")]
    #[inline(always)]
    pub const fn vlan_of(&self, service: u32) -> u16 {
        if self.vlan != VLAN_BY_SERVICE {
            self.vlan
        } else if service == 0 {
            0
        } else {
            ((service - 1) % VLAN_MAX as u32) as u16 + 1
        }
    }

    /// Whether packets of a direction are copied.
    #[inline(always)]
    pub const fn copies(&self, direction: Direction) -> bool {
        self.directions == directions::BOTH || self.directions == direction as u8 + 1
    }

    /// Whether packets are copied at an interface, by its number.
    #[inline(always)]
    pub const fn copies_at(&self, ifindex: u32) -> bool {
        let [a, b, c, d] = self.interfaces;
        a == 0 || a == ifindex || b == ifindex || c == ifindex || d == ifindex
    }

    /// Whether a flow is among those that are copied, by its hash.
    #[inline(always)]
    pub const fn samples(&self, hash: u16) -> bool {
        self.one_in <= 1 || hash.is_multiple_of(self.one_in)
    }

    /// The number of the sensor that gets a flow's copies, by the flow's hash; 0 if there is none.
    ///
    /// Highest random weight (Thaler and Ravishankar, 1998): a sensor that leaves moves its own flows and no others, and
    /// one that comes takes its share evenly from all.
    #[inline(always)]
    pub const fn sensor_of(&self, hash: u16) -> u8 {
        let (mut chosen, mut most, mut index) = (0, 0, 0);
        while index < SENSORS_OF_SESSION {
            let number = self.sensors[index];
            // Of at least 1, so that any sensor is more than none.
            let weight = weight(hash, number) | 1;
            if number != 0 && weight > most {
                (chosen, most) = (number, weight);
            }
            index += 1;
        }
        chosen
    }
}

impl MirrorSensor {
    /// Whether a session's copies can be put into their encapsulation before they are cut into frames: the sensor's
    /// interface cuts them, and their outer headers may all be the same but for lengths and identification.
    #[inline(always)]
    pub const fn takes_segments(&self, session: &MirrorSession) -> bool {
        let is_plain = match Encapsulation::from_number(self.encapsulation) {
            Encapsulation::Vxlan | Encapsulation::Gre | Encapsulation::Local => true,
            // Each frame has its own sequence number.
            Encapsulation::Geneve | Encapsulation::Erspan => false,
        };
        self.cuts != 0 && is_plain && session.snap == 0
    }
}

/// How much a sensor wants a flow.
#[inline(always)]
const fn weight(hash: u16, sensor: u8) -> u32 {
    let mut word = (hash as u32) << 8 | sensor as u32;
    word = (word ^ word >> 16).wrapping_mul(0x85eb_ca6b);
    word = (word ^ word >> 13).wrapping_mul(0xc2b2_ae35);
    word ^ word >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(sensors: &[u8]) -> MirrorSession {
        let mut session = MirrorSession::default();
        session.sensors[..sensors.len()].copy_from_slice(sensors);
        session
    }

    #[test]
    fn the_tag_of_a_service_is_a_vlan_that_may_be_used() {
        let session = MirrorSession { vlan: VLAN_BY_SERVICE, ..MirrorSession::default() };
        for (service, vlan) in [(0, 0), (1, 1), (4_094, 4_094), (4_095, 1), (65_537, 33)] {
            assert_eq!(session.vlan_of(service), vlan, "service {service}");
        }
        assert_eq!(MirrorSession { vlan: 7, ..session }.vlan_of(9), 7);
    }

    #[test]
    fn sensors_share_flows_evenly_and_one_that_leaves_moves_its_own_only() {
        let numbers: [u8; 5] = [3, 9, 4, 200, 17];
        let all = session(&numbers);
        let mut counts = [0_u32; 256];
        for hash in 0..=u16::MAX {
            counts[usize::from(all.sensor_of(hash))] += 1;
        }
        for number in numbers {
            let count = counts[usize::from(number)];
            assert!((12_500..=13_700).contains(&count), "sensor {number}: {count} of 65536");
        }
        for (gone, number) in numbers.into_iter().enumerate() {
            let mut fewer = all;
            fewer.sensors[gone] = 0;
            for hash in 0..=u16::MAX {
                let (before, after) = (all.sensor_of(hash), fewer.sensor_of(hash));
                assert!(after != number && after != 0);
                assert!(before == after || before == number);
            }
        }
        assert_eq!(session(&[]).sensor_of(7), 0);
    }

    #[test]
    fn only_frames_that_need_nothing_of_their_own_are_cut_behind_the_encapsulation() {
        fn takes(encapsulation: Encapsulation, cuts: u8, snap: u32) -> bool {
            let encapsulation = encapsulation.number();
            let sensor = MirrorSensor { encapsulation, cuts, ..MirrorSensor::default() };
            sensor.takes_segments(&MirrorSession { snap, ..MirrorSession::default() })
        }
        let found = Encapsulation::ALL.map(|encapsulation| takes(encapsulation, 1, 0));
        assert_eq!(found, [true, false, false, true, true]);
        assert!(!takes(Encapsulation::Vxlan, 0, 0) && !takes(Encapsulation::Vxlan, 1, 64));
    }

    #[test]
    fn one_flow_in_so_many_is_sampled() {
        let mut session = session(&[1]);
        for (one_in, expected) in [(0, 65_536), (1, 65_536), (2, 32_768), (1_000, 66)] {
            session.one_in = one_in;
            assert_eq!((0..=u16::MAX).filter(|hash| session.samples(*hash)).count(), expected);
        }
    }

    #[test]
    fn a_session_copies_the_directions_it_asks_for() {
        let all = [Direction::Original, Direction::Reply];
        let cases = [
            (directions::BOTH, [true, true]),
            (directions::ORIGINAL, [true, false]),
            (directions::REPLY, [false, true]),
        ];
        for (directions, expected) in cases {
            let session = MirrorSession { directions, ..MirrorSession::default() };
            assert_eq!(all.map(|direction| session.copies(direction)), expected);
        }
    }
}
