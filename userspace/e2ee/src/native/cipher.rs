//! The ciphers of the native method.

use aegis::{aegis256::Aegis256, aegis256x4::Aegis256X4};
use libsodium_rs::{
    crypto_aead::{aes256gcm, chacha20poly1305_ietf as chacha},
    utils::memzero,
};

use super::schedule::TrafficSecret;

/// A cipher of the native method. The numbers are those of the handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Cipher {
    /// AEGIS-256 with a 256-bit authenticator (draft-irtf-cfrg-aegis-aead), for CPUs that compute AES.
    Aegis256 = 1,
    /// ChaCha20-Poly1305 (RFC 8439), for CPUs that do not.
    ChaCha20Poly1305 = 2,
    /// AEGIS-256X4 with a 256-bit authenticator (the same draft): four lanes of AEGIS-256, for CPUs that compute several
    /// blocks of AES at once. There it takes a third of the time.
    Aegis256X4 = 3,
}

/// Bytes of an AEGIS key, and of its nonce.
const AEGIS_KEY: usize = 32;
/// Bytes of an AEGIS authenticator.
const AEGIS_TAG: usize = 32;

/// An AEGIS key and nonce mask.
pub(super) struct AegisKey {
    key: [u8; AEGIS_KEY],
    mask: [u8; AEGIS_KEY],
}

/// The key and nonce mask of up to [`super::REKEY_AFTER`] records.
pub(super) enum RecordKey {
    Aegis256(AegisKey),
    Aegis256X4(AegisKey),
    ChaCha20Poly1305(chacha::Key, [u8; chacha::NPUBBYTES]),
}

impl Cipher {
    /// The ciphers to offer on this machine, preferred first. Of AEGIS only what is computed by the CPU is fast and free
    /// of timing differences.
    pub fn offered_here() -> &'static [Self] {
        // libsodium asks for the same instructions for AES-256-GCM.
        match (aes256gcm::is_available(), has_wide_aes()) {
            (true, true) => &[Self::Aegis256X4, Self::Aegis256, Self::ChaCha20Poly1305],
            (true, false) => &[Self::Aegis256, Self::ChaCha20Poly1305],
            (false, _) => &[Self::ChaCha20Poly1305],
        }
    }

    /// Bytes that a record is longer than its plaintext.
    pub const fn overhead(self) -> usize {
        match self {
            Self::Aegis256 | Self::Aegis256X4 => AEGIS_TAG,
            Self::ChaCha20Poly1305 => chacha::ABYTES,
        }
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        let known = [Self::Aegis256, Self::ChaCha20Poly1305, Self::Aegis256X4];
        known.into_iter().find(|known| *known as u8 == number)
    }
}

/// Whether the CPU computes several blocks of AES with one instruction (VAES).
fn has_wide_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("vaes") && std::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl AegisKey {
    fn derive(secret: &TrafficSecret) -> Self {
        Self { key: secret.key(|bytes| bytes.try_into().ok()), mask: secret.nonce_mask() }
    }

    fn nonce(&self, number: u64) -> [u8; AEGIS_KEY] {
        nonce(&self.mask, number)
    }
}

impl Drop for AegisKey {
    fn drop(&mut self) {
        memzero(&mut self.key);
    }
}

impl RecordKey {
    pub(super) fn derive(cipher: Cipher, secret: &TrafficSecret) -> Self {
        match cipher {
            Cipher::Aegis256 => Self::Aegis256(AegisKey::derive(secret)),
            Cipher::Aegis256X4 => Self::Aegis256X4(AegisKey::derive(secret)),
            Cipher::ChaCha20Poly1305 => {
                let key = secret.key(|bytes| chacha::Key::from_bytes(bytes).ok());
                Self::ChaCha20Poly1305(key, secret.nonce_mask())
            }
        }
    }

