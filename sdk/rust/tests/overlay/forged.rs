//! A router of the overlay that says others dial who do not.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use nightgate_model::id::{IdentityId, ServiceId};
use nightgate_router::{
    DialRequest, FailureCause, KeyShare, Lanes, LinkConfig, Router, RouterConfig,
};
use nightgate_sdk::{Identity, Listener, enroll_router};
use nightgate_wire::{
    Headers,
    link::{ALPN, Frame, PathId, VERSION, header},
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{hostile::Peer, support::Overlay};

/// Nothing here waits for time to pass.
const PATIENCE: Duration = Duration::from_secs(20);

/// A link to the overlay's router, held by a router that was enrolled and has gone bad.
struct BadRouter {
    id: String,
    identity: Identity,
    link: TlsStream<TcpStream>,
    input: BytesMut,
    circuits: u64,
}

impl BadRouter {
    async fn start(overlay: &Overlay) -> Self {
        let identity = enroll_router(&overlay.operator.create_router("bad").await, None).await;
        let identity = identity.unwrap();
        let mut replica = overlay.router.replica();
        let known = replica.wait_for(|replica| replica.routers.iter().any(|r| r.name == "bad"));
        let id =
            known.await.unwrap().routers.iter().find(|r| r.name == "bad").unwrap().id.to_string();
        let mut bad = Self {
            id,
            link: connect(overlay, &identity).await,
            identity,
            input: BytesMut::new(),
            circuits: 0,
        };
        bad.say_hello().await;
        bad
    }

    /// Takes another connection: the one before may have ended, because nobody answered its pings meanwhile.
    async fn link_anew(&mut self, overlay: &Overlay) {
        self.link = connect(overlay, &self.identity).await;
        self.input.clear();
        self.say_hello().await;
    }

    async fn say_hello(&mut self) {
        let mut headers = Headers::new();
        headers.put_u32(header::VERSION, VERSION);
        headers.put_text(header::GROUPS, "default");
        self.send(&Frame::Hello(headers)).await;
        assert!(matches!(self.next().await, Frame::Hello(_)));
    }

    async fn send(&mut self, frame: &Frame) {
        let mut wire = BytesMut::new();
        frame.encode(&mut wire);
        self.link.write_all(&wire).await.unwrap();
        self.link.flush().await.unwrap();
    }

    async fn next(&mut self) -> Frame {
        loop {
            if let Some(frame) = Frame::decode(&mut self.input).unwrap() {
                return frame;
            }
            let read = timeout(PATIENCE, self.link.read_buf(&mut self.input)).await.unwrap();
            assert_ne!(read.unwrap(), 0, "the router hung up");
        }
    }

    /// Asks for a circuit to a service of the router, as this identity; the cause of the refusal, if it is one.
    async fn dial(
        &mut self,
        overlay: &Overlay,
        (service, dialer): (&str, &str),
        session: Option<&str>,
    ) -> Result<(), String> {
        let path = self.id.clone();
        self.dial_along(overlay, (service, dialer), &path, session).await
    }

    /// As [`Self::dial`], for a circuit that comes along these routers.
    async fn dial_along(
        &mut self,
        overlay: &Overlay,
        (service, dialer): (&str, &str),
        path: &str,
        session: Option<&str>,
    ) -> Result<(), String> {
        let status = overlay.router.status().await;
        let hosted = |t: &&nightgate_model::entity::Terminator| t.service.as_str() == service;
        let terminator = status.terminators.iter().find(hosted).unwrap();
        let mut headers = Headers::new();
        headers
            .put_text(header::PATH, &format!("{path}\n{}", status.id))
            .put_text(header::TERMINATOR, terminator.id.as_str())
            .put_text(header::SERVICE, service)
            .put_text(header::DIALER, dialer)
            .put_text(header::CALLER, dialer)
            .put(header::ANCHOR, vec![0; 32]);
        if let Some(session) = session {
            headers.put_text(header::SESSION, session);
        }
        self.circuits += 1;
        let path_id = PathId(self.circuits);
        self.send(&Frame::Open(path_id, headers)).await;
        loop {
            let frame = self.next().await;
            if let Frame::Ping(stamp) = frame {
                self.send(&Frame::Pong(stamp)).await;
            } else if let Frame::Opened(id, _) = &frame
                && *id == path_id
            {
                return Ok(());
            } else if let Frame::Refused(id, headers) = &frame
                && *id == path_id
            {
                return Err(headers.text(header::DETAIL).unwrap().to_owned());
            }
        }
    }
}

/// Accepts whoever dials, and says nothing.
fn take_calls(mut listener: Listener) {
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(listener.accept().await);
        }
    });
}

