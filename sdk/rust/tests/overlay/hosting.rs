//! Servers behind a gateway, hosted as `host.v1` and `host.v2` say, dialed by SDKs.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use nightgate_gateway::{
    carried::CarriedFlows,
    hosting::{Hosting, InstanceSecret, UDP_IDLE, hosted_services},
};
use nightgate_model::{entity::Precedence, replica::Replica};
use nightgate_router::{BindRequest, Lanes, LinkConfig, Router, RouterConfig};
use nightgate_sdk::{
    BindOptions, Context, DialError, DialFailure, DialOptions, FailureCause, Stream, enroll_router,
};
use nightgate_telemetry::Metrics;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split},
    net::{TcpListener, UdpSocket},
    sync::watch,
    task::AbortHandle,
    time::timeout,
};

use crate::support::{Clients, Overlay};

/// Longest wait for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway without interfaces: a router that dials out, and hosts what the model lets it.
pub(crate) struct Gateway {
    pub(crate) router: Router,
    following: AbortHandle,
}

impl Gateway {
    /// Starts one with these attributes.
    pub(crate) async fn start(overlay: &Overlay, attributes: &[&str], udp_idle: Duration) -> Self {
        Self::start_with(
            (overlay, "gateway", None),
            attributes,
            udp_idle,
            InstanceSecret::default(),
        )
        .await
    }

    /// Starts one of this name that shows a secret for its instance names. Routers link to it if it listens.
    pub(crate) async fn start_with(
        (overlay, name, listen): (&Overlay, &str, Option<SocketAddr>),
        attributes: &[&str],
        udp_idle: Duration,
        secret: InstanceSecret,
    ) -> Self {
        let token = overlay.operator.create_gateway(name, attributes).await;
        let advertise = listen.map(|address| address.to_string());
        let identity = enroll_router(&token, advertise.as_deref()).await.unwrap();
        let config = RouterConfig {
            identity,
            listen,
            advertise,
            legacy_clients: false,
            links: LinkConfig::default(),
            offline: nightgate_router::Offline::default(),
        };
        let router = Router::start(config, Lanes::here()).await.unwrap();
        let own = router.id().as_identity();
        let metrics = Metrics::new().unwrap();
        let (_, table) = watch::channel(Arc::default());
        let shared = (metrics, CarriedFlows::default(), table);
        let mut hosting = Hosting::new(router.clone(), own.clone(), shared, udp_idle, secret);
        let mut replica = router.replica();
        let following = tokio::spawn(async move {
            loop {
                let (hosted, problems) = hosted_services(&replica.borrow_and_update(), &own);
                assert!(problems.is_empty(), "{problems:?}");
                hosting.apply(hosted);
                replica.changed().await.unwrap();
            }
        });
        Self { router, following: following.abort_handle() }
    }

    pub(crate) async fn stop(self) {
        self.following.abort();
        self.router.shutdown().await;
    }
}

/// Waits until the dialers' router knows this of the model.
pub(crate) async fn until(overlay: &Overlay, known: impl FnMut(&Arc<Replica>) -> bool) {
    let mut replica = overlay.router.replica();
    timeout(PATIENCE, replica.wait_for(known)).await.expect("the router hears of it").unwrap();
}

/// A gateway that hosts the service `servers` with this configuration, and a client that may dial it.
async fn scene(kind: &str, host: Value, udp_idle: Duration) -> (Overlay, Gateway, Context) {
    let terminators = host["terminators"].as_array().map_or(1, Vec::len);
    let overlay = Overlay::start().await;
    overlay.operator.create_service("servers", true).await;
    overlay.operator.patch("services", "servers", &json!({ "config": { kind: host } })).await;
    let gateway = Gateway::start(&overlay, &["servers-host"], udp_idle).await;
    let client = overlay.join("client", &["servers-dial"]).await;
    until(&overlay, |replica| {
        replica.terminators.len() == terminators && !replica.links.is_empty()
    })
    .await;
    (overlay, gateway, client)
}

/// Any server at loopback.
fn any_server() -> Value {
    json!({
        "forwardProtocol": true, "allowedProtocols": ["tcp", "udp"],
        "forwardAddress": true, "allowedAddresses": ["127.0.0.0/8", "::1"],
        "forwardPort": true, "allowedPortRanges": [{ "low": 1024, "high": 65535 }],
    })
}

async fn dial(client: &Context, protocol: &str, to: SocketAddr) -> Result<Stream, DialFailure> {
    let data = json!({
        "dst_protocol": protocol, "dst_ip": to.ip().to_string(), "dst_port": to.port().to_string(),
    });
    let options = DialOptions { app_data: data.to_string().into(), ..DialOptions::default() };
    client.dial_with("servers", &options).await.map_err(|error| error.failure)
}

const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

