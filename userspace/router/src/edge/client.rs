//! One client's channel: hello, then messages until either side ends it.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nightgate_model::token::ApiSessionClaims;
use nightgate_wire::{
    channel::{self, Limits, Message},
    edge::{content, header},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{debug, info};

use super::{
    connection::{Connections, DRAIN_TIME},
    dialing, hosting, trace,
};
use crate::{
    Router,
    channel::{ChannelError, MessageReader, MessageWriter},
    control::chain,
    token::{Authenticated, TokenError, check_api_session},
};

/// The hello must have come by then; OpenZiti's own connect timeout.
const HELLO_TIME: Duration = Duration::from_secs(5);

/// Messages waiting to be written to one client; then its circuits wait.
const OUTGOING: usize = 64;

/// Why a client's channel ended.
#[derive(Debug, thiserror::Error)]
enum ClientError {
    #[error("no hello in time")]
    Late,
    #[error("first message was no hello")]
    NoHello,
    #[error("hello refused")]
    Refused(#[from] TokenError),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(
        "the identity was disabled or deleted, its certificate taken away, its session ended, or this router taken \
         from it"
    )]
    Revoked,
}

/// A message to the client, and where its answer goes.
pub(super) struct Outgoing {
    pub(super) message: Message,
    pub(super) answer: Option<oneshot::Sender<Message>>,
}

/// What all parts of one client's channel share.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) router: Router,
    pub(super) session: Arc<ApiSessionClaims>,
    /// Name of the client's identity, when it connected.
    pub(super) name: Arc<str>,
    pub(super) outgoing: mpsc::Sender<Outgoing>,
    pub(super) connections: Connections,
    answers: Arc<Mutex<HashMap<i32, oneshot::Sender<Message>>>>,
}

impl Client {
    /// Sends a message that needs no answer; waits while the client is slow.
    pub(super) async fn send(&self, message: Message) {
        // A channel that has ended ends its tasks too.
        drop(self.outgoing.send(Outgoing { message, answer: None }).await);
    }

    /// Sends a request; the answer's sender is dropped when the channel ends.
    pub(super) async fn request(&self, message: Message) -> Option<Message> {
        let (sender, answer) = oneshot::channel();
        let request = Outgoing { message, answer: Some(sender) };
        self.outgoing.send(request).await.ok()?;
        answer.await.ok()
    }

    fn take_answer(&self, sequence: i32) -> Option<oneshot::Sender<Message>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&sequence)
    }
}

/// Serves a client until its channel ends.
pub(crate) async fn serve<S>(router: Router, stream: S, fingerprint: String)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match run(router, stream, &fingerprint).await {
        Ok(()) | Err(ClientError::Channel(ChannelError::Closed)) => debug!("client left"),
        Err(error) => info!(error = %chain(&error), "client's channel ended"),
    }
}

async fn run<S>(router: Router, stream: S, fingerprint: &str) -> Result<(), ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, writer) = tokio::io::split(stream);
    let (mut reader, mut writer) = (MessageReader::new(reader), MessageWriter::new(writer));
    let Authenticated { claims: session, origin } =
        greet(&router, &mut reader, &mut writer, fingerprint).await?;
    let name = router
        .replica
        .borrow()
        .identities
        .get(&session.sub)
        .map_or_else(|| session.sub.to_string(), |identity| identity.name.clone());
    info!(identity = name, "client connected");
    let (outgoing, queue) = mpsc::channel(OUTGOING);
    let client = Client {
        router,
        session: Arc::new(session),
        name: name.into(),
        outgoing,
        connections: Connections::default(),
        answers: Arc::default(),
    };
    let mut reading = pin!(read(&client, reader));
    tokio::select! {
        ended = &mut reading => ended,
        ended = write(&client, queue, writer) => {
            // The connection is broken. What had come in before counts.
            drop(timeout(DRAIN_TIME, reading).await);
            ended
        }
        () = revoked(&client, origin.as_ref()) => Err(ClientError::Revoked),
    }
}

