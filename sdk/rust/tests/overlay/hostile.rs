//! Peers at a router's port that speak the protocol and mean no good.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::BytesMut;
use nightgate_sdk::{Context, Identity, enroll};
use nightgate_wire::{
    channel::{self, Limits, Message},
    edge, link,
};
use rustls::{
    ClientConfig, RootCertStore,
    version::{TLS12, TLS13},
};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{Clients, Overlay};

/// Nothing here waits for time to pass; a router that does not answer fails the test instead of
/// hanging it.
const PATIENCE: Duration = Duration::from_secs(20);

/// An identity that talks to controller and router by hand.
pub(crate) struct Peer {
    identity: Identity,
    http: reqwest::Client,
    pub(crate) token: String,
}

impl Peer {
    pub(crate) async fn join(overlay: &Overlay, name: &str, attributes: &[&str]) -> Self {
        let jwt = overlay.operator.create_identity(name, attributes).await;
        let identity = enroll(&jwt).await.unwrap();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(identity.client_config(&[b"http/1.1"]).unwrap())
            .build()
            .unwrap();
        let url = format!("{}/authenticate?method=cert", identity.controller());
        let session: Value =
            http.post(url).json(&json!({})).send().await.unwrap().json().await.unwrap();
        let token = session["data"]["token"].as_str().unwrap().to_owned();
        Self { identity, http, token }
    }

    /// The token of a service session, as the controller gives it.
    pub(crate) async fn session(&self, service: &str, kind: &str) -> String {
        let call = |request: reqwest::RequestBuilder| async {
            let answer = request.header("zt-session", &self.token).send().await.unwrap();
            answer.error_for_status().unwrap().json::<Value>().await.unwrap()
        };
        let base = self.identity.controller();
        let services = call(self.http.get(format!("{base}/services"))).await;
        let found = services["data"].as_array().unwrap().iter().find(|s| s["name"] == service);
        let body = json!({ "serviceId": found.unwrap()["id"], "type": kind });
        let session = call(self.http.post(format!("{base}/sessions")).json(&body)).await;
        session["data"]["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn tls(&self, protocol: &[u8]) -> ClientConfig {
        self.identity.client_config(&[protocol]).unwrap()
    }
}

/// A connection to the router.
pub(crate) struct Wire(TlsStream<TcpStream>, BytesMut);

impl Wire {
    pub(crate) async fn open(overlay: &Overlay, tls: ClientConfig) -> std::io::Result<Self> {
        let address = overlay.router.listening().unwrap();
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::from(address.ip());
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
        Ok(Self(stream, BytesMut::new()))
    }

    pub(crate) async fn send(&mut self, message: &Message) {
        let mut wire = BytesMut::new();
        message.encode(&mut wire);
        self.send_bytes(&wire).await;
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        // The router may have closed already, which is what the test is about.
        drop(self.0.write_all(bytes).await);
        drop(self.0.flush().await);
    }

    /// The next message; `None` when the router closed.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = Message::decode(&mut self.1, Limits::EDGE).unwrap() {
                return Some(message);
            }
            let read = timeout(PATIENCE, self.0.read_buf(&mut self.1)).await.unwrap();
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Says hello with this token and returns whether the router let us in.
    pub(crate) async fn hello(&mut self, token: &str) -> bool {
        let mut hello = Message::new(channel::content::HELLO).with_body("test");
        hello.headers.put_text(edge::header::SESSION_TOKEN, token);
        self.send(&hello).await;
        let answer = self.next().await.unwrap();
        assert_eq!(answer.content_type, channel::content::RESULT);
        answer.headers.is_true(channel::header::RESULT_SUCCESS)
    }
}

pub(crate) fn request(content: i32, token: &str) -> Message {
    let mut message = Message::new(content).with_body(token.to_owned());
    message.headers.put_u32(edge::header::CONN_ID, 1);
    message
}

