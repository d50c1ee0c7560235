//! Routers connected by perfect wires in virtual time: what circuits promise.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a broken expectation should end the test"
)]

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use nightgate_fabric::{
    Command, Dial, DialRefusal, EndId, FailureCause, INITIAL_WINDOW, KeyShare, LinkId, Role,
    Router, SendError, weight,
};
use nightgate_model::{
    authorization::Terms,
    entity::{self, Permission, Precedence, Service, Terminator},
    id::{IdentityId, RouterId, ServiceId, TerminatorId},
    replica::{Replica, ReplicaIdentity},
};
use nightgate_wire::{
    Headers,
    link::{Frame, Numbered, PathId, Payload},
};

/// Routers `0..n` in a row, each linked to the next; `anna` dials at the first, `web` is hosted at
/// the last by `hugo`.
struct Row {
    routers: Vec<Router>,
    replica: Replica,
    now: Instant,
    events: Vec<(usize, Command)>,
}

impl Row {
    fn new(length: usize) -> Self {
        let now = Instant::now();
        let mut routers: Vec<Router> = (0..length)
            .map(|at| Router::new(router_id(at), [u8::try_from(at).unwrap(); 32]))
            .collect();
        for (at, router) in routers.iter_mut().enumerate() {
            if at > 0 {
                router.handle_link_up(LinkId(0), router_id(at - 1), now);
            }
            if at + 1 < length {
                router.handle_link_up(LinkId(1), router_id(at + 1), now);
            }
        }
        let links = routers.iter().flat_map(Router::link_reports).collect();
        let replica = replica(links, terminator(length - 1));
        let mut row = Self { routers, replica, now, events: Vec::new() };
        row.publish();
        row.last().host(terminator(length - 1));
        row
    }

    fn publish(&mut self) {
        let replica = Arc::new(self.replica.clone());
        for router in &mut self.routers {
            router.handle_replica(Arc::clone(&replica), self.now);
        }
        self.run();
    }

    /// Carries frames until all is quiet; keeps what is not a frame.
    fn run(&mut self) {
        let mut wires: VecDeque<(usize, LinkId, Frame)> = VecDeque::new();
        loop {
            for (at, router) in self.routers.iter_mut().enumerate() {
                while let Some(command) = router.poll_command() {
                    match command {
                        Command::Send(LinkId(0), frame) => {
                            wires.push_back((at - 1, LinkId(1), frame));
                        }
                        Command::Send(_, frame) => wires.push_back((at + 1, LinkId(0), frame)),
                        other => self.events.push((at, other)),
                    }
                }
            }
            let Some((at, link, frame)) = wires.pop_front() else { return };
            self.routers[at].handle_frame(link, frame, self.now);
        }
    }

    /// Lets time go by.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += Duration::from_millis(10);
            for router in &mut self.routers {
                router.handle_timeout(self.now);
            }
            self.run();
        }
    }

    fn take_events(&mut self) -> Vec<(usize, Command)> {
        self.run();
        std::mem::take(&mut self.events)
            .into_iter()
            .filter(|(_, event)| !matches!(event, Command::LinksChanged))
            .collect()
    }

    /// Dials and accepts; gives both ends.
    fn connect(&mut self) -> (EndId, EndId) {
        self.take_events();
        let dialer = self.routers[0].dial(dial(), self.now).unwrap();
        let events = self.take_events();
        let [(at, Command::Offer(host, circuit, offer))] = &events[..] else {
            panic!("expected an offer, got {events:?}");
        };
        assert_eq!((*at, &offer.dial), (self.routers.len() - 1, &dial()));
        let (host, circuit) = (*host, *circuit);
        let now = self.now;
        self.last().accept(host, key_share("host"), now);
        let opened = Command::Opened(dialer, circuit, key_share("host"));
        assert_eq!(self.take_events(), [(0, opened)]);
        (dialer, host)
    }

    fn last(&mut self) -> &mut Router {
        self.routers.last_mut().unwrap()
    }
}

fn router_id(at: usize) -> RouterId {
    RouterId::new(format!("r{at}"))
}

fn terminator(router: usize) -> Terminator {
    Terminator {
        id: TerminatorId::new("t"),
        service: ServiceId::new("web"),
        router: router_id(router),
        host: IdentityId::new("hugo"),
        instance: String::new(),
        precedence: Default::default(),
        cost: 0,
    }
}

fn replica(links: Vec<nightgate_model::replica::LinkReport>, terminator: Terminator) -> Replica {
    let service = Service {
        id: ServiceId::new("web"),
        name: "web".into(),
        role_attributes: [].into(),
        encryption_required: true,
        config: [].into(),
        configs: [].into(),
    };
    let identity = |name: &str| {
        (IdentityId::new(name), ReplicaIdentity { name: name.into(), fingerprint: None })
    };
    let mut replica = Replica {
        services: Arc::new([(service.id.clone(), service)].into()),
        identities: Arc::new(["anna", "hugo"].map(identity).into()),
        terminators: Arc::new(vec![terminator]),
        links: Arc::new(links),
        ..Replica::default()
    };
    let web = ServiceId::new("web");
    replica.authorizations.grant(IdentityId::new("anna"), Permission::Dial, web.clone());
    replica.authorizations.grant(IdentityId::new("hugo"), Permission::Bind, web);
    replica
}

