//! The control channel: this router's only connection to the controller.

use std::sync::Arc;

use bytes::Bytes;
use nightgate_identity::{Identity, IdentityError, TlsSetupError};
use nightgate_model::{
    control::{ALPN, CONTENT_TYPE, ControllerMessage, RouterMessage, VERSION},
    id::RouterId,
    replica::Replica,
};
use nightgate_wire::channel::{Limits, Message};
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{mpsc, watch},
};
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

use crate::{
    actor::Event,
    backoff::Backoff,
    channel::{ChannelError, MessageReader, MessageWriter},
    report::Report,
    router::{RouterConfig, StartError},
};

/// Why the control channel ended.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("connect to the controller at {address}")]
    Connect { address: String, source: std::io::Error },
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("the controller sent an unreadable message")]
    Unreadable(#[from] serde_json::Error),
    #[error("the controller refused this router: {reason}")]
    Refused { reason: String },
    #[error("the controller's host name cannot be verified")]
    Name(#[from] InvalidDnsNameError),
}

/// Keeps a control channel up for ever.
pub(crate) struct Channel {
    id: RouterId,
    controller: (String, u16),
    advertise: Option<String>,
    connector: TlsConnector,
    events: mpsc::UnboundedSender<Event>,
    report: watch::Receiver<Report>,
}

impl Channel {
    pub(crate) fn new(
        config: &RouterConfig,
        id: RouterId,
        events: mpsc::UnboundedSender<Event>,
        report: watch::Receiver<Report>,
    ) -> Result<Self, StartError> {
        Ok(Self {
            id,
            controller: address(&config.identity)?,
            advertise: config.advertise.clone(),
            connector: connector(&config.identity)?,
            events,
            report,
        })
    }

    pub(crate) async fn run(self, replica: watch::Sender<Arc<Replica>>) {
        let mut backoff = Backoff::new();
        loop {
            let before = replica.borrow().index;
            if let Err(error) = self.connect(&replica).await {
                warn!(error = %chain(&error), "control channel down; circuits go on");
            }
            if replica.borrow().index != before {
                backoff.reset();
            }
            backoff.wait().await;
        }
    }

    async fn connect(&self, replica: &watch::Sender<Arc<Replica>>) -> Result<(), ControlError> {
        let (host, port) = &self.controller;
        let failed = |source| ControlError::Connect { address: format!("{host}:{port}"), source };
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        let name = ServerName::try_from(host.clone())?;
        let stream = self.connector.connect(name, tcp).await.map_err(failed)?;
        let (reader, writer) = tokio::io::split(stream);
        let writer = self.tell(MessageWriter::new(writer));
        let reader = self.hear(MessageReader::new(reader), replica);
        tokio::select! {
            ended = writer => ended,
            ended = reader => ended,
        }
    }

    /// Says hello, then tells every change.
    async fn tell<W: AsyncWrite + Unpin>(
        &self,
        mut writer: MessageWriter<W>,
    ) -> Result<(), ControlError> {
        let mut report = self.report.clone();
        let mut told = report.borrow_and_update().clone();
        let hello = RouterMessage::Hello {
            version: VERSION,
            router: self.id.clone(),
            address: self.advertise.clone(),
            terminators: told.terminators.clone(),
            links: told.links.clone(),
        };
        writer.send(encode(&hello)?).await?;
        while report.changed().await.is_ok() {
            let now = report.borrow_and_update().clone();
            for message in now.changes(&told) {
                writer.queue(encode(&message)?);
            }
            writer.flush().await?;
            told = now;
        }
        Ok(())
    }

    async fn hear<R: AsyncRead + Unpin>(
        &self,
        mut reader: MessageReader<R>,
        replica: &watch::Sender<Arc<Replica>>,
    ) -> Result<(), ControlError> {
        loop {
            let message = reader.next(Limits::CONTROL).await?;
            match serde_json::from_slice(&message.body)? {
                ControllerMessage::Refused { reason } => {
                    return Err(ControlError::Refused { reason });
                }
                ControllerMessage::Replica(new) => {
                    info!(index = new.index, "model received");
                    let new: Arc<Replica> = new.into();
                    // The core first: whoever waits for the index finds it in force.
                    drop(self.events.send(Event::Replica(Arc::clone(&new))));
                    replica.send_replace(new);
                }
            }
        }
    }
}

fn encode(message: &RouterMessage) -> Result<Message, serde_json::Error> {
    Ok(Message::new(CONTENT_TYPE).with_body(Bytes::from(serde_json::to_vec(message)?)))
}

fn address(identity: &Identity) -> Result<(String, u16), IdentityError> {
    identity.controller_address()
}

fn connector(identity: &Identity) -> Result<TlsConnector, TlsSetupError> {
    Ok(TlsConnector::from(Arc::new(identity.client_config(&[ALPN])?)))
}

/// An error and all its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
