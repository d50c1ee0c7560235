//! The bodies of frames that make circuits and paths.

use nightgate_model::id::{IdentityId, RouterId, ServiceId, TerminatorId};
use nightgate_wire::{
    FailureCause, Headers,
    link::{Ack, CircuitId, PathId, header},
};

use crate::{
    Dial, DialRefusal, KeyShare, Offer,
    path::Lost,
    proof::{Anchor, Claim, Proof, Prover, Verifier},
};

/// Most routers on a path.
const MAX_PATH: usize = 16;

/// A request for a circuit, as it travels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Open {
    pub(crate) path: Vec<RouterId>,
    pub(crate) anchor: Anchor,
    pub(crate) offer: Offer,
}

impl Open {
    pub(crate) fn to_headers(&self) -> Headers {
        let dial = &self.offer.dial;
        let mut headers = Headers::new();
        put_path(&mut headers, &self.path);
        headers
            .put_text(header::TERMINATOR, self.offer.terminator.as_str())
            .put_text(header::SERVICE, dial.service.as_str())
            .put_text(header::DIALER, dial.dialer.as_str())
            .put_text(header::INSTANCE, &dial.instance)
            .put_text(header::CALLER, &dial.caller)
            .put(header::APP_DATA, dial.app_data.clone())
            .put(header::ANCHOR, self.anchor.to_vec());
        put_key_share(&mut headers, dial.key_share.clone());
        if !dial.session.is_empty() {
            headers.put(header::SESSION, dial.session.clone());
        }
        headers
    }

    /// Reads the headers; `None` when a field is missing or the path is empty, too long or a loop.
    pub(crate) fn from_headers(headers: &Headers) -> Option<Self> {
        let dial = Dial {
            service: ServiceId::new(headers.text(header::SERVICE)?),
            dialer: IdentityId::new(headers.text(header::DIALER)?),
            instance: headers.text(header::INSTANCE).unwrap_or_default().to_owned(),
            caller: headers.text(header::CALLER)?.to_owned(),
            key_share: key_share(headers),
            app_data: headers.bytes(header::APP_DATA).cloned().unwrap_or_default(),
            session: headers.bytes(header::SESSION).cloned().unwrap_or_default(),
        };
        let terminator = TerminatorId::new(headers.text(header::TERMINATOR)?);
        let (path, anchor) = (path(headers)?, fixed(headers, header::ANCHOR)?);
        let request = Some(headers.clone());
        Some(Self { path, anchor, offer: Offer { terminator, dial, request } })
    }
}

/// A request for another path, as it travels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reroute {
    pub(crate) path: Vec<RouterId>,
    pub(crate) circuit: CircuitId,
    pub(crate) turn: u64,
    pub(crate) proof: Proof,
    pub(crate) ack: Ack,
}

impl Reroute {
    /// Signs a request; `None` if memory is short.
    pub(crate) fn new(
        prover: &mut Prover,
        (circuit, number): (CircuitId, PathId),
        path: Vec<RouterId>,
        ack: Ack,
    ) -> Option<Self> {
        let turn = prover.next_turn();
        let proof = prover.prove(Claim { circuit, number, path: &joined(&path), turn })?;
        Some(Self { path, circuit, turn, proof, ack })
    }

    pub(crate) fn to_headers(&self) -> Headers {
        let mut headers = Headers::new();
        put_path(&mut headers, &self.path);
        headers
            .put(header::CIRCUIT, self.circuit.0.to_be_bytes().to_vec())
            .put(header::TURN, self.turn.to_be_bytes().to_vec())
            .put(header::SIGNATURE, self.proof.to_vec())
            .put(header::ACK, self.ack.to_bytes().to_vec());
        headers
    }

    pub(crate) fn from_headers(headers: &Headers) -> Option<Self> {
        let circuit = CircuitId(u64::from_be_bytes(fixed(headers, header::CIRCUIT)?));
        let turn = u64::from_be_bytes(fixed(headers, header::TURN)?);
        let (path, proof) = (path(headers)?, fixed(headers, header::SIGNATURE)?);
        Some(Self { path, circuit, turn, proof, ack: ack(headers)? })
    }