async fn connect(overlay: &Overlay, identity: &Identity) -> TlsStream<TcpStream> {
    let address = overlay.router.listening().unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    let tls = TlsConnector::from(Arc::new(identity.client_config(&[ALPN]).unwrap()));
    tls.connect(ServerName::from(address.ip()), tcp).await.unwrap()
}

/// GHSA-7868: the router that hosts takes no other router's word for who dials.
#[tokio::test(flavor = "multi_thread")]
async fn a_router_cannot_dial_in_the_name_of_others() {
    let overlay = Overlay::start().await;
    for service in ["desk", "safe"] {
        overlay.operator.create_service(service, false).await;
    }
    let host = overlay.join("host", &["desk-host", "safe-host"]).await;
    for service in ["desk", "safe"] {
        let listener = host.bind(service).await.unwrap();
        take_calls(listener);
    }
    let anna = Peer::join(&overlay, "anna", &["desk-dial", "safe-dial"]).await;
    let bert = Peer::join(&overlay, "bert", &["desk-dial"]).await;
    let (to_desk, to_bind) =
        (anna.session("desk", "Dial").await, bert.session("desk", "Dial").await);
    let replica = overlay.router.replica().borrow().clone();
    let id_of = |name: &str| {
        let found = replica.identities.iter().find(|(_, identity)| identity.name == name);
        found.unwrap().0.to_string()
    };
    let service = |name: &str| {
        replica.services.values().find(|service| service.name == name).unwrap().id.to_string()
    };
    let (anna, desk, safe) = (id_of("anna"), service("desk"), service("safe"));
    let mut bad = BadRouter::start(&overlay).await;
    let own = bad.id.clone();

    for (what, called, session) in [
        ("no proof", (&desk, &anna), None),
        ("an invention", (&desk, &anna), Some("a.b.c")),
        ("somebody else's session", (&desk, &anna), Some(&*to_bind)),
        ("a session for another service", (&safe, &anna), Some(&*to_desk)),
        ("itself, which no policy lets dial", (&desk, &own), None),
    ] {
        let refused = bad.dial(&overlay, (called.0, called.1), session).await.unwrap_err();
        let is_named = refused.contains("not proven") || refused.contains("allows no such circuit");
        assert!(is_named, "{what}: {refused}");
    }
    bad.dial(&overlay, (&desk, &anna), Some(&to_desk)).await.unwrap();
    overlay.operator.end_sessions_of("anna").await;
    let mut replica = overlay.router.replica();
    replica.wait_for(|replica| !replica.ended_sessions.is_empty()).await.unwrap();
    bad.link_anew(&overlay).await;
    let refused = bad.dial(&overlay, (&desk, &anna), Some(&to_desk)).await.unwrap_err();
    assert!(refused.contains("ended"), "{refused}");
    overlay.stop().await;
}

/// A gateway's own circuits come with its signature, which nobody else can make.
#[tokio::test(flavor = "multi_thread")]
async fn a_router_dials_as_itself_and_no_other_in_its_name() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("desk", false).await;
    let host = overlay.join("host", &["desk-host"]).await;
    take_calls(host.bind("desk").await.unwrap());
    let token = overlay.operator.create_gateway("gw", &["desk-dial"]).await;
    let identity = enroll_router(&token, None).await.unwrap();
    let config = RouterConfig {
        identity,
        listen: None,
        advertise: None,
        legacy_clients: false,
        links: LinkConfig::default(),
        offline: nightgate_router::Offline::default(),
    };
    let gateway = Router::start(config, Lanes::here()).await.unwrap();
    let mut replica = gateway.replica();
    let known = replica.wait_for(|replica| !replica.terminators.is_empty()).await.unwrap().clone();
    let service = known.services.values().next().unwrap().id.clone();
    while gateway.status().await.links.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let dialed = gateway.dial(request(&service, &gateway.id().as_identity())).await;
    dialed.unwrap();

    let mut bad = BadRouter::start(&overlay).await;
    let path = format!("{}\n{}", gateway.id(), bad.id);
    let called = (service.as_str(), gateway.id().as_str());
    let refused = bad.dial_along(&overlay, called, &path, None).await.unwrap_err();
    assert!(refused.contains("not signed by its router"), "{refused}");
    let host = known.identities.iter().find(|(_, identity)| identity.name == "host").unwrap().0;
    let refused = gateway.dial(request(&service, host)).await.unwrap_err();
    assert_eq!(refused.cause, FailureCause::Unauthorized);
    gateway.shutdown().await;
    overlay.stop().await;
}

fn request(service: &ServiceId, identity: &IdentityId) -> DialRequest {
    DialRequest {
        service: service.clone(),
        identity: identity.clone(),
        instance: String::new(),
        caller: "gw".into(),
        key_share: KeyShare::default(),
        app_data: Default::default(),
        session: Default::default(),
        sticky: None,
    }
}
