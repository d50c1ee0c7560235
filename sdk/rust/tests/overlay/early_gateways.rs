//! Data that goes with dials between programs and gateways.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use nightgate_gateway::{
    carried::CarriedFlows,
    hosting::{InstanceSecret, UDP_IDLE},
    intercept::Intercepts,
    interceptor::Interceptor,
    listener::{LOOPBACKS, TransparentListener},
    names::SyntheticRanges,
};
use nightgate_model::{
    configs::{EndToEndV1, Protocol},
    replica::Replica,
};
use nightgate_sdk::{
    BindOptions, Context, DialFailure, DialOptions, EndToEnd, FailureCause, Listener, Stream,
};
use nightgate_telemetry::Metrics;
use nightgate_wire::{
    channel::Message,
    edge::{content, header},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    hosting::{Gateway, until},
    path::{Meddler, Way},
    support::{Clients, Overlay, free_address},
};

/// Longer than a circuit takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a client says first, and then.
const FIRST: &[u8] = b"a question";
const THEN: &[u8] = b" and more of it";
/// No service here has a name that clients ask for.
const NO_NAMES: SyntheticRanges = SyntheticRanges {
    v4: (Ipv4Addr::new(100, 64, 0, 0), 10),
    v6: (Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 0), 64),
};
/// How far off a repeated dial's connection id is from the first one's.
const OFF: u32 = 1 << 20;

/// Documents of a service that lets dials carry data, or not, besides others.
fn documents(lets: bool, others: &Value) -> Value {
    let mut config = others.clone();
    config["end-to-end.v1"] = json!({ "method": "negotiated", "earlyData": lets });
    json!({ "config": config })
}

fn server(address: SocketAddr) -> Value {
    let (address, port) = (address.ip().to_string(), address.port());
    json!({ "host.v1": { "protocol": "tcp", "address": address, "port": port } })
}

/// A program that dials what a gateway hosts, through a router that meddles.
struct Dialing {
    overlay: Overlay,
    meddler: Meddler,
    gateway: Gateway,
    dialer: Context,
}

impl Dialing {
    async fn set(lets: bool, server_at: SocketAddr) -> Self {
        let meddler = Meddler::honest();
        let overlay = Overlay::start_behind(&meddler, Clients::Modern).await;
        overlay.operator.create_service("servers", true).await;
        overlay.operator.delete("edge-router-policies", "all-identities-all-routers").await;
        let r1 = format!("@{}", overlay.operator.id_of("edge-routers", "r1").await);
        let policy = json!({
            "name": "not-the-gateway", "semantic": "AnyOf", "identityRoles": ["#all"],
            "edgeRouterRoles": [r1],
        });
        overlay.operator.create("edge-router-policies", &policy).await;
        let fields = documents(lets, &server(server_at));
        overlay.operator.patch("services", "servers", &fields).await;
        let listen = Some(free_address(Ipv4Addr::LOCALHOST.into()));
        let setup = (&overlay, "gateway", listen);
        let secret = InstanceSecret::default();
        let gateway = Gateway::start_with(setup, &["servers-host"], UDP_IDLE, secret).await;
        let dialer = overlay.join("dialer", &["servers-dial"]).await;
        until(&overlay, |replica| !replica.terminators.is_empty() && !replica.links.is_empty())
            .await;
        Self { overlay, meddler, gateway, dialer }
    }

    async fn dial(&self) -> Result<Stream, DialFailure> {
        let early_data = Bytes::from_static(FIRST);
        let options = DialOptions { early_data, ..DialOptions::default() };
        let dialed = timeout(PATIENCE, self.dialer.dial_with("servers", &options)).await;
        dialed.expect("an outcome").map_err(|error| error.failure)
    }

    /// A circuit whose server gets all that is said on it once; how much of it went with the dial.
    async fn talk(&self, server: &TcpListener) -> usize {
        let mut stream = self.dial().await.unwrap();
        let early = stream.early_data();
        stream.write_all(THEN).await.unwrap();
        stream.shutdown().await.unwrap();
        let (mut connection, _) = timeout(PATIENCE, server.accept()).await.unwrap().unwrap();
        let mut heard = Vec::new();
        connection.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, [FIRST, THEN].concat());
        connection.write_all(b"answer").await.unwrap();
        drop(connection);
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"answer");
        early
    }

    async fn stop(self) {
        self.gateway.stop().await;
        self.overlay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_server_gets_once_what_came_with_a_programs_dial() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = server.local_addr().unwrap();
    let scene = Dialing::set(true, address).await;
    assert_eq!(scene.talk(&server).await, 0, "nothing was left before");
    assert_eq!(scene.talk(&server).await, FIRST.len());

    // A server that is not there: what was left is used up, and the dials after that go on as the first ones.
    drop(server);
    let refused = scene.dial().await.unwrap_err();
    let DialFailure::Refused { cause, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*cause, Some(FailureCause::ConnectionRefused));
    let server = TcpListener::bind(address).await.unwrap();
    assert_eq!(scene.talk(&server).await, 0);
    assert_eq!(scene.talk(&server).await, FIRST.len());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_that_a_router_repeats_brings_a_gateway_no_data() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let scene = Dialing::set(true, server.local_addr().unwrap()).await;
    scene.talk(&server).await;

    let taken = Arc::new(Mutex::new(Vec::new()));
    scene.meddler.turn(repeat_dials(Arc::clone(&taken)));
    assert_eq!(scene.talk(&server).await, FIRST.len());
    let repeated = timeout(PATIENCE, server.accept()).await.expect("the repeated dial's");
    repeated.unwrap();
    let answered = async {
        while taken.lock().unwrap().len() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, answered).await.expect("both answers");
    assert_eq!(*taken.lock().unwrap(), [true, false]);
    scene.stop().await;
}

