use std::cell::RefCell;

use super::*;
use crate::{EarlyId, Proposal, testing::identity};

const BINDING: Binding<'_> = Binding { service: "s1", instance: "", app_data: b"" };

/// A dialer and a host, and the secrets that the host has kept.
struct Pair {
    dialer: Own,
    host: Own,
    kept: RefCell<Vec<EarlySecret>>,
}

impl Pair {
    fn new() -> Self {
        let [dialer, host] = ["anna", "web"].map(|id| Arc::new(identity(id)).into());
        Self { dialer, host, kept: RefCell::default() }
    }

    fn propose(&self) -> Proposal {
        Proposal::new(Some(self.dialer.clone()), BINDING).unwrap()
    }

    fn answer(&self, share: &Share, sealed: Option<&[u8]>) -> (Share, Protection) {
        let take = |id: &EarlyId| {
            let mut kept = self.kept.borrow_mut();
            let at = kept.iter().position(|secret| secret.id() == *id)?;
            Some(kept.remove(at))
        };
        let early = sealed.map(|sealed| EarlyOffer { sealed, take: &take });
        let keys = KeyPair::generate().unwrap();
        let offered = (&share.handshake[..], early);
        let (answer, mut host) = Protection::answer_early(
            Some(&keys),
            Some(&self.host),
            BINDING,
            &share.public_key,
            offered,
        )
        .unwrap();
        self.kept.borrow_mut().extend(host.early.take());
        (answer, host)
    }

    /// A first circuit; what it leaves to the dialer.
    fn first(&self) -> EarlySecret {
        let proposal = self.propose();
        let (answer, host) = self.answer(&proposal.share(), None);
        assert_eq!(host.early_data, None);
        complete(proposal, &answer).early.unwrap()
    }
}

fn sealed(proposal: &mut Proposal, secret: Option<EarlySecret>) -> Vec<u8> {
    let (length, sealed) = proposal.seal_early(secret, (b"GET /", b"")).unwrap().unwrap();
    assert_eq!(length, 5);
    sealed
}

fn complete(proposal: Proposal, answer: &Share) -> Protection {
    proposal.complete(&answer.public_key, &answer.handshake).unwrap()
}

#[test]
fn what_a_circuit_leaves_carries_data_with_one_later_dial() {
    let pair = Pair::new();
    let secret = pair.first();
    let mut proposal = pair.propose();
    let sealed = sealed(&mut proposal, Some(secret));
    let share = proposal.share();

    let (answer, mut host) = pair.answer(&share, Some(&sealed));
    assert_eq!(host.early_data.as_deref(), Some(&b"GET /"[..]));
    proposal.early_taken();
    let mut dialer = complete(proposal, &answer);
    let body = host.sealer.seal(b"200", 0).unwrap();
    assert_eq!(dialer.opener.open(&body, 0), Ok(Some(b"200".to_vec())));

    // A router repeats the dial.
    let (_, again) = pair.answer(&share, Some(&sealed));
    assert_eq!(again.early_data, None);
}

#[test]
fn a_host_that_has_forgotten_goes_on_without() {
    let pair = Pair::new();
    let secret = pair.first();
    pair.kept.borrow_mut().clear();
    let mut proposal = pair.propose();
    let sealed = sealed(&mut proposal, Some(secret));
    let (answer, mut host) = pair.answer(&proposal.share(), Some(&sealed));
    assert_eq!(host.early_data, None);
    let mut dialer = complete(proposal, &answer);
    let body = dialer.sealer.seal(b"GET /", 0).unwrap();
    assert_eq!(host.opener.open(&body, 0), Ok(Some(b"GET /".to_vec())));
}

#[test]
fn a_lie_about_what_was_taken_ends_the_circuit() {
    for (lost, told) in [(true, true), (false, false)] {
        let pair = Pair::new();
        let secret = pair.first();
        if lost {
            pair.kept.borrow_mut().clear();
        }
        let mut proposal = pair.propose();
        let sealed = sealed(&mut proposal, Some(secret));
        let (answer, mut host) = pair.answer(&proposal.share(), Some(&sealed));
        if told {
            proposal.early_taken();
        }
        let mut dialer = complete(proposal, &answer);
        let body = dialer.sealer.seal(b"GET /", 0).unwrap();
        assert!(host.opener.open(&body, 0).is_err());
    }
}

#[test]
fn data_goes_with_its_own_dial_alone_and_unchanged() {
    let pair = Pair::new();
    let secrets = [(); 3].map(|()| pair.first());
    let mut others = Vec::new();
    for secret in secrets {
        let mut proposal = pair.propose();
        let sealed = sealed(&mut proposal, Some(secret));
        others.push((proposal.share(), sealed));
    }
    // With the offer of another dial of the same dialer.
    let (_, host) = pair.answer(&others[0].0, Some(&others[1].1));
    assert_eq!(host.early_data, None);
    let mut damaged = others[2].1.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let (_, host) = pair.answer(&others[2].0, Some(&damaged));
    assert_eq!(host.early_data, None);
    for length in 0..17 {
        let (_, host) = pair.answer(&others[0].0, Some(&vec![7; length]));
        assert_eq!(host.early_data, None);
    }

    // Another dialer that has come by the secret of one.
    let secret = pair.first();
    let thief = Arc::new(identity("mallory"));
    let mut proposal = Proposal::new(Some(thief.into()), BINDING).unwrap();
    let sealed = sealed(&mut proposal, Some(secret));
    let (_, host) = pair.answer(&proposal.share(), Some(&sealed));
    assert_eq!(host.early_data, None);
}
