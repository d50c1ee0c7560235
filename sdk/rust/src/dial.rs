//! Dialing: from a service session to a stream, through one router.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nightgate_e2ee::{AgreementError, Binding, EarlySecret, Method, Own, Proposal, Protection};
use nightgate_identity::{Credentials, ProvenIdentity};
use nightgate_model::configs::{EndToEndMethod, EndToEndV1};
use nightgate_wire::{
    FailureCause,
    channel::Message,
    edge::{content, header},
};
use tokio::time::timeout;

use crate::{
    edge::{Channel, Closed, Port, PortKind},
    peers::PeerRefusal,
    rest::ControllerError,
    service::Service,
    stream::Stream,
};

/// What routers answer, among other reasons, when the service session is not valid any more.
const INVALID_SESSION: &str = "invalid session";

/// What to say to the host, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Opaque bytes that the host gets with the circuit; at most about 11 KiB. With our own method of
    /// end-to-end encryption, no router can change them unnoticed; every router can read them.
    pub app_data: Bytes,
    /// Dial a host that bound the service under this name ([`BindOptions::instance`]); if none, one
    /// that bound it without a name.
    ///
    /// [`BindOptions::instance`]: crate::BindOptions::instance
    pub instance: Option<String>,
    /// Longest wait for the host's answer once a router is connected, and for a router before that.
    pub timeout: Duration,
    /// Which methods of end-to-end encryption will do.
    pub end_to_end: EndToEnd,
    /// The first bytes of the stream, if they are known by now: the host reads them before anything that is written later.
    ///
    /// Where the service lets dials carry data (config `end-to-end.v1` with `earlyData`), both ends use our own method,
    /// and an earlier circuit between the same two was dialed within 10 minutes, up to 4 KiB of them go with the dial,
    /// sealed: the host's answer is a round trip earlier then. The host may get them twice, in two streams, when the
    /// dial has to be tried again: only what does no harm twice belongs here. Otherwise they follow the dial.
    pub early_data: Bytes,
}

/// Which methods of end-to-end encryption will do, where a service requires encryption at all. An
/// operator can demand [`Self::Native`] of all ends of a service, or ask for [`Self::AesGcm`] where the
/// application wants nothing else (config type `end-to-end.v1`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EndToEnd {
    /// Our own with ends that have it, OpenZiti's with others. An end that does without where all who may be there
    /// have it, as far as the controller knows, is refused.
    #[default]
    Negotiated,
    /// Our own alone: whoever does not prove an identity is refused.
    Native,
    /// As [`Self::Negotiated`], but with hosts that are not ours OpenZiti's method in its AES-GCM form: for hosts that
    /// were started with it. A host of ours takes either form from its dialers whatever it asks for.
    AesGcm,
    /// OpenZiti's alone, even with ends that are ours: to compare, or to find the cause of a problem. Both ends
    /// have to want it.
    OpenZiti,
}

/// Who dials.
pub(crate) struct Dialer<'a> {
    pub(crate) name: &'a str,
    pub(crate) credentials: Option<Arc<Credentials>>,
    /// What an earlier circuit to the service has left.
    pub(crate) early: Option<EarlySecret>,
}

impl Default for DialOptions {
    /// No data for the host, no instance, ten seconds, negotiated encryption, nothing to begin with.
    fn default() -> Self {
        Self {
            app_data: Bytes::new(),
            instance: None,
            timeout: Duration::from_secs(10),
            end_to_end: EndToEnd::Negotiated,
            early_data: Bytes::new(),
        }
    }
}

impl EndToEnd {
    /// What will do for a service: what the operator demands of it comes before what the application
    /// wants.
    pub(crate) fn for_service(self, service: &Service) -> Self {
        match (EndToEndV1::method_of(&service.config), self) {
            (EndToEndMethod::Native, _) => Self::Native,
            (EndToEndMethod::AesGcm, Self::Negotiated) => Self::AesGcm,
            (EndToEndMethod::AesGcm | EndToEndMethod::Negotiated, _) => self,
        }
    }