/// Repeats each dial behind the first data on its circuit; notes of each answer whether the host took data with the dial.
fn repeat_dials(
    taken: Arc<Mutex<Vec<bool>>>,
) -> impl FnMut(Way, Message) -> Vec<Message> + Send + 'static {
    let mut dial = None;
    move |way, message| match (way, message.content_type) {
        (Way::ToRouter, content::CONNECT) => {
            let mut again = message.clone();
            let id = again.headers.u32(header::CONN_ID).unwrap();
            again.headers.put_u32(header::CONN_ID, id + OFF);
            dial = Some(again);
            vec![message]
        }
        (Way::ToRouter, content::DATA) => [message].into_iter().chain(dial.take()).collect(),
        (Way::ToClient, content::STATE_CONNECTED) => {
            taken.lock().unwrap().push(message.headers.bytes(header::EARLY_DATA).is_some());
            let is_own = message.headers.u32(header::CONN_ID).is_some_and(|id| id < OFF);
            if is_own { vec![message] } else { Vec::new() }
        }
        _ => vec![message],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_takes_nothing_with_dials_where_the_service_does_not_let_it() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let scene = Dialing::set(false, server.local_addr().unwrap()).await;
    for _dial in 0..2 {
        assert_eq!(scene.talk(&server).await, 0);
    }
    scene.stop().await;
}

/// A gateway whose clients reach the service `desk` at an address.
struct Intercepting {
    overlay: Overlay,
    gateway: Gateway,
    at: SocketAddr,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Intercepting {
    async fn set() -> Self {
        let overlay = Overlay::start().await;
        overlay.operator.create_service("desk", true).await;
        let gateway = Gateway::start(&overlay, &["desk-dial"], UDP_IDLE).await;
        let listener = TransparentListener::open(LOOPBACKS[0]).unwrap();
        let at = listener.address();
        let (table, interceptor) = intercepts(&gateway);
        let mut seen = interceptor.table.clone();
        let tasks = [tokio::spawn(table), tokio::spawn(listener.run(interceptor))];
        let scene = Self { overlay, gateway, at, _tasks: tasks.map(AbortOnDropHandle::new) };
        scene.configure(true, &json!({})).await;
        let known = seen.wait_for(|table| table.service_at(Protocol::Tcp, at).is_some());
        timeout(PATIENCE, known).await.expect("it intercepts").unwrap();
        scene
    }

    /// Says how the service is hosted, and whether dials may carry data.
    async fn configure(&self, lets: bool, host: &Value) {
        let mut others = host.clone();
        others["intercept.v1"] = json!({
            "protocols": ["tcp"], "addresses": [self.at.ip().to_string()],
            "portRanges": [{ "low": self.at.port(), "high": self.at.port() }],
        });
        self.overlay.operator.patch("services", "desk", &documents(lets, &others)).await;
    }

    /// Waits until the gateway knows this of the model.
    async fn until(&self, known: impl FnMut(&Arc<Replica>) -> bool) {
        let mut replica = self.gateway.router.replica();
        timeout(PATIENCE, replica.wait_for(known)).await.expect("it hears of it").unwrap();
    }

    /// A client that says all, and the program that hears it; how much of it went with the dial.
    async fn talk(&self, host: &mut Listener) -> usize {
        let mut client = TcpStream::connect(self.at).await.unwrap();
        client.write_all(FIRST).await.unwrap();
        let (mut accepted, _) = timeout(PATIENCE, host.accept()).await.expect("a dial");
        client.write_all(THEN).await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        accepted.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, [FIRST, THEN].concat());
        accepted.write_all(b"answer").await.unwrap();
        accepted.shutdown().await.unwrap();
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"answer");
        accepted.early_data()
    }

    /// Talks until what the client says first has gone with a dial: a gateway does not wait long for it.
    async fn talk_until_carried(&self, host: &mut Listener) {
        let carried = async { while self.talk(host).await != FIRST.len() {} };
        timeout(PATIENCE, carried).await.expect("data with a dial");
    }

    async fn stop(self) {
        self.gateway.stop().await;
        self.overlay.stop().await;
    }
}