async fn greet<R, W>(
    router: &Router,
    reader: &mut MessageReader<R>,
    writer: &mut MessageWriter<W>,
    fingerprint: &str,
) -> Result<Authenticated, ClientError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let hello = timeout(HELLO_TIME, reader.next(Limits::HELLO));
    let hello = hello.await.map_err(|_late| ClientError::Late)??;
    if hello.content_type != channel::content::HELLO {
        return Err(ClientError::NoHello);
    }
    let token = hello.headers.text(header::SESSION_TOKEN).unwrap_or_default();
    let checked = check_api_session(token, fingerprint, router.id(), &mut router.replica()).await;
    let mut answer = Message::new(channel::content::RESULT).in_reply_to(hello.sequence);
    match &checked {
        Ok(_) => {
            answer.headers.put_true(channel::header::RESULT_SUCCESS);
            answer.headers.put_text(channel::header::ID, router.id().as_str());
            answer.headers.put_text(channel::header::HELLO_VERSION, VERSION_INFO);
        }
        // The peer is not authenticated: it learns no more than that.
        Err(_) => {
            answer.headers.put(channel::header::RESULT_SUCCESS, vec![0]);
            answer.body = "not authenticated".into();
        }
    }
    writer.send(answer).await?;
    Ok(checked?)
}

/// What clients are told of this router's version (header `HelloVersion`).
const VERSION_INFO: &str = concat!(r#"{"version":"v"#, env!("CARGO_PKG_VERSION"), r#""}"#);

async fn read<R: AsyncRead + Unpin>(
    client: &Client,
    mut reader: MessageReader<R>,
) -> Result<(), ClientError> {
    let mut bindings = hosting::Bindings::default();
    loop {
        let message = reader.next(Limits::EDGE).await?;
        let conn = message.headers.u32(header::CONN_ID).unwrap_or_default();
        if let Some(answer) = message.reply_for().and_then(|to| client.take_answer(to)) {
            drop(answer.send(message));
            continue;
        }
        match message.content_type {
            channel::content::LATENCY => client.send(latency_answer(&message)).await,
            content::CONNECT => dialing::connect(client, conn, message),
            content::BIND => bindings.bind(client, conn, message),
            content::UNBIND => bindings.unbind(conn),
            content::UPDATE_BIND | content::HEALTH_EVENT => bindings.change(conn, message),
            content::TRACE_ROUTE => trace::answer(client, conn, message).await,
            content::DATA => client.connections.deliver(client, conn, message).await,
            content::STATE_CLOSED => {
                bindings.unbind(conn);
                client.connections.close(conn);
            }
            unknown => debug!(content_type = unknown, "message ignored"),
        }
    }
}

fn latency_answer(probe: &Message) -> Message {
    let mut answer = Message::new(channel::content::RESULT).in_reply_to(probe.sequence);
    answer.headers.put_true(channel::header::RESULT_SUCCESS);
    if let Some(stamp) = probe.headers.bytes(channel::header::REFLECTED) {
        answer.headers.put(channel::header::REFLECTED, stamp.clone());
    }
    answer
}

async fn write<W: AsyncWrite + Unpin>(
    client: &Client,
    mut queue: mpsc::Receiver<Outgoing>,
    mut writer: MessageWriter<W>,
) -> Result<(), ClientError> {
    let mut batch = Vec::with_capacity(OUTGOING);
    while queue.recv_many(&mut batch, OUTGOING).await > 0 {
        for outgoing in batch.drain(..) {
            if let Some(answer) = outgoing.answer {
                let mut answers = client.answers.lock().unwrap_or_else(PoisonError::into_inner);
                answers.insert(writer.next_sequence(), answer);
            }
            writer.queue(outgoing.message);
        }
        writer.flush().await?;
    }
    Ok(())
}

/// Ends when the model no longer knows the identity, its session was ended, its certificate was taken away, or it may not
/// use this router any more. A certificate that was renewed is no end.
async fn revoked(client: &Client, origin: Option<&String>) {
    let mut replica = client.router.replica();
    let (identity, session) = (&client.session.sub, &client.session.api_session);
    let router = client.router.id();
    let gone = replica.wait_for(|replica| {
        let known = replica.identities.get(identity);
        known.is_none_or(|known| known.origin.as_ref() != origin)
            || replica.ended_sessions.contains(session)
            || !replica.authorizations.may_use(identity, router)
    });
    drop(gone.await);
}
