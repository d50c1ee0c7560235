//! How the dialer's end proves to the host's end that it is still itself.
//!
//! The dialer's router has a key for the circuits that begin at it: it shows the public part when a circuit opens, and signs
//! each request for another path, with the circuit and that path. Whoever sees a request, on its way or elsewhere, can neither lead it
//! along other routers nor use it twice, so no router gets a circuit onto a path that the dialer did not ask for.

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use bytes::BufMut as _;
use nightgate_wire::link::{CircuitId, PathId};

/// Keeps these signatures apart from all others.
const CONTEXT: &[u8] = b"nightgate reroute 1\0";

/// What the host is shown when the circuit opens: a public key of Ed25519 (RFC 8032, section 5.1.5).
pub(crate) type Anchor = [u8; 32];

/// A signature of Ed25519 (RFC 8032, section 5.1.6).
pub(crate) type Proof = [u8; 64];

/// What a proof is good for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) circuit: CircuitId,
    pub(crate) number: PathId,
    /// The path's routers as they are written.
    pub(crate) path: &'a str,
    /// How many paths the dialer has asked for, with this one.
    pub(crate) turn: u64,
}

impl Claim<'_> {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = CONTEXT.to_vec();
        bytes.put_u64(self.circuit.0);
        bytes.put_u64(self.number.0);
        bytes.put_u64(self.turn);
        bytes.put_slice(self.path.as_bytes());
        bytes
    }
}

/// A router's key, for all circuits that begin at it: to make one takes longer than all else that the fabric does about
/// a circuit.
#[derive(Clone)]
pub(crate) struct Key(Arc<Ed25519KeyPair>);

/// The dialer's side.
#[derive(Debug)]
pub(crate) struct Prover {
    key: Key,
    turn: u64,
}

impl Key {
    /// From a secret that nobody else knows; `None` if memory is short.
    pub(crate) fn new(secret: &[u8; 32]) -> Option<Self> {
        Some(Self(Arc::new(Ed25519KeyPair::from_seed_unchecked(secret).ok()?)))
    }
}

impl Prover {
    /// Of a circuit that begins at the router of this key.
    pub(crate) fn new(key: Key) -> Self {
        Self { key, turn: 0 }
    }

    /// What the host is shown when the circuit opens.
    pub(crate) fn anchor(&self) -> Anchor {
        let mut anchor = Anchor::default();
        anchor.copy_from_slice(self.key.0.public_key().as_ref());
        anchor
    }

    /// The turn of the next proof.
    pub(crate) fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// The proof of a claim; `None` if memory is short.
    pub(crate) fn prove(&self, claim: Claim<'_>) -> Option<Proof> {
        self.key.0.try_sign(&claim.to_bytes()).ok()?.as_ref().try_into().ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// The host's side.
#[derive(Debug)]
pub(crate) struct Verifier {
    key: Anchor,
    turn: u64,
}

impl Verifier {
    /// From the dialer's anchor.
    pub(crate) fn new(key: Anchor) -> Self {
        Self { key, turn: 0 }
    }

    /// Takes a proof, once. Earlier ones may have been lost with their paths.
    pub(crate) fn verify(&mut self, claim: Claim<'_>, proof: &Proof) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        if claim.turn <= self.turn || key.verify(&claim.to_bytes(), proof).is_err() {
            return false;
        }
        self.turn = claim.turn;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: Claim<'_> =
        Claim { circuit: CircuitId(1), number: PathId(2), path: "r0\nr1\nr2", turn: 1 };

    #[test]
    fn each_proof_is_good_once_and_earlier_ones_never_again() {
        let mut prover = Prover::new(Key::new(&[7; 32]).unwrap());
        let mut verifier = Verifier::new(prover.anchor());
        let proofs: Vec<_> = (0..4)
            .map(|_| {
                let claim = Claim { turn: prover.next_turn(), ..PATH };
                (claim, prover.prove(claim).unwrap())
            })
            .collect();
        let mut verify = |at: usize| verifier.verify(proofs[at].0, &proofs[at].1);
        assert!(verify(0));
        assert!(!verify(0), "replayed");
        assert!(verify(2), "one was lost on its way");
        assert!(!verify(1), "late");
        assert!(verify(3));
    }

    #[test]
    fn a_proof_is_good_for_what_it_claims_alone() {
        let prover = Prover::new(Key::new(&[7; 32]).unwrap());
        let mut verifier = Verifier::new(prover.anchor());
        let proof = prover.prove(PATH).unwrap();
        for other in [
            Claim { circuit: CircuitId(3), ..PATH },
            Claim { number: PathId(3), ..PATH },
            Claim { path: "r0\nmallory\nr2", ..PATH },
            Claim { turn: 2, ..PATH },
        ] {
            assert!(!verifier.verify(other, &proof), "{other:?}");
        }
        assert!(!verifier.verify(PATH, &[0; 64]), "invented");
        assert!(verifier.verify(PATH, &proof));
    }
}