/// What a gateway intercepts, followed by a task, and who dials for it.
fn intercepts(gateway: &Gateway) -> (impl Future<Output = ()> + Send + 'static, Interceptor) {
    let identity = gateway.router.id().as_identity();
    let (changes, table) = watch::channel(Arc::default());
    let mut compiler = Intercepts::new(identity.clone(), NO_NAMES);
    let mut replica = gateway.router.replica();
    let following = async move {
        loop {
            let (compiled, problems) = compiler.compile(&replica.borrow_and_update());
            assert!(problems.is_empty(), "{problems:?}");
            changes.send_replace(Arc::new(compiled));
            if replica.changed().await.is_err() {
                return;
            }
        }
    };
    let interceptor = Interceptor {
        router: gateway.router.clone(),
        identity,
        table,
        metrics: Metrics::new().unwrap(),
        flows: CarriedFlows::default(),
        lines: Arc::default(),
        early: Arc::default(),
        settled: watch::channel(true).1,
    };
    (following, interceptor)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_with_the_dial_what_a_gateways_client_says_first() {
    let scene = Intercepting::set().await;
    let identity = scene.overlay.enroll("host", &["desk-host"]).await;
    let host = Context::load(&identity).await.unwrap();
    let mut listener = host.bind("desk").await.unwrap();
    scene.until(|replica| replica.terminators.len() == 1 && !replica.links.is_empty()).await;
    assert_eq!(scene.talk(&mut listener).await, 0, "nothing was left before");
    scene.talk_until_carried(&mut listener).await;

    // A program that does not know it, and that has forgotten what the first one left.
    drop((listener, host));
    scene.until(|replica| replica.terminators.is_empty()).await;
    let host = Context::load(&identity).await.unwrap();
    let end_to_end = EndToEnd::OpenZiti;
    let options = BindOptions { end_to_end, ..BindOptions::default() };
    let mut listener = host.bind_with("desk", options).await.unwrap();
    scene.until(|replica| replica.terminators.len() == 1).await;
    for _dial in 0..2 {
        assert_eq!(scene.talk(&mut listener).await, 0);
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_go_on_where_the_service_lets_dials_carry_nothing_any_more() {
    let scene = Intercepting::set().await;
    let host = scene.overlay.join("host", &["desk-host"]).await;
    let mut listener = host.bind("desk").await.unwrap();
    scene.until(|replica| replica.terminators.len() == 1 && !replica.links.is_empty()).await;
    scene.talk_until_carried(&mut listener).await;
    scene.configure(false, &json!({})).await;
    let lets = |replica: &Arc<Replica>| {
        EndToEndV1::allows_early_data(&replica.service_named("desk").unwrap().config)
    };
    scene.until(|replica| !lets(replica)).await;
    // Its table follows.
    scene.talk(&mut listener).await;
    for _dial in 0..2 {
        assert_eq!(scene.talk(&mut listener).await, 0);
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_reaches_a_program_where_a_gateway_hosted_before() {
    reach_a_program_that_replaces_a_gateway(EndToEnd::Negotiated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_reaches_a_program_of_another_method_where_a_gateway_hosted_before() {
    reach_a_program_that_replaces_a_gateway(EndToEnd::OpenZiti).await;
}

/// The dialing gateway still has what the other one's circuits left, and what the program knows nothing of.
async fn reach_a_program_that_replaces_a_gateway(end_to_end: EndToEnd) {
    let scene = Intercepting::set().await;
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    scene.configure(true, &self::server(server.local_addr().unwrap())).await;
    let setup = (&scene.overlay, "host", None);
    let secret = InstanceSecret::default();
    let host = Gateway::start_with(setup, &["desk-host"], UDP_IDLE, secret).await;
    scene.until(|replica| replica.terminators.len() == 1 && replica.links.len() > 1).await;
    for _circuit in 0..2 {
        let _client = TcpStream::connect(scene.at).await.unwrap();
        timeout(PATIENCE, server.accept()).await.expect("a connection").unwrap();
    }
    host.stop().await;
    scene.until(|replica| replica.terminators.is_empty()).await;

    let program = scene.overlay.join("program", &["desk-host"]).await;
    let options = BindOptions { end_to_end, ..BindOptions::default() };
    let mut listener = program.bind_with("desk", options).await.unwrap();
    scene.until(|replica| replica.terminators.len() == 1).await;
    scene.talk(&mut listener).await;
    scene.stop().await;
}
