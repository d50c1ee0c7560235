//! Circuits that rest on an earlier handshake of the same two ends.

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{Proposal, testing::identity};

const BINDING: Binding<'_> = Binding { service: "s1", instance: "", app_data: b"hint" };

/// Ends that both keep lines.
fn pair() -> [Own; 2] {
    ["anna", "web"].map(keeping)
}

fn keeping(id: &str) -> Own {
    Own::keeping(Arc::new(identity(id)), &Arc::default())
}

fn propose(dialer: &Own) -> Proposal {
    Proposal::new(Some(dialer.clone()), BINDING).unwrap()
}

fn answer(host: &Own, share: &Share) -> Result<(Share, Protection), AgreementError> {
    Protection::answer(None, Some(host), BINDING, &share.public_key, &share.handshake)
}

/// A circuit between the ends, over which both have spoken; whether it rests on an earlier one.
fn circuit([dialer, host]: &[Own; 2]) -> bool {
    let proposal = propose(dialer);
    let is_resumed = proposal.resumed_peer().is_some();
    let (answered, host) = answer(host, &proposal.share()).unwrap();
    let dialer = proposal.complete(&answered.public_key, &answered.handshake).unwrap();
    assert_eq!(dialer.method, host.method);
    let ids = [&dialer.peer, &host.peer].map(|peer| peer.as_ref().unwrap().id.clone());
    assert_eq!(ids, ["web", "anna"]);
    speak(dialer, host);
    is_resumed
}

fn speak(mut dialer: Protection, mut host: Protection) {
    let there = dialer.sealer.seal(b"question", 0).unwrap();
    assert_eq!(host.opener.open(&there, 0), Ok(Some(b"question".to_vec())));
    let back = host.sealer.seal(b"answer", END).unwrap();
    assert_eq!(dialer.opener.open(&back, END), Ok(Some(b"answer".to_vec())));
}

#[test]
fn later_circuits_of_two_ends_rest_on_the_first() {
    let pair = pair();
    assert_eq!([(); 4].map(|()| circuit(&pair)), [false, true, true, true]);
    let share = propose(&pair[0]).share();
    assert_eq!((share.public_key.len(), share.handshake.len()), (0, 85));
}

#[test]
fn an_end_that_keeps_nothing_has_a_handshake_each_time() {
    for silent in [0, 1] {
        let mut pair = pair();
        pair[silent].lines = None;
        assert_eq!([(); 3].map(|()| circuit(&pair)), [false; 3]);
    }
}

#[test]
fn a_line_is_for_one_service_and_instance() {
    let [dialer, host] = pair();
    circuit(&[dialer.clone(), host]);
    for binding in [Binding { service: "s2", ..BINDING }, Binding { instance: "blue", ..BINDING }] {
        assert!(Proposal::new(Some(dialer.clone()), binding).unwrap().resumed_peer().is_none());
    }
}

#[test]
fn circuits_may_come_in_any_order_and_some_never() {
    let pair = pair();
    circuit(&pair);
    let proposals: Vec<_> = (0..40).map(|_| propose(&pair[0])).collect();
    for proposal in proposals.into_iter().rev().step_by(3) {
        let (answered, host) = answer(&pair[1], &proposal.share()).unwrap();
        speak(proposal.complete(&answered.public_key, &answered.handshake).unwrap(), host);
    }
    assert!(circuit(&pair));
}

#[test]
fn a_repeated_offer_is_refused_and_disturbs_nothing() {
    let pair = pair();
    circuit(&pair);
    let share = propose(&pair[0]).share();
    answer(&pair[1], &share).unwrap();
    for _ in 0..3 {
        let refused = answer(&pair[1], &share).unwrap_err();
        assert!(matches!(refused, AgreementError::Handshake(HandshakeError::Line)), "{refused}");
    }
    assert!(circuit(&pair));
}

#[test]
fn a_host_that_lost_its_memory_refuses_and_then_there_is_a_handshake() {
    let [dialer, host] = pair();
    circuit(&[dialer.clone(), host]);
    let host = keeping("web");
    let proposal = propose(&dialer);
    let refused = answer(&host, &proposal.share()).unwrap_err();
    assert!(matches!(refused, AgreementError::Handshake(HandshakeError::Line)), "{refused}");
    proposal.missed();
    let pair = [dialer, host];
    // The next ones too: there may be several hosts.
    assert_eq!([(); 3].map(|()| circuit(&pair)), [false; 3]);
}

#[test]
fn ends_that_mean_different_circuits_do_not_agree() {
    let pair = pair();
    circuit(&pair);
    let share = propose(&pair[0]).share();
    for binding in [
        Binding { service: "s2", ..BINDING },
        Binding { instance: "blue", ..BINDING },
        Binding { app_data: b"other", ..BINDING },
    ] {
        let refused = Protection::answer(None, Some(&pair[1]), binding, b"", &share.handshake);
        assert!(matches!(refused, Err(AgreementError::Handshake(HandshakeError::Line))));
    }
    // The secret was not used up by that.
    answer(&pair[1], &share).unwrap();
}

