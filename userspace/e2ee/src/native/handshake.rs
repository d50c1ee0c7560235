//! The handshake: one message each way, signed by the identities' keys, or proven by what an earlier one has left.

use std::time::Instant;

use libsodium_rs::{crypto_kem::xwing, ensure_init};
use nightgate_identity::{Credentials, ProofError, ProvenIdentity, Signature};
use rustls_pki_types::UnixTime;

use super::{
    cipher::Cipher,
    early::{self, EarlyOffer, EarlySecret},
    lines::{Line, Lines, Turn},
    message::{Answer, Offer, Proof, append_signature},
    resumed,
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
    /// What the dialer's last handshake left is not known to the host, or was used: keys have to be agreed anew.
    #[error("end-to-end handshake: the host knows no such line, keys have to be agreed anew")]
    Line,
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
    /// For data that goes with a later dial; none on a line, which has a secret for each circuit.
    pub(crate) early: Option<EarlySecret>,
    /// What came with the offer; none if nothing did, or it could not be taken.
    pub(crate) early_data: Option<Vec<u8>>,
    /// For later circuits, if both ends keep it.
    pub(crate) line: Option<Line>,
}

/// The time, as certificates and as lines count it.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) date: UnixTime,
    pub(crate) instant: Instant,
}

/// A host, with its ciphers.
pub(crate) struct Host<'a> {
    pub(crate) credentials: &'a Credentials,
    pub(crate) ciphers: &'a [Cipher],
    /// Where it keeps what handshakes leave; none if it keeps nothing.
    pub(crate) lines: Option<&'a Lines>,
}

/// The dialer's side, between its offer and the answer.
pub(crate) struct Dialing {
    basis: Basis,
    offer: Vec<u8>,
    transcript: [u8; TRANSCRIPT_LENGTH],
    /// What went with the offer, sealed.
    early: Vec<u8>,
    /// The host says that it took it.
    is_early_taken: bool,
}

/// What the keys of a circuit come from.
enum Basis {
    Fresh { secret: Box<xwing::SecretKey>, ciphers: Vec<Cipher>, keeps_line: bool },
    Line(Turn),
}

/// An end of a circuit.
#[derive(Clone, Copy)]
enum Role {
    Dialer,
    Host,
}

impl Agreed {
    /// `since`: when the ends began to keep a line, if they do.
    fn new(
        role: Role,
        (cipher, peer): (Cipher, ProvenIdentity),
        secrets: Secrets,
        since: Option<Instant>,
    ) -> Self {
        let Secrets { dialer_to_host, host_to_dialer, early, line } = secrets;
        let (outbound, inbound) = match role {
            Role::Dialer => (dialer_to_host, host_to_dialer),
            Role::Host => (host_to_dialer, dialer_to_host),
        };
        let early = Some(EarlySecret::new(cipher, early, &peer.id));
        let line = since.map(|since| Line::new(cipher, line, peer.clone(), since));
        Self { cipher, peer, outbound, inbound, early, early_data: None, line }
    }

    /// Of a circuit on a line; `transcript` is that of the whole exchange.
    fn on_line(role: Role, turn: Turn, transcript: &[u8; TRANSCRIPT_LENGTH]) -> Self {
        let secrets = turn.secret.shared(|shared| Secrets::derive(shared, transcript));
        Self { early: None, ..Self::new(role, (turn.cipher, turn.peer), secrets, None) }
    }
}

impl Now {
    pub(crate) fn read() -> Self {
        Self { date: UnixTime::now(), instant: Instant::now() }
    }
}

impl Dialing {
    /// Makes an offer with a fresh key. `public_key` is what is offered beside it for OpenZiti's
    /// method.
    pub(crate) fn start(
        credentials: &Credentials,
        (ciphers, keeps_line): (&[Cipher], bool),
        binding: Binding<'_>,
        public_key: &[u8],
    ) -> Result<Self, HandshakeError> {
        ensure_init().or(Err(HandshakeError::Library))?;
        let (public, secret) =
            xwing::KeyPair::generate().or(Err(HandshakeError::Library))?.into_tuple();
        let mut offer = Offer::unsigned((ciphers, keeps_line), public.as_bytes(), credentials)?;
        let transcript = offer_transcript(binding, public_key, &offer);
        append_signature(&mut offer, &sign(credentials, DIALER, &transcript)?);
        let (secret, ciphers) = (Box::new(secret), ciphers.to_vec());
        let basis = Basis::Fresh { secret, ciphers, keeps_line };
        Ok(Self { basis, offer, transcript, early: Vec::new(), is_early_taken: false })
    }

    /// Makes an offer that rests on what an earlier handshake has left.
    pub(crate) fn resume(turn: Turn, binding: Binding<'_>) -> Self {
        let (offer, transcript) = resumed::offer(&turn, binding);
        let basis = Basis::Line(turn);
        Self { basis, offer, transcript, early: Vec::new(), is_early_taken: false }
    }

    /// With whom the line was agreed that the offer rests on; the host may not know it.
    pub(crate) fn resumed_peer(&self) -> Option<&ProvenIdentity> {
        match &self.basis {
            Basis::Line(turn) => Some(&turn.peer),
            Basis::Fresh { .. } => None,
        }
    }

