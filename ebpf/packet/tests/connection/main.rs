//! Following TCP connections: what honest ends send passes, whatever the network does to it; what they would not
//! accept does not; and what they would ask about changes nothing.

mod honest;

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