#[test]
fn a_host_without_the_line_cannot_answer() {
    let pair = pair();
    circuit(&pair);
    let proposal = propose(&pair[0]);
    // A router hands the dial to a host that has another line with the dialer.
    let other = [keeping("anna"), keeping("web")];
    circuit(&other);
    let foreign = answer(&other[1], &propose(&other[0]).share()).unwrap().0;
    let refused = proposal.complete(&foreign.public_key, &foreign.handshake).unwrap_err();
    assert!(matches!(refused, AgreementError::Handshake(HandshakeError::Line)), "{refused}");
}

#[test]
fn an_answer_by_another_method_is_refused() {
    let pair = pair();
    circuit(&pair);
    let keys = KeyPair::generate().unwrap();
    let share = propose(&pair[0]).share();
    // A host of OpenZiti's finds no key that it knows.
    let refused = Protection::answer(Some(&keys), None, BINDING, &share.public_key, b"");
    assert!(matches!(refused, Err(AgreementError::NoKey)));
    let refused = propose(&pair[0]).complete(keys.public_key().as_bytes(), b"");
    assert!(matches!(refused, Err(AgreementError::NoKey)));
}

/// What a dialer would send with its dial, and its offer; the host's side with or without it.
fn answer_early(host: &Own, share: &Share, sealed: &[u8]) -> (Share, Protection) {
    let offered = (&share.handshake[..], Some(EarlyOffer { sealed, take: &|_| None }));
    Protection::answer_early(None, Some(host), BINDING, &share.public_key, offered).unwrap()
}

fn seal(proposal: &mut Proposal) -> Vec<u8> {
    let (length, sealed) = proposal.seal_early(None, (b"GET /", b"hint")).unwrap().unwrap();
    assert_eq!(length, 5);
    sealed
}

#[test]
fn data_goes_with_a_dial_that_rests_on_a_line_and_with_no_other() {
    let pair = pair();
    let mut first = propose(&pair[0]);
    assert_eq!(first.seal_early(None, (b"GET /", b"hint")).unwrap(), None);
    circuit(&pair);
    let mut proposal = propose(&pair[0]);
    assert_eq!(proposal.resumed_peer().map(|peer| &peer.id[..]), Some("web"));
    let sealed = seal(&mut proposal);
    let share = proposal.share();
    let (answered, host) = answer_early(&pair[1], &share, &sealed);
    assert_eq!(host.early_data.as_deref(), Some(&b"GET /"[..]));
    proposal.early_taken();
    speak(proposal.complete(&answered.public_key, &answered.handshake).unwrap(), host);

    // A router repeats the dial: it makes the host do nothing twice.
    let offered = (&share.handshake[..], Some(EarlyOffer { sealed: &sealed, take: &|_| None }));
    assert!(Protection::answer_early(None, Some(&pair[1]), BINDING, b"", offered).is_err());
}

#[test]
fn data_of_another_dial_on_the_line_or_changed_on_the_way_is_left_out() {
    let pair = pair();
    circuit(&pair);
    let mut proposals = [(); 3].map(|()| propose(&pair[0]));
    let sealed = proposals.each_mut().map(seal);
    let shares = proposals.each_ref().map(Proposal::share);
    let mut damaged = sealed[1].clone();
    *damaged.last_mut().unwrap() ^= 1;
    let forged = [sealed[1].clone(), damaged, vec![7; 3]];
    for ((proposal, share), sealed) in proposals.into_iter().zip(&shares).zip(&forged) {
        let (answered, host) = answer_early(&pair[1], share, sealed);
        assert_eq!(host.early_data, None);
        speak(proposal.complete(&answered.public_key, &answered.handshake).unwrap(), host);
    }
}

#[test]
fn a_lie_about_data_that_went_with_a_dial_on_a_line_ends_the_circuit() {
    for told in [true, false] {
        let pair = pair();
        circuit(&pair);
        let mut proposal = propose(&pair[0]);
        let sealed = seal(&mut proposal);
        // The host takes it where the dialer is told that it did not.
        let (answered, mut host) = match told {
            true => answer(&pair[1], &proposal.share()).unwrap(),
            false => answer_early(&pair[1], &proposal.share(), &sealed),
        };
        if told {
            proposal.early_taken();
        }
        let mut dialer = proposal.complete(&answered.public_key, &answered.handshake).unwrap();
        let body = dialer.sealer.seal(b"GET /", 0).unwrap();
        assert!(host.opener.open(&body, 0).is_err());
    }
}

#[test]
fn only_so_much_goes_with_a_dial() {
    let pair = pair();
    circuit(&pair);
    for (app_data, most) in [(0, 4_096), (9_000, 1_240), (20_000, 0)] {
        let sealed = propose(&pair[0]).seal_early(None, (&[1; 9_000], &vec![2; app_data]));
        assert_eq!(sealed.unwrap().map_or(0, |(length, _)| length), most);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn one_flipped_bit_of_either_message_is_refused(at in any::<Index>(), bit in 0..8_u32) {
        let pair = pair();
        circuit(&pair);
        let proposal = propose(&pair[0]);
        let genuine = proposal.share();
        let mut forged = genuine.clone();
        let position = at.index(forged.handshake.len());
        forged.handshake[position] ^= 1 << bit;
        prop_assert!(answer(&pair[1], &forged).is_err());

        let (mut answered, _) = answer(&pair[1], &genuine).unwrap();
        let position = at.index(answered.handshake.len());
        answered.handshake[position] ^= 1 << bit;
        prop_assert!(proposal.complete(b"", &answered.handshake).is_err());
    }
}
