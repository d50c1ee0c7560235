//! The answer to one dial: who dials, with which keys, and whether that will do.

use std::sync::Arc;

use nightgate_e2ee::{
    AgreementError, Binding as CircuitBinding, EarlyId, EarlyOffer, Protection, Share,
};
use nightgate_model::{entity::Permission, id::IdentityId};
use nightgate_wire::{
    FailureCause,
    channel::Message,
    edge::{content, header},
};

use super::{Binding, Place};
use crate::{
    edge::Port,
    listen::Caller,
    offer::{Offer, OfferLost, Waiting},
    peers::PeerRefusal,
};

impl Binding {
    /// Accepts the dial, or says why not.
    pub(super) async fn answer(
        self: Arc<Self>,
        port: Arc<Port>,
        dial: Message,
        place: Option<Place>,
    ) {
        let sequence = dial.sequence;
        if let Err(refusal) = self.accept(&port, dial, place).await {
            let reason = format!("{}: {refusal}", refusal.cause());
            tracing::info!(service = self.service.name, reason, "dial refused");
            let answer = port.message(content::DIAL_FAILED).in_reply_to(sequence);
            // Without the channel there is nobody left to tell.
            let _unneeded = port.send(answer.with_body(reason)).await;
        }
    }

    async fn accept(
        &self,
        port: &Arc<Port>,
        dial: Message,
        place: Option<Place>,
    ) -> Result<(), Refusal> {
        let place = place.ok_or(Refusal::Busy)?;
        let id = dial.headers.u32(header::ROUTER_PROVIDED_CONN_ID).ok_or(Refusal::NoConnId)?;
        let (share, mut protection) = self.agree(&dial)?;
        let caller = caller(&dial, protection.as_ref())?;
        self.check_dialer(protection.as_ref()).await?;
        self.keep_early(protection.as_mut());
        let (port, sequence) = (Arc::clone(port), dial.sequence);
        let waiting = Waiting { port, sequence, id, share, protection };
        let offer = Offer::new(caller.clone(), waiting);
        match place {
            Place::Offer(place) => drop(place.send(offer)),
            Place::Stream(place) => drop(place.send((offer.accept().await?, caller))),
        }
        Ok(())
    }

    /// Whether the controller would have this dialer here, as it has proven itself.
    async fn check_dialer(&self, protection: Option<&Protection>) -> Result<(), PeerRefusal> {
        let proof = (
            protection.map(|protection| protection.method),
            protection.and_then(|protection| protection.peer.as_ref()),
        );
        let inner = self.context.inner();
        inner.check_peer(&self.service, Permission::Dial, self.options.end_to_end, proof).await
    }

    /// Keeps what the circuit leaves.
    fn keep_early(&self, protection: Option<&mut Protection>) {
        if let Some(secrets) = &self.early
            && let Some(secret) = protection.and_then(|it| it.early.take())
        {
            secrets.put(secret.id(), secret, std::time::Instant::now());
        }
    }

    /// Agrees on the keys of a new circuit; there are none if the service is not encrypted.
    fn agree(&self, dial: &Message) -> Result<(Share, Option<Protection>), Refusal> {
        let Some(keys) = &self.keys else { return Ok((Share::default(), None)) };
        let bytes = |key| dial.headers.bytes(key).map_or(&[][..], AsRef::as_ref);
        let service = self.service.id.as_str();
        let instance = self.options.instance.as_deref().unwrap_or_default();
        let end_to_end = self.options.end_to_end.for_service(&self.service);
        let take = |id: &EarlyId| self.early.as_ref()?.take(id, std::time::Instant::now());
        let early = dial.headers.bytes(header::EARLY_DATA);
        let early = early.map(|sealed| EarlyOffer { sealed, take: &take });
        let (share, protection) = Protection::answer_early(
            Some(keys),
            end_to_end.offered(self.context.inner().credentials()).as_ref(),
            CircuitBinding { service, instance, app_data: bytes(header::APP_DATA) },
            bytes(header::PUBLIC_KEY),
            (bytes(header::HANDSHAKE), early),
        )?;
        if !end_to_end.admits(Some(&protection)) {
            return Err(Refusal::NotNative);
        }
        Ok((share, Some(protection)))
    }
}

/// Why a dial was refused; the dialer reads the text.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the hosting application does not accept fast enough")]
    Busy,
    #[error("the hosting router chose no connection id")]
    NoConnId,
    #[error("the host takes only circuits that prove the dialer's identity end to end")]
    NotNative,
    #[error("the dialer proved to be another identity than its router said")]
    AnotherIdentity,
    #[error(transparent)]
    ChannelLost(#[from] OfferLost),
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    #[error(transparent)]
    Peer(#[from] PeerRefusal),
}

impl Refusal {
    /// What routers know it by.
    fn cause(&self) -> FailureCause {
        match self {
            Self::Busy => FailureCause::Capacity,
            Self::NoConnId | Self::ChannelLost(_) => FailureCause::HostRefused,
            Self::NotNative | Self::AnotherIdentity | Self::Agreement(_) | Self::Peer(_) => {
                FailureCause::Encryption
            }
        }
    }
}

/// Who dials, as its router says and, with our own encryption, as it has proven itself.
fn caller(dial: &Message, protection: Option<&Protection>) -> Result<Caller, Refusal> {
    let text = |key| dial.headers.text(key).filter(|text| !text.is_empty());
    let proven = protection.and_then(|it| it.peer.as_ref()).map(|peer| peer.id.as_str());
    let id = text(header::DIALER_IDENTITY_ID);
    if let (Some(proven), Some(id)) = (proven, id)
        && proven != id
    {
        return Err(Refusal::AnotherIdentity);
    }
    let vouched = text(header::DIALER_IDENTITY_NAME);
    Ok(Caller {
        id: proven.or(id).map(IdentityId::new),
        name: vouched.or_else(|| text(header::CALLER_ID)).unwrap_or_default().to_owned(),
        app_data: dial.headers.bytes(header::APP_DATA).cloned().unwrap_or_default(),
    })
}
