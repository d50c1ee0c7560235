//! Who is on the way of a circuit.

use nightgate_fabric::EndId;
use nightgate_model::id::RouterId;
use nightgate_wire::{
    Headers,
    link::{Frame, PathId},
};

use crate::row::{Row, router_id};

fn ask(row: &mut Row, dialer: EndId, hops: u32) -> Option<(RouterId, u32, bool)> {
    let now = row.now;
    assert!(row.routers[0].trace(dialer, 40 + hops, hops, now));
    row.run();
    let (end, hop) = row.routers[0].poll_traced()?;
    assert_eq!((end, hop.number), (dialer, 40 + hops));
    Some((hop.router, hop.left, hop.is_last))
}

#[test]
fn every_router_on_the_way_says_who_it_is() {
    let mut row = Row::new(4);
    let (dialer, _) = row.connect();
    assert_eq!(ask(&mut row, dialer, 1), Some((router_id(1), 0, false)));
    assert_eq!(ask(&mut row, dialer, 2), Some((router_id(2), 0, false)));
    assert_eq!(ask(&mut row, dialer, 3), Some((router_id(3), 0, true)));
    assert_eq!(ask(&mut row, dialer, 7), Some((router_id(3), 4, true)));
}

#[test]
fn the_end_at_the_same_router_answers_as_well() {
    let mut row = Row::new(1);
    let (dialer, _) = row.connect();
    let now = row.now;
    assert!(row.routers[0].trace(dialer, 1, 1, now));
    let (end, hop) = row.routers[0].poll_traced().unwrap();
    assert_eq!((end, hop.router, hop.is_last), (dialer, router_id(0), true));
}

#[test]
fn a_neighbour_learns_nothing_of_paths_that_are_not_its_own() {
    let mut row = Row::new(3);
    row.connect();
    row.invite_mallory(1);
    row.mallory.clear();
    for path in 0..50 {
        row.forge(1, Frame::Trace(PathId(path), Headers::new()));
        row.forge(1, Frame::Traced(PathId(path), Headers::new()));
    }
    let is_refusal = |frame: &Frame| matches!(frame, Frame::Unroute(..));
    assert!(row.mallory.iter().all(|(_, frame)| is_refusal(frame)), "{:?}", row.mallory);
    assert!(row.routers[0].poll_traced().is_none());
}
