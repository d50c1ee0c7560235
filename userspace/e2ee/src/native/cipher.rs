//! The ciphers of the native method.

use libsodium_rs::crypto_aead::{aegis256, aes256gcm, chacha20poly1305_ietf as chacha};

use super::schedule::TrafficSecret;

/// A cipher of the native method. The numbers are those of the handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Cipher {
    /// AEGIS-256 with a 256-bit authenticator (draft-irtf-cfrg-aegis-aead): the fastest where the CPU
    /// computes AES.
    Aegis256 = 1,
    /// ChaCha20-Poly1305 (RFC 8439), for CPUs that do not.
    ChaCha20Poly1305 = 2,
}

/// The key and nonce mask of up to [`super::REKEY_AFTER`] records.
pub(super) enum RecordKey {
    Aegis256(aegis256::Key, [u8; aegis256::NPUBBYTES]),
    ChaCha20Poly1305(chacha::Key, [u8; chacha::NPUBBYTES]),
}

impl Cipher {
    /// The ciphers to offer on this machine, preferred first. Of AEGIS-256 only one that is computed
    /// by the CPU is fast and free of timing differences.
    pub fn offered_here() -> &'static [Self] {
        // libsodium asks for the same instructions for AES-256-GCM.
        match aes256gcm::is_available() {
            true => &[Self::Aegis256, Self::ChaCha20Poly1305],
            false => &[Self::ChaCha20Poly1305],
        }
    }

    /// Bytes that a record is longer than its plaintext.
    pub const fn overhead(self) -> usize {
        match self {
            Self::Aegis256 => aegis256::ABYTES,
            Self::ChaCha20Poly1305 => chacha::ABYTES,
        }
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::Aegis256, Self::ChaCha20Poly1305].into_iter().find(|known| *known as u8 == number)
    }
}

impl RecordKey {
    pub(super) fn derive(cipher: Cipher, secret: &TrafficSecret) -> Self {
        match cipher {
            Cipher::Aegis256 => {
                let key = secret.key(|bytes| aegis256::Key::from_bytes(bytes).ok());
                Self::Aegis256(key, secret.nonce_mask())
            }
            Cipher::ChaCha20Poly1305 => {
                let key = secret.key(|bytes| chacha::Key::from_bytes(bytes).ok());
                Self::ChaCha20Poly1305(key, secret.nonce_mask())
            }
        }
    }

    /// Seals record `number`; `None` if libsodium refuses its length.
    pub(super) fn seal(&self, number: u64, plaintext: &[u8], associated: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Aegis256(key, mask) => {
                let nonce = aegis256::Nonce::from_bytes(nonce(mask, number));
                aegis256::encrypt(plaintext, Some(associated), &nonce, key).ok()
            }
            Self::ChaCha20Poly1305(key, mask) => {
                let nonce = chacha::Nonce::from_bytes(nonce(mask, number));
                chacha::encrypt(plaintext, Some(associated), &nonce, key).ok()
            }
        }
    }

    /// Opens record `number`; `None` if it is not what was sealed under that number.
    pub(super) fn open(&self, number: u64, record: &[u8], associated: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Aegis256(key, mask) => {
                let nonce = aegis256::Nonce::from_bytes(nonce(mask, number));
                aegis256::decrypt(record, Some(associated), &nonce, key).ok()
            }
            Self::ChaCha20Poly1305(key, mask) => {
                let nonce = chacha::Nonce::from_bytes(nonce(mask, number));
                chacha::decrypt(record, Some(associated), &nonce, key).ok()
            }
        }
    }
}

/// The nonce of a record: the mask with the record's number in its last eight bytes, as TLS 1.3 makes
/// it (RFC 8446 section 5.3).
fn nonce<const N: usize>(mask: &[u8; N], number: u64) -> [u8; N] {
    let mut nonce = *mask;
    for (byte, digit) in nonce.iter_mut().rev().zip(number.to_le_bytes()) {
        *byte ^= digit;
    }
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nonce_counts_in_its_last_eight_bytes() {
        assert_eq!(nonce(&[0; 12], 0x0102), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(nonce(&[0xff; 9], u64::MAX), [0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    /// The first test vector for AEGIS-256 of draft-irtf-cfrg-aegis-aead.
    #[test]
    fn aegis_256_is_the_one_of_the_draft() {
        let (mut key, mut nonce) = ([0; 32], [0; 32]);
        (key[0], key[1], nonce[0], nonce[2]) = (0x10, 0x01, 0x10, 0x02);
        let key = RecordKey::Aegis256(aegis256::Key::from_bytes(&key).unwrap(), nonce);

        let sealed = key.seal(0, &[0; 16], &[]).unwrap();

        assert_eq!(
            sealed[..16],
            [
                0x75, 0x4f, 0xc3, 0xd8, 0xc9, 0x73, 0x24, 0x6d, 0xcc, 0x6d, 0x74, 0x14, 0x12, 0xa4,
                0xb2, 0x36
            ]
        );
        assert_eq!(sealed[16..26], [0x11, 0x81, 0xa1, 0xd1, 0x80, 0x91, 0x08, 0x2b, 0xf0, 0x26]);
        assert_eq!(sealed.len(), 16 + Cipher::Aegis256.overhead());
    }
}
