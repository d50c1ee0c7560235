//! How the dialer's end proves to the host's end that it is still itself.
//!
//! A chain of hashes (Lamport 1981): the dialer hashes a secret [`LENGTH`] times and shows the last
//! link when the circuit opens. With each new path it shows the link before those shown so far, which
//! only it can know and which hashes to what the host has seen. Routers of an earlier path have seen
//! earlier proofs only, so they cannot move the circuit back to themselves, and a proof is good once.

use sha2::{Digest as _, Sha256};

/// Paths that one circuit can have besides its first.
const LENGTH: u16 = 256;

/// One link of a chain.
pub(crate) type Link = [u8; 32];

/// The dialer's side.
pub(crate) struct Prover {
    secret: Link,
    left: u16,
}

impl Prover {
    pub(crate) fn new(secret: Link) -> Self {
        Self { secret, left: LENGTH }
    }

    /// What the host is shown when the circuit opens.
    pub(crate) fn anchor(&self) -> Link {
        self.link(LENGTH)
    }

    /// The proof for another path; `None` when the chain is used up.
    pub(crate) fn prove(&mut self) -> Option<Link> {
        self.left = self.left.checked_sub(1)?;
        Some(self.link(self.left))
    }

    /// Whether enough of the chain is left to move without need.
    pub(crate) fn has_plenty(&self) -> bool {
        self.left > LENGTH / 2
    }

    fn link(&self, number: u16) -> Link {
        (0..number).fold(self.secret, |link, _| hash(&link))
    }
}

impl std::fmt::Debug for Prover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prover").field("left", &self.left).finish_non_exhaustive()
    }
}

/// The host's side.
#[derive(Debug)]
pub(crate) struct Verifier {
    last: Link,
    left: u16,
}

impl Verifier {
    /// From the dialer's anchor.
    pub(crate) fn new(anchor: Link) -> Self {
        Self { last: anchor, left: LENGTH }
    }

    /// Takes a proof. Earlier ones may have been lost with their paths.
    pub(crate) fn verify(&mut self, proof: Link) -> bool {
        let mut link = proof;
        for steps in 1..=self.left {
            link = hash(&link);
            if link == self.last {
                self.last = proof;
                self.left -= steps;
                return true;
            }
        }
        false
    }
}

fn hash(link: &Link) -> Link {
    Sha256::digest(link).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_proof_is_good_once_and_earlier_ones_never_again() {
        let mut prover = Prover::new([7; 32]);
        let mut verifier = Verifier::new(prover.anchor());
        let proofs: Vec<Link> = (0..4).map(|_| prover.prove().unwrap()).collect();
        assert!(verifier.verify(proofs[0]));
        assert!(!verifier.verify(proofs[0]), "replayed");
        assert!(verifier.verify(proofs[2]), "one was lost on its way");
        assert!(!verifier.verify(proofs[1]), "late");
        assert!(!verifier.verify([0; 32]), "invented");
        assert!(verifier.verify(proofs[3]));
    }

    #[test]
    fn a_chain_ends() {
        let mut prover = Prover::new([1; 32]);
        let mut verifier = Verifier::new(prover.anchor());
        let count = std::iter::from_fn(|| prover.prove()).filter(|p| verifier.verify(*p)).count();
        assert_eq!(count, usize::from(LENGTH));
    }
}
