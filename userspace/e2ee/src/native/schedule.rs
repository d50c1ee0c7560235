//! From one shared secret to the keys of every record.

use libsodium_rs::{crypto_hash::sha512, crypto_kdf::hkdf, utils::memzero};

/// The secret of one direction, from which its keys come (HKDF-SHA-512, RFC 5869).
#[derive(Clone)]
pub(crate) struct TrafficSecret(hkdf::sha512::Prk);

/// Bytes of a transcript hash (SHA-512).
pub(super) const TRANSCRIPT_LENGTH: usize = sha512::BYTES;

/// Bytes of a secret's name.
pub(super) const ID_LENGTH: usize = 16;

/// Bytes by which an end proves that it has a secret.
pub(super) const PROOF_LENGTH: usize = 32;

/// The secrets of both directions, and what is left for data that goes with a later dial, and for later circuits.
pub(super) struct Secrets {
    pub(super) dialer_to_host: TrafficSecret,
    pub(super) host_to_dialer: TrafficSecret,
    pub(super) early: TrafficSecret,
    pub(super) line: TrafficSecret,
}

impl Secrets {
    /// Derives the secrets of a circuit. The transcript is the salt: ends that saw another handshake
    /// have other secrets.
    pub(super) fn derive(shared: &[u8], transcript: &[u8; TRANSCRIPT_LENGTH]) -> Self {
        let root = hkdf::sha512::extract(Some(transcript), shared)
            .expect("HKDF-Extract takes any salt and any secret");
        let root = TrafficSecret(root);
        Self {
            dialer_to_host: root.derive(b"nightgate-e2e-1 dialer to host"),
            host_to_dialer: root.derive(b"nightgate-e2e-1 host to dialer"),
            early: root.derive(b"nightgate-e2e-1 early"),
            line: root.derive(b"nightgate-e2e-1 line"),
        }
    }
}

impl TrafficSecret {
    /// The secret of the next stretch of records. This one cannot be computed from it.
    pub(super) fn next(&self) -> Self {
        self.derive(b"nightgate-e2e-1 next")
    }

    /// The secret of what goes with the offer of this transcript.
    pub(super) fn for_offer(&self, offered: &[u8; TRANSCRIPT_LENGTH]) -> Self {
        self.expand(hkdf::sha512::KEYBYTES, b"nightgate-e2e-1 early key", |bytes| {
            let bound = hkdf::sha512::extract(Some(offered), bytes);
            Self(bound.expect("HKDF-Extract takes any salt and any secret"))
        })
    }

    /// The key of this stretch.
    pub(super) fn key<K>(&self, make: impl FnOnce(&[u8]) -> Option<K>) -> K {
        self.expand(32, b"nightgate-e2e-1 key", |bytes| {
            make(bytes).expect("keys of both ciphers have 32 bytes")
        })
    }

    /// What the numbers of records are combined with to give nonces.
    pub(super) fn nonce_mask<const N: usize>(&self) -> [u8; N] {
        self.array(b"nightgate-e2e-1 nonce")
    }

    /// The name under which both ends know a secret; says nothing about it.
    pub(super) fn id(&self) -> [u8; ID_LENGTH] {
        self.array(b"nightgate-e2e-1 id")
    }

    /// Of a line's secret, that of its next circuit.
    pub(super) fn of_circuit(&self) -> Self {
        self.derive(b"nightgate-e2e-1 circuit")
    }

    /// Of a circuit on a line, what takes the place of the shared secret of an agreement on keys.
    pub(super) fn shared<T>(&self, take: impl FnOnce(&[u8]) -> T) -> T {
        self.expand(hkdf::sha512::KEYBYTES, b"nightgate-e2e-1 shared", take)
    }

    /// Of a circuit on a line, the proof that its maker has the secret and means this transcript.
    pub(super) fn proof(
        &self,
        role: &[u8],
        transcript: &[u8; TRANSCRIPT_LENGTH],
    ) -> [u8; PROOF_LENGTH] {
        self.array(&[role, transcript].concat())
    }

    fn derive(&self, label: &[u8]) -> Self {
        self.expand(hkdf::sha512::KEYBYTES, label, |bytes| {
            Self(hkdf::sha512::Prk::from_slice(bytes).expect("HKDF keys have this length"))
        })
    }

    fn array<const N: usize>(&self, label: &[u8]) -> [u8; N] {
        self.expand(N, label, |bytes| bytes.try_into().expect("as many bytes as were asked for"))
    }

    fn expand<T>(&self, length: usize, label: &[u8], make: impl FnOnce(&[u8]) -> T) -> T {
        let mut bytes = hkdf::sha512::expand(length, Some(label), &self.0)
            .expect("every length used here is below HKDF's limit of 255 hashes");
        let made = make(&bytes);
        memzero(&mut bytes);
        made
    }
}

/// SHA-512 over parts, each with its length before it, so that no two lists have the same hash.
pub(super) fn transcript(parts: &[&[u8]]) -> [u8; TRANSCRIPT_LENGTH] {
    let mut hash = sha512::State::new();
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_transcript_cannot_be_shifted() {
        assert_ne!(transcript(&[b"ab", b"c"]), transcript(&[b"a", b"bc"]));
        assert_ne!(transcript(&[b"ab"]), transcript(&[b"ab", b""]));
    }

    #[test]
    fn directions_stretches_and_circuits_have_keys_of_their_own() {
        let one = Secrets::derive(&[1; 32], &[0; 64]);
        let other = Secrets::derive(&[1; 32], &[1; 64]);
        let key = |secret: &TrafficSecret| secret.key(|bytes| Some(bytes.to_vec()));
        let keys = [
            key(&one.dialer_to_host),
            key(&one.host_to_dialer),
            key(&one.dialer_to_host.next()),
            key(&other.dialer_to_host),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key), "key {at} repeats");
        }
    }
}
