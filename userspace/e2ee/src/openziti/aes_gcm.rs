//! OpenZiti's other method, for clients that were started with it: ECDH over P-256, HKDF-SHA256, and
//! AES-256-GCM. Nothing but records travels: keys and nonces follow from the exchange.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree},
    hkdf::{self, HKDF_SHA256, Salt},
};
use libsodium_rs::utils::memzero;

use super::exchange::KeyExchangeError;
use crate::{RecordError, SealError};

/// Bytes of a public key: an uncompressed point (SEC 1 section 2.3.3).
pub const POINT_LENGTH: usize = 65;

/// Bytes a record is longer than its plaintext: GCM's tag (NIST SP 800-38D section 5.2.1.2).
pub const TAG_LENGTH: usize = 16;

const KEY_LENGTH: usize = 32;
/// Bytes of a nonce that do not change within a direction; the record's number fills the rest.
const PREFIX_LENGTH: usize = 4;
const _: () = assert!(PREFIX_LENGTH + size_of::<u64>() == NONCE_LEN);

/// A P-256 key pair for one circuit.
pub(crate) struct PointPair {
    public: [u8; POINT_LENGTH],
    secret: PrivateKey,
}

/// One direction of a circuit, at either of its ends: the records are numbered from 1.
pub(crate) struct Direction {
    key: LessSafeKey,
    prefix: [u8; PREFIX_LENGTH],
    next: u64,
    broken: bool,
}

/// Who receives in a direction, as the derivation of its key has it.
#[derive(Clone, Copy)]
enum Receiver {
    Dialer = 0,
    Host = 1,
}

impl PointPair {
    pub(crate) fn generate() -> Result<Self, KeyExchangeError> {
        PrivateKey::generate(&ECDH_P256)
            .map_err(|_cause| KeyExchangeError::Library)
            .and_then(Self::of)
    }

    fn of(secret: PrivateKey) -> Result<Self, KeyExchangeError> {
        let public = secret.compute_public_key().map_err(|_cause| KeyExchangeError::Library)?;
        let public = public.as_ref().try_into().map_err(|_length| KeyExchangeError::Library)?;
        Ok(Self { public, secret })
    }

    pub(crate) fn public_key(&self) -> &[u8; POINT_LENGTH] {
        &self.public
    }

    /// Both directions as the dialer has them: what goes out, then what comes in.
    pub(crate) fn dialer_directions(
        &self,
        host: &[u8],
    ) -> Result<[Direction; 2], KeyExchangeError> {
        self.agree(host, |shared| {
            let outbound = Direction::derive(shared, Receiver::Host, host, &self.public);
            [outbound, Direction::derive(shared, Receiver::Dialer, &self.public, host)]
        })
    }

    /// Both directions as the host has them: what goes out, then what comes in.
    pub(crate) fn host_directions(
        &self,
        dialer: &[u8],
    ) -> Result<[Direction; 2], KeyExchangeError> {
        self.agree(dialer, |shared| {
            let outbound = Direction::derive(shared, Receiver::Dialer, dialer, &self.public);
            [outbound, Direction::derive(shared, Receiver::Host, &self.public, dialer)]
        })
    }

    fn agree<T>(
        &self,
        peer: &[u8],
        derive: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, KeyExchangeError> {
        let refused = KeyExchangeError::Point { found: peer.len() };
        if peer.len() != POINT_LENGTH {
            return Err(refused);
        }
        let peer = UnparsedPublicKey::new(&ECDH_P256, peer);
        agree(&self.secret, peer, refused, |shared| Ok(derive(shared)))
    }
}

impl Direction {
    /// The key and the nonces' prefix from the shared secret: HKDF-SHA256 without salt (RFC 5869),
    /// told who receives and both public keys, the receiver's first.
    fn derive(shared: &[u8], receiver: Receiver, to: &[u8], from: &[u8]) -> Self {
        let mut material = [0; KEY_LENGTH + PREFIX_LENGTH];
        Salt::none(HKDF_SHA256)
            .extract(shared)
            .expand(&[&[receiver as u8], to, from], Material)
            .and_then(|okm| okm.fill(&mut material))
            .expect("36 bytes are below HKDF's limit of 255 hashes");
        let (key, prefix) = material.split_at(KEY_LENGTH);
        let direction = Self {
            key: UnboundKey::new(&AES_256_GCM, key)
                .map(LessSafeKey::new)
                .expect("a key of AES-256 has 32 bytes"),
            prefix: prefix.try_into().expect("as many bytes as were split off"),
            next: 1,
            broken: false,
        };
        memzero(&mut material);
        direction
    }

