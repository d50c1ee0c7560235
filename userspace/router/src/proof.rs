//! Who dials, proven to the router that hosts: no router takes another's word for it.
//!
//! A client's service session token travels with the request. A router that dials as itself (a gateway) signs the
//! request with the key of its certificate, unless it sends it straight to the router that hosts: there the link has proven
//! who it is.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use nightgate_fabric::{Dial, FailureCause};
use nightgate_identity::{Credentials, Signature};
use nightgate_model::{id::RouterId, replica::Replica};
use nightgate_wire::{
    Headers,
    link::{CircuitId, Frame, header, proof, signed},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;

use crate::{
    Incoming,
    own::Own,
    token::{CATCH_UP, TokenError, check_dialer},
};

/// How far the clocks of two routers may be apart, and how long a request may travel, in milliseconds.
const TOLERANCE: u64 = 60_000;

/// Most certificates of a proof.
const MAX_CHAIN: i32 = 8;

/// A request that is not the dialer's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
enum Unproven {
    #[error("its session token: {0}")]
    Token(#[from] TokenError),
    #[error("the request is not signed by its router, or not now")]
    Signature,
}

/// Makes and checks proofs.
pub(crate) struct Proofs {
    own: watch::Receiver<Arc<Own>>,
    replica: watch::Receiver<Arc<Replica>>,
}

impl Proofs {
    pub(crate) fn new(
        own: watch::Receiver<Arc<Own>>,
        replica: watch::Receiver<Arc<Replica>>,
    ) -> Self {
        Self { own, replica }
    }

    fn credentials(&self) -> Option<Arc<Credentials>> {
        self.own.borrow().credentials.clone()
    }

    /// Signs a request that begins here with this router as the dialer and passes others; leaves other frames as they are.
    pub(crate) fn prove(&self, frame: Frame) -> Frame {
        let Frame::Open(path, headers) = &frame else { return frame };
        let Some(credentials) = self.credentials() else { return frame };
        let own = Some(credentials.id());
        if first_router(headers).as_ref().map(RouterId::as_str) != own
            || headers.text(header::DIALER) != own
            || is_direct(headers)
        {
            return frame;
        }
        match made(&credentials, CircuitId(path.0), headers) {
            None => frame,
            Some(proof) => {
                let mut headers = headers.clone();
                headers.put(header::PROOF, proof);
                Frame::Open(*path, headers)
            }
        }
    }

    /// Hands on a dial once the dialer is proven; refuses it otherwise.
    pub(crate) fn check(
        &self,
        circuit: CircuitId,
        incoming: Incoming,
        hand_on: impl FnOnce(Incoming) + Send + 'static,
    ) {
        let Some(request) = incoming.offer().request.clone() else { return hand_on(incoming) };
        let is_of_router = is_of_router(&request, &incoming.offer().dial);
        if is_of_router && is_direct(&request) {
            return hand_on(incoming);
        }
        let (credentials, mut replica) = (self.credentials(), self.replica.clone());
        // A token or certificate may be newer than the replica: others must not wait for this one.
        tokio::spawn(async move {
            let dial = &incoming.offer().dial;
            let proven = match credentials.filter(|_| is_of_router) {
                Some(own) => of_router(&own, circuit, &request, dial, &mut replica).await,
                None => of_client(dial, &mut replica).await,
            };
            match proven {
                Ok(()) => hand_on(incoming),
                Err(unproven) => {
                    let dialer = &dial.dialer;
                    tracing::warn!(%dialer, %unproven, "dial refused: not proven to be the dialer's");
                    let detail = format!("not proven to come from identity {dialer}: {unproven}");
                    incoming.refuse(FailureCause::Unauthorized, &detail);
                }
            }
        });
    }
}

async fn of_client(
    dial: &Dial,
    replica: &mut watch::Receiver<Arc<Replica>>,
) -> Result<(), Unproven> {
    Ok(check_dialer(&dial.session, &dial.dialer, &dial.service, replica).await?)
}

async fn of_router(
    own: &Credentials,
    circuit: CircuitId,
    request: &Headers,
    dial: &Dial,
    replica: &mut watch::Receiver<Arc<Replica>>,
) -> Result<(), Unproven> {
    let fingerprint =
        signer(own, circuit, request, dial.dialer.as_str(), now()).ok_or(Unproven::Signature)?;
    // Its certificate is the one that the model knows, or will know in a moment if it was renewed.
    let router = RouterId::new(dial.dialer.as_str());
    let is_current = |replica: &Arc<Replica>| {
        let is_known =
            replica.identities.get(&dial.dialer).is_some_and(|it| it.fingerprint.is_some());
        is_known && replica.router(&router).is_some_and(|it| it.may_present(&fingerprint))
    };
    match tokio::time::timeout(CATCH_UP, replica.wait_for(is_current)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Unproven::Signature),
    }
}

/// Whether a router dials as itself.
fn is_of_router(request: &Headers, dial: &Dial) -> bool {
    dial.session.is_empty()
        && first_router(request).is_some_and(|router| router.as_identity() == dial.dialer)
}

/// Whether a request passes no router between its first and its last. The fabric takes it only from the link of the router
/// before, which is the first one then.
fn is_direct(request: &Headers) -> bool {
    request.text(header::PATH).is_some_and(|path| path.split('\n').count() == 2)
}

fn first_router(request: &Headers) -> Option<RouterId> {
    request.text(header::PATH)?.split('\n').next().map(RouterId::new)
}

fn made(credentials: &Credentials, circuit: CircuitId, headers: &Headers) -> Option<Bytes> {
    let time = now();
    let signature = credentials.sign(&signed(circuit, headers, time))?;
    let mut made = Headers::new();
    made.put(proof::TIME, Bytes::copy_from_slice(&time.to_le_bytes()))
        .put_u32(proof::SCHEME, signature.scheme.into())
        .put(proof::SIGNATURE, signature.bytes);
    for (number, certificate) in (proof::CHAIN..).zip(credentials.chain()) {
        made.put(number, Bytes::copy_from_slice(certificate));
    }
    let mut bytes = bytes::BytesMut::new();
    made.encode(&mut bytes);
    Some(bytes.freeze())
}

/// The fingerprint of the certificate by whose key `dialer` has signed the request, not long before or after `now`.
fn signer(
    own: &Credentials,
    circuit: CircuitId,
    request: &Headers,
    dialer: &str,
    now: u64,
) -> Option<String> {
    let proof = Headers::decode(request.bytes(header::PROOF)?.clone()).ok()?;
    let time = u64::from_le_bytes(proof.bytes(proof::TIME)?.as_ref().try_into().ok()?);
    if time.abs_diff(now) > TOLERANCE {
        return None;
    }
    let signature = Signature {
        scheme: proof.u32(proof::SCHEME)?.try_into().ok()?,
        bytes: proof.bytes(proof::SIGNATURE)?.to_vec(),
    };
    let chain: Vec<_> = (proof::CHAIN..proof::CHAIN + MAX_CHAIN)
        .map_while(|number| proof.bytes(number))
        .map(|certificate| CertificateDer::from_slice(certificate))
        .collect();
    let message = signed(circuit, request, time);
    let proven = own.verify(&chain, &message, &signature, UnixTime::now()).ok()?;
    (proven.id == dialer).then_some(proven.fingerprint)
}

/// Milliseconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
