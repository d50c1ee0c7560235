//! The two messages of the handshake, as bytes.
//!
//! ```text
//! offer                              answer
//! 0  1     version, 1                0  1     version, 1
//! 1  1     ciphers n, 1 to 8         1  1     cipher, plus 128: the host keeps a line
//! 2  n     ciphers, preferred first  2  1120  X-Wing ciphertext
//! .. 1216  X-Wing public key
//! both then
//! .. 1     certificates, 1 to 4      each with its length before it, u16; the signer's first
//! .. 2     signature scheme          RFC 8446 section 4.2.3
//! .. 2     signature length, at most 1024; the signature
//! ```
//! One of the ciphers may be 128: the dialer keeps a line ([`super::lines`]) if the host does.
//! All integers big-endian. What follows the end of a message is refused.

use libsodium_rs::crypto_kem::xwing::{CIPHERTEXTBYTES, PUBLICKEYBYTES};
use nightgate_identity::{Credentials, Signature};
use rustls_pki_types::CertificateDer;

use super::{cipher::Cipher, handshake::HandshakeError, resumed};

/// Version of this method.
pub(super) const VERSION: u8 = 1;

/// Among an offer's ciphers: the dialer can keep a line. Added to an answer's: so does the host. Ends that know of no lines
/// skip it in an offer, and so never meet it in an answer.
const KEEPS_LINE: u8 = 128;

/// Most ciphers an offer may list.
const MAX_CIPHERS: usize = 8;

/// Most certificates of a chain: more than our authority's two, and few to verify.
const MAX_CERTIFICATES: usize = 4;

/// Longest certificate in bytes: with [`MAX_CERTIFICATES`], a message stays below the 16 KiB that
/// all headers of a channel message may take.
const MAX_CERTIFICATE: usize = 2_048;

/// Longest signature in bytes: one of RSA with 8192 bits.
const MAX_SIGNATURE: usize = 1_024;

/// Who sends a message, and the proof. The signature is over what precedes it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Proof {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) signature: Signature,
    /// Bytes of the message before the signature's scheme.
    pub(super) signed: usize,
}

/// What a dialer offers.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Offer {
    /// Those that are known here, in the dialer's order.
    pub(super) ciphers: Vec<Cipher>,
    /// The dialer can keep a line.
    pub(super) keeps_line: bool,
    pub(super) public_key: [u8; PUBLICKEYBYTES],
    pub(super) proof: Proof,
}

/// What a host answers.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Answer {
    pub(super) cipher: Cipher,
    /// The host keeps a line.
    pub(super) keeps_line: bool,
    pub(super) ciphertext: [u8; CIPHERTEXTBYTES],
    pub(super) proof: Proof,
}

impl Offer {
    /// The offer up to its signature.
    pub(super) fn unsigned(
        (ciphers, keeps_line): (&[Cipher], bool),
        public_key: &[u8; PUBLICKEYBYTES],
        credentials: &Credentials,
    ) -> Result<Vec<u8>, HandshakeError> {
        let mut bytes = vec![VERSION, count(ciphers.len() + usize::from(keeps_line))];
        bytes.extend(ciphers.iter().map(|cipher| *cipher as u8));
        bytes.extend(keeps_line.then_some(KEEPS_LINE));
        bytes.extend(public_key);
        append_chain(&mut bytes, credentials)?;
        Ok(bytes)
    }

    pub(super) fn decode(message: &[u8]) -> Result<Self, HandshakeError> {
        let mut fields = Fields::new(message)?;
        let listed = usize::from(fields.number::<1>()?);
        if listed == 0 || listed > MAX_CIPHERS {
            return Err(HandshakeError::Malformed);
        }
        let listed = fields.take(listed)?;
        let ciphers = listed.iter().copied().filter_map(Cipher::from_number).collect();
        let keeps_line = listed.contains(&KEEPS_LINE);
        let public_key = fields.array()?;
        Ok(Self { ciphers, keeps_line, public_key, proof: fields.proof()? })
    }
}

impl Answer {
    /// The answer up to its signature.
    pub(super) fn unsigned(
        (cipher, keeps_line): (Cipher, bool),
        ciphertext: &[u8; CIPHERTEXTBYTES],
        credentials: &Credentials,
    ) -> Result<Vec<u8>, HandshakeError> {
        let kept = if keeps_line { KEEPS_LINE } else { 0 };
        let mut bytes = vec![VERSION, cipher as u8 | kept];
        bytes.extend(ciphertext);
        append_chain(&mut bytes, credentials)?;
        Ok(bytes)
    }

    pub(super) fn decode(message: &[u8]) -> Result<Self, HandshakeError> {
        let mut fields = Fields::new(message)?;
        let [cipher] = fields.array()?;
        let keeps_line = cipher & KEEPS_LINE != 0;
        let cipher = Cipher::from_number(cipher & !KEEPS_LINE).ok_or(HandshakeError::Cipher)?;
        let ciphertext = fields.array()?;
        Ok(Self { cipher, keeps_line, ciphertext, proof: fields.proof()? })
    }
}

/// Appends the signature, the last part of either message.
pub(super) fn append_signature(message: &mut Vec<u8>, signature: &Signature) {
    message.extend(signature.scheme.to_be_bytes());
    append_short(message, &signature.bytes);
}

/// Whether a message is of a later version, which may be understood by nobody here.
pub(crate) fn is_of_another_version(message: &[u8]) -> bool {
    message.first().is_some_and(|version| ![VERSION, resumed::VERSION].contains(version))
}

