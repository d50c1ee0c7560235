//! The handshake: one message each way, signed by the identities' keys.

use libsodium_rs::{crypto_kem::xwing, ensure_init};
use nightgate_identity::{Credentials, ProofError, ProvenIdentity, Signature};
use rustls_pki_types::UnixTime;

use super::{
    cipher::Cipher,
    early::{EarlyOffer, EarlySecret},
    message::{Answer, Offer, Proof, append_signature},
    schedule::{Secrets, TRANSCRIPT_LENGTH, TrafficSecret, transcript},
};
use crate::SealError;

/// Precedes what a dialer signs, so that its signature means nothing anywhere else.
const DIALER: &[u8] = b"nightgate-e2e-1 dialer signature\0";

/// Precedes what a host signs.
const HOST: &[u8] = b"nightgate-e2e-1 host signature\0";

/// Begins the transcript.
const PROTOCOL: &[u8] = b"nightgate-e2e-1";

/// What a circuit is for, as both ends know it without the handshake. Ends that do not mean the same
/// do not agree on keys.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// Id of the service.
    pub service: &'a str,
    /// Name of the host that the dialer asked for among several, and under which this host hosts; empty for
    /// none.
    pub instance: &'a str,
    /// What the dialer tells the host with the dial.
    pub app_data: &'a [u8],
}

/// A handshake that failed. Nothing was sent in the clear; the circuit has to be closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HandshakeError {
    /// Not a message of the handshake.
    #[error("end-to-end handshake: the peer's message cannot be read")]
    Malformed,
    /// A version that is not spoken here.
    #[error("end-to-end handshake: version {found}, expected {}", super::message::VERSION)]
    Version {
        /// What the peer speaks.
        found: u8,
    },
    /// No common cipher, or one that was not offered.
    #[error("end-to-end handshake: no common cipher")]
    Cipher,
    /// The peer's key can be no key.
    #[error("end-to-end handshake: the peer's key is weak or damaged")]
    Key,
    /// The peer is not who it says, or somebody changed a message on the way.
    #[error("end-to-end handshake: the peer proved no identity: {0}")]
    Proof(#[source] ProofError),
    /// The own key does not sign.
    #[error("end-to-end handshake: this identity's key does not sign")]
    Signing,
    /// The own certificates are too many or too long to be sent.
    #[error("end-to-end handshake: expected at most 4 certificates of at most 2048 bytes")]
    Chain,
    /// libsodium cannot work: the system has no source of randomness.
    #[error("end-to-end handshake: libsodium failed, expected a source of randomness")]
    Library,
}

/// What both ends have after the handshake.
pub(crate) struct Agreed {
    pub(crate) cipher: Cipher,
    pub(crate) peer: ProvenIdentity,
    pub(crate) outbound: TrafficSecret,
    pub(crate) inbound: TrafficSecret,
    /// For data that goes with a later dial.
    pub(crate) early: EarlySecret,
    /// What came with the offer; none if nothing did, or it could not be taken.
    pub(crate) early_data: Option<Vec<u8>>,
}

/// The dialer's side, between its offer and the answer.
pub(crate) struct Dialing {
    secret: xwing::SecretKey,
    ciphers: Vec<Cipher>,
    offer: Vec<u8>,
    transcript: [u8; TRANSCRIPT_LENGTH],
    /// What went with the offer, sealed.
    early: Vec<u8>,
    /// The host says that it took it.
    is_early_taken: bool,
}

impl Dialing {
    /// Makes an offer with a fresh key. `public_key` is what is offered beside it for OpenZiti's
    /// method.
    pub(crate) fn start(
        credentials: &Credentials,
        ciphers: &[Cipher],
        binding: Binding<'_>,
        public_key: &[u8],
    ) -> Result<Self, HandshakeError> {
        ensure_init().or(Err(HandshakeError::Library))?;
        let (public, secret) =
            xwing::KeyPair::generate().or(Err(HandshakeError::Library))?.into_tuple();
        let mut offer = Offer::unsigned(ciphers, public.as_bytes(), credentials)?;
        let transcript = offer_transcript(binding, public_key, &offer);
        append_signature(&mut offer, &sign(credentials, DIALER, &transcript)?);
        let (ciphers, early) = (ciphers.to_vec(), Vec::new());
        Ok(Self { secret, ciphers, offer, transcript, early, is_early_taken: false })
    }

    /// Seals what goes with the offer.
    pub(crate) fn seal_early(
        &mut self,
        secret: EarlySecret,
        plaintext: &[u8],
    ) -> Result<&[u8], SealError> {
        self.early = secret.seal(&offered(&self.transcript, &self.offer), plaintext)?;
        Ok(&self.early)
    }

    /// The host says that it took what went with the offer. If that is not so, the ends have different keys.
    pub(crate) fn early_taken(&mut self) {
        self.is_early_taken = true;
    }