    /// Whether the circuit's dialer has signed it, for this path, and it has not been taken before.
    pub(crate) fn verify(&self, number: PathId, verifier: &mut Verifier) -> bool {
        let path = joined(&self.path);
        let claim = Claim { circuit: self.circuit, number, path: &path, turn: self.turn };
        verifier.verify(claim, &self.proof)
    }
}

/// Reads the path; `None` when it is missing, too long or a loop.
pub(crate) fn path(headers: &Headers) -> Option<Vec<RouterId>> {
    let path: Vec<RouterId> = headers.text(header::PATH)?.split('\n').map(RouterId::new).collect();
    let loops = path.iter().enumerate().any(|(at, router)| path[..at].contains(router));
    (path.len() <= MAX_PATH && !loops).then_some(path)
}

fn put_path(headers: &mut Headers, path: &[RouterId]) {
    headers.put_text(header::PATH, &joined(path));
}

fn joined(path: &[RouterId]) -> String {
    let path: Vec<&str> = path.iter().map(RouterId::as_str).collect();
    path.join("\n")
}

/// Reads the acknowledgement that comes with a new path.
pub(crate) fn ack(headers: &Headers) -> Option<Ack> {
    Ack::from_bytes(headers.bytes(header::ACK)?).ok()
}

/// The body of a `Rerouted` frame.
pub(crate) fn rerouted(ack: Ack) -> Headers {
    let mut headers = Headers::new();
    headers.put(header::ACK, ack.to_bytes().to_vec());
    headers
}

/// The body of an `Unroute` frame.
pub(crate) fn unroute(lost: Option<&Lost>) -> Headers {
    let mut headers = Headers::new();
    if let Some(Lost(from, to)) = lost {
        headers.put_text(header::LOST, &format!("{from}\n{to}"));
    }
    headers
}

/// Reads between which routers no link is left.
pub(crate) fn lost(headers: &Headers) -> Option<Lost> {
    let (from, to) = headers.text(header::LOST)?.split_once('\n')?;
    Some(Lost(RouterId::new(from), RouterId::new(to)))
}

/// The body of a `Refused` frame.
pub(crate) fn refused(refusal: &DialRefusal, lost: Option<&Lost>) -> Headers {
    let mut headers = unroute(lost);
    headers
        .put_text(header::CAUSE, refusal.cause.as_str())
        .put_text(header::DETAIL, &refusal.detail);
    headers
}

/// Reads the body of a `Refused` frame.
pub(crate) fn refusal(headers: &Headers) -> DialRefusal {
    let cause = headers.text(header::CAUSE).and_then(FailureCause::from_word);
    let detail = headers.text(header::DETAIL).unwrap_or("the other side gave no reason");
    DialRefusal::new(cause.unwrap_or(FailureCause::HostRefused), detail)
}

/// Writes one end's part of the agreement on keys, of an `Open` or `Opened` frame.
pub(crate) fn put_key_share(headers: &mut Headers, share: KeyShare) {
    headers.put(header::PUBLIC_KEY, share.public_key);
    for (key, part) in
        [(header::HANDSHAKE, share.handshake), (header::EARLY_DATA, share.early_data)]
    {
        if !part.is_empty() {
            headers.put(key, part);
        }
    }
}

/// Reads one end's part of the agreement on keys.
pub(crate) fn key_share(headers: &Headers) -> KeyShare {
    let bytes = |key| headers.bytes(key).cloned().unwrap_or_default();
    KeyShare {
        public_key: bytes(header::PUBLIC_KEY),
        handshake: bytes(header::HANDSHAKE),
        early_data: bytes(header::EARLY_DATA),
    }
}

fn fixed<const N: usize>(headers: &Headers, key: i32) -> Option<[u8; N]> {
    headers.bytes(key)?.as_ref().try_into().ok()
}