fn append_chain(message: &mut Vec<u8>, credentials: &Credentials) -> Result<(), HandshakeError> {
    let chain = credentials.chain();
    let too_long = chain.iter().any(|certificate| certificate.len() > MAX_CERTIFICATE);
    if chain.len() > MAX_CERTIFICATES || too_long {
        return Err(HandshakeError::Chain);
    }
    message.push(count(chain.len()));
    for certificate in chain {
        append_short(message, certificate);
    }
    Ok(())
}

fn append_short(message: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("certificates and signatures are shorter");
    message.extend(length.to_be_bytes());
    message.extend(bytes);
}

fn count(length: usize) -> u8 {
    u8::try_from(length).expect("lists of the handshake have at most eight entries")
}

/// Reads a message from its beginning.
struct Fields<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Fields<'a> {
    fn new(message: &'a [u8]) -> Result<Self, HandshakeError> {
        let mut fields = Self { rest: message, length: message.len() };
        let [version] = fields.array()?;
        if version != VERSION {
            return Err(HandshakeError::Version { found: version });
        }
        Ok(fields)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], HandshakeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(HandshakeError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HandshakeError> {
        self.take(N)?.try_into().or(Err(HandshakeError::Malformed))
    }

    /// A number of one or two bytes.
    fn number<const N: usize>(&mut self) -> Result<u16, HandshakeError> {
        Ok(self.take(N)?.iter().fold(0, |number, byte| number << 8 | u16::from(*byte)))
    }

    fn short(&mut self, limit: usize) -> Result<&'a [u8], HandshakeError> {
        let length = usize::from(self.number::<2>()?);
        if length == 0 || length > limit {
            return Err(HandshakeError::Malformed);
        }
        self.take(length)
    }

    /// The last part of either message.
    fn proof(mut self) -> Result<Proof, HandshakeError> {
        let certificates = usize::from(self.number::<1>()?);
        if certificates == 0 || certificates > MAX_CERTIFICATES {
            return Err(HandshakeError::Malformed);
        }
        let chain = (0..certificates)
            .map(|_| Ok(CertificateDer::from(self.short(MAX_CERTIFICATE)?.to_vec())))
            .collect::<Result<_, HandshakeError>>()?;
        let signed = self.length - self.rest.len();
        let scheme = self.number::<2>()?;
        let bytes = self.short(MAX_SIGNATURE)?.to_vec();
        if !self.rest.is_empty() {
            return Err(HandshakeError::Malformed);
        }
        Ok(Proof { chain, signature: Signature { scheme, bytes }, signed })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::identity;

    #[test]
    fn messages_survive_the_wire() {
        let anna = identity("anna");
        let ciphers = [Cipher::ChaCha20Poly1305, Cipher::Aegis256];
        let mut offer = Offer::unsigned((&ciphers, true), &[7; PUBLICKEYBYTES], &anna).unwrap();
        let signature = Signature { scheme: 0x0403, bytes: vec![1, 2, 3] };
        let signed = offer.len();
        append_signature(&mut offer, &signature);
        let proof = || Proof { chain: anna.chain().to_vec(), signature: signature.clone(), signed };

        let read = Offer::decode(&offer).unwrap();

        let public_key = [7; PUBLICKEYBYTES];
        let ciphers = ciphers.to_vec();
        assert_eq!(read, Offer { ciphers, keeps_line: true, public_key, proof: proof() });

        let ciphertext = [8; CIPHERTEXTBYTES];
        for keeps_line in [false, true] {
            let cipher = Cipher::Aegis256;
            let mut answer = Answer::unsigned((cipher, keeps_line), &ciphertext, &anna).unwrap();
            let signed = answer.len();
            append_signature(&mut answer, &signature);
            let proof = Proof { signed, ..proof() };
            let expected = Answer { cipher, keeps_line, ciphertext, proof };
            assert_eq!(Answer::decode(&answer), Ok(expected));
        }
    }

    #[test]
    fn messages_that_are_cut_or_have_a_tail_are_refused() {
        let anna = identity("anna");
        let mut offer =
            Offer::unsigned((&[Cipher::Aegis256], false), &[7; PUBLICKEYBYTES], &anna).unwrap();
        append_signature(&mut offer, &Signature { scheme: 0x0403, bytes: vec![1; 70] });
        for length in 0..offer.len() {
            assert!(Offer::decode(&offer[..length]).is_err(), "{length}");
        }
        offer.push(0);
        assert_eq!(Offer::decode(&offer), Err(HandshakeError::Malformed));
    }

    #[test]
    fn a_cipher_of_the_future_is_skipped_and_a_version_of_the_future_told_apart() {
        let anna = identity("anna");
        let ciphers = [Cipher::Aegis256, Cipher::ChaCha20Poly1305];
        let mut offer = Offer::unsigned((&ciphers, false), &[7; PUBLICKEYBYTES], &anna).unwrap();
        append_signature(&mut offer, &Signature { scheme: 0x0403, bytes: vec![1; 70] });
        offer[2] = 99;
        assert_eq!(Offer::decode(&offer).unwrap().ciphers, [Cipher::ChaCha20Poly1305]);
        assert!(!is_of_another_version(&offer));
        offer[0] = 3;
        assert_eq!(Offer::decode(&offer), Err(HandshakeError::Version { found: 3 }));
        assert!(is_of_another_version(&offer));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(tail in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let message = [&[VERSION][..], &tail].concat();
            // Whatever is said of them, it is said without a panic.
            drop((Offer::decode(&message), Answer::decode(&message), Offer::decode(&tail)));
        }
    }
}
