//! Handshakes that succeed, and those that somebody on the path interferes with.

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{
    END,
    native::{Opening, Sealing},
    testing::identity,
};

const BINDING: Binding<'_> = Binding { service: "s1", instance: "blue", app_data: b"hint" };
const KEY: &[u8] = &[5; 32];
const BOTH: [Cipher; 2] = [Cipher::Aegis256, Cipher::ChaCha20Poly1305];

#[test]
fn both_ends_have_the_same_keys_and_know_each_other() {
    let (anna, web) = (identity("anna"), identity("web"));
    let dialing = Dialing::start(&anna, (&BOTH, false), BINDING, KEY).unwrap();
    let (answer, host) = answer_to(&dialing, &web, &BOTH).unwrap();
    let dialer = dialing.finish(&anna, &answer, Now::read()).unwrap();

    assert_eq!((dialer.peer.id.as_str(), host.peer.id.as_str()), ("web", "anna"));
    assert_eq!((dialer.cipher, host.cipher), (Cipher::Aegis256, Cipher::Aegis256));
    for (from, to) in [(dialer.outbound, host.inbound), (host.outbound, dialer.inbound)] {
        let mut sealing = Sealing::new(Cipher::Aegis256, from);
        let mut opening = Opening::new(Cipher::Aegis256, to);
        let record = sealing.seal(b"hello", END).unwrap();
        assert_eq!(opening.open(&record, END), Ok(b"hello".to_vec()));
    }
}

#[test]
fn the_first_cipher_of_the_dialer_that_the_host_has_is_used() {
    let (anna, web) = (identity("anna"), identity("web"));
    let slow = [Cipher::ChaCha20Poly1305];
    let agreed = |dialer: &[Cipher], host: &[Cipher]| {
        let dialing = Dialing::start(&anna, (dialer, false), BINDING, KEY).unwrap();
        let (answer, host) = answer_to(&dialing, &web, host)?;
        let dialer = dialing.finish(&anna, &answer, Now::read())?;
        assert_eq!(dialer.cipher, host.cipher);
        Ok(host.cipher)
    };
    assert_eq!(agreed(&BOTH, &slow), Ok(Cipher::ChaCha20Poly1305));
    assert_eq!(agreed(&slow, &BOTH), Ok(Cipher::ChaCha20Poly1305));
    assert_eq!(agreed(&BOTH, &BOTH), Ok(Cipher::Aegis256));
    assert_eq!(agreed(&[Cipher::Aegis256], &slow), Err(HandshakeError::Cipher));
}

#[test]
fn every_circuit_has_keys_of_its_own_at_both_ends() {
    let (anna, web) = (identity("anna"), identity("web"));
    let offers = [(); 2].map(|()| Dialing::start(&anna, (&BOTH, false), BINDING, KEY).unwrap());
    assert_ne!(offers[0].offer(), offers[1].offer());
    let answers = [(); 2].map(|()| answer_to(&offers[0], &web, &BOTH).unwrap());
    let records = answers.map(|(_, agreed)| {
        Sealing::new(agreed.cipher, agreed.outbound).seal(b"the same", 0).unwrap()
    });
    assert_ne!(records[0], records[1]);
}

#[test]
fn ends_that_mean_different_circuits_do_not_agree() {
    let (anna, web) = (identity("anna"), identity("web"));
    let dialing = Dialing::start(&anna, (&BOTH, false), BINDING, KEY).unwrap();
    let others = [
        (Binding { service: "s2", ..BINDING }, KEY),
        (Binding { instance: "green", ..BINDING }, KEY),
        (Binding { app_data: b"other", ..BINDING }, KEY),
        (BINDING, &[6; 32][..]),
    ];
    for (binding, key) in others {
        let refused =
            respond(&host_of(&web, &BOTH), binding, key, (dialing.offer(), None), Now::read());
        assert_eq!(refused.err(), Some(HandshakeError::Proof(ProofError::Signature)));
    }
}

/// A router that puts itself in the middle has to sign with the key of an identity, and then is seen
/// as that identity, by both ends, and shares keys with none that talks to the other.
#[test]
fn an_offer_under_another_name_does_not_fit_the_answer() {
    let (anna, web, mallory) = (identity("anna"), identity("web"), identity("mallory"));
    let dialing = Dialing::start(&anna, (&BOTH, false), BINDING, KEY).unwrap();
    // Anna's key under Mallory's name.
    let stolen = Offer::decode(dialing.offer()).unwrap();
    let mut forged =
        Offer::unsigned((&stolen.ciphers, false), &stolen.public_key, &mallory).unwrap();
    let signed = offer_transcript(BINDING, KEY, &forged);
    append_signature(&mut forged, &sign(&mallory, DIALER, &signed).unwrap());
    let (answer, host) =
        respond(&host_of(&web, &BOTH), BINDING, KEY, (&forged, None), Now::read()).unwrap();

    assert_eq!(host.peer.id, "mallory");
    assert_eq!(
        dialing.finish(&anna, &answer, Now::read()).err(),
        Some(HandshakeError::Proof(ProofError::Signature))
    );
}