    /// What to send to the host.
    pub(crate) fn offer(&self) -> &[u8] {
        &self.offer
    }

    /// Completes the handshake with the host's answer.
    pub(crate) fn finish(
        self,
        credentials: &Credentials,
        answer: &[u8],
        now: UnixTime,
    ) -> Result<Agreed, HandshakeError> {
        let Answer { cipher, ciphertext, proof } = Answer::decode(answer)?;
        if !self.ciphers.contains(&cipher) {
            return Err(HandshakeError::Cipher);
        }
        let transcript = transcript(&[&self.transcript, &self.offer, &answer[..proof.signed]]);
        let peer = verify(credentials, HOST, &transcript, &proof, now)?;
        let ciphertext = xwing::Ciphertext::from_bytes(&ciphertext).or(Err(HandshakeError::Key))?;
        let shared = xwing::decapsulate(&ciphertext, &self.secret).or(Err(HandshakeError::Key))?;
        let early = self.is_early_taken.then_some(&self.early[..]);
        let Secrets { dialer_to_host: outbound, host_to_dialer: inbound, early, early_id } =
            Secrets::derive(shared.as_bytes(), &sealed(&transcript, answer, early));
        let early = EarlySecret::new(early_id, cipher, early, &peer.id);
        Ok(Agreed { cipher, peer, outbound, inbound, early, early_data: None })
    }
}

/// The host's side: verifies an offer and answers it, with a fresh key. Takes the data that came with it, if it can.
pub(crate) fn respond(
    credentials: &Credentials,
    ciphers: &[Cipher],
    binding: Binding<'_>,
    public_key: &[u8],
    (offer, early): (&[u8], Option<EarlyOffer<'_>>),
    now: UnixTime,
) -> Result<(Vec<u8>, Agreed), HandshakeError> {
    ensure_init().or(Err(HandshakeError::Library))?;
    let Offer { ciphers: proposed, public_key: key, proof } = Offer::decode(offer)?;
    let first = offer_transcript(binding, public_key, &offer[..proof.signed]);
    let peer = verify(credentials, DIALER, &first, &proof, now)?;
    let cipher =
        proposed.into_iter().find(|it| ciphers.contains(it)).ok_or(HandshakeError::Cipher)?;
    let key = xwing::PublicKey::from_bytes(&key).or(Err(HandshakeError::Key))?;
    let (ciphertext, shared) = xwing::encapsulate(&key).or(Err(HandshakeError::Key))?;
    let mut answer = Answer::unsigned(cipher, ciphertext.as_bytes(), credentials)?;
    let transcript = transcript(&[&first, offer, &answer]);
    append_signature(&mut answer, &sign(credentials, HOST, &transcript)?);
    let early_data = early.as_ref().and_then(|early| early.open(&peer.id, &offered(&first, offer)));
    let taken = early.filter(|_| early_data.is_some()).map(|early| early.sealed);
    let Secrets { dialer_to_host: inbound, host_to_dialer: outbound, early, early_id } =
        Secrets::derive(shared.as_bytes(), &sealed(&transcript, &answer, taken));
    let early = EarlySecret::new(early_id, cipher, early, &peer.id);
    Ok((answer, Agreed { cipher, peer, outbound, inbound, early, early_data }))
}

fn offer_transcript(
    binding: Binding<'_>,
    public_key: &[u8],
    offer: &[u8],
) -> [u8; TRANSCRIPT_LENGTH] {
    let Binding { service, instance, app_data } = binding;
    let (service, instance) = (service.as_bytes(), instance.as_bytes());
    transcript(&[PROTOCOL, service, instance, app_data, public_key, offer])
}

/// The transcript of an offer as a whole.
fn offered(first: &[u8; TRANSCRIPT_LENGTH], offer: &[u8]) -> [u8; TRANSCRIPT_LENGTH] {
    transcript(&[first, offer])
}

/// The transcript of the whole handshake, and of what was taken with the offer: keys depend on every byte of it.
fn sealed(
    second: &[u8; TRANSCRIPT_LENGTH],
    answer: &[u8],
    taken: Option<&[u8]>,
) -> [u8; TRANSCRIPT_LENGTH] {
    match taken {
        Some(taken) => transcript(&[second, answer, taken]),
        None => transcript(&[second, answer]),
    }
}

fn sign(
    credentials: &Credentials,
    label: &[u8],
    transcript: &[u8],
) -> Result<Signature, HandshakeError> {
    credentials.sign(&[label, transcript].concat()).ok_or(HandshakeError::Signing)
}

fn verify(
    credentials: &Credentials,
    label: &[u8],
    transcript: &[u8],
    proof: &Proof,
    now: UnixTime,
) -> Result<ProvenIdentity, HandshakeError> {
    credentials
        .verify(&proof.chain, &[label, transcript].concat(), &proof.signature, now)
        .map_err(HandshakeError::Proof)
}

#[cfg(test)]
mod tests;
