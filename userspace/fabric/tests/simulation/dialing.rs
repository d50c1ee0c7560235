//! Dials that fail in one place and are tried in another.

use std::time::Duration;

use nightgate_fabric::{Command, DialRefusal, FailureCause, KeyShare, Lane};
use nightgate_model::{entity::Terminator, id::TerminatorId};

use crate::{
    network::{Edge, Happening, Network},
    run::{dial, replica, terminator},
};

/// Router 0 between routers 1 and 2, which both host; 2 is farther away.
fn network() -> Network<()> {
    let edge = |ends, delay| Edge {
        ends,
        delay: Duration::from_millis(delay),
        rate: 100_000,
        cut: false,
        connections: 1,
    };
    let mut network = Network::new(1, 3, vec![edge([0, 1], 2), edge([0, 2], 20)], replica());
    for at in [1, 2] {
        network.nodes[at].terminators.push(terminator(at));
        network.with(at, |router, _| router.host(terminator(at)));
    }
    pass(&mut network, Duration::from_secs(2), |_| None);
    network
}

/// Lets time go by; hosts refuse with the cause that `refuse` gives for their router, or accept. Gives who
/// was asked, and what the dialer heard.
fn pass(
    network: &mut Network<()>,
    time: Duration,
    refuse: impl Fn(usize) -> Option<FailureCause>,
) -> (Vec<usize>, Vec<Command>) {
    let (mut asked, mut heard) = (Vec::new(), Vec::new());
    let until = network.now + time;
    while let Some(happening) = network.next(until) {
        let Happening::Command(at, command) = happening else { continue };
        match *command {
            Command::Offer(end, ..) => {
                asked.push(at);
                network.with(at, |router, now| match refuse(at) {
                    Some(cause) => {
                        let detail = format!("router {at} would not");
                        router.refuse(end, &DialRefusal::new(cause, detail), now);
                    }
                    None => router.accept(end, KeyShare::default(), now),
                });
            }
            other if at == 0 => heard.push(other),
            _ => {}
        }
    }
    (asked, heard)
}

fn dialed(network: &mut Network<()>) {
    network
        .with(0, |router, now| router.dial(dial("anna"), Lane::default(), now))
        .unwrap()
        .unwrap();
}

#[test]
fn a_refused_dial_is_tried_at_another_terminator() {
    let mut network = network();
    dialed(&mut network);
    let refuse = |at| (at == 1).then_some(FailureCause::ConnectionRefused);
    let (asked, heard) = pass(&mut network, Duration::from_secs(1), refuse);
    assert_eq!(asked, [1, 2]);
    assert!(matches!(heard[..], [Command::Opened(..)]), "{heard:?}");
}

#[test]
fn the_last_cause_reaches_the_dialer_when_all_refuse() {
    let mut network = network();
    dialed(&mut network);
    let refuse = |at| {
        Some(if at == 1 { FailureCause::ConnectTimeout } else { FailureCause::HostUnreachable })
    };
    let (asked, heard) = pass(&mut network, Duration::from_secs(1), refuse);
    assert_eq!(asked, [1, 2]);
    let [Command::Refused(_, refusal)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(refusal.cause, FailureCause::HostUnreachable);
    assert_eq!(refusal.detail, "router 2 would not");
}

#[test]
fn what_another_terminator_cannot_help_is_not_tried_again() {
    let mut network = network();
    dialed(&mut network);
    let (asked, heard) =
        pass(&mut network, Duration::from_secs(1), |_| Some(FailureCause::Encryption));
    assert_eq!(asked, [1]);
    assert!(
        matches!(&heard[..], [Command::Refused(_, refusal)] if refusal.cause == FailureCause::Encryption),
        "{heard:?}"
    );
}

#[test]
fn a_router_that_dies_before_it_answers_is_passed_over() {
    let mut network = network();
    dialed(&mut network);
    network.kill(1);
    let (asked, heard) = pass(&mut network, Duration::from_secs(1), |_| None);
    assert_eq!(asked, [2]);
    assert!(heard.iter().any(|command| matches!(command, Command::Opened(..))), "{heard:?}");
}

#[test]
fn a_terminator_with_many_circuits_yields_to_an_equal_one() {
    let mut network = network();
    let second = Terminator { id: TerminatorId::new("second"), ..terminator(1) };
    network.nodes[1].terminators.push(second.clone());
    network.with(1, |router, _| router.host(second));
    pass(&mut network, Duration::from_secs(1), |_| None);
    let mut offered = std::collections::BTreeMap::new();
    for _ in 0..20 {
        dialed(&mut network);
        let until = network.now + Duration::from_millis(100);
        while let Some(happening) = network.next(until) {
            let Happening::Command(at, command) = happening else { continue };
            if let Command::Offer(end, _, offer) = *command {
                *offered.entry(offer.terminator).or_insert(0) += 1;
                network.with(at, |router, now| router.accept(end, KeyShare::default(), now));
            }
        }
    }
    let counts: Vec<i32> = offered.into_values().collect();
    assert_eq!(counts, [10, 10]);
}