    /// What to say to a host, with or without our own method.
    fn propose(
        self,
        credentials: Option<Arc<Credentials>>,
        binding: Binding<'_>,
    ) -> Result<Proposal, AgreementError> {
        let own = self.offered(credentials);
        match self {
            Self::AesGcm => Proposal::aes_gcm(own, binding),
            Self::Negotiated | Self::Native | Self::OpenZiti => Proposal::new(own, binding),
        }
    }

    /// Whether an end may do without proof where nobody who may be there has to.
    pub(crate) fn is_negotiated(self) -> bool {
        matches!(self, Self::Negotiated | Self::AesGcm)
    }

    /// What the dialer says about its key (header 1009, as OpenZiti's Go clients number the methods).
    fn crypto_method(self) -> &'static [u8] {
        match self {
            Self::AesGcm => &[1],
            Self::Negotiated | Self::Native | Self::OpenZiti => &[0],
        }
    }

    /// The credentials to offer our own method with, if it may be used.
    pub(crate) fn offered(self, credentials: Option<Arc<Credentials>>) -> Option<Own> {
        credentials.filter(|_| self != Self::OpenZiti).map(Own::from)
    }

    /// Whether a circuit that ended up with this protection may be used.
    pub(crate) fn admits(self, protection: Option<&Protection>) -> bool {
        match self {
            Self::Negotiated | Self::AesGcm | Self::OpenZiti => true,
            Self::Native => protection.is_some_and(|it| matches!(it.method, Method::Native(_))),
        }
    }
}

/// A service that could not be dialed.
#[derive(Debug, thiserror::Error)]
#[error("dial {service:?}")]
pub struct DialError {
    /// The service's name.
    pub service: String,
    /// Why.
    #[source]
    pub failure: DialFailure,
}

/// Why a service could not be dialed.
#[derive(Debug, thiserror::Error)]
pub enum DialFailure {
    /// There is no such service, or the identity may not see it.
    #[error("no such service, or {identity:?} may not dial it")]
    NoSuchService {
        /// Who asked.
        identity: String,
    },
    /// The controller did not answer, or refused.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// None of the edge routers through which the service can be dialed is connected.
    #[error("none of the {routers} edge routers of the service is connected")]
    NoRouter {
        /// How many routers the controller named.
        routers: usize,
    },
    /// The router or the host refused.
    #[error("refused through router {router}: {reason}")]
    Refused {
        /// `host:port` of the router.
        router: String,
        /// Why; none if the router is not one of ours, or if the session has ended.
        cause: Option<FailureCause>,
        /// Its words.
        reason: String,
    },
    /// The host did not answer in time.
    #[error("no answer through router {router} in {} seconds", waited.as_secs())]
    Timeout {
        /// `host:port` of the router.
        router: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The channel to the router was lost meanwhile.
    #[error("the channel to router {router} was lost")]
    ChannelLost {
        /// `host:port` of the router.
        router: String,
    },
    /// The two ends could not agree on keys for end-to-end encryption.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    /// The host did not take part in our own method of end-to-end encryption, which was asked for.
    #[error(
        "the host proved no identity: it does not speak our end-to-end encryption, or a router on \
        the path suppressed it"
    )]
    NotNative,
    /// The host proved to be an identity that may not host the service: a router led the dial astray.
    #[error("the host proved to be identity {}, which may not host the service", host.id)]
    NotAHost {
        /// Who it proved to be.
        host: ProvenIdentity,
    },
    /// The host proved no identity, although all who may host the service can: a router on the path suppressed it.
    #[error(
        "the host proved no identity, but all who may host the service can: a router on the path \
        suppressed it"
    )]
    Downgraded,
}

impl From<PeerRefusal> for DialFailure {
    fn from(refusal: PeerRefusal) -> Self {
        match refusal {
            PeerRefusal::NotPermitted(host, _) => Self::NotAHost { host },
            PeerRefusal::Downgraded => Self::Downgraded,
        }
    }
}

