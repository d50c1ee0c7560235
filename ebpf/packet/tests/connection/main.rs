//! Following TCP connections: what honest ends send passes, whatever the network does to it; what they would not
//! accept does not; and what they would ask about changes nothing.

use std::collections::VecDeque;

use nightgate_abi::{
    Reason::{self, TcpAcknowledgement, TcpReset, TcpState, TcpWindow},
    Sender,
    flow::Direction::{self, Original, Reply},
    sender::sent,
};
use nightgate_packet::{
    Segment,
    connection::{Arrival, begin, follow},
    tcp_flags::{ACK, FIN, RST, SYN},
};
use proptest::prelude::*;

/// Push (RFC 9293 section 3.1).
const PSH: u8 = 0x08;

/// What the firewall knows of a connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Tracked([Sender; 2]);

/// A segment without options: flags, sequence, acknowledgement, window, bytes of data.
#[derive(Clone, Copy, Debug)]
struct Sent(u8, u32, u32, u16, u32);

impl Tracked {
    fn see(&mut self, direction: Direction, sent: Sent) -> Result<(), Reason> {
        self.see_scaled(direction, sent, None)
    }

    fn see_scaled(
        &mut self,
        direction: Direction,
        Sent(flags, sequence, acknowledgement, window, length): Sent,
        scale: Option<u8>,
    ) -> Result<(), Reason> {
        let segment = Segment { sequence, acknowledgement, window, header_length: 20, length };
        let arrival = Arrival { segment: &segment, flags, direction, scale };
        let [origin, responder] = &mut self.0;
        let before = (*origin, *responder);
        let result = match direction {
            Original if origin.flags == 0 => {
                begin(&arrival, origin);
                Ok(())
            }
            Original => follow(&arrival, origin, responder),
            Reply => follow(&arrival, responder, origin),
        };
        assert!(result.is_ok() || before == (*origin, *responder), "a refusal changes nothing");
        result
    }

    /// Without the flags that were seen, which decide nothing.
    fn state(mut self) -> Self {
        self.0.iter_mut().for_each(|sender| sender.seen = 0);
        self
    }

    fn is_reset(&self) -> bool {
        self.0.iter().any(|sender| sender.has(sent::RESET))
    }
}

/// A connection after its handshake: the originator at 1,001, the responder at 5,001, windows of 1,000 bytes.
fn open() -> Tracked {
    let mut tracked = Tracked::default();
    tracked.see(Original, Sent(SYN, 1_000, 0, 1_000, 0)).expect("accepted");
    tracked.see(Reply, Sent(SYN | ACK, 5_000, 1_001, 1_000, 0)).expect("accepted");
    tracked.see(Original, Sent(ACK, 1_001, 5_001, 1_000, 0)).expect("accepted");
    tracked
}

#[test]
fn what_a_connection_brings_forth_passes() {
    let cases = [
        ("data", Original, Sent(ACK, 1_001, 5_001, 1_000, 1_000)),
        ("data up to the window's edge", Original, Sent(ACK, 2_001, 5_001, 1_000, 0)),
        ("keep-alive", Original, Sent(ACK, 1_000, 5_001, 1_000, 0)),
        ("keep-alive with a byte", Original, Sent(ACK, 1_000, 5_001, 1_000, 1)),
        ("the handshake's answer once more", Reply, Sent(SYN | ACK, 5_000, 1_001, 1_000, 0)),
        ("an earlier acknowledgement", Original, Sent(ACK, 1_001, 5_000, 1_000, 0)),
        ("the end of data", Reply, Sent(FIN | ACK, 5_001, 1_001, 1_000, 10)),
        ("a closed window", Reply, Sent(ACK, 5_001, 1_001, 0, 0)),
    ];
    for (what, direction, sent) in cases {
        assert_eq!(open().see(direction, sent), Ok(()), "{what}");
    }
}

#[test]
fn the_flags_of_all_accepted_segments_are_kept_and_of_no_others() {
    let seen = |tracked: &Tracked| tracked.0.map(|sender| sender.seen);
    let mut tracked = open();
    assert_eq!(seen(&tracked), [SYN | ACK; 2]);
    let pushed = Sent(PSH | ACK, 1_001, 5_001, 1_000, 100);
    tracked.see(Original, pushed).expect("accepted");
    tracked.see(Reply, Sent(FIN | ACK, 5_001, 1_101, 1_000, 0)).expect("accepted");
    assert_eq!(seen(&tracked), [SYN | ACK | PSH, SYN | ACK | FIN]);
    assert!(tracked.see(Reply, Sent(RST, 9_999, 0, 0, 0)).is_err());
    assert_eq!(seen(&tracked), [SYN | ACK | PSH, SYN | ACK | FIN]);
}

