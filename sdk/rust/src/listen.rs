//! Hosting: a service bound at edge routers, and the circuits that arrive.

use std::{fmt, time::Duration};

use bytes::Bytes;
use nightgate_e2ee::KeyExchangeError;
use nightgate_model::{entity::Precedence, id::IdentityId};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    binding::{self, Desk},
    context::Context,
    dial::EndToEnd,
    offer::Offer,
    rest::ControllerError,
    service::Service,
    stream::Stream,
};

/// How a service is hosted.
#[derive(Clone, Debug, Default)]
pub struct BindOptions {
    /// Name by which dials ask for this host among several ([`DialOptions::instance`]); at most
    /// 1024 bytes. Dials without a name do not reach a host that has one. Several hosts may share a
    /// name if they show the same [`secret`](Self::secret), or without one under one identity.
    ///
    /// [`DialOptions::instance`]: crate::DialOptions::instance
    pub instance: Option<String>,
    /// What hosts of one instance have in common and nobody else knows, at most 1024 bytes; empty for none.
    /// Edge routers are told it, dialers are not.
    pub secret: Bytes,
    /// Hosts of the best precedence that can be reached are dialed, whatever their cost.
    pub precedence: Precedence,
    /// Static cost; hosts of lower cost are preferred.
    pub cost: u16,
    /// Which methods of end-to-end encryption will do; a dial without is refused.
    pub end_to_end: EndToEnd,
    /// Edge routers at which it is hosted at one time at most, 1 to 16; 3 if it is not said.
    pub max_routers: Option<u16>,
}

/// A hosted service: circuits arrive here, and no port is opened for them.
///
/// Stays bound at some of the edge routers that it reaches ([`BindOptions::max_routers`]), at others when one is lost, and binds again when a
/// router or the controller comes back. Dropping it ends the hosting; streams accepted before go on.
pub struct Listener {
    service: String,
    host: Caller,
    accepted: mpsc::Receiver<(Stream, Caller)>,
    _binding: AbortOnDropHandle<()>,
}

/// A hosted service whose dials this end answers one by one, for hosts that first find out whether they can serve a
/// circuit. Otherwise like a [`Listener`].
pub struct Offers {
    offered: mpsc::Receiver<Offer>,
    standing: watch::Sender<(Precedence, u16)>,
    _binding: AbortOnDropHandle<()>,
}

/// Who dialed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// Id of the dialing identity: proven by its certificate if [`Stream::peer`] says so, else as its
    /// router vouches for it; none if the router did not say.
    pub id: Option<IdentityId>,
    /// Name of the dialing identity, as its router vouches for it; what the dialer calls itself if
    /// the router did not say (then [`id`](Self::id) is none).
    pub name: String,
    /// What the dialer wanted to tell; see [`DialOptions`](crate::DialOptions::app_data).
    pub app_data: Bytes,
}

/// A service that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("bind {service:?}")]
pub struct BindError {
    /// The service's name.
    pub service: String,
    /// Why.
    #[source]
    pub failure: BindFailure,
}

/// Why a service could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindFailure {
    /// There is no such service, or the identity may not see it.
    #[error("no such service, or {identity:?} may not host it")]
    NoSuchService {
        /// Who asked.
        identity: String,
    },
    /// The controller did not answer, or refused.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// None of the edge routers where the service can be hosted is connected.
    #[error("none of the {routers} edge routers of the service is connected")]
    NoRouter {
        /// How many routers the controller named.
        routers: usize,
    },
    /// The router refused.
    #[error("refused by router {router}: {reason}")]
    Refused {
        /// `host:port` of the router.
        router: String,
        /// Its words.
        reason: String,
    },
    /// The router did not answer.
    #[error("no answer from router {router} in {} seconds", waited.as_secs())]
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
    /// The key for end-to-end encryption could not be made.
    #[error(transparent)]
    KeyExchange(#[from] KeyExchangeError),
}

impl Listener {
    pub(crate) async fn bind(
        context: Context,
        service: Service,
        options: BindOptions,
    ) -> Result<Self, BindFailure> {
        let host = context.inner().controller.identity();
        let name = service.name.clone();
        let (desk, accepted) = mpsc::channel(binding::BACKLOG);
        let (_standing, wanted) = watch::channel((options.precedence, options.cost));
        let desk = Desk::Streams(desk);
        let task = binding::start(context, service, (options, wanted), desk).await?;
        Ok(Self {
            service: name,
            host: Caller { id: Some(host.id), name: host.name, app_data: Bytes::new() },
            accepted,
            _binding: task,
        })
    }

    /// The next circuit, and who dialed.
    ///
    /// Waits through the absence of routers and controller as a TCP listener waits through that of
    /// the network. Cancel safe.
    pub async fn accept(&mut self) -> (Stream, Caller) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The task that sends lives as long as the listener.
            None => std::future::pending().await,
        }
    }

    /// The hosting identity, in the form in which the other end of a circuit would see it.
    pub fn host(&self) -> &Caller {
        &self.host
    }

    /// Name of the hosted service.
    pub fn service(&self) -> &str {
        &self.service
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Offers {
    pub(crate) async fn bind(
        context: Context,
        service: Service,
        options: BindOptions,
    ) -> Result<Self, BindFailure> {
        let (desk, offered) = mpsc::channel(binding::BACKLOG);
        let (standing, wanted) = watch::channel((options.precedence, options.cost));
        let desk = Desk::Offers(desk);
        let task = binding::start(context, service, (options, wanted), desk).await?;
        Ok(Self { offered, standing, _binding: task })
    }

    /// The next dial. Waits through the absence of routers and controller. Cancel safe.
    pub async fn next(&mut self) -> Offer {
        match self.offered.recv().await {
            Some(offer) => offer,
            // The task that sends lives as long as this.
            None => std::future::pending().await,
        }
    }

    /// Changes what dialers choose this host by, from now on. Circuits go on.
    pub fn update(&self, precedence: Precedence, cost: u16) {
        self.standing.send_if_modified(|standing| {
            std::mem::replace(standing, (precedence, cost)) != (precedence, cost)
        });
    }
}

impl fmt::Debug for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offers").field("standing", &*self.standing.borrow()).finish_non_exhaustive()
    }
}

#[cfg(feature = "axum")]
impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = Caller;

    async fn accept(&mut self) -> (Stream, Caller) {
        Self::accept(self).await
    }

    /// The hosting identity itself: there is no address.
    fn local_addr(&self) -> std::io::Result<Caller> {
        Ok(self.host.clone())
    }
}

#[cfg(feature = "axum")]
impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Listener>> for Caller {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}