    /// Seals what goes with the offer: under its line, or else under a secret.
    pub(crate) fn seal_early(
        &mut self,
        secret: Option<EarlySecret>,
        plaintext: &[u8],
    ) -> Result<Option<&[u8]>, SealError> {
        let offered = offered(&self.transcript, &self.offer);
        self.early = match (&self.basis, secret) {
            (Basis::Line(turn), _) => early::seal_on_line(turn, &offered, plaintext)?,
            (Basis::Fresh { .. }, Some(secret)) => secret.seal(&offered, plaintext)?,
            (Basis::Fresh { .. }, None) => return Ok(None),
        };
        Ok(Some(&self.early))
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
        now: Now,
    ) -> Result<Agreed, HandshakeError> {
        let early = self.is_early_taken.then_some(&self.early[..]);
        let (secret, ciphers, asked) = match self.basis {
            Basis::Fresh { secret, ciphers, keeps_line } => (secret, ciphers, keeps_line),
            Basis::Line(turn) => {
                let second = resumed::verify(&turn, (&self.transcript, &self.offer), answer)?;
                return Ok(Agreed::on_line(Role::Dialer, turn, &sealed(&second, answer, early)));
            }
        };
        let Answer { cipher, keeps_line, ciphertext, proof } = Answer::decode(answer)?;
        if !ciphers.contains(&cipher) || keeps_line && !asked {
            return Err(HandshakeError::Cipher);
        }
        let transcript = transcript(&[&self.transcript, &self.offer, &answer[..proof.signed]]);
        let peer = verify(credentials, HOST, &transcript, &proof, now.date)?;
        let ciphertext = xwing::Ciphertext::from_bytes(&ciphertext).or(Err(HandshakeError::Key))?;
        let shared = xwing::decapsulate(&ciphertext, &secret).or(Err(HandshakeError::Key))?;
        let secrets = Secrets::derive(shared.as_bytes(), &sealed(&transcript, answer, early));
        let since = keeps_line.then_some(now.instant);
        Ok(Agreed::new(Role::Dialer, (cipher, peer), secrets, since))
    }
}

/// The host's side: verifies an offer and answers it, with a fresh key unless it rests on what an earlier handshake has left.
/// Takes the data that came with it, if it can.
pub(crate) fn respond(
    host: &Host<'_>,
    binding: Binding<'_>,
    public_key: &[u8],
    (offer, early): (&[u8], Option<EarlyOffer<'_>>),
    now: Now,
) -> Result<(Vec<u8>, Agreed), HandshakeError> {
    ensure_init().or(Err(HandshakeError::Library))?;
    if resumed::is_resumed(offer) {
        return respond_resumed(host, binding, (offer, early), now);
    }
    let Offer { ciphers, keeps_line, public_key: key, proof } = Offer::decode(offer)?;
    let first = offer_transcript(binding, public_key, &offer[..proof.signed]);
    let peer = verify(host.credentials, DIALER, &first, &proof, now.date)?;
    let cipher =
        ciphers.into_iter().find(|it| host.ciphers.contains(it)).ok_or(HandshakeError::Cipher)?;
    let keeps_line = keeps_line && host.lines.is_some();
    let key = xwing::PublicKey::from_bytes(&key).or(Err(HandshakeError::Key))?;
    let (ciphertext, shared) = xwing::encapsulate(&key).or(Err(HandshakeError::Key))?;
    let mut answer =
        Answer::unsigned((cipher, keeps_line), ciphertext.as_bytes(), host.credentials)?;
    let second = transcript(&[&first, offer, &answer]);
    append_signature(&mut answer, &sign(host.credentials, HOST, &second)?);
    let offered = offered(&first, offer);
    let early = Taken::by(early, |early| early.open(&peer.id, &offered));
    let secrets = Secrets::derive(shared.as_bytes(), &sealed(&second, &answer, early.sealed));
    let since = keeps_line.then_some(now.instant);
    let agreed = Agreed::new(Role::Host, (cipher, peer), secrets, since);
    Ok((answer, Agreed { early_data: early.data, ..agreed }))
}

fn respond_resumed(
    host: &Host<'_>,
    binding: Binding<'_>,
    (offer, early): (&[u8], Option<EarlyOffer<'_>>),
    now: Now,
) -> Result<(Vec<u8>, Agreed), HandshakeError> {
    let lines = host.lines.ok_or(HandshakeError::Line)?;
    let resumed::Response { turn, answer, transcripts: [first, second] } =
        resumed::respond((lines, now.instant), binding, offer)?;
    let offered = offered(&first, offer);
    let early = Taken::by(early, |early| early.open_on_line(&turn, &offered));
    let transcript = sealed(&second, &answer, early.sealed);
    let agreed = Agreed::on_line(Role::Host, turn, &transcript);
    Ok((answer, Agreed { early_data: early.data, ..agreed }))
}

/// What came with an offer: as it came, and opened, if the host took it.
#[derive(Default)]
struct Taken<'a> {
    sealed: Option<&'a [u8]>,
    data: Option<Vec<u8>>,
}

impl<'a> Taken<'a> {
    fn by(
        early: Option<EarlyOffer<'a>>,
        open: impl FnOnce(&EarlyOffer<'a>) -> Option<Vec<u8>>,
    ) -> Self {
        let Some(early) = early else { return Self::default() };
        let data = open(&early);
        Self { sealed: data.is_some().then_some(early.sealed), data }
    }
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