#[test]
fn what_the_other_end_would_not_accept_is_refused() {
    let cases = [
        ("beyond the window", Original, Sent(ACK, 2_002, 5_001, 1_000, 1), TcpWindow),
        (
            "long before the window",
            Original,
            Sent(ACK, 1_001_u32.wrapping_sub(132_002), 5_001, 1_000, 0),
            TcpWindow,
        ),
        ("what was not sent", Original, Sent(ACK, 1_001, 5_002, 1_000, 0), TcpAcknowledgement),
        (
            "long ago",
            Reply,
            Sent(ACK, 5_001, 1_001_u32.wrapping_sub(132_001), 1_000, 0),
            TcpAcknowledgement,
        ),
        ("opened from the other end", Reply, Sent(SYN, 77_777, 0, 1_000, 0), TcpState),
        ("reset beyond the window", Reply, Sent(RST, 6_002, 0, 0, 0), TcpReset),
        ("reset before the window", Reply, Sent(RST | ACK, 5_000, 1_001, 0, 0), TcpReset),
    ];
    for (what, direction, sent, reason) in cases {
        assert_eq!(open().see(direction, sent), Err(reason), "{what}");
    }
}

#[test]
fn a_reset_closes_only_with_the_expected_number() {
    for (direction, sequence) in [(Reply, 5_001), (Original, 1_001)] {
        let mut exact = open();
        assert_eq!(exact.see(direction, Sent(RST, sequence, 0, 0, 0)), Ok(()));
        assert!(exact.is_reset());
        let mut near = open();
        let before = near;
        assert_eq!(near.see(direction, Sent(RST, sequence + 1, 0, 0, 0)), Ok(()));
        assert_eq!(near.state(), before.state(), "the end asks");
    }
    // Behind data that is not acknowledged yet.
    let mut tracked = open();
    tracked.see(Reply, Sent(ACK, 5_001, 1_001, 1_000, 100)).expect("accepted");
    assert_eq!(tracked.see(Reply, Sent(RST, 5_101, 0, 0, 0)), Ok(()));
    assert!(tracked.is_reset());
}

#[test]
fn a_refused_connection_is_closed_only_by_who_has_seen_its_syn() {
    let syn = |data| {
        let mut tracked = Tracked::default();
        tracked.see(Original, Sent(SYN, 1_000, 0, 1_000, data)).expect("accepted");
        tracked
    };
    let mut refused = syn(0);
    assert_eq!(refused.see(Reply, Sent(RST | ACK, 0, 1_001, 0, 0)), Ok(()));
    assert!(refused.is_reset());
    assert_eq!(
        syn(0).see(Reply, Sent(RST | ACK, 0, 1_000_u32.wrapping_sub(1_461), 0, 0)),
        Err(TcpReset)
    );
    assert_eq!(syn(0).see(Reply, Sent(RST, 0, 0, 0, 0)), Err(TcpReset));
    // The data of a SYN need not be accepted.
    assert_eq!(syn(100).see(Reply, Sent(RST | ACK, 0, 1_001, 0, 0)), Ok(()));
}

#[test]
fn another_syn_in_an_open_connection_lets_the_responder_ask_or_begin_anew() {
    let mut tracked = open();
    let before = tracked.0[1];
    assert_eq!(tracked.see(Original, Sent(SYN, 900_000, 0, 1_000, 0)), Ok(()));
    assert_eq!(tracked.0[1], before);
    // It asks; the originator, which knows nothing of the connection, resets it.
    let mut asked = tracked;
    assert_eq!(asked.see(Reply, Sent(ACK, 5_001, 1_001, 1_000, 0)), Ok(()));
    assert_eq!(asked.see(Original, Sent(RST, 1_001, 0, 0, 0)), Ok(()));
    assert!(asked.is_reset());
    // It has forgotten the connection, and opens another.
    assert_eq!(tracked.see(Reply, Sent(SYN | ACK, 3_000_000, 900_001, 1_000, 0)), Ok(()));
    assert_eq!(tracked.see(Original, Sent(ACK, 900_001, 3_000_001, 1_000, 500)), Ok(()));
    assert_eq!(tracked.see(Reply, Sent(ACK, 3_000_001, 900_501, 1_000, 500)), Ok(()));
    // Without a SYN before, nobody begins anew.
    let forged = Sent(SYN | ACK, 3_000_000, 900_001, 1_000, 0);
    assert!(open().see(Reply, forged).is_err());
}

