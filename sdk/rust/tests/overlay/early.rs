//! Data that goes with a dial.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use nightgate_model::replica::Replica;
use nightgate_sdk::{Context, DialOptions, EndToEnd, Listener, Stream};
use nightgate_wire::{
    channel::Message,
    edge::{ROUTER_CONN_IDS, content, header},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{end_to_end::Scene, hosting::until, path::Way, support::Overlay};

/// Longer than a dial takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host and a dialer of a service that lets dials carry data, and the router between them.
struct Ends {
    scene: Scene,
    listener: Listener,
    dialer: Context,
}

impl Ends {
    async fn meet() -> Self {
        let scene = Scene::set(EndToEnd::Native).await;
        let config = json!({ "end-to-end.v1": { "method": "native", "earlyData": true } });
        scene.overlay.operator.patch("services", "desk", &json!({ "config": config })).await;
        let [host, dialer] = &scene.identities;
        let listener = Context::load(host).await.unwrap().bind_identity("desk").await.unwrap();
        let dialer = Context::load(dialer).await.unwrap();
        Self { scene, listener, dialer }
    }

    /// A circuit that begins with this; how much of it went with the dial.
    async fn begin(&mut self, data: &'static [u8]) -> (Stream, Stream, usize) {
        let options = DialOptions {
            early_data: Bytes::from_static(data),
            instance: Some("host".into()),
            ..DialOptions::default()
        };
        let both =
            async { tokio::join!(self.dialer.dial_with("desk", &options), self.listener.accept()) };
        let (dialed, (accepted, _)) =
            timeout(PATIENCE, both).await.expect("both ends of a circuit");
        let dialed = dialed.unwrap();
        let early = dialed.early_data();
        (dialed, accepted, early)
    }
}

async fn read<const N: usize>(stream: &mut Stream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// Data that a dialer sends on its circuit.
fn is_of_the_dialer(way: Way, message: &Message) -> bool {
    let is_own = message.headers.u32(header::CONN_ID).is_some_and(|id| id < ROUTER_CONN_IDS);
    way == Way::ToRouter && message.content_type == content::DATA && is_own
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_answers_what_came_with_the_dial_and_nothing_after_it() {
    let mut ends = Ends::meet().await;
    let (_first, mut accepted, early) = ends.begin(b"one").await;
    assert_eq!((early, accepted.early_data()), (0, 0), "nothing was left before");
    assert_eq!(&read(&mut accepted).await, b"one");

    let seen = Arc::new(Mutex::new(BytesMut::new()));
    let record = Arc::clone(&seen);
    ends.scene.meddler.turn(move |way, message| {
        message.encode(&mut record.lock().unwrap());
        if is_of_the_dialer(way, &message) { Vec::new() } else { vec![message] }
    });
    let (mut dialed, mut accepted, early) = ends.begin(b"known from the beginning").await;
    assert_eq!((early, accepted.early_data()), (24, 24));
    assert_eq!(&read(&mut accepted).await, b"known from the beginning");
    accepted.write_all(b"answer").await.unwrap();
    assert_eq!(&read(&mut dialed).await, b"answer");
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(!seen.windows(5).any(|window| window == b"known"), "sealed");
    ends.scene.overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_go_with_a_dial_follows_it() {
    static LONG: [u8; 10_000] = [7; 10_000];
    let mut ends = Ends::meet().await;
    ends.begin(b"one").await;
    // A host that begins anew has forgotten what circuits left.
    let host = Context::load(&ends.scene.identities[0]).await.unwrap();
    let before = ends.scene.overlay.router.replica().borrow().terminators.clone();
    drop(std::mem::replace(&mut ends.listener, host.bind_identity("desk").await.unwrap()));
    // Otherwise a dial may yet be for the listener that was.
    let has_taken_over = |replica: &Arc<Replica>| {
        let mut named = replica.terminators.iter().filter(|it| it.instance == "host").peekable();
        named.peek().is_some() && named.all(|it| before.iter().all(|old| old.id != it.id))
    };
    until(&ends.scene.overlay, has_taken_over).await;
    for expected in [0, 4_096] {
        let (mut dialed, mut accepted, early) = ends.begin(&LONG).await;
        assert_eq!((early, accepted.early_data()), (expected, expected));
        dialed.shutdown().await.unwrap();
        let mut received = Vec::new();
        accepted.read_to_end(&mut received).await.unwrap();
        assert!(received == LONG, "{} bytes", received.len());
    }
    ends.scene.overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dials_carry_nothing_where_the_service_does_not_let_them() {
    let overlay = Overlay::start().await;
    for (name, encrypted) in [("sealed", true), ("plain", false)] {
        overlay.operator.create_service(name, encrypted).await;
        let host = overlay.join(&format!("{name}-host"), &[&format!("{name}-host")]).await;
        let dialer = overlay.join(&format!("{name}-dialer"), &[&format!("{name}-dial")]).await;
        let mut listener = host.bind(name).await.unwrap();
        let options =
            DialOptions { early_data: Bytes::from_static(b"first"), ..DialOptions::default() };
        for _dial in 0..2 {
            let (dialed, (mut accepted, _)) =
                tokio::join!(dialer.dial_with(name, &options), listener.accept());
            assert_eq!((dialed.unwrap().early_data(), accepted.early_data()), (0, 0));
            assert_eq!(&read(&mut accepted).await, b"first");
        }
    }
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_hides_that_data_was_taken_ends_the_circuit() {
    let mut ends = Ends::meet().await;
    ends.begin(b"one").await;
    ends.scene.meddler.turn(|way, mut message| {
        if way == Way::ToClient && message.content_type == content::STATE_CONNECTED {
            message.headers.remove(header::EARLY_DATA);
        }
        vec![message]
    });
    let (_dialed, mut accepted, early) = ends.begin(b"two").await;
    assert_eq!((early, accepted.early_data()), (0, 3));
    let mut received = Vec::new();
    let error = accepted.read_to_end(&mut received).await.unwrap_err();
    assert_eq!((error.kind(), &received[..]), (io::ErrorKind::InvalidData, &b"two"[..]));
    ends.scene.overlay.stop().await;
}
