//! End-to-end encryption through the real router, and through one that meddles.

use std::{
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use nightgate_sdk::{
    AgreementError, BindOptions, Caller, Context, DialFailure, DialOptions, EndToEnd, Identity,
    Listener, Method, RecordError, Stream,
};
use nightgate_wire::{
    channel::Message,
    edge::{content, flag, header},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    path::{Meddler, Way},
    support::{Clients, Overlay, authenticate_as_other_client},
};

/// What no router may ever see.
pub(crate) const MARKER: &[u8] = b"the plaintext marker";

/// Refuses a host that proves no identity.
fn native() -> DialOptions {
    DialOptions { end_to_end: EndToEnd::Native, ..DialOptions::default() }
}

/// An overlay whose router meddles, with a host and a dialer of one service.
pub(crate) struct Scene {
    pub(crate) overlay: Overlay,
    pub(crate) meddler: Meddler,
    pub(crate) dialer: Context,
    pub(crate) listener: Listener,
    pub(crate) host: Context,
    /// Of host and dialer.
    pub(crate) identities: [Identity; 2],
}

impl Scene {
    pub(crate) async fn set(end_to_end: EndToEnd) -> Self {
        let meddler = Meddler::honest();
        let overlay = Overlay::start_behind(&meddler, Clients::Modern).await;
        overlay.operator.create_service("desk", true).await;
        let identities = [
            overlay.enroll("host", &["desk-host"]).await,
            overlay.enroll("dialer", &["desk-dial"]).await,
        ];
        let host = Context::load(&identities[0]).await.unwrap();
        let dialer = Context::load(&identities[1]).await.unwrap();
        let options = BindOptions { end_to_end, ..BindOptions::default() };
        let listener = host.bind_with("desk", options).await.unwrap();
        Self { overlay, meddler, dialer, listener, host, identities }
    }

    async fn circuit(&mut self) -> (Stream, Stream, Caller) {
        let options = native();
        let (dialed, (accepted, caller)) =
            tokio::join!(self.dialer.dial_with("desk", &options), self.listener.accept());
        (dialed.unwrap(), accepted, caller)
    }

    async fn dial(&self) -> DialFailure {
        self.dialer.dial_with("desk", &native()).await.unwrap_err().failure
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_ends_prove_who_they_are_and_the_router_sees_no_plaintext() {
    let mut scene = Scene::set(EndToEnd::Native).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    scene.meddler.turn(move |_, message| {
        let mut wire = bytes::BytesMut::new();
        message.encode(&mut wire);
        record.lock().unwrap().extend_from_slice(&wire);
        vec![message]
    });

    let (mut dialed, mut accepted, caller) = scene.circuit().await;

    assert!(matches!(dialed.method(), Some(Method::Native(_))), "{dialed:?}");
    assert_eq!(dialed.method(), accepted.method());
    assert_eq!(caller.name, "dialer");
    let ids = [&dialed, &accepted].map(|stream| stream.peer().unwrap().id.clone());
    assert_eq!(caller.id.unwrap().as_str(), ids[1]);
    assert_eq!(scene.listener.host().id.as_ref().unwrap().as_str(), ids[0]);

    // Both halves end by themselves.
    for end in [&mut dialed, &mut accepted] {
        for _ in 0..100 {
            end.write_all(MARKER).await.unwrap();
        }
        end.shutdown().await.unwrap();
    }
    for end in [&mut dialed, &mut accepted] {
        let mut received = Vec::new();
        end.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, MARKER.repeat(100));
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(seen.len() > 200 * MARKER.len(), "everything went through the router that records");
    assert!(!seen.windows(MARKER.len()).any(|window| window == MARKER));
    scene.overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_router_does_to_records_is_noticed() {
    let mut scene = Scene::set(EndToEnd::Native).await;
    // Each is done to the records to the dialer, the third of which is the one to be touched.
    type Deed = fn(usize, Message) -> Vec<Message>;
    let deeds: [(&str, Deed, io::ErrorKind); 8] = [
        ("flip", |n, message| vec![if n == 2 { flipped(message) } else { message }], REFUSED),
        ("replay", |n, message| vec![message; if n == 2 { 2 } else { 1 }], REFUSED),
        ("drop", |n, message| vec![message; usize::from(n != 2)], REFUSED),
        ("empty", |n, message| vec![if n == 2 { message.with_body("") } else { message }], REFUSED),
        (
            "early end",
            |n, message| vec![if n == 2 { with_flags(message, 1) } else { message }],
            REFUSED,
        ),
        (
            "other flags",
            |n, message| vec![if n == 2 { with_flags(message, 8) } else { message }],
            REFUSED,
        ),
        (
            "forged end",
            |n, message| match n {
                2 => vec![with_flags(message, 1).with_body("")],
                _ => vec![message],
            },
            REFUSED,
        ),
        (
            "close",
            |n, message| match n {
                0 | 1 => vec![message],
                2 => vec![Message {
                    content_type: content::STATE_CLOSED,
                    body: Bytes::new(),
                    ..message
                }],
                _ => vec![],
            },
            io::ErrorKind::UnexpectedEof,
        ),
    ];
    for (name, deed, kind) in deeds {
        scene.meddler.turn(|_, message| vec![message]);
        let (mut dialed, mut accepted, _) = scene.circuit().await;
        let mut records = 0;
        scene.meddler.turn(move |way, message| {
            if way != Way::ToClient || message.content_type != content::DATA {
                return vec![message];
            }
            records += 1;
            deed(records - 1, message)
        });
        // One record each, because each is read before the next is written where nothing happens.
        let mut received = Vec::new();
        let mut outcome = Ok(());
        for _ in 0..5 {
            accepted.write_all(MARKER).await.unwrap();
            let mut part = [0; MARKER.len()];
            if name == "drop" && received.len() == 2 * MARKER.len() {
                received.push(0);
                continue;
            }
            match dialed.read_exact(&mut part).await {
                Ok(_) => received.extend(part),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let error = outcome.expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(received.len() <= 3 * MARKER.len(), "{name}: {} bytes", received.len());
        if name == "close" {
            let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<RecordError>());
            assert_eq!(cause, Some(&RecordError::Truncated));
        }
    }
    scene.overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_takes_open_zitis_aes_gcm_from_a_dialer_started_with_it() {
    let mut scene = Scene::set(EndToEnd::OpenZiti).await;
    for identity in &scene.identities {
        authenticate_as_other_client(identity).await;
    }
    let aes = DialOptions { end_to_end: EndToEnd::AesGcm, ..DialOptions::default() };

    let (dialed, accepted) =
        tokio::join!(scene.dialer.dial_with("desk", &aes), scene.listener.accept());
    talk_by(Method::AesGcm, dialed.unwrap(), accepted.0).await;

    // The same by the operator's word, with an application that asks for nothing.
    let config = serde_json::json!({ "config": { "end-to-end.v1": { "method": "aes-gcm" } } });
    scene.overlay.operator.patch("services", "desk", &config).await;
    let dialer = Context::load(&scene.identities[1]).await.unwrap();
    let (dialed, accepted) = tokio::join!(dialer.dial("desk"), scene.listener.accept());
    talk_by(Method::AesGcm, dialed.unwrap(), accepted.0).await;
    scene.overlay.stop().await;
}

/// Sends more than one record each way, to the end, by this method.
async fn talk_by(method: Method, mut dialed: Stream, mut accepted: Stream) {
    assert_eq!((dialed.method(), accepted.method()), (Some(method), Some(method)));
    let sent = MARKER.repeat(10_000);
    let received = tokio::join!(exchange(&mut dialed, &sent), exchange(&mut accepted, &sent));
    assert!(received.0 == sent && received.1 == sent);
}

/// Sends all and reads all of what the other end sends.
async fn exchange(end: &mut Stream, sent: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(end);
    let sending = async {
        write.write_all(sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (done, ()) = tokio::join!(read.read_to_end(&mut received), sending);
    done.unwrap();
    received
}

#[tokio::test(flavor = "multi_thread")]
async fn suppressing_the_handshake_is_noticed_where_it_is_demanded() {
    let mut scene = Scene::set(EndToEnd::Native).await;
    scene.meddler.turn(|_, message| vec![without_handshake(message)]);
    // The host refuses first.
    let failure = scene.dial().await;
    assert!(matches!(&failure, DialFailure::Refused { reason, .. } if reason.contains("prove")));

    // A host that wants no proof is not taken by a dialer that does.
    let options = BindOptions { end_to_end: EndToEnd::OpenZiti, ..BindOptions::default() };
    scene.listener = scene.host.bind_with("desk", options).await.unwrap();
    let mut failure = scene.dial().await;
    // The binding before this one may still be being taken back.
    while matches!(failure, DialFailure::Refused { .. }) {
        failure = scene.dial().await;
    }
    assert!(matches!(failure, DialFailure::NotNative), "{failure:?}");
    scene.overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suppressing_the_handshake_is_noticed_where_the_operator_demands_it() {
    let meddler = Meddler::honest();
    let overlay = Overlay::start_behind(&meddler, Clients::Modern).await;
    overlay.operator.create_service("desk", true).await;
    let demand = serde_json::json!({ "config": { "end-to-end.v1": { "method": "native" } } });
    overlay.operator.patch("services", "desk", &demand).await;
    let host = overlay.join("host", &["desk-host"]).await;
    let dialer = overlay.join("dialer", &["desk-dial"]).await;
    let mut listener = host.bind("desk").await.unwrap();

    let (dialed, (accepted, _)) = tokio::join!(dialer.dial("desk"), listener.accept());
    assert_eq!(dialed.unwrap().method(), accepted.method());
    assert!(accepted.peer().is_some());

    // The host notices, and the dialer if the host does not.
    meddler.turn(|_, message| vec![without_handshake(message)]);
    let refused = dialer.dial("desk").await.unwrap_err().failure;
    assert!(matches!(&refused, DialFailure::Refused { reason, .. } if reason.contains("prove")));
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_handshake_or_dial_is_refused() {
    let scene = Scene::set(EndToEnd::Negotiated).await;
    let tampered: [fn(Way, Message) -> Message; 4] = [
        |_, message| on_handshake(message, content::CONNECT, |bytes| bytes[1_000] ^= 1),
        |_, message| on_handshake(message, content::CONNECT, |bytes| bytes.truncate(50)),
        |_, message| on_handshake(message, content::DIAL_SUCCESS, |bytes| bytes[700] ^= 1),
        |_, mut message| {
            if message.content_type == content::CONNECT {
                message.headers.put(header::APP_DATA, "what the dialer did not say");
            }
            message
        },
    ];
    for (at, tamper) in tampered.into_iter().enumerate() {
        scene.meddler.turn(move |way, message| vec![tamper(way, message)]);
        let failure = scene.dial().await;
        let expected = match at {
            2 => matches!(failure, DialFailure::Agreement(AgreementError::Handshake(_))),
            _ => {
                matches!(&failure, DialFailure::Refused { reason, .. } if reason.contains("handshake"))
            }
        };
        assert!(expected, "{at}: {failure:?}");
    }
    scene.overlay.stop().await;
}

/// An SDK that does not know our method: the header never arrives, and it never answers one.
#[tokio::test(flavor = "multi_thread")]
async fn ends_of_which_one_is_not_ours_use_open_zitis_method() {
    let mut scene = Scene::set(EndToEnd::Negotiated).await;
    for identity in &scene.identities {
        authenticate_as_other_client(identity).await;
    }
    scene.meddler.turn(|_, message| vec![without_handshake(message)]);

    let (dialed, (mut accepted, caller)) =
        tokio::join!(scene.dialer.dial("desk"), scene.listener.accept());
    let mut dialed = dialed.unwrap();

    assert_eq!(
        (dialed.method(), accepted.method()),
        (Some(Method::OpenZiti), Some(Method::OpenZiti))
    );
    assert_eq!(dialed.peer(), None);
    assert_eq!(caller.name, "dialer");
    dialed.write_all(MARKER).await.unwrap();
    dialed.shutdown().await.unwrap();
    let mut received = Vec::new();
    accepted.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, MARKER);
    scene.overlay.stop().await;
}

const REFUSED: io::ErrorKind = io::ErrorKind::InvalidData;

fn flipped(mut message: Message) -> Message {
    let mut body = message.body.to_vec();
    body[3] ^= 0x10;
    message.body = body.into();
    message
}

fn with_flags(mut message: Message, flags: u32) -> Message {
    debug_assert_eq!(flag::FIN, 1);
    message.headers.put_u32(header::FLAGS, flags);
    message
}

pub(crate) fn without_handshake(message: Message) -> Message {
    let mut headers = nightgate_wire::Headers::new();
    for key in 0..=2_000 {
        if let Some(value) = message.headers.bytes(key) {
            headers.put(key, value.clone());
        }
    }
    Message { headers, ..message }
}

fn on_handshake(mut message: Message, of: i32, change: impl Fn(&mut Vec<u8>)) -> Message {
    let handshake = message.headers.bytes(header::HANDSHAKE).map(|bytes| bytes.to_vec());
    if let Some(mut bytes) = handshake.filter(|_| message.content_type == of) {
        change(&mut bytes);
        message.headers.put(header::HANDSHAKE, bytes);
    }
    message
}