#[test]
fn a_responder_with_an_old_connection_may_ask_before_it_answers() {
    let mut tracked = Tracked::default();
    tracked.see(Original, Sent(SYN, 1_000, 0, 1_000, 0)).expect("accepted");
    let before = tracked;
    assert_eq!(tracked.see(Reply, Sent(ACK, 70_000, 90_000, 1_000, 0)), Ok(()));
    assert_eq!(tracked.state(), before.state());
    assert_eq!(tracked.see(Original, Sent(RST, 90_000, 0, 0, 0)), Ok(()));
    assert!(!tracked.is_reset());
    tracked.see(Original, Sent(SYN, 2_000, 0, 1_000, 0)).expect("accepted");
    assert_eq!(tracked.see(Reply, Sent(SYN | ACK, 5_000, 2_001, 1_000, 0)), Ok(()));
}

#[test]
fn both_ends_may_open_at_once() {
    let mut tracked = Tracked::default();
    for (direction, sent) in [
        (Original, Sent(SYN, 1_000, 0, 1_000, 0)),
        (Reply, Sent(SYN, 5_000, 0, 1_000, 0)),
        (Original, Sent(SYN | ACK, 1_000, 5_001, 1_000, 0)),
        (Reply, Sent(SYN | ACK, 5_000, 1_001, 1_000, 0)),
        (Original, Sent(ACK, 1_001, 5_001, 1_000, 200)),
        (Reply, Sent(ACK, 5_001, 1_201, 1_000, 200)),
    ] {
        assert_eq!(tracked.see(direction, sent), Ok(()), "{sent:?}");
    }
}

#[test]
fn a_probe_of_a_closed_window_passes() {
    let mut tracked = open();
    tracked.see(Original, Sent(ACK, 1_001, 5_001, 1_000, 1_000)).expect("accepted");
    tracked.see(Reply, Sent(ACK, 5_001, 2_001, 0, 0)).expect("accepted");
    assert_eq!(tracked.see(Original, Sent(ACK, 2_001, 5_001, 1_000, 1)), Ok(()));
    assert_eq!(tracked.see(Original, Sent(ACK, 2_000, 5_001, 1_000, 0)), Ok(()));
}

#[test]
fn windows_are_scaled_if_both_ends_want_it() {
    for (scales, reach) in [([Some(7), Some(7)], 1_000 << 7), ([Some(7), None], 1_000)] {
        let mut tracked = Tracked::default();
        tracked.see_scaled(Original, Sent(SYN, 1_000, 0, 1_000, 0), scales[0]).expect("accepted");
        let answer = Sent(SYN | ACK, 5_000, 1_001, 1_000, 0);
        tracked.see_scaled(Reply, answer, scales[1]).expect("accepted");
        tracked.see(Original, Sent(ACK, 1_001, 5_001, 1_000, 0)).expect("accepted");
        let beyond = Sent(ACK, 5_001 + reach + 1, 1_001, 1_000, 1);
        assert_eq!(tracked.see(Reply, beyond), Err(TcpWindow));
        assert_eq!(tracked.see(Reply, Sent(ACK, 5_001 + reach, 1_001, 1_000, 1)), Ok(()));
    }
}

#[test]
fn packets_of_64_kib_pass() {
    let mut tracked = Tracked::default();
    tracked
        .see_scaled(Original, Sent(SYN, u32::MAX - 9, 0, 64_240, 0), Some(10))
        .expect("accepted");
    let answer = Sent(SYN | ACK, 5_000, u32::MAX - 8, 65_160, 0);
    tracked.see_scaled(Reply, answer, Some(10)).expect("accepted");
    tracked.see(Original, Sent(ACK, u32::MAX - 8, 5_001, 64, 0)).expect("accepted");
    tracked.see(Reply, Sent(ACK, 5_001, u32::MAX - 8, 64, 65_483)).expect("accepted");
    tracked.see(Reply, Sent(ACK, 70_484, u32::MAX - 8, 64, 53)).expect("accepted");
    tracked.see(Original, Sent(ACK, u32::MAX - 8, 70_537, 63, 65_483)).expect("accepted");
}