fn dial() -> Dial {
    Dial {
        instance: String::new(),
        service: ServiceId::new("web"),
        dialer: IdentityId::new("anna"),
        caller: "anna".into(),
        key_share: key_share("dialer"),
        app_data: Bytes::from_static(b"{}"),
        session: Bytes::from_static(b"token"),
    }
}

fn key_share(of: &str) -> KeyShare {
    KeyShare {
        public_key: format!("key of the {of}").into(),
        handshake: format!("handshake of the {of}").into(),
    }
}

fn message(text: &'static str) -> Payload {
    Payload { body: Bytes::from_static(text.as_bytes()), ..Payload::default() }
}

fn numbered(sequence: u64, payload: Payload) -> Numbered {
    Numbered { sequence, echo: 0, payload }
}

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
fn a_dial_without_a_policy_is_refused_at_the_first_router() {
    let mut row = Row::new(2);
    row.replica.authorizations = Default::default();
    row.publish();
    row.take_events();
    let refusal = row.routers[0].dial(dial(), row.now).unwrap_err();
    assert_eq!(refusal.cause, FailureCause::Unauthorized);
    assert_eq!(refusal.detail, "no policy lets identity anna dial service web");
}

#[test]
fn a_dial_reaches_the_instance_it_names_and_no_other() {
    let mut row = Row::new(2);
    let blue =
        Terminator { id: TerminatorId::new("blue"), instance: "blue".into(), ..terminator(1) };
    Arc::make_mut(&mut row.replica.terminators).push(blue.clone());
    row.publish();
    row.last().host(blue);
    row.take_events();
    for (instance, expected) in [("", "t"), ("blue", "blue")] {
        let named = Dial { instance: instance.into(), ..dial() };
        let now = row.now;
        row.routers[0].dial(named, now).unwrap();
        let events = row.take_events();
        let [(1, Command::Offer(.., offer))] = &events[..] else { panic!("{events:?}") };
        assert_eq!((offer.terminator.as_str(), &*offer.dial.instance), (expected, instance));
    }
    let unknown = Dial { instance: "red".into(), ..dial() };
    let refusal = row.routers[0].dial(unknown, row.now).unwrap_err();
    assert_eq!(refusal.cause, FailureCause::NoTerminator);
    assert!(refusal.detail.contains("red"), "{refusal}");
}

#[test]
fn precedence_comes_before_cost() {
    let mut row = Row::new(2);
    let dear = Terminator { id: TerminatorId::new("dear"), cost: 60_000, ..terminator(1) };
    Arc::make_mut(&mut row.replica.terminators).push(dear.clone());
    row.publish();
    row.last().host(dear);
    let chosen = |row: &mut Row| {
        row.take_events();
        let now = row.now;
        row.routers[0].dial(dial(), now).unwrap();
        let events = row.take_events();
        let [(1, Command::Offer(.., offer))] = &events[..] else { panic!("{events:?}") };
        offer.terminator.as_str().to_owned()
    };
    assert_eq!(chosen(&mut row), "t");

    Arc::make_mut(&mut row.replica.terminators)[0].precedence = Precedence::Failed;
    row.publish();
    assert_eq!(chosen(&mut row), "dear");

    Arc::make_mut(&mut row.replica.terminators)[0].precedence = Precedence::Required;
    Arc::make_mut(&mut row.replica.terminators)[1].cost = 0;
    row.publish();
    assert_eq!(chosen(&mut row), "t");
}

#[test]
fn the_terminating_router_checks_policy_for_itself() {
    let mut row = Row::new(3);
    let mut without_anna = row.replica.clone();
    without_anna.authorizations = Default::default();
    let (hugo, web) = (IdentityId::new("hugo"), ServiceId::new("web"));
    without_anna.authorizations.grant(hugo, Permission::Bind, web);
    let now = row.now;
    row.last().handle_replica(Arc::new(without_anna), now);
    row.take_events();
    let end = row.routers[0].dial(dial(), row.now).unwrap();
    let events = row.take_events();
    let [(0, Command::Refused(refused, refusal))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*refused, refusal.cause), (end, FailureCause::Unauthorized));
}

#[test]
fn hosting_without_a_policy_ends_at_once() {
    let mut row = Row::new(1);
    row.replica.authorizations = Default::default();
    row.publish();
    row.take_events();
    row.last().host(terminator(0));
    assert_eq!(row.take_events(), [(0, Command::Unbind(TerminatorId::new("t")))]);
}

