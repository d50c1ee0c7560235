//! What this router proves itself with. Another takes its place when the certificate is renewed.

use std::{error::Error, fmt, sync::Arc};

use nightgate_identity::{Credentials, Identity, TlsSetupError};
use nightgate_model::control;
use nightgate_tls::Connector;
use nightgate_wire::link;
use tokio_rustls::TlsConnector;
use tracing::warn;

/// The router's identity, and what is made of it.
pub(crate) struct Own {
    pub(crate) identity: Identity,
    /// What proves it to the other end of a circuit; none if nobody would believe it.
    pub(crate) credentials: Option<Arc<Credentials>>,
    /// Connects to the controller.
    pub(crate) control: TlsConnector,
    /// Connects to other routers.
    pub(crate) links: Connector,
}

impl Own {
    pub(crate) fn new(identity: Identity) -> Result<Self, TlsSetupError> {
        Ok(Self {
            credentials: credentials(&identity),
            control: TlsConnector::from(Arc::new(identity.client_config(&[control::ALPN])?)),
            links: Connector::new(identity.client_config(&[link::ALPN])?),
            identity,
        })
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("identity", &self.identity).finish_non_exhaustive()
    }
}

fn credentials(identity: &Identity) -> Option<Arc<Credentials>> {
    match Credentials::new(identity) {
        Ok(credentials) => Some(Arc::new(credentials)),
        Err(error) => {
            let error = &error as &dyn Error;
            warn!(error, "circuits of this gateway prove no identity end to end");
            None
        }
    }
}