    /// Makes a plaintext record `number`, where it is if the cipher can; `None` if libsodium refuses its length.
    pub(super) fn seal(
        &self,
        number: u64,
        mut plaintext: Vec<u8>,
        associated: &[u8],
    ) -> Option<Vec<u8>> {
        let tag: [u8; AEGIS_TAG] = match self {
            Self::Aegis256(key) => Aegis256::new(&key.key, &key.nonce(number))
                .encrypt_in_place(&mut plaintext, associated),
            Self::Aegis256X4(key) => Aegis256X4::new(&key.key, &key.nonce(number))
                .encrypt_in_place(&mut plaintext, associated),
            Self::ChaCha20Poly1305(key, mask) => {
                let nonce = chacha::Nonce::from_bytes(nonce(mask, number));
                return chacha::encrypt(&plaintext, Some(associated), &nonce, key).ok();
            }
        };
        plaintext.extend_from_slice(&tag);
        Some(plaintext)
    }

    /// Opens record `number` where it is, and returns the length of its plaintext; `None` if it is not what was sealed under
    /// that number, which may be lost then.
    pub(super) fn open(&self, number: u64, record: &mut [u8], associated: &[u8]) -> Option<usize> {
        match self {
            Self::Aegis256(key) => {
                let (sealed, tag) = record.split_last_chunk_mut::<AEGIS_TAG>()?;
                let cipher = Aegis256::new(&key.key, &key.nonce(number));
                cipher.decrypt_in_place(sealed, tag, associated).ok().map(|()| sealed.len())
            }
            Self::Aegis256X4(key) => {
                let (sealed, tag) = record.split_last_chunk_mut::<AEGIS_TAG>()?;
                let cipher = Aegis256X4::new(&key.key, &key.nonce(number));
                cipher.decrypt_in_place(sealed, tag, associated).ok().map(|()| sealed.len())
            }
            Self::ChaCha20Poly1305(key, mask) => {
                let nonce = chacha::Nonce::from_bytes(nonce(mask, number));
                let plaintext = chacha::decrypt(record, Some(associated), &nonce, key).ok()?;
                record.get_mut(..plaintext.len())?.copy_from_slice(&plaintext);
                Some(plaintext.len())
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

    /// A key and nonce as AEGIS's test vectors have them.
    fn key_of_vectors() -> AegisKey {
        let (mut key, mut mask) = ([0; 32], [0; 32]);
        (key[0], key[1], mask[0], mask[2]) = (0x10, 0x01, 0x10, 0x02);
        AegisKey { key, mask }
    }

    /// The first test vector for AEGIS-256 of draft-irtf-cfrg-aegis-aead.
    #[test]
    fn aegis_256_is_the_one_of_the_draft() {
        let sealed = RecordKey::Aegis256(key_of_vectors()).seal(0, vec![0; 16], &[]).unwrap();

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

    /// The second test vector for AEGIS-256X4 of the same draft: its message is longer than one step of all lanes.
    #[test]
    fn aegis_256_x4_is_the_one_of_the_draft() {
        let counting = |from: u8| std::array::from_fn(|at| from + u8::try_from(at).unwrap());
        let key = RecordKey::Aegis256X4(AegisKey { key: counting(0), mask: counting(0x10) });
        let plaintext = [4, 5, 6, 7].repeat(30);
        let associated = [1, 2, 3, 4].repeat(2);

        let mut sealed = key.seal(0, plaintext.clone(), &associated).unwrap();

        let (ciphertext, tag) = sealed.split_at(plaintext.len());
        assert_eq!(ciphertext[..8], [0xbf, 0xc2, 0x08, 0x5b, 0x7e, 0x80, 0x17, 0xda]);
        assert_eq!(ciphertext[112..], [0xdd, 0x65, 0x64, 0x65, 0xfe, 0xd6, 0x1f, 0x09]);
        assert_eq!(tag[..8], [0x78, 0x47, 0xea, 0xce, 0x74, 0x40, 0x9e, 0xe5]);
        assert_eq!(tag[24..], [0x51, 0x4c, 0x87, 0x9a, 0x19, 0x0b, 0x97, 0x8c]);
        assert_eq!(key.open(0, &mut sealed, &associated), Some(plaintext.len()));
        assert_eq!(sealed[..plaintext.len()], plaintext);
    }
}