    /// Seals one record, [`TAG_LENGTH`] bytes longer than `plaintext`.
    pub(crate) fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let refused = SealError::Length { length: plaintext.len() };
        let nonce = self.nonce().ok_or(refused)?;
        let mut record = Vec::with_capacity(plaintext.len() + TAG_LENGTH);
        record.extend_from_slice(plaintext);
        self.key
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut record)
            .map_err(|_cause| refused)?;
        Ok(record)
    }

    /// Opens the body of one message, in the order of arrival; none if it is empty.
    pub(crate) fn open(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, RecordError> {
        if message.is_empty() {
            return Ok(None);
        }
        if self.broken {
            return Err(RecordError::Broken);
        }
        let opened = self.open_next(message);
        self.broken = opened.is_none();
        opened.map(Some).ok_or(RecordError::Authentication { length: message.len() })
    }

    fn open_next(&mut self, record: &[u8]) -> Option<Vec<u8>> {
        let nonce = self.nonce()?;
        let mut plaintext = record.to_vec();
        let length = self.key.open_in_place(nonce, Aad::empty(), &mut plaintext).ok()?.len();
        plaintext.truncate(length);
        Some(plaintext)
    }

    /// The nonce of the next record: the prefix and the record's number, big-endian. None when the
    /// numbers are used up.
    fn nonce(&mut self) -> Option<Nonce> {
        let mut nonce = [0; NONCE_LEN];
        nonce[..PREFIX_LENGTH].copy_from_slice(&self.prefix);
        nonce[PREFIX_LENGTH..].copy_from_slice(&self.next.to_be_bytes());
        self.next = self.next.checked_add(1)?;
        Some(Nonce::assume_unique_for_key(nonce))
    }
}

/// How much key material one direction takes.
struct Material;

impl hkdf::KeyType for Material {
    fn len(&self) -> usize {
        KEY_LENGTH + PREFIX_LENGTH
    }
}

impl fmt::Debug for PointPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PointPair").finish_non_exhaustive()
    }
}

