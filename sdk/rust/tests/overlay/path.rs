//! A router that does not keep its hands off what it forwards.
//!
//! It stands where the SDKs expect their router, with a router's own certificate, and passes messages
//! on to the real one, each as it likes. Towards the real router it acts with the clients' identities:
//! code in a router could do all of this, and more cannot be asked of a test.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::BytesMut;
use nightgate_identity::{ClientTrust, OldestTls};
use nightgate_sdk::Identity;
use nightgate_wire::{
    channel::{Limits, Message},
    edge,
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Which way a message goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    ToRouter,
    ToClient,
}

/// What the router makes of a message: none, one, or several.
pub(crate) type Meddle = Box<dyn FnMut(Way, Message) -> Vec<Message> + Send>;

/// What is done to messages, changed from test to test.
#[derive(Clone)]
pub(crate) struct Meddler(Arc<Mutex<Meddle>>);

impl Meddler {
    /// Passes everything on.
    pub(crate) fn honest() -> Self {
        Self(Arc::new(Mutex::new(Box::new(|_, message| vec![message]))))
    }

    /// From now on does this.
    pub(crate) fn turn(&self, meddle: impl FnMut(Way, Message) -> Vec<Message> + Send + 'static) {
        *self.0.lock().unwrap() = Box::new(meddle);
    }

    fn handle(&self, way: Way, message: Message) -> Vec<Message> {
        self.0.lock().unwrap()(way, message)
    }
}

/// Listens at `address` with the certificate of `router` for the clients of the router at `real`.
pub(crate) async fn stand_at(
    (address, oldest): (SocketAddr, OldestTls),
    router: &Identity,
    real: SocketAddr,
    clients: Arc<Mutex<Vec<Identity>>>,
    meddler: Meddler,
) {
    let listener = TcpListener::bind(address).await.unwrap();
    let trust = ClientTrust::new(router).unwrap();
    let tls = router.server_config(trust, &[edge::ALPN], oldest).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, clients, meddler) =
                (acceptor.clone(), Arc::clone(&clients), meddler.clone());
            tokio::spawn(async move {
                let Ok(client) = acceptor.accept(tcp).await else { return };
                let presented = client.get_ref().1.peer_certificates().unwrap()[0].clone();
                let identity = {
                    let known = clients.lock().unwrap();
                    let same = |it: &&Identity| it.certificates().unwrap()[0] == presented;
                    known.iter().find(same).unwrap().clone()
                };
                let tls =
                    TlsConnector::from(Arc::new(identity.client_config(&[edge::ALPN]).unwrap()));
                let tcp = TcpStream::connect(real).await.unwrap();
                let Ok(upstream) = tls.connect(ServerName::from(real.ip()), tcp).await else {
                    return;
                };
                let (from_client, to_client) = split(client);
                let (from_router, to_router) = split(upstream);
                tokio::select! {
                    () = forward(from_client, to_router, Way::ToRouter, meddler.clone()) => {}
                    () = forward(from_router, to_client, Way::ToClient, meddler) => {}
                }
            });
        }
    });
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    meddler: Meddler,
) {
    let mut buffer = BytesMut::new();
    loop {
        let mut out = BytesMut::new();
        while let Some(message) = Message::decode(&mut buffer, Limits::EDGE).unwrap() {
            for message in meddler.handle(way, message) {
                message.encode(&mut out);
            }
        }
        if to.write_all(&out).await.is_err() || to.flush().await.is_err() {
            return;
        }
        if from.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return;
        }
    }
}
