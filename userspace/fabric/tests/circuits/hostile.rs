//! Routers that are enrolled and have gone bad: what they send gains them nothing but the loss of their own circuits.

use std::sync::Arc;

use bytes::Bytes;
use nightgate_fabric::{
    Command, EndId, FailureCause, INITIAL_WINDOW, KeyShare, Lane, MAX_WINDOW, weight,
};
use nightgate_model::{id::RouterId, replica::LinkReport};
use nightgate_wire::{
    Headers,
    link::{Ack, Frame, Numbered, PathId, Payload, Wish, header},
};
use proptest::prelude::*;

use crate::row::{MALLORY, Row, dial, message, numbered};

/// The request for a circuit that a hostile router sends to the host's router, in anna's name: with a token of hers,
/// which the shell would check.
fn request(row: &Row) -> Headers {
    let mut headers = Headers::new();
    headers
        .put_text(header::PATH, &format!("r0\nmallory\nr{}", row.routers.len() - 1))
        .put_text(header::TERMINATOR, "t")
        .put_text(header::SERVICE, "web")
        .put_text(header::DIALER, "anna")
        .put_text(header::CALLER, "anna")
        .put(header::ANCHOR, vec![0; 32]);
    headers
}

/// Opens a circuit of the hostile router's own, and gives the host's end.
fn own_circuit(row: &mut Row, path: PathId) -> EndId {
    let last = row.routers.len() - 1;
    row.take_events();
    row.forge(last, Frame::Open(path, request(row)));
    let events = row.take_events();
    let [(_, Command::Offer(host, ..))] = events[..] else { panic!("{events:?}") };
    let now = row.now;
    row.last().accept(host, KeyShare::default(), now);
    row.run();
    assert!(matches!(row.mallory.pop(), Some((_, Frame::Opened(opened, _))) if opened == path));
    host
}

/// The number of the first path of the circuit between the honest ends.
fn honest_path(row: &Row) -> PathId {
    PathId(u64::from_str_radix(&row.routers[0].circuits()[0].id, 16).unwrap())
}

fn assert_flows(row: &mut Row, (dialer, host): (EndId, EndId)) {
    row.take_events();
    let (now, last) = (row.now, row.routers.len() - 1);
    row.routers[0].send(dialer, message("still here"), now).unwrap();
    row.last().send(host, message("me too"), now).unwrap();
    let events = row.take_events();
    for (at, end, text) in [(last, host, "still here"), (0, dialer, "me too")] {
        let delivered = (at, Command::Deliver(end, message(text)));
        assert!(events.contains(&delivered), "{events:?}");
        row.routers[at].consumed(end, weight(&message(text)), now);
    }
}

/// All that a router can say of a path.
fn frames(path: PathId) -> Vec<Frame> {
    let ack = Ack { received: 0, limit: u64::MAX, stamp: 1, wish: Wish::Repeat };
    let mut rerouted = Headers::new();
    rerouted.put(header::ACK, ack.to_bytes().to_vec());
    let mut lost = Headers::new();
    lost.put_text(header::LOST, "r0\nr1").put_text(header::CAUSE, "link-lost");
    vec![
        Frame::Close(path),
        Frame::Unroute(path, lost.clone()),
        Frame::Refused(path, lost),
        Frame::Opened(path, Headers::new()),
        Frame::Rerouted(path, rerouted),
        Frame::Ack(path, ack),
        Frame::Fin(path, 0),
        Frame::Payload(path, numbered(0, message("forged"))),
    ]
}

#[test]
fn a_neighbour_cannot_reach_a_circuit_that_is_not_its_own() {
    let mut row = Row::new(3);
    let ends = row.connect();
    let path = honest_path(&row);
    for at in 0..3 {
        row.invite_mallory(at);
        row.mallory.clear();
        for frame in frames(path) {
            row.forge(at, frame);
        }
        let answers = std::mem::take(&mut row.mallory);
        let nothing = (at, Frame::Unroute(path, Headers::new()));
        assert!(answers.iter().all(|answer| *answer == nothing), "{answers:?}");
        assert_flows(&mut row, ends);
    }
}