#[tokio::test(flavor = "multi_thread")]
async fn tcp_servers_that_the_dialer_chooses_are_reached_in_both_families() {
    let (overlay, gateway, client) = scene("host.v1", any_server(), UDP_IDLE).await;
    for loopback in LOOPBACKS {
        let server = TcpListener::bind((loopback, 0)).await.unwrap();
        let address = server.local_addr().unwrap();
        let serving = tokio::spawn(echo(server));

        let mut stream = dial(&client, "tcp", address).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();

        assert_eq!(answer, "hello");
        serving.abort();
    }
    gateway.stop().await;
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_and_programs_share_an_instance_by_its_secret() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("servers", true).await;
    let mut host = any_server();
    host["listenOptions"] = json!({ "identity": "blue" });
    overlay.operator.patch("services", "servers", &json!({ "config": { "host.v1": host } })).await;
    let file = overlay.folder().join("secret");
    fs::write(&file, "correct horse battery\n").unwrap();
    let secret = InstanceSecret::read("secret_file", &file).unwrap();
    let start = |name, secret| {
        Gateway::start_with((&overlay, name, None), &["servers-host"], UDP_IDLE, secret)
    };
    let first = start("first", secret.clone()).await;
    until(&overlay, |replica| replica.terminators.len() == 1).await;
    let second = start("second", secret).await;
    until(&overlay, |replica| replica.terminators.len() == 2).await;

    let program = overlay.join("program", &["servers-host"]).await;
    for (shown, joins) in [("", false), ("another one", false), ("correct horse battery", true)] {
        let (instance, secret) = (Some("blue".into()), shown.into());
        let options = BindOptions { instance, secret, ..BindOptions::default() };
        let bound = program.bind_with("servers", options).await;
        assert_eq!(bound.is_ok(), joins, "{shown}: {:?}", bound.err());
    }
    let third = start("third", InstanceSecret::default()).await;
    let mut replica = third.router.replica();
    let known = replica.wait_for(|replica| replica.terminators.len() >= 2);
    let service = known.await.unwrap().service_named("servers").unwrap().id.clone();
    let refused = third.router.bind(BindRequest {
        service,
        identity: third.router.id().as_identity(),
        instance: "blue".into(),
        secret: String::new(),
        precedence: Precedence::Default,
        cost: 0,
    });
    assert!(refused.is_err_and(|taken| taken.to_string().contains("same secret")));
    for gateway in [first, second, third] {
        gateway.stop().await;
    }
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_servers_see_datagrams_as_they_were_sent_until_the_flow_is_silent() {
    // Longer than a busy machine takes from one datagram to the next.
    let idle = Duration::from_secs(3);
    let (overlay, gateway, client) = scene("host.v1", any_server(), idle).await;
    for loopback in LOOPBACKS {
        let server = UdpSocket::bind((loopback, 0)).await.unwrap();
        let address = server.local_addr().unwrap();

        let messages = dial(&client, "udp", address).await.unwrap().into_messages();
        let mut flow = None;
        for sent in [&b"one"[..], b"two and more", &[7; 1_400], &[8; 9_000]] {
            messages.send(sent).await.unwrap();
            let mut received = vec![0; 65_536];
            let (length, from) = server.recv_from(&mut received).await.unwrap();
            assert_eq!(&received[..length], sent);
            assert_eq!(*flow.get_or_insert(from), from, "one flow has one source");
            server.send_to(sent, from).await.unwrap();
            assert_eq!(messages.recv().await.unwrap().unwrap(), sent);
        }
        let end = timeout(PATIENCE, messages.recv()).await.expect("silence ends the flow");
        assert_eq!(end.unwrap(), None);
    }
    gateway.stop().await;
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_server_reaches_the_dialer() {
    let (overlay, gateway, client) = scene("host.v1", any_server(), UDP_IDLE).await;
    let closed = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        listener.local_addr().unwrap()
    };
    for (protocol, to, expected) in [
        ("tcp", closed, FailureCause::ConnectionRefused),
        ("tcp", SocketAddr::from(([10, 0, 0, 1], 8080)), FailureCause::HostRefused),
        ("tcp", SocketAddr::from((Ipv4Addr::LOCALHOST, 22)), FailureCause::HostRefused),
        ("sctp", closed, FailureCause::HostRefused),
    ] {
        let failure = dial(&client, protocol, to).await.unwrap_err();
        let DialFailure::Refused { cause, reason, .. } = &failure else { panic!("{failure}") };
        assert_eq!(*cause, Some(expected), "{reason}");
    }
    gateway.stop().await;
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_answers_each_dial_and_says_why_it_refuses_and_how_it_stands() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("servers", true).await;
    let host = overlay.join("host", &["servers-host"]).await;
    let client = overlay.join("client", &["servers-dial"]).await;
    let stands = |precedence, cost| {
        until(&overlay, move |replica: &Arc<Replica>| {
            replica.terminators.iter().any(|it| (it.precedence, it.cost) == (precedence, cost))
        })
    };
    let options =
        BindOptions { precedence: Precedence::Required, cost: 7, ..BindOptions::default() };
    let mut offers = host.bind_offers("servers", options).await.unwrap();
    stands(Precedence::Required, 7).await;
    offers.update(Precedence::Failed, 8);
    stands(Precedence::Failed, 8).await;

    let dial = || {
        let client = client.clone();
        tokio::spawn(async move { client.dial("servers").await })
    };
    let cause = async |dialed: tokio::task::JoinHandle<Result<Stream, DialError>>| {
        let failure = dialed.await.unwrap().unwrap_err().failure;
        let DialFailure::Refused { cause, reason, .. } = failure else { panic!("{failure}") };
        (cause, reason)
    };
    let dialed = dial();
    let offer = offers.next().await;
    assert_eq!(offer.caller().name, "client");
    offer.refuse(FailureCause::ConnectionRefused, "connect to [::1]:80");
    let (told, reason) = cause(dialed).await;
    assert_eq!(told, Some(FailureCause::ConnectionRefused), "{reason}");
    assert!(reason.contains("connect to [::1]:80"), "{reason}");

    let dialed = dial();
    drop(offers.next().await);
    assert_eq!(cause(dialed).await.0, Some(FailureCause::HostRefused));

    let dialed = dial();
    let mut theirs = offers.next().await.accept().await.unwrap();
    let mut ours = dialed.await.unwrap().unwrap();
    theirs.write_all(b"hello").await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut said = String::new();
    ours.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "hello");
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_its_check_is_replaced_until_it_is_well_again() {
    let (first, second) = (server_that_says("first").await, server_that_says("second").await);
    let checked = |address: SocketAddr, precedence: &str| {
        json!({
            "protocol": "tcp", "address": address.ip().to_string(), "port": address.port(),
            "listenOptions": { "precedence": precedence },
            "portChecks": [{
                "address": address.to_string(), "interval": "100ms", "timeout": "1s",
                "actions": [
                    { "trigger": "fail", "consecutiveEvents": 2, "action": "mark unhealthy" },
                    { "trigger": "fail", "action": "increase cost 100" },
                    { "trigger": "pass", "action": "mark healthy" },
                    { "trigger": "pass", "action": "decrease cost 1000" },
                ],
            }],
        })
    };
    let host = json!({
        "terminators": [checked(first.address, "required"), checked(second.address, "default")],
    });
    let (overlay, gateway, client) = scene("host.v2", host, UDP_IDLE).await;
    assert_eq!(said(&client).await, "first");

    let address = first.address;
    first.stop().await;
    let failed = |replica: &Arc<Replica>| {
        replica.terminators.iter().any(|it| it.precedence == Precedence::Failed && it.cost > 0)
    };
    until(&overlay, failed).await;
    assert_eq!(said(&client).await, "second");

    let first = Server::start(TcpListener::bind(address).await.unwrap(), "first");
    until(&overlay, |replica| !failed(replica)).await;
    assert_eq!(said(&client).await, "first");
    drop((first, second));
    gateway.stop().await;
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_of_2022_dials_what_a_gateway_hosts() {
    let overlay = Overlay::start_for(Ipv4Addr::LOCALHOST.into(), Clients::AlsoLegacy).await;
    let server = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let host = json!({
        "protocol": "tcp", "address": "::1", "port": server.local_addr().unwrap().port(),
    });
    let serving = tokio::spawn(echo(server));
    overlay.operator.create_service("servers", true).await;
    let config = json!({ "config": { "host.v1": host } });
    overlay.operator.patch("services", "servers", &config).await;
    let gateway = Gateway::start(&overlay, &["servers-host"], UDP_IDLE).await;
    until(&overlay, |replica| replica.terminators.len() == 1 && !replica.links.is_empty()).await;

    let client = crate::openziti::join(&overlay, "client", &["servers-dial"]).await;
    crate::openziti::compare(&client, "servers", 10_000_000).await;

    serving.abort();
    gateway.stop().await;
    overlay.stop().await;
}

/// A server that greets everybody with a word.
struct Server {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

async fn server_that_says(word: &'static str) -> Server {
    Server::start(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), word)
}

impl Server {
    fn start(listener: TcpListener, word: &'static str) -> Self {
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                // Checks do not wait for it.
                drop(stream.write_all(word.as_bytes()).await);
            }
        });
        Self { address, task }
    }

    /// Ends it; its port is free after.
    async fn stop(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

async fn said(client: &Context) -> String {
    let mut stream = client.dial("servers").await.unwrap();
    let mut word = String::new();
    stream.read_to_string(&mut word).await.unwrap();
    word
}

async fn echo(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let (mut from, mut to) = split(stream);
            copy(&mut from, &mut to).await.unwrap();
            to.shutdown().await.unwrap();
        });
    }
}