async fn echoes(overlay: &Overlay) -> Context {
    overlay.operator.create_service("echo", true).await;
    overlay.join("host", &["echo-host"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_of_our_authority_nobody_gets_a_word() {
    let overlay = Overlay::start().await;
    let peer = Peer::join(&overlay, "anna", &[]).await;
    let mut roots = RootCertStore::empty();
    for certificate in peer.identity.trusted().unwrap() {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&TLS13]).unwrap();
    let mut anonymous = builder.with_root_certificates(roots).with_no_client_auth();
    anonymous.alpn_protocols = vec![edge::ALPN.to_vec()];

    // In TLS 1.3 the client learns of the refusal with its first read.
    if let Ok(mut wire) = Wire::open(&overlay, anonymous).await {
        wire.send(&Message::new(channel::content::HELLO)).await;
        assert_eq!(wire.next().await, None);
    }
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_older_than_1_3_is_for_routers_that_were_told_so() {
    for (clients, is_served) in [(Clients::Modern, false), (Clients::AlsoLegacy, true)] {
        let overlay = Overlay::start_for(Ipv4Addr::LOCALHOST.into(), clients).await;
        let peer = Peer::join(&overlay, "anna", &[]).await;
        let mut roots = RootCertStore::empty();
        for certificate in peer.identity.trusted().unwrap() {
            roots.add(certificate).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&TLS12]).unwrap();
        let certificates = peer.identity.certificates().unwrap();
        let key = peer.identity.private_key().unwrap();
        // Clients of 2022 name no application protocol.
        let old = builder.with_root_certificates(roots).with_client_auth_cert(certificates, key);
        match Wire::open(&overlay, old.unwrap()).await {
            Ok(mut wire) => assert!(is_served && wire.hello(&peer.token).await),
            Err(_refused) => assert!(!is_served),
        }
        overlay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_controller_did_not_sign_opens_no_channel() {
    let overlay = Overlay::start().await;
    let peer = Peer::join(&overlay, "anna", &[]).await;
    let (head, signature) = peer.token.rsplit_once('.').unwrap();
    let swapped: String = signature.chars().rev().collect();
    for token in ["", "garbage", &format!("{head}.{swapped}"), &format!("{head}.")] {
        let mut wire = Wire::open(&overlay, peer.tls(edge::ALPN)).await.unwrap();
        assert!(!wire.hello(token).await, "{token}");
        assert_eq!(wire.next().await, None, "the router closes after the refusal");
    }
    let mut wire = Wire::open(&overlay, peer.tls(edge::ALPN)).await.unwrap();
    assert!(wire.hello(&peer.token).await, "the real one does");
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_is_worth_nothing_without_its_certificate() {
    let overlay = Overlay::start().await;
    let anna = Peer::join(&overlay, "anna", &[]).await;
    let thief = Peer::join(&overlay, "thief", &[]).await;
    let mut wire = Wire::open(&overlay, thief.tls(edge::ALPN)).await.unwrap();
    assert!(!wire.hello(&anna.token).await);
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_serves_only_its_owner_and_its_purpose() {
    let overlay = Overlay::start().await;
    let _host = echoes(&overlay).await;
    let anna = Peer::join(&overlay, "anna", &["echo-dial"]).await;
    let thief = Peer::join(&overlay, "thief", &["echo-dial"]).await;
    let session = anna.session("echo", "Dial").await;
    let attempts = [
        (&thief, edge::content::CONNECT, session.as_str()),
        (&anna, edge::content::BIND, session.as_str()),
        // An API session is no service session.
        (&anna, edge::content::CONNECT, anna.token.as_str()),
    ];
    for (peer, content, token) in attempts {
        let mut wire = Wire::open(&overlay, peer.tls(edge::ALPN)).await.unwrap();
        assert!(wire.hello(&peer.token).await);
        wire.send(&request(content, token)).await;
        let answer = wire.next().await.unwrap();
        assert_eq!(answer.content_type, edge::content::STATE_CLOSED);
        assert_eq!(answer.body, "Invalid Session");
    }
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_identity_loses_its_channel() {
    let overlay = Overlay::start().await;
    let peer = Peer::join(&overlay, "anna", &[]).await;
    let mut wire = Wire::open(&overlay, peer.tls(edge::ALPN)).await.unwrap();
    assert!(wire.hello(&peer.token).await);

    overlay.operator.delete("identities", "anna").await;

    assert_eq!(wire.next().await, None);
    let mut again = Wire::open(&overlay, peer.tls(edge::ALPN)).await.unwrap();
    assert!(!again.hello(&peer.token).await);
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_is_no_router() {
    let overlay = Overlay::start().await;
    let peer = Peer::join(&overlay, "anna", &[]).await;
    let mut wire = Wire::open(&overlay, peer.tls(link::ALPN)).await.unwrap();
    let mut hello = BytesMut::new();
    let mut headers = nightgate_wire::Headers::new();
    headers.put_u32(link::header::VERSION, link::VERSION);
    link::Frame::Hello(headers).encode(&mut hello);
    wire.send_bytes(&hello).await;

    assert_eq!(wire.next().await, None);
    assert!(overlay.router.status().await.links.is_empty());
    overlay.stop().await;
}

/// Newer clients say more: it is passed over, and what is known of it still counts.
#[tokio::test(flavor = "multi_thread")]
async fn messages_and_headers_that_are_not_known_end_nothing() {
    let overlay = Overlay::start().await;
    let peer = Peer::join(&overlay, "anna", &[]).await;
    let mut wire = Wire::open(&overlay, peer.tls(edge::ALPN)).await.unwrap();
    assert!(wire.hello(&peer.token).await);
    for content in [channel::content::HELLO, 5, 10_900, 60_803, 60_806, i32::MAX, i32::MIN] {
        let mut later = request(content, "later");
        later.headers.put_text(2_147_000, "later");
        wire.send(&later).await;
    }
    let mut probe = Message::new(channel::content::LATENCY);
    probe.headers.put_text(9_999, "later").put(channel::header::REFLECTED, vec![7; 8]);
    wire.send(&probe).await;
    let answer = wire.next().await.unwrap();
    assert_eq!(answer.content_type, channel::content::RESULT);
    assert_eq!(answer.headers.bytes(channel::header::REFLECTED).unwrap().as_ref(), [7; 8]);
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_its_own_channel_and_nothing_else() {
    let overlay = Overlay::start().await;
    let peer = Peer::join(&overlay, "anna", &[]).await;
    let mut bystander = Wire::open(&overlay, peer.tls(edge::ALPN)).await.unwrap();
    assert!(bystander.hello(&peer.token).await);
    let endless = [&channel::MAGIC[..], &[0xff; 16]].concat();
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n    "[..], &endless, &[0; 64]] {
        let mut early = Wire::open(&overlay, peer.tls(edge::ALPN)).await.unwrap();
        early.send_bytes(nonsense).await;
        assert_eq!(early.next().await, None);
        let mut late = Wire::open(&overlay, peer.tls(edge::ALPN)).await.unwrap();
        assert!(late.hello(&peer.token).await);
        late.send_bytes(nonsense).await;
        assert_eq!(late.next().await, None);
    }
    bystander.send(&Message::new(channel::content::LATENCY)).await;
    let answer = bystander.next().await.unwrap();
    assert_eq!(answer.content_type, channel::content::RESULT);
    overlay.stop().await;
}

/// Whoever opens connections and says nothing keeps nobody else from the router.
#[tokio::test(flavor = "multi_thread")]
async fn half_open_handshakes_of_one_source_have_a_bound() {
    let overlay = Overlay::start().await;
    let address = overlay.router.listening().unwrap();
    let mut silent = Vec::new();
    // More than the handshakes of all sources together.
    for _ in 0..400 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, 9), 0).into()).unwrap();
        silent.push(socket.connect(address).await.unwrap());
    }
    let peer = Peer::join(&overlay, "anna", &[]).await;

    let mut wire = Wire::open(&overlay, peer.tls(edge::ALPN)).await.unwrap();

    assert!(wire.hello(&peer.token).await);
    drop(silent);
    overlay.stop().await;
}