#[test]
fn the_number_of_a_circuit_is_good_for_no_other() {
    let mut row = Row::new(2);
    let ends = row.connect();
    let path = honest_path(&row);
    row.invite_mallory(1);
    row.mallory.clear();
    row.forge(1, Frame::Open(path, request(&row)));
    let Some((_, Frame::Refused(_, headers))) = row.mallory.pop() else { panic!("not refused") };
    assert_eq!(headers.text(header::DETAIL), Some("the circuit id is taken"));
    assert_flows(&mut row, ends);
}

#[test]
fn a_request_that_is_sent_again_makes_no_second_circuit() {
    let mut row = Row::new(2);
    row.invite_mallory(1);
    let host = own_circuit(&mut row, PathId(7));
    row.forge(1, Frame::Open(PathId(7), request(&row)));
    let events = row.take_events();
    assert!(matches!(row.mallory.pop(), Some((1, Frame::Refused(..)))) && events.is_empty());
    for _twice in 0..2 {
        row.forge(1, Frame::Payload(PathId(7), numbered(0, message("once"))));
    }
    assert_eq!(row.take_events(), [(1, Command::Deliver(host, message("once")))]);
    assert_eq!(row.routers[1].memory().ends, 1);
}

#[test]
fn nobody_but_its_dialer_gives_a_circuit_another_path() {
    let mut row = Row::new(2);
    let ends = row.connect();
    let circuit = honest_path(&row);
    row.invite_mallory(1);
    row.mallory.clear();
    for proof in [[0; 64], [7; 64]] {
        let mut headers = Headers::new();
        headers
            .put_text(header::PATH, "r0\nmallory\nr1")
            .put(header::CIRCUIT, circuit.0.to_be_bytes().to_vec())
            .put(header::TURN, 1_u64.to_be_bytes().to_vec())
            .put(header::SIGNATURE, proof.to_vec())
            .put(header::ACK, Ack::default().to_bytes().to_vec());
        row.forge(1, Frame::Reroute(PathId(u64::from(proof[0])), headers));
        assert!(matches!(row.mallory.pop(), Some((1, Frame::Refused(..)))));
        assert_flows(&mut row, ends);
    }
    assert_eq!(row.routers[1].circuits()[0].path.len(), 2);
}

#[test]
fn who_acknowledges_what_was_never_sent_loses_its_circuit_and_no_other() {
    let mut row = Row::new(2);
    let ends = row.connect();
    row.invite_mallory(1);
    let host = own_circuit(&mut row, PathId(7));
    let ack = Ack { received: 1, limit: u64::MAX, ..Ack::default() };
    row.forge(1, Frame::Ack(PathId(7), ack));
    assert!(row.take_events().contains(&(1, Command::Closed(host, FailureCause::Protocol))));
    assert_flows(&mut row, ends);
}

#[test]
fn an_endless_window_makes_nobody_keep_more_than_the_largest() {
    let mut row = Row::new(2);
    row.invite_mallory(1);
    let host = own_circuit(&mut row, PathId(7));
    row.forge(1, Frame::Ack(PathId(7), Ack { limit: u64::MAX, ..Ack::default() }));
    let big = Payload { body: Bytes::from(vec![0; 100_000]), ..Payload::default() };
    let now = row.now;
    while row.last().send(host, big.clone(), now).is_ok() {}
    assert!(row.routers[1].memory().bytes <= MAX_WINDOW);
    // Nor does asking for everything again and again multiply it.
    row.run();
    let bytes = |row: &mut Row| -> usize {
        std::mem::take(&mut row.mallory).iter().map(|(_, frame)| frame.encoded_len()).sum()
    };
    bytes(&mut row);
    for _flood in 0..1_000 {
        row.forge(1, Frame::Ack(PathId(7), Ack { wish: Wish::Repeat, ..Ack::default() }));
    }
    let repeated = bytes(&mut row) as u64;
    assert!(repeated <= MAX_WINDOW, "{repeated}");
}

