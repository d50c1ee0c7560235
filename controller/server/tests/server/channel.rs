//! A router's end of a control channel.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use nightgate_model::{
    control::{ALPN, CONTENT_TYPE, ControllerMessage, RouterMessage, VERSION},
    id::RouterId,
    replica::{Digest, Replica},
};
use nightgate_wire::channel::{Limits, Message};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::common::{Credentials, Lab, tls};

/// What must happen in the tests happens within this, or not at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// A router's end of a control channel.
pub(crate) struct Channel {
    pub(crate) stream: TlsStream<TcpStream>,
    buffer: BytesMut,
    pub(crate) replica: Replica,
    pub(crate) digest: Digest,
}

impl Channel {
    pub(crate) async fn open(
        lab: &Lab,
        credentials: Option<&Credentials>,
        alpn: &[u8],
    ) -> std::io::Result<Self> {
        let connector = TlsConnector::from(Arc::new(tls(&lab.ca, credentials, &[alpn])));
        let stream = TcpStream::connect(lab.address()).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, stream).await?;
        let (replica, digest) = (Replica::default(), Digest::default());
        Ok(Self { stream, buffer: BytesMut::new(), replica, digest })
    }

    /// Opens a channel and says hello.
    pub(crate) async fn hello(lab: &Lab, id: &str, credentials: &Credentials) -> Self {
        let mut channel = Self::open(lab, Some(credentials), ALPN).await.unwrap();
        channel.send(&hello(id)).await;
        channel
    }

    pub(crate) async fn send(&mut self, message: &RouterMessage) {
        let message = Message::new(CONTENT_TYPE).with_body(serde_json::to_vec(message).unwrap());
        let mut frame = BytesMut::new();
        message.encode(&mut frame);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next message; `None` when the controller closed the channel.
    pub(crate) async fn next(&mut self) -> Option<ControllerMessage> {
        tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(frame) = Message::decode(&mut self.buffer, Limits::CONTROL).unwrap() {
                    assert_eq!(frame.content_type, CONTENT_TYPE);
                    return Some(serde_json::from_slice(&frame.body).unwrap());
                }
                if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                    return None;
                }
            }
        })
        .await
        .expect("the controller answers or closes")
    }

    /// Whether the controller speaks to whoever has this certificate.
    pub(crate) async fn is_accepted(lab: &Lab, credentials: &Credentials, alpn: &[u8]) -> bool {
        let Ok(mut channel) = Self::open(lab, Some(credentials), alpn).await else { return false };
        channel.send(&hello("hub")).await;
        let nothing = ControllerMessage::Replica(Box::new(nothing()));
        channel.next().await.is_some_and(|message| message != nothing)
    }

    /// The first message that says nothing of the model.
    pub(crate) async fn answer(&mut self) -> ControllerMessage {
        loop {
            match self.next().await.unwrap() {
                ControllerMessage::Replica(_)
                | ControllerMessage::Changes(_)
                | ControllerMessage::Alive => {}
                answer @ (ControllerMessage::Refused { .. }
                | ControllerMessage::Certificate { .. }
                | ControllerMessage::NoCertificate { .. }
                | ControllerMessage::QuarantineBegun { .. }) => return answer,
            }
        }
    }

    /// The first replica that fulfils a condition.
    pub(crate) async fn replica(&mut self, wanted: impl Fn(&Replica) -> bool) -> Replica {
        loop {
            match self.next().await {
                Some(ControllerMessage::Replica(replica)) => {
                    (self.digest, self.replica) = (replica.digest(), *replica);
                }
                Some(ControllerMessage::Changes(changes)) => {
                    changes.apply(&mut self.replica, &mut self.digest).unwrap();
                }
                Some(ControllerMessage::Alive | ControllerMessage::QuarantineBegun { .. }) => {}
                other => panic!("expected a replica, found {other:?}"),
            }
            if wanted(&self.replica) {
                return self.replica.clone();
            }
        }
    }
}

pub(crate) fn hello(id: &str) -> RouterMessage {
    RouterMessage::Hello {
        version: VERSION,
        router: RouterId::new(id),
        address: Some("router.example:443".into()),
        terminators: vec![],
        links: vec![],
        holds: None,
    }
}

/// What a router is left with that may not connect any more.
pub(crate) fn nothing() -> Replica {
    Replica { index: 1, ..Replica::default() }
}