/// Takes away the routers that one side may use, or that may carry the service.
fn without(replica: &Replica, change: impl Fn(&mut Terms)) -> Replica {
    let mut terms = Terms::from(replica.authorizations.clone());
    change(&mut terms);
    Replica { authorizations: terms.into(), ..replica.clone() }
}

#[test]
fn a_dial_through_a_router_that_no_policy_gives_is_refused() {
    for change in [(|terms| terms.identity_routers.clear()) as fn(&mut Terms), |terms| {
        terms.service_routers.clear()
    }] {
        let mut row = Row::new(2);
        let revoked = without(&row.replica, change);
        let now = row.now;
        row.routers[0].handle_replica(Arc::new(revoked), now);
        row.take_events();
        let refusal = row.routers[0].dial(dial(), row.now).unwrap_err();
        assert_eq!(refusal.cause, FailureCause::Unauthorized);
        assert!(refusal.detail.contains("edge-router policies"), "{}", refusal.detail);
    }
}

#[test]
fn a_circuit_ends_when_a_router_of_its_ends_may_not_be_used_any_more() {
    for (side, name) in [(0, "anna"), (2, "hugo")] {
        let mut row = Row::new(3);
        let (dialer, host) = row.connect();
        row.replica = without(&row.replica, |terms| {
            terms.identity_routers.retain(|rule| rule.from != [entity::Role::Id(name.into())]);
        });
        row.publish();
        let events = row.take_events();
        let end = if side == 0 { dialer } else { host };
        let closed = Command::Closed(end, FailureCause::Unauthorized);
        assert!(events.contains(&(side, closed)), "{name}: {events:?}");
        assert!(row.routers.iter().all(|router| router.circuits().is_empty()));
    }
}

#[test]
fn a_revoked_policy_ends_running_circuits_and_the_hosting() {
    let mut row = Row::new(3);
    let (dialer, host) = row.connect();
    row.replica.authorizations = Default::default();
    row.publish();
    let events = row.take_events();
    assert!(events.contains(&(0, Command::Closed(dialer, FailureCause::Unauthorized))));
    assert!(events.contains(&(2, Command::Unbind(TerminatorId::new("t")))));
    assert!(events.iter().any(|(at, event)| *at == 2
        && matches!(event, Command::Closed(end, _) if *end == host)));
    assert!(row.routers.iter().all(|router| router.circuits().is_empty()));
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
}

#[test]
fn a_dial_over_a_link_that_is_gone_is_refused_by_the_router_that_knows() {
    let mut row = Row::new(3);
    let now = row.now;
    row.routers[1].handle_link_down(LinkId(1), now);
    row.take_events();
    assert!(row.routers[0].dial(dial(), now).is_ok(), "the first router has not heard of it");
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
    let end = row.routers[0].dial(dial(), row.now).unwrap();
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
    for _tenth in 0..60 {
        row.now += Duration::from_millis(100);
        row.routers[0].handle_timeout(row.now);
        events.extend(std::iter::from_fn(|| row.routers[0].poll_command()));
    }
    assert!(events.contains(&Command::DropLink(LinkId(1), FailureCause::LinkLost)), "{events:?}");
}

#[test]
fn a_neighbour_cannot_reach_a_circuit_that_is_not_its_own() {
    let mut row = Row::new(3);
    let (dialer, _host) = row.connect();
    let id = row.routers[0].circuits()[0].id.clone();
    let circuit = PathId(u64::from_str_radix(&id, 16).unwrap());
    // A third neighbour of the middle router knows the circuit's id and forges frames.
    row.routers[1].handle_link_up(LinkId(9), RouterId::new("mallory"), row.now);
    let now = row.now;
    for forged in [Frame::Close(circuit), Frame::Payload(circuit, numbered(0, message("forged")))] {
        row.routers[1].handle_frame(LinkId(9), forged, now);
    }
    let to_mallory: Vec<_> = std::iter::from_fn(|| row.routers[1].poll_command()).collect();
    assert_eq!(
        to_mallory,
        [Command::LinksChanged, Command::Send(LinkId(9), Frame::Unroute(circuit, Headers::new()))]
    );
    row.routers[0].send(dialer, message("still here"), now).unwrap();
    assert!(row.take_events().iter().any(|(at, event)| *at == 2
        && matches!(event, Command::Deliver(_, payload) if *payload == message("still here"))));
}

#[test]
fn a_message_beyond_the_window_ends_the_circuit() {
    let mut row = Row::new(2);
    let (_dialer, host) = row.connect();
    let id = row.routers[1].circuits()[0].id.clone();
    let circuit = PathId(u64::from_str_radix(&id, 16).unwrap());
    let huge = Payload { body: Bytes::from(vec![0; 200_000]), ..Payload::default() };
    let now = row.now;
    for sequence in 0..6 {
        row.last().handle_frame(
            LinkId(0),
            Frame::Payload(circuit, numbered(sequence, huge.clone())),
            now,
        );
    }
    assert!(row.take_events().contains(&(1, Command::Closed(host, FailureCause::Protocol))));
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
