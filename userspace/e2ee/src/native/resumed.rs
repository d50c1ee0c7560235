//! Circuits on a line that an earlier handshake left: no keys are agreed, no certificates sent, no signatures made.
//!
//! ```text
//! offer                                answer
//! 0  1   version, 2                    0  1   version, 2
//! 1  16  id of the line                1  32  random
//! 17 4   number of the circuit on it   33 32  proof
//! 21 32  random
//! 53 32  proof
//! ```
//! All integers big-endian. What follows the end of a message is refused.

use std::time::Instant;

use libsodium_rs::{random, utils::memcmp};

use super::{
    handshake::{Binding, HandshakeError},
    lines::{LineId, Lines, Turn},
    schedule::{ID_LENGTH, PROOF_LENGTH, TRANSCRIPT_LENGTH, TrafficSecret, transcript},
};

/// Version of these messages; those of the handshake have [`super::message::VERSION`].
pub(super) const VERSION: u8 = 2;

/// Begins the transcript.
const PROTOCOL: &[u8] = b"nightgate-e2e-1 resumed";

/// Labels of the two proofs.
const DIALER: &[u8] = b"nightgate-e2e-1 dialer";
const HOST: &[u8] = b"nightgate-e2e-1 host";

/// Bytes of the random part of either message: circuits differ even where an end's memory was copied.
const RANDOM_LENGTH: usize = 32;

/// Bytes of an offer and of an answer before their proof.
const OFFERED: usize = 1 + ID_LENGTH + 4 + RANDOM_LENGTH;
const ANSWERED: usize = 1 + RANDOM_LENGTH;

/// Whether a message is one of these.
pub(super) fn is_resumed(message: &[u8]) -> bool {
    message.first() == Some(&VERSION)
}

/// The dialer's offer, and its transcript.
pub(super) fn offer(turn: &Turn, binding: Binding<'_>) -> (Vec<u8>, [u8; TRANSCRIPT_LENGTH]) {
    let mut offer = vec![VERSION];
    offer.extend(turn.id);
    offer.extend(turn.number.to_be_bytes());
    offer.extend(random::bytes(RANDOM_LENGTH));
    let transcript = first(binding, &offer);
    offer.extend(turn.secret.proof(DIALER, &transcript));
    (offer, transcript)
}

/// What a host has of an offer.
pub(super) struct Response {
    pub(super) turn: Turn,
    pub(super) answer: Vec<u8>,
    /// Of the offer and of the answer, each without its proof.
    pub(super) transcripts: [[u8; TRANSCRIPT_LENGTH]; 2],
}

/// The host's side: finds the line that the dialer means, and that it has its secret.
pub(super) fn respond(
    (lines, now): (&Lines, Instant),
    binding: Binding<'_>,
    offer: &[u8],
) -> Result<Response, HandshakeError> {
    let (offered, proof) = parts::<OFFERED>(offer)?;
    let (id, number) = named(offered);
    let first = first(binding, offered);
    let is_proven = |secret: &TrafficSecret| memcmp(&secret.proof(DIALER, &first), proof);
    let turn = lines.take(&id, number, now, is_proven).ok_or(HandshakeError::Line)?;
    let mut answer = vec![VERSION];
    answer.extend(random::bytes(RANDOM_LENGTH));
    let second = transcript(&[&first, offer, &answer]);
    answer.extend(turn.secret.proof(HOST, &second));
    Ok(Response { turn, answer, transcripts: [first, second] })
}

/// The dialer's side of the answer: its transcript, if it is the host's.
pub(super) fn verify(
    turn: &Turn,
    (first, offer): (&[u8; TRANSCRIPT_LENGTH], &[u8]),
    answer: &[u8],
) -> Result<[u8; TRANSCRIPT_LENGTH], HandshakeError> {
    let (answered, proof) = parts::<ANSWERED>(answer)?;
    let second = transcript(&[first, offer, answered]);
    match memcmp(&turn.secret.proof(HOST, &second), proof) {
        true => Ok(second),
        false => Err(HandshakeError::Line),
    }
}

/// A message of `N` bytes before its proof.
fn parts<const N: usize>(
    message: &[u8],
) -> Result<(&[u8; N], &[u8; PROOF_LENGTH]), HandshakeError> {
    let (before, proof) = message.split_first_chunk().ok_or(HandshakeError::Malformed)?;
    if !is_resumed(message) {
        return Err(HandshakeError::Version { found: before[0] });
    }
    Ok((before, proof.try_into().or(Err(HandshakeError::Malformed))?))
}

/// Line and number of an offer.
fn named(offered: &[u8; OFFERED]) -> (LineId, u32) {
    let (mut id, mut number) = (LineId::default(), [0; 4]);
    id.copy_from_slice(&offered[1..=ID_LENGTH]);
    number.copy_from_slice(&offered[1 + ID_LENGTH..OFFERED - RANDOM_LENGTH]);
    (id, u32::from_be_bytes(number))
}

fn first(binding: Binding<'_>, offered: &[u8]) -> [u8; TRANSCRIPT_LENGTH] {
    let Binding { service, instance, app_data } = binding;
    transcript(&[PROTOCOL, service.as_bytes(), instance.as_bytes(), app_data, offered])
}