impl DialFailure {
    /// Whether a new service session may help.
    pub(crate) fn is_invalid_session(&self) -> bool {
        matches!(self, Self::Refused { reason, .. } if is_invalid_session(reason))
    }
}

/// Whether a router's reason says that the service session is not valid any more.
pub(crate) fn is_invalid_session(reason: &str) -> bool {
    reason.to_ascii_lowercase().contains(INVALID_SESSION)
}

/// Dials a service through one channel. Gives what the circuit leaves for data that goes with a later dial, too.
pub(crate) async fn dial(
    channel: &Channel,
    session: &str,
    service: &Service,
    dialer: Dialer<'_>,
    options: &DialOptions,
) -> Result<(Stream, Option<EarlySecret>), DialFailure> {
    let router = || channel.router().to_owned();
    let lost = |Closed| DialFailure::ChannelLost { router: router() };

    let instance = options.instance.as_deref().unwrap_or_default();
    let binding = Binding { service: service.id.as_str(), instance, app_data: &options.app_data };
    let end_to_end = options.end_to_end.for_service(service);
    let propose = || end_to_end.propose(dialer.credentials, binding);
    let mut proposal = service.encryption_required.then(propose).transpose()?;
    let first = (&options.early_data[..], &options.app_data[..]);
    let early = match &mut proposal {
        Some(proposal) => proposal.seal_early(dialer.early, first)?,
        None => None,
    };
    let (port, events) = channel.open_port(PortKind::Circuit).map_err(lost)?;
    let mut request = connect_message(&port, session, dialer.name, proposal.as_ref(), options);
    let early = early.map_or(0, |(length, sealed)| {
        request.headers.put(header::EARLY_DATA, sealed);
        length
    });
    if proposal.is_some() {
        request.headers.put(header::CRYPTO_METHOD, end_to_end.crypto_method());
    }
    let answer = timeout(options.timeout, port.request(request))
        .await
        .map_err(|_elapsed| DialFailure::Timeout { router: router(), waited: options.timeout })?
        .map_err(lost)?;
    if answer.content_type != content::STATE_CONNECTED {
        port.mark_gone();
        let reason = String::from_utf8_lossy(&answer.body).into_owned();
        return Err(DialFailure::Refused {
            router: router(),
            cause: FailureCause::of_words(&reason),
            reason,
        });
    }
    let bytes = |key| answer.headers.bytes(key).map_or(&[][..], AsRef::as_ref);
    let early = if bytes(header::EARLY_DATA).is_empty() { 0 } else { early };
    let complete = |mut it: Proposal| {
        if early > 0 {
            it.early_taken();
        }
        it.complete(bytes(header::PUBLIC_KEY), bytes(header::HANDSHAKE))
    };
    let mut protection = proposal.map(complete).transpose()?;
    if !end_to_end.admits(protection.as_ref()) {
        return Err(DialFailure::NotNative);
    }
    let left = protection.as_mut().and_then(|it| it.early.take());
    let stream = Stream::start(port, events, protection).map_err(lost)?;
    Ok((stream.begun_with(early), left))
}

fn connect_message(
    port: &Port,
    session: &str,
    caller: &str,
    proposal: Option<&Proposal>,
    options: &DialOptions,
) -> Message {
    let mut message =
        port.message(content::CONNECT).with_body(Bytes::copy_from_slice(session.as_bytes()));
    message.headers.put_text(header::CALLER_ID, caller);
    if let Some(proposal) = proposal {
        let share = proposal.share();
        message.headers.put(header::PUBLIC_KEY, share.public_key);
        if !share.handshake.is_empty() {
            message.headers.put(header::HANDSHAKE, share.handshake);
        }
    }
    if !options.app_data.is_empty() {
        message.headers.put(header::APP_DATA, options.app_data.clone());
    }
    if let Some(instance) = &options.instance {
        message.headers.put_text(header::TERMINATOR_IDENTITY, instance);
    }
    message
}

#[cfg(test)]
mod tests;