#[test]
fn a_connection_picked_up_in_the_middle_goes_on() {
    let mut tracked = Tracked::default();
    for (direction, sent) in [
        (Original, Sent(ACK, 1_000, 5_000, 10, 100)),
        (Reply, Sent(ACK, 5_000, 1_100, 10, 60_000)),
        (Reply, Sent(ACK, 65_000, 1_100, 10, 60_000)),
        (Original, Sent(ACK, 1_100, 125_000, 10, 1_000)),
    ] {
        assert_eq!(tracked.see(direction, sent), Ok(()), "{sent:?}");
    }
    let far = Sent(ACK, 2_000_000_000, 125_000, 10, 0);
    assert_eq!(tracked.see(Original, far), Err(TcpWindow));
}

/// An honest end of a connection, as RFC 9293 has it.
#[derive(Debug)]
struct Endpoint {
    unacknowledged: u32,
    next: u32,
    /// Sequence number behind the last that the other end has room for.
    room: u32,
    expected: u32,
    /// Room for what comes in, in bytes; what is granted is never taken back.
    buffer: u32,
    granted: u32,
    scale: u8,
}

/// What an end or the network does next.
#[derive(Clone, Debug)]
enum Event {
    /// An end sends so much new data, or as much as there is room for.
    Send(bool, u32),
    /// An end sends again what was not acknowledged, from a place on.
    Repeat(bool, prop::sample::Index, u32),
    /// An end acknowledges, with this much room from now on.
    Acknowledge(bool, u32),
    /// An end asks whether the other is there.
    KeepAlive(bool),
    /// A segment on its way to the firewall gets there.
    Pass(bool, prop::sample::Index),
    /// A segment behind the firewall arrives.
    Arrive(bool, prop::sample::Index),
    /// A segment on its way is lost.
    Lose(bool, prop::sample::Index),
}

impl Endpoint {
    fn new(next: u32, expected: u32, scale: u8) -> Self {
        let (buffer, granted) = (65_535, expected.wrapping_add(65_535));
        Self {
            unacknowledged: next,
            next,
            room: next.wrapping_add(65_535),
            expected,
            buffer,
            granted,
            scale,
        }
    }

    fn segment(&mut self, sequence: u32, length: u32) -> Sent {
        let wanted = self.expected.wrapping_add(self.buffer);
        if self.granted.wrapping_sub(wanted) >> 31 != 0 {
            self.granted = wanted;
        }
        let window = (self.granted.wrapping_sub(self.expected) >> self.scale).min(65_535);
        Sent(ACK, sequence, self.expected, u16::try_from(window).expect("at most 65,535"), length)
    }

