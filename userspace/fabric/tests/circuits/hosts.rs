//! Hosts of which a router hears from its neighbour, while the controller tells nobody of them.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use nightgate_fabric::{Command, Dial, FailureCause, Lane};
use nightgate_model::{
    entity::{Precedence, Terminator},
    id::{RouterId, TerminatorId},
    replica::LinkReport,
};
use nightgate_wire::{
    Headers,
    link::{Frame, host},
};

use crate::row::{MALLORY, Row, dial, router_id, terminator};

/// Longer than between two pings of an idle link, with which news go.
const NEWS: Duration = Duration::from_secs(3);

fn lose_controller(row: &mut Row) {
    let until = row.now + Duration::from_secs(3_600);
    row.routers.iter_mut().for_each(|router| router.handle_validity(Some(until)));
}

fn named(id: &str, router: usize) -> Terminator {
    Terminator { id: TerminatorId::new(id), ..terminator(router) }
}

/// The router and the terminator that a dial of the first router reaches.
fn reached(row: &mut Row) -> (usize, String) {
    row.take_events();
    let now = row.now;
    row.routers[0].dial(dial(), Lane::default(), now).unwrap();
    let events = row.take_events();
    let [(at, Command::Offer(.., offer))] = &events[..] else { panic!("{events:?}") };
    (*at, offer.terminator.as_str().to_owned())
}

#[test]
fn a_host_that_comes_to_another_router_is_found_while_the_controller_is_away() {
    let mut row = Row::new(3);
    lose_controller(&mut row);
    row.routers[1].host(named("fresh", 1));
    row.pass(NEWS);
    assert_eq!(reached(&mut row), (1, "fresh".to_owned()));

    // Until the controller has told everybody of it, and after.
    row.routers.iter_mut().for_each(|router| router.handle_validity(None));
    row.pass(NEWS);
    assert_eq!(reached(&mut row), (1, "fresh".to_owned()));
    Arc::make_mut(&mut row.replica.terminators).push(named("fresh", 1));
    row.publish();
    row.pass(NEWS);
    assert_eq!(reached(&mut row), (1, "fresh".to_owned()));

    Arc::make_mut(&mut row.replica.terminators).pop();
    row.publish();
    row.routers[1].unhost(&TerminatorId::new("fresh"));
    row.pass(NEWS);
    assert_eq!(reached(&mut row), (2, "t".to_owned()));
}

#[test]
fn what_a_host_says_of_its_server_counts_while_the_controller_is_away() {
    let mut row = Row::new(2);
    let dear = Terminator { cost: 60_000, ..named("dear", 1) };
    Arc::make_mut(&mut row.replica.terminators).push(dear.clone());
    row.publish();
    row.last().host(dear);
    lose_controller(&mut row);
    assert_eq!(reached(&mut row), (1, "t".to_owned()));

    row.last().host(Terminator { precedence: Precedence::Failed, ..terminator(1) });
    row.pass(NEWS);

    assert_eq!(reached(&mut row), (1, "dear".to_owned()));
}

#[test]
fn neighbours_are_told_nothing_that_the_controller_tells_them() {
    let mut row = Row::new(2);
    row.invite_mallory(1);
    row.last().host(named("fresh", 1));
    row.pass(NEWS);
    // It lives.
    row.forge(1, Frame::Pong(0));
    row.last().unhost(&TerminatorId::new("fresh"));
    lose_controller(&mut row);
    row.pass(NEWS);
    let told = row.mallory.iter().filter(|(_, frame)| matches!(frame, Frame::Hosts(_)));
    assert_eq!(told.count(), 0);
}

/// A hostile neighbour of the first router, to which a path leads, says that these hosts are behind it.
fn mallory_says(row: &mut Row, hosts: &[(&str, &str, &str)]) {
    let mut section = Headers::new();
    for (number, (id, identity, instance)) in (0..).zip(hosts) {
        let mut headers = Headers::new();
        headers
            .put_text(host::TERMINATOR, id)
            .put_text(host::SERVICE, "web")
            .put_text(host::IDENTITY, identity)
            .put_text(host::INSTANCE, instance)
            .put_text(host::PRECEDENCE, "required")
            .put_u32(host::COST, 0);
        section.put(number, encoded(&headers));
    }
    let mut all = Headers::new();
    all.put(0, encoded(&section));
    row.forge(0, Frame::Hosts(all));
}

fn encoded(headers: &Headers) -> BytesMut {
    let mut bytes = BytesMut::new();
    headers.encode(&mut bytes);
    bytes
}

fn row_with_mallory() -> Row {
    let mut row = Row::new(3);
    let blue = Terminator { instance: "blue".into(), secret: "seal".into(), ..named("blue", 2) };
    Arc::make_mut(&mut row.replica.terminators).push(blue.clone());
    let link = LinkReport { from: RouterId::new("mallory"), to: router_id(0), cost: 1 };
    Arc::make_mut(&mut row.replica.links).push(link);
    row.publish();
    row.last().host(blue);
    row.invite_mallory(0);
    row
}

/// Who hears of a dial: an honest host, or the hostile neighbour.
fn is_led_astray(row: &mut Row, instance: &str) -> bool {
    row.take_events();
    row.mallory.clear();
    let now = row.now;
    row.routers[0]
        .dial(Dial { instance: instance.into(), ..dial() }, Lane::default(), now)
        .unwrap();
    let offered = row.take_events().iter().any(|it| matches!(it, (2, Command::Offer(..))));
    let astray = row.mallory.iter().any(|it| matches!(it, (0, Frame::Open(..))));
    assert!(offered != astray);
    astray
}

#[test]
fn a_hostile_neighbour_is_believed_no_host_that_the_model_would_not_have() {
    let mut row = row_with_mallory();
    // What it may tell the controller, it may tell here.
    mallory_says(&mut row, &[("own", "hugo", "")]);
    assert!(is_led_astray(&mut row, ""));
    for (id, identity, instance) in [
        // May not host.
        ("own", "anna", ""),
        ("own", "nobody", ""),
        // The id of a host at another router.
        ("t", "hugo", ""),
        // The name of an instance whose secret it does not show.
        ("own", "hugo", "blue"),
    ] {
        mallory_says(&mut row, &[(id, identity, instance)]);
        assert!(!is_led_astray(&mut row, instance), "{id} {identity} {instance:?}");
    }
}

#[test]
fn what_a_neighbour_said_goes_with_its_link() {
    let mut row = row_with_mallory();
    mallory_says(&mut row, &[("own", "hugo", "")]);
    let now = row.now;
    row.routers[0].handle_link_down(MALLORY, now);
    row.invite_mallory(0);
    assert!(!is_led_astray(&mut row, ""));
}

#[test]
fn news_that_cannot_be_read_end_the_link() {
    let mut row = row_with_mallory();
    row.take_events();
    let mut headers = Headers::new();
    headers.put(0, vec![1, 2, 3]);
    row.forge(0, Frame::Hosts(headers));
    assert_eq!(row.take_events(), [(0, Command::DropLink(MALLORY, FailureCause::Protocol))]);
}
