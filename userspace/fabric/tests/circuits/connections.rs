//! How circuits spread over the connections of a link.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nightgate_fabric::{Command, Lane, LinkId, Router};
use nightgate_model::replica::LinkReport;
use nightgate_wire::link::Frame;

use crate::row::{dial, replica, router_id, terminator};

/// How many of eight circuits take each of two connections, whose pings took so many milliseconds.
fn spread(round_trips: [u64; 2]) -> [usize; 2] {
    chosen(round_trips, [Lane(0); 2], Lane(0))
}

/// The same, of clients of a lane, with the lanes of both connections.
fn chosen(round_trips: [u64; 2], lanes: [Lane; 2], lane: Lane) -> [usize; 2] {
    let now = Instant::now();
    let mut router = Router::new(router_id(0), [1; 32]);
    for (link, lane) in (0..).map(LinkId).zip(lanes) {
        router.handle_link_up(link, router_id(1), now);
        router.place(link, lane);
    }
    router.handle_timeout(now);
    for command in commands(&mut router) {
        if let Command::Send(link, Frame::Ping(stamp)) = command {
            let at = usize::try_from(link.0).unwrap();
            let then = now + Duration::from_millis(round_trips[at]);
            router.handle_frame(link, Frame::Pong(stamp), then);
        }
    }
    let link = LinkReport { from: router_id(1), to: router_id(0), cost: 1 };
    router.handle_replica(Arc::new(replica(vec![link], terminator(1))), now);
    for _ in 0..8 {
        router.dial(dial(), lane, now).unwrap();
    }
    let mut counts = [0; 2];
    for command in commands(&mut router) {
        if let Command::Send(link, Frame::Open(..)) = command {
            counts[usize::try_from(link.0).unwrap()] += 1;
        }
    }
    counts
}

fn commands(router: &mut Router) -> Vec<Command> {
    std::iter::from_fn(|| router.poll_command()).collect()
}

#[test]
fn circuits_spread_evenly_although_a_ping_had_to_wait_for_a_cpu() {
    for round_trips in [[0, 0], [1, 8], [9, 0], [40, 49]] {
        assert_eq!(spread(round_trips), [4, 4], "{round_trips:?}");
    }
}

#[test]
fn circuits_avoid_a_connection_that_is_far_slower() {
    assert_eq!(spread([1, 30]), [8, 0]);
    assert_eq!(spread([300, 200]), [0, 8]);
}

#[test]
fn circuits_take_a_connection_of_their_lane_unless_it_is_far_slower() {
    let lanes = [Lane(1), Lane(2)];
    assert_eq!(chosen([1, 8], lanes, Lane(2)), [0, 8]);
    assert_eq!(chosen([1, 8], lanes, Lane(1)), [8, 0]);
    assert_eq!(chosen([1, 8], lanes, Lane(0)), [4, 4], "it has none");
    assert_eq!(chosen([1, 80], lanes, Lane(2)), [8, 0]);
}
