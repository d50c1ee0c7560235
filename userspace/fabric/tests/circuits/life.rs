//! Circuits from the dial to the end.

use std::time::Duration;

use bytes::Bytes;
use nightgate_fabric::{
    Command, DialRefusal, FailureCause, INITIAL_WINDOW, Lane, LinkId, Role, SendError, weight,
};
use nightgate_wire::link::Payload;

use crate::row::{Row, dial, message, router_id};

#[test]
fn messages_arrive_in_order_both_ways_over_any_number_of_routers() {
    for length in 1..=4 {
        let mut row = Row::new(length);
        let (dialer, host) = row.connect();
        for text in ["one", "two"] {
            let now = row.now;
            row.routers[0].send(dialer, message(text), now).unwrap();
        }
        let now = row.now;
        row.last().send(host, message("answer"), now).unwrap();
        let mut events = row.take_events();
        events.sort_by_key(|(at, event)| {
            (*at, !matches!(event, Command::Deliver(end, _) if *end == host))
        });
        let delivered: Vec<_> = events
            .into_iter()
            .map(|(_, event)| match event {
                Command::Deliver(end, payload) => (end, payload),
                other => panic!("{length} routers: {other:?}"),
            })
            .collect();
        for expected in
            [(host, message("one")), (host, message("two")), (dialer, message("answer"))]
        {
            assert!(delivered.contains(&expected), "{length} routers: {delivered:?}");
        }
    }
}

#[test]
fn a_slow_receiver_stops_its_sender_at_the_window_and_credit_restarts_it() {
    let mut row = Row::new(3);
    let (dialer, host) = row.connect();
    let big = Payload { body: Bytes::from(vec![7; 30_000]), ..Payload::default() };
    let mut sent = 0;
    let now = row.now;
    let refused = loop {
        match row.routers[0].send(dialer, big.clone(), now) {
            Ok(()) => sent += weight(&big),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, SendError::NoCredit { .. }));
    assert!(sent <= INITIAL_WINDOW);
    assert_eq!(row.take_events().len() as u64, sent / weight(&big));
    row.last().consumed(host, INITIAL_WINDOW / 2, now);
    assert_eq!(row.take_events(), [(0, Command::Credit(dialer, INITIAL_WINDOW / 2))]);
    row.routers[0].send(dialer, big, now).unwrap();
}

#[test]
fn a_circuit_without_a_path_waits_and_then_ends_everywhere() {
    let mut row = Row::new(3);
    let (dialer, host) = row.connect();
    let now = row.now;
    row.routers[0].send(dialer, message("before"), now).unwrap();
    row.routers[1].handle_link_down(LinkId(1), now);
    row.last().handle_link_down(LinkId(0), now);
    assert!(!row.take_events().iter().any(|(_, event)| matches!(event, Command::Closed(..))));
    row.pass(Duration::from_secs(31));
    let events = row.take_events();
    for (at, end) in [(0, dialer), (2, host)] {
        let closed = (at, Command::Closed(end, FailureCause::LinkLost));
        assert!(events.contains(&closed), "{events:?}");
    }
    assert!(row.routers.iter().all(|router| router.circuits().is_empty()));
    for at in [0, 2] {
        let ended = row.routers[at].poll_ended().unwrap();
        assert_eq!(ended.cause, Some(FailureCause::LinkLost), "router {at}: {ended:?}");
    }
}

#[test]
fn a_dial_over_a_link_that_is_gone_is_refused_by_the_router_that_knows() {
    let mut row = Row::new(3);
    let now = row.now;
    row.routers[1].handle_link_down(LinkId(1), now);
    row.take_events();
    assert!(
        row.routers[0].dial(dial(), Lane::default(), now).is_ok(),
        "the first router has not heard of it"
    );
    let events = row.take_events();
    assert!(
        matches!(&events[..], [(0, Command::Refused(_, DialRefusal { cause, .. }))]
            if *cause == FailureCause::NoRoute),
        "{events:?}"
    );
}

#[test]
fn closing_one_end_delivers_what_was_sent_before() {
    let mut row = Row::new(2);
    let (dialer, host) = row.connect();
    let now = row.now;
    row.routers[0].send(dialer, message("last words"), now).unwrap();
    row.routers[0].close(dialer, now);
    assert_eq!(
        row.take_events(),
        [
            (1, Command::Deliver(host, message("last words"))),
            (1, Command::Closed(host, FailureCause::ClosedByPeer)),
        ]
    );
}

#[test]
fn an_unanswered_dial_fails_in_time() {
    let mut row = Row::new(2);
    row.take_events();
    let end = row.routers[0].dial(dial(), Lane::default(), row.now).unwrap();
    row.take_events();
    row.pass(Duration::from_secs(10));
    let events = row.take_events();
    assert!(events.iter().any(|(at, event)| *at == 0
        && matches!(event, Command::Refused(refused, refusal)
            if *refused == end && refusal.cause == FailureCause::DialTimeout)));
}

#[test]
fn a_silent_neighbour_is_dropped() {
    let mut row = Row::new(2);
    row.take_events();
    let mut events = Vec::new();
    for _tenth in 0..80 {
        row.now += Duration::from_millis(100);
        row.routers[0].handle_timeout(row.now);
        events.extend(std::iter::from_fn(|| row.routers[0].poll_command()));
    }
    assert!(events.contains(&Command::DropLink(LinkId(1), FailureCause::LinkLost)), "{events:?}");
}

#[test]
fn the_middle_router_shows_the_circuit_without_knowing_the_service() {
    let mut row = Row::new(3);
    row.connect();
    let circuits = row.routers[1].circuits();
    assert_eq!(circuits.len(), 1);
    assert_eq!((circuits[0].role, &circuits[0].service), (Role::Transit, &None));
    assert_eq!(circuits[0].path, [router_id(0), router_id(1), router_id(2)]);
}
