//! The other end of a channel in tests: a router and the hosts behind it that do what the test says,
//! in real frames over a pipe.

use bytes::Bytes;
use nightgate_e2ee::{Inbound, KeyPair, Outbound, PublicKey};
use nightgate_model::{entity::Permission, id::ServiceId};
use nightgate_wire::{
    channel::{self, Limits, Message},
    edge::{content, flag, header},
};
use tokio::io::DuplexStream;

use crate::{
    dial::{DialFailure, DialOptions, Dialer, dial},
    edge::{Channel, FrameReader, greet},
    service::Service,
    stream::Stream,
};

/// What the pipe between the two ends holds, in bytes.
const PIPE: usize = 64 * 1024;

/// A router's end of a channel.
pub(crate) struct ScriptedRouter(FrameReader<DuplexStream>);

/// One circuit as the scripted router and host see it.
pub(crate) struct ScriptedCircuit {
    pub(crate) id: u32,
    pub(crate) crypto: Option<(Outbound, Inbound)>,
}

/// An open channel and its scripted router.
pub(crate) async fn channel() -> (Channel, ScriptedRouter) {
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let mut router = ScriptedRouter(FrameReader::new(theirs));
    let (channel, ()) = tokio::join!(greet(ours, "router:443", "token"), async {
        let hello = router.recv().await;
        assert_eq!(hello.content_type, channel::content::HELLO);
        assert_eq!(hello.headers.text(header::SESSION_TOKEN), Some("token"));
        let mut answer = Message::new(channel::content::RESULT).in_reply_to(hello.sequence);
        answer.headers.put_true(channel::header::RESULT_SUCCESS);
        router.send(answer).await;
    });
    (channel.unwrap(), router)
}

/// A service the identity may dial.
pub(crate) fn service(encryption_required: bool) -> Service {
    Service {
        id: ServiceId::new("s1"),
        name: "echo".into(),
        permissions: vec![Permission::Dial],
        encryption_required,
        native_ends: Vec::new(),
        config: std::collections::BTreeMap::new(),
    }
}

/// A dialer without credentials, who knows OpenZiti's method only.
pub(crate) fn alice() -> Dialer<'static> {
    Dialer { name: "alice", credentials: None, early: None }
}

/// A dial that does not wait long.
pub(crate) async fn dial_echo(channel: &Channel, encrypted: bool) -> Result<Stream, DialFailure> {
    let options = DialOptions::default();
    dial(channel, "session", &service(encrypted), alice(), &options).await.map(|(stream, _)| stream)
}

/// A stream through the scripted router.
pub(crate) async fn circuit(
    channel: &Channel,
    router: &mut ScriptedRouter,
    encrypted: bool,
) -> (Stream, ScriptedCircuit) {
    let (stream, circuit) = tokio::join!(dial_echo(channel, encrypted), router.answer_dial());
    (stream.unwrap(), circuit)
}

impl ScriptedRouter {
    pub(crate) async fn recv(&mut self) -> Message {
        self.0.next(Limits::EDGE).await.unwrap()
    }

    /// Whether the SDK closed the connection and sent nothing before.
    pub(crate) async fn is_left(&mut self) -> bool {
        self.0.next(Limits::EDGE).await.is_err()
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.0.send(&message).await.unwrap();
    }

    /// Answers a Connect as a host would, and reads the dialer's stream header.
    pub(crate) async fn answer_dial(&mut self) -> ScriptedCircuit {
        let connect = self.recv().await;
        assert_eq!(connect.content_type, content::CONNECT);
        assert_eq!(connect.body, "session");
        assert_eq!(connect.headers.text(header::CALLER_ID), Some("alice"));
        let id = connect.headers.u32(header::CONN_ID).unwrap();
        let mut answer = message(content::STATE_CONNECTED, id).in_reply_to(connect.sequence);
        let mut crypto = connect.headers.bytes(header::PUBLIC_KEY).map(|dialer| {
            let keys = KeyPair::generate().unwrap();
            answer.headers.put(header::PUBLIC_KEY, keys.public_key().as_bytes().to_vec());
            let dialer = PublicKey::try_from(dialer.as_ref()).unwrap();
            keys.host_keys(&dialer).unwrap().into_streams().unwrap()
        });
        self.send(answer).await;
        if let Some((seal, open)) = &mut crypto {
            let first = self.recv().await;
            assert_eq!(open.open(&first.body), Ok(None));
            self.send(message(content::DATA, id).with_body(seal.header().to_vec())).await;
        }
        ScriptedCircuit { id, crypto }
    }
}

impl ScriptedCircuit {
    /// A Data message with this plaintext.
    pub(crate) fn data(&mut self, plaintext: &[u8]) -> Message {
        let body = match &mut self.crypto {
            Some((seal, _)) => seal.seal(plaintext).unwrap().into(),
            None => Bytes::copy_from_slice(plaintext),
        };
        message(content::DATA, self.id).with_body(body)
    }

    /// The plaintext of a Data message.
    pub(crate) fn open(&mut self, message: &Message) -> Vec<u8> {
        assert_eq!(message.content_type, content::DATA);
        assert_eq!(message.headers.u32(header::CONN_ID), Some(self.id));
        match &mut self.crypto {
            Some((_, open)) => open.open(&message.body).unwrap().unwrap_or_default(),
            None => message.body.to_vec(),
        }
    }

    /// The end of the host's half.
    pub(crate) fn fin(&self) -> Message {
        let mut message = message(content::DATA, self.id);
        message.headers.put_u32(header::FLAGS, flag::FIN);
        message
    }

    /// A close of the circuit.
    pub(crate) fn closed(&self, reason: &str) -> Message {
        message(content::STATE_CLOSED, self.id).with_body(reason.to_owned())
    }
}

/// Whether this is the end of the SDK's half.
pub(crate) fn is_fin(message: &Message) -> bool {
    message.headers.u32(header::FLAGS) == Some(flag::FIN) && message.body.is_empty()
}

fn message(content_type: i32, id: u32) -> Message {
    let mut message = Message::new(content_type);
    message.headers.put_u32(header::CONN_ID, id);
    message
}