#[test]
fn an_answer_under_another_name_shares_no_keys() {
    let (anna, web, mallory) = (identity("anna"), identity("web"), identity("mallory"));
    let dialing = Dialing::start(&anna, (&BOTH, false), BINDING, KEY).unwrap();
    let (genuine, host) = answer_to(&dialing, &web, &BOTH).unwrap();
    // The host's ciphertext under Mallory's name.
    let stolen = Answer::decode(&genuine).unwrap();
    let mut forged =
        Answer::unsigned((stolen.cipher, false), &stolen.ciphertext, &mallory).unwrap();
    let signed = transcript(&[&dialing.transcript, dialing.offer(), &forged]);
    append_signature(&mut forged, &sign(&mallory, HOST, &signed).unwrap());

    let dialer = dialing.finish(&anna, &forged, Now::read()).unwrap();

    assert_eq!(dialer.peer.id, "mallory");
    let record = Sealing::new(dialer.cipher, dialer.outbound).seal(b"secret", 0).unwrap();
    assert!(Opening::new(host.cipher, host.inbound).open(&record, 0).is_err());
}

#[test]
fn an_answer_to_another_offer_is_refused() {
    let (anna, web) = (identity("anna"), identity("web"));
    let [first, second] =
        [(); 2].map(|()| Dialing::start(&anna, (&BOTH, false), BINDING, KEY).unwrap());
    let (answer, _) = answer_to(&first, &web, &BOTH).unwrap();

    let refused = second.finish(&anna, &answer, Now::read()).err();

    assert_eq!(refused, Some(HandshakeError::Proof(ProofError::Signature)));
}

#[test]
fn a_signature_of_one_role_is_none_of_the_other() {
    let web = identity("web");
    let text = transcript(&[b"x"]);
    let signature = sign(&web, DIALER, &text).unwrap();
    let proof = Proof { chain: web.chain().to_vec(), signature, signed: 0 };
    assert!(verify(&web, DIALER, &text, &proof, UnixTime::now()).is_ok());
    assert!(verify(&web, HOST, &text, &proof, UnixTime::now()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn one_flipped_bit_of_either_message_is_refused(at in any::<Index>(), bit in 0..8_u32) {
        let (anna, web) = (identity("anna"), identity("web"));
        let dialing = Dialing::start(&anna, (&BOTH, false), BINDING, KEY).unwrap();
        let mut offer = dialing.offer().to_vec();
        let position = at.index(offer.len());
        offer[position] ^= 1 << bit;
        prop_assert!(respond(&host_of(&web, &BOTH), BINDING, KEY, (&offer, None), Now::read()).is_err());

        let (mut answer, _) = answer_to(&dialing, &web, &BOTH).unwrap();
        let position = at.index(answer.len());
        answer[position] ^= 1 << bit;
        prop_assert!(dialing.finish(&anna, &answer, Now::read()).is_err());
    }
}

/// The test vectors of draft-connolly-cfrg-xwing-kem-08, appendix C: seed, public key, seed of the
/// encapsulation, ciphertext, shared secret.
#[test]
fn x_wing_is_the_one_of_the_draft() {
    ensure_init().unwrap();
    let vectors: Vec<Vec<u8>> = include_str!("x_wing.txt").lines().map(hex).collect();
    assert_eq!(vectors.len(), 10);
    for vector in vectors.chunks(5) {
        let [seed, public, seed_of_encapsulation, ciphertext, shared] = vector else { panic!() };
        let pair = xwing::KeyPair::from_seed(seed).unwrap();
        assert_eq!(pair.public_key.as_bytes().as_slice(), public);
        let seed = xwing::EncapsulationSeed::from_bytes(seed_of_encapsulation).unwrap();
        let (sent, ours) = xwing::encapsulate_deterministic(&pair.public_key, &seed).unwrap();
        assert_eq!(sent.as_bytes().as_slice(), ciphertext);
        assert_eq!(ours.as_bytes().as_slice(), shared);
        assert_eq!(xwing::decapsulate(&sent, &pair.secret_key).unwrap(), ours);
    }
}

fn answer_to(
    dialing: &Dialing,
    host: &Credentials,
    ciphers: &[Cipher],
) -> Result<(Vec<u8>, Agreed), HandshakeError> {
    respond(&host_of(host, ciphers), BINDING, KEY, (dialing.offer(), None), Now::read())
}

fn host_of<'a>(credentials: &'a Credentials, ciphers: &'a [Cipher]) -> Host<'a> {
    Host { credentials, ciphers, lines: None }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