    fn receive(&mut self, Sent(_, sequence, acknowledgement, window, length): Sent, scale: u8) {
        let acknowledged = acknowledgement.wrapping_sub(self.unacknowledged);
        if acknowledged <= self.next.wrapping_sub(self.unacknowledged) {
            self.unacknowledged = acknowledgement;
            let room = acknowledgement.wrapping_add(u32::from(window) << scale);
            if self.room.wrapping_sub(room) >> 31 != 0 {
                self.room = room;
            }
        }
        let offset = self.expected.wrapping_sub(sequence);
        if offset <= length {
            self.expected = sequence.wrapping_add(length);
        }
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let index = any::<prop::sample::Index>;
    let event = prop_oneof![
        3 => (any::<bool>(), 1_u32..70_000).prop_map(|(end, length)| Event::Send(end, length)),
        2 => (any::<bool>(), index(), 1_u32..70_000).prop_map(|(e, i, l)| Event::Repeat(e, i, l)),
        3 => (any::<bool>(), 0_u32..4_000_000).prop_map(|(end, room)| Event::Acknowledge(end, room)),
        1 => any::<bool>().prop_map(Event::KeepAlive),
        8 => (any::<bool>(), index()).prop_map(|(end, index)| Event::Pass(end, index)),
        8 => (any::<bool>(), index()).prop_map(|(end, index)| Event::Arrive(end, index)),
        2 => (any::<bool>(), index()).prop_map(|(end, index)| Event::Lose(end, index)),
    ];
    prop::collection::vec(event, 1..300)
}

/// One of the first eight segments, if none that it overtakes becomes late by more than a window.
fn overtaking(queue: &VecDeque<Sent>, index: prop::sample::Index) -> usize {
    let chosen = index.index(queue.len().min(8));
    let Sent(_, sequence, acknowledgement, ..) = queue[chosen];
    let is_near = |a: u32, b: u32| a.wrapping_sub(b).cast_signed() <= 65_535;
    let is_fair = |other: &Sent| is_near(sequence, other.1) && is_near(acknowledgement, other.2);
    if queue.iter().take(chosen).all(is_fair) { chosen } else { 0 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_segment_of_honest_ends_is_refused(
        starts in any::<[u32; 2]>(),
        scales in [0_u8..=9, 0_u8..=9],
        events in events(),
    ) {
        let mut tracked = Tracked::default();
        let [a, b] = starts;
        let (next_a, next_b) = (a.wrapping_add(1), b.wrapping_add(1));
        tracked.see_scaled(Original, Sent(SYN, a, 0, 65_535, 0), Some(scales[0])).expect("accepted");
        let answer = Sent(SYN | ACK, b, next_a, 65_535, 0);
        tracked.see_scaled(Reply, answer, Some(scales[1])).expect("accepted");
        let mut ends = [Endpoint::new(next_a, next_b, scales[0]), Endpoint::new(next_b, next_a, scales[1])];
        tracked.see(Original, Sent(ACK, next_a, next_b, 65_535 >> scales[0], 0)).expect("accepted");
        // Segments by sender: on the way to the firewall, and behind it.
        let mut before: [VecDeque<Sent>; 2] = Default::default();
        let mut behind: [VecDeque<Sent>; 2] = Default::default();
        for event in events {
            match event {
                Event::Send(end, length) => {
                    let from = &mut ends[usize::from(end)];
                    let room = from.room.wrapping_sub(from.next);
                    let length = if room >> 31 == 0 { length.min(room) } else { 0 };
                    let segment = from.segment(from.next, length);
                    from.next = from.next.wrapping_add(length);
                    before[usize::from(end)].push_back(segment);
                }
                Event::Repeat(end, index, length) => {
                    let from = &mut ends[usize::from(end)];
                    let pending = from.next.wrapping_sub(from.unacknowledged);
                    if pending > 0 {
                        let skipped = u32::try_from(index.index(pending as usize)).expect("accepted");
                        let sequence = from.unacknowledged.wrapping_add(skipped);
                        let segment = from.segment(sequence, length.min(pending - skipped));
                        before[usize::from(end)].push_back(segment);
                    }
                }
                Event::Acknowledge(end, room) => {
                    let from = &mut ends[usize::from(end)];
                    from.buffer = room;
                    let segment = from.segment(from.next, 0);
                    before[usize::from(end)].push_back(segment);
                }
                Event::KeepAlive(end) => {
                    let from = &mut ends[usize::from(end)];
                    let segment = from.segment(from.unacknowledged.wrapping_sub(1), 0);
                    before[usize::from(end)].push_back(segment);
                }
                Event::Pass(end, index) => {
                    let queue = &mut before[usize::from(end)];
                    if !queue.is_empty() {
                        let segment = queue.remove(overtaking(queue, index)).expect("accepted");
                        let direction = if end { Reply } else { Original };
                        prop_assert_eq!(tracked.see(direction, segment), Ok(()), "{:?} {:?}", segment, tracked);
                        behind[usize::from(end)].push_back(segment);
                    }
                }
                Event::Arrive(end, index) => {
                    let queue = &mut behind[usize::from(end)];
                    if !queue.is_empty() {
                        let segment = queue.remove(overtaking(queue, index)).expect("accepted");
                        ends[usize::from(!end)].receive(segment, scales[usize::from(end)]);
                    }
                }
                Event::Lose(end, index) => {
                    let queue = &mut before[usize::from(end)];
                    if !queue.is_empty() {
                        queue.remove(index.index(queue.len()));
                    }
                }
            }
        }
    }

    #[test]
    fn any_segments_are_followed(segments in prop::collection::vec(
        (any::<bool>(), 0_usize..6, any::<u32>(), any::<u32>(), any::<u16>(), 0_u32..70_000), 0..40,
    )) {
        let mut tracked = Tracked::default();
        for (is_reply, flags, sequence, acknowledgement, window, length) in segments {
            let flags = [SYN, SYN | ACK, RST, RST | ACK, ACK, FIN | ACK][flags];
            let is_first = tracked.0[0].flags == 0;
            let direction = if is_reply && !is_first { Reply } else { Original };
            let _any = tracked.see(direction, Sent(flags, sequence, acknowledgement, window, length));
        }
    }
}