#[test]
fn who_never_opens_its_window_stops_only_itself() {
    let mut row = Row::new(2);
    let ends = row.connect();
    row.invite_mallory(1);
    let host = own_circuit(&mut row, PathId(7));
    let big = Payload { body: Bytes::from(vec![0; 10_000]), ..Payload::default() };
    let now = row.now;
    while row.last().send(host, big.clone(), now).is_ok() {}
    row.forge(1, Frame::Ack(PathId(7), Ack { limit: 0, ..Ack::default() }));
    assert!(row.last().send(host, big, now).is_err());
    assert!(row.routers[1].memory().bytes <= INITIAL_WINDOW);
    assert_flows(&mut row, ends);
}

#[test]
fn who_acknowledges_nothing_keeps_nobody_from_leaving() {
    let mut row = Row::new(2);
    row.invite_mallory(1);
    let host = own_circuit(&mut row, PathId(7));
    let now = row.now;
    row.last().send(host, message("unread"), now).unwrap();
    row.last().close(host, now);
    for _second in 0..31 {
        row.pass(std::time::Duration::from_secs(1));
        row.forge(1, Frame::Ack(PathId(7), Ack::default()));
    }
    assert_eq!((row.routers[1].memory().ends, row.routers[1].memory().bytes), (0, 0));
}

#[test]
fn more_than_the_window_ends_the_circuit() {
    let mut row = Row::new(2);
    let ends = row.connect();
    row.invite_mallory(1);
    let host = own_circuit(&mut row, PathId(7));
    let huge = Payload { body: Bytes::from(vec![0; 200_000]), ..Payload::default() };
    for sequence in 0..6 {
        row.forge(1, Frame::Payload(PathId(7), numbered(sequence, huge.clone())));
    }
    assert!(row.take_events().contains(&(1, Command::Closed(host, FailureCause::Protocol))));
    assert_flows(&mut row, ends);
}

#[test]
fn a_flood_of_requests_fills_its_own_share_and_is_forgotten_with_its_link() {
    let mut row = Row::new(2);
    row.invite_mallory(1);
    let mut flood = request(&row);
    flood.put(header::APP_DATA, vec![0; 60_000]);
    for path in 0..1_000 {
        row.forge(1, Frame::Open(PathId(path), flood.clone()));
    }
    let held = row.routers[1].memory().ends;
    assert!((200..300).contains(&held), "{held}");
    let refused = row.mallory.iter().filter(|(_, frame)| matches!(frame, Frame::Refused(..)));
    assert_eq!(refused.count(), 1_000 - held);
    let ends = row.connect();
    assert_flows(&mut row, ends);
    let now = row.now;
    row.last().handle_link_down(MALLORY, now);
    assert_eq!(row.routers[1].memory().ends, 1);
}

#[test]
fn a_request_that_is_too_long_goes_no_further() {
    let mut row = Row::new(2);
    row.invite_mallory(1);
    row.take_events();
    let mut long = request(&row);
    long.put(header::APP_DATA, vec![0; 200_000]);
    row.forge(1, Frame::Open(PathId(7), long.clone()));
    row.forge(1, Frame::Reroute(PathId(8), long));
    assert_eq!(row.take_events(), []);
    assert_eq!((row.mallory.len(), row.routers[1].memory().routes), (2, 0),);
}

#[test]
fn links_that_only_one_end_knows_lead_nowhere() {
    let mut row = Row::new(3);
    row.invite_mallory(0);
    let link = |from: &str, to: &str| LinkReport {
        from: RouterId::new(from),
        to: RouterId::new(to),
        cost: 0,
    };
    Arc::make_mut(&mut row.replica.links).extend([link("mallory", "r2"), link("mallory", "r1")]);
    row.publish();
    row.connect();
    assert_eq!(row.routers[0].circuits()[0].path.len(), 3, "not over mallory");
}

#[test]
fn an_answer_before_the_question_makes_no_neighbour_look_near() {
    let mut row = Row::new(1);
    row.invite_mallory(0);
    for number in 0..1_000 {
        row.forge(0, Frame::Pong(number));
    }
    row.pass(std::time::Duration::from_millis(50));
    for number in 0..1_000 {
        row.forge(0, Frame::Pong(number));
    }
    assert_eq!(row.routers[0].link_reports(), [], "and it is told to nobody before it is measured");
    let stamp = row.mallory.iter().find_map(|(_, frame)| match frame {
        Frame::Ping(stamp) => Some(*stamp),
        _ => None,
    });
    row.forge(0, Frame::Pong(stamp.unwrap()));
    assert!(row.routers[0].link_reports()[0].cost >= 40);
}