impl fmt::Debug for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direction").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computed by an implementation that shares no code with this one (Python's `cryptography`). The
    /// dialer's secret key is 01 02 .. 20, the host's 21 22 .. 40.
    mod vector {
        pub(super) const HOST_PUBLIC: &str = "041f140146bfb1b251f84f4ddbe0d4cdcfd77afd984a9520e35794021f8312bb9e\
             ec995a08b1fa7704df3dcc0b50a9665263fb7711f95f9f8a449c5096e47c892b";
        pub(super) const TO_HOST: [(&str, &str); 2] = [
            (
                "GET / HTTP/1.1\r\n\r\n",
                "6cd44762e644edb36c960da2e0b133b8d6ea62cf18f1bfb29a5d9d97de2ce20ef6fa",
            ),
            ("second", "fa25ddfa6d8b8af205de41a11977ef5ea1b61f851ade"),
        ];
        pub(super) const TO_DIALER: (&str, &str) = (
            "HTTP/1.1 200 OK\r\n\r\n",
            "9aa49930afae385bf66147307ebe79883d6b9e8fad868f4e476e1b062db3bc166a3a3e",
        );
    }

    #[test]
    fn records_match_another_implementation() {
        let (dialer, host) = (pair(1), pair(33));
        assert_eq!(hex(host.public_key()), vector::HOST_PUBLIC);
        let [mut to_host, mut from_host] = dialer.dialer_directions(host.public_key()).unwrap();
        let [mut to_dialer, mut from_dialer] = host.host_directions(dialer.public_key()).unwrap();

        for (plaintext, record) in vector::TO_HOST {
            let sealed = to_host.seal(plaintext.as_bytes()).unwrap();
            assert_eq!(hex(&sealed), record);
            assert_eq!(from_dialer.open(&sealed), Ok(Some(plaintext.into())));
        }
        let (plaintext, record) = vector::TO_DIALER;
        let sealed = to_dialer.seal(plaintext.as_bytes()).unwrap();
        assert_eq!(hex(&sealed), record);
        assert_eq!(from_host.open(&sealed), Ok(Some(plaintext.into())));
    }

    #[test]
    fn what_is_no_point_of_the_curve_is_refused() {
        let host = PointPair::generate().unwrap();
        let mut off_the_curve = *host.public_key();
        off_the_curve[64] ^= 1;
        let bad = [&off_the_curve[..], &[0; POINT_LENGTH], &host.public_key()[..64], &[4], &[]];
        for peer in bad {
            let refused = host.host_directions(peer).unwrap_err();
            assert_eq!(refused, KeyExchangeError::Point { found: peer.len() });
        }
    }

    #[test]
    fn replayed_reordered_and_reflected_records_are_refused() {
        let [mut dialer, mut host] = circuit();
        let (first, second) = (dialer[0].seal(b"1").unwrap(), dialer[0].seal(b"2").unwrap());
        assert_eq!(dialer[1].open(&first), Err(RecordError::Authentication { length: 17 }));
        host[1].open(&first).unwrap();
        assert_eq!(host[1].open(&first), Err(RecordError::Authentication { length: 17 }));
        assert_eq!(host[1].open(&second), Err(RecordError::Broken));
    }

    #[test]
    fn an_empty_body_carries_nothing_and_changes_nothing() {
        let [mut dialer, mut host] = circuit();
        assert_eq!(host[1].open(&[]), Ok(None));
        let record = dialer[0].seal(b"in step").unwrap();
        assert_eq!(host[1].open(&record), Ok(Some(b"in step".to_vec())));
    }

    #[test]
    fn no_number_is_used_twice() {
        let [mut dialer, _] = circuit();
        dialer[0].next = u64::MAX - 1;
        assert!(dialer[0].seal(b"last").is_ok());
        for _ in 0..2 {
            assert_eq!(dialer[0].seal(b"more"), Err(SealError::Length { length: 4 }));
        }
    }

    proptest! {
        #[test]
        fn one_flipped_bit_or_a_cut_is_refused(
            plaintext in proptest::collection::vec(any::<u8>(), 1..300),
            position in any::<proptest::sample::Index>(),
            bit in 0..8_u32,
            cut in any::<bool>(),
        ) {
            let [mut dialer, mut host] = circuit();
            let mut record = dialer[0].seal(&plaintext).unwrap();
            let at = position.index(record.len());
            if cut { record.truncate(at.max(1)) } else { record[at] ^= 1 << bit }
            let length = record.len();
            prop_assert_eq!(host[1].open(&record), Err(RecordError::Authentication { length }));
        }
    }

    fn circuit() -> [[Direction; 2]; 2] {
        let (dialer, host) = (PointPair::generate().unwrap(), PointPair::generate().unwrap());
        [
            dialer.dialer_directions(host.public_key()).unwrap(),
            host.host_directions(dialer.public_key()).unwrap(),
        ]
    }

    /// The pair whose secret key counts up from a byte.
    fn pair(first: u8) -> PointPair {
        let secret: Vec<u8> = (first..first + 32).collect();
        PointPair::of(PrivateKey::from_private_key(&ECDH_P256, &secret).unwrap()).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
