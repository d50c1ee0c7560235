//! What two honest ends send over a network that loses, repeats and overtakes, and what anybody sends at random.

use std::collections::VecDeque;

use nightgate_abi::flow::Direction::{Original, Reply};
use nightgate_packet::tcp_flags::{ACK, FIN, RST, SYN};
use proptest::prelude::*;

use super::{Sent, Tracked};

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