#[test]
fn a_path_that_ends_blames_no_links_of_others() {
    let mut row = Row::new(3);
    // A host at the hostile router's: the circuit is hers to lose.
    row.invite_mallory(0);
    let ends = row.connect();
    let path = honest_path(&row);
    let mut lost = Headers::new();
    lost.put_text(header::LOST, "r0\nr1");
    row.forge(0, Frame::Unroute(path, lost));
    let now = row.now;
    assert!(row.routers[0].dial(dial(), Lane::default(), now).is_ok());
    assert_flows(&mut row, ends);
}

fn any_frame() -> impl Strategy<Value = Frame> {
    // 1 is her own circuit's path, 2 that of the honest one, which the test puts in.
    let path = (0_u64..4).prop_map(PathId);
    let ack = (any::<u64>(), any::<u64>(), any::<u32>(), 0..3).prop_map(
        |(received, limit, stamp, wish)| {
            let received = if received % 2 == 0 { received % 4 } else { received };
            let wish = [Wish::Nothing, Wish::Repeat, Wish::Answer][usize::try_from(wish).unwrap()];
            Ack { received, limit, stamp, wish }
        },
    );
    let bytes = proptest::collection::vec(any::<u8>(), 0..64);
    let headers = proptest::collection::vec((10..42, bytes), 0..6).prop_map(|all| {
        let mut headers = Headers::new();
        for (key, bytes) in all {
            headers.put(key, bytes);
        }
        headers
    });
    let payload =
        (any::<u32>(), 0_u64..4, 0_usize..300_000).prop_map(|(echo, sequence, length)| {
            let payload = Payload { body: Bytes::from(vec![0; length]), ..Payload::default() };
            Numbered { sequence, echo, payload }
        });
    prop_oneof![
        (path.clone(), ack).prop_map(|(path, ack)| Frame::Ack(path, ack)),
        (path.clone(), payload).prop_map(|(path, payload)| Frame::Payload(path, payload)),
        (path.clone(), 0_u64..5).prop_map(|(path, count)| Frame::Fin(path, count)),
        (path.clone(), headers, 0..6).prop_map(|(path, headers, kind)| match kind {
            0 => Frame::Open(path, headers),
            1 => Frame::Opened(path, headers),
            2 => Frame::Refused(path, headers),
            3 => Frame::Reroute(path, headers),
            4 => Frame::Rerouted(path, headers),
            _ => Frame::Unroute(path, headers),
        }),
        path.prop_map(Frame::Close),
        any::<u64>().prop_map(Frame::Ping),
        any::<u64>().prop_map(Frame::Pong),
    ]
}

fn on_path(frame: &Frame, from: PathId, to: PathId) -> Frame {
    let mut frame = frame.clone();
    match &mut frame {
        Frame::Open(path, _)
        | Frame::Opened(path, _)
        | Frame::Refused(path, _)
        | Frame::Reroute(path, _)
        | Frame::Rerouted(path, _)
        | Frame::Payload(path, _)
        | Frame::Ack(path, _)
        | Frame::Fin(path, _)
        | Frame::Close(path)
        | Frame::Unroute(path, _)
            if *path == from =>
        {
            *path = to;
        }
        _ => {}
    }
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_a_neighbour_sends_the_circuits_of_others_go_on(
        sent in proptest::collection::vec((0_usize..2, any_frame()), 1..60)
    ) {
        let mut row = Row::new(2);
        let ends = row.connect();
        let honest = honest_path(&row);
        for at in 0..2 {
            row.invite_mallory(at);
        }
        own_circuit(&mut row, PathId(1));
        for (at, frame) in sent {
            row.forge(at, on_path(&frame, PathId(2), honest));
        }
        assert_flows(&mut row, ends);
        prop_assert!(row.routers[1].memory().bytes <= MAX_WINDOW);
    }
}
