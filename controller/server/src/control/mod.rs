//! The routers' control channel, on the controller's side.

mod channel;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nightgate_model::{
    activity::{MAX_NOTES, MAX_USAGE},
    control::{ALIVE_EVERY, ControllerMessage, Holding, RouterMessage, VERSION},
    id::RouterId,
    quarantine::QuarantineRequest,
    replica::Replica,
};
use nightgate_store::{Model, StoreError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, mpsc, watch},
};

use self::channel::{ChannelError, Reader, Writer};
use crate::{
    clock,
    core::{
        Connection, Core, LiveError, Published, begin_quarantine_for_router, begin_using,
        renew_router,
    },
};

/// How long a router may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Index of the model that allows nothing: a router with index 0 waits for its first one.
const NOTHING: u64 = 1;

/// Why a control channel ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// No enrolled router has the certificate.
    #[error("no enrolled router has the certificate {fingerprint}")]
    Unknown {
        /// SHA-1 of the certificate.
        fingerprint: String,
    },
    /// The first message was not an acceptable hello.
    #[error("hello refused: {reason}")]
    Refused {
        /// Why; also told to the router.
        reason: String,
    },
    /// No hello in time.
    #[error("no hello within {} s", HELLO_TIMEOUT.as_secs())]
    Silent,
    /// A second hello.
    #[error("a second hello on one channel")]
    SecondHello,
    /// The router was deleted, disabled or enrolled again.
    #[error("the router may not connect any more")]
    Revoked,
    /// The router connected again.
    #[error("another connection of the router took its place")]
    Superseded,
    /// It cannot be noted which certificate the router uses.
    #[error("the router's renewed certificate is not noted: {0}")]
    Renewal(#[from] StoreError),
    /// The router reported what it may not.
    #[error(transparent)]
    Report(#[from] LiveError),
    /// The channel failed or was closed.
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

/// Serves one router until its connection ends, and says why it did.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite>(
    core: &Arc<Core>,
    stream: S,
    fingerprint: String,
) -> ControlError {
    let (read, write) = tokio::io::split(stream);
    let (mut reader, mut writer) = (Reader::new(read), Writer::new(write));
    match greet(core, &mut reader, &mut writer, &fingerprint).await {
        Ok((connection, holds)) => {
            tracing::info!(router = %connection.router, "router connected");
            let error = exchange(core, reader, (writer, holds), &connection, &fingerprint).await;
            core.update_live(|live| live.disconnect(&connection, &error.to_string()));
            tracing::info!(router = %connection.router, reason = %error, "router disconnected");
            error
        }
        Err(error) => error,
    }
}

/// Who a router is, by the certificate it proved.
fn router_of(core: &Core, fingerprint: &str) -> Option<RouterId> {
    core.read(|memory| {
        let router = memory.model.router_by_fingerprint(fingerprint)?;
        (!router.disabled).then(|| router.id.clone())
    })
}

/// Whether a router may connect at all, whatever its certificate.
fn is_allowed(core: &Core, router: &RouterId) -> bool {
    core.read(|memory| {
        memory.model.routers.get(router).is_some_and(|stored| !stored.entity.disabled)
    })
}

/// Leaves a router that may not connect any more a model that allows nothing, so that its circuits end although it hears
/// of no other: without, it would take the controller for away, and go on.
async fn tell_nothing<W: AsyncWrite + Unpin>(writer: &mut Writer<W>) {
    let nothing = Replica { index: NOTHING, ..Replica::default() };
    // The channel ends in any case.
    drop(writer.send_message(&ControllerMessage::Replica(Box::new(nothing))).await);
}

async fn greet<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    core: &Arc<Core>,
    reader: &mut Reader<R>,
    writer: &mut Writer<W>,
    fingerprint: &str,
) -> Result<(Connection, Option<Holding>), ControlError> {
    begin_using(core, fingerprint.into(), Model::router_by_offer).await?;
    let hello = tokio::time::timeout(HELLO_TIMEOUT, reader.next())
        .await
        .or(Err(ControlError::Silent))??;
    let Some(router) = router_of(core, fingerprint) else {
        tell_nothing(writer).await;
        return Err(ControlError::Unknown { fingerprint: fingerprint.into() });
    };
    match accept(core, router, hello) {
        Ok(accepted) => Ok(accepted),
        Err(reason) => {
            let message = ControllerMessage::Refused { reason: reason.clone() };
            writer.send_message(&message).await?;
            Err(ControlError::Refused { reason })
        }
    }
}

fn accept(
    core: &Core,
    expected: RouterId,
    hello: RouterMessage,
) -> Result<(Connection, Option<Holding>), String> {
    let RouterMessage::Hello { version, router, address, terminators, links, holds } = hello else {
        return Err("the first message must be a hello".into());
    };
    if version != VERSION {
        return Err(format!(
            "the router speaks version {version} of the control channel, the controller {VERSION}; \
             install the same release on both"
        ));
    }
    if router != expected {
        return Err(format!("the certificate belongs to router {expected}, not {router}"));
    }
    core.update_live(|live| live.connect(router, address, terminators, links))
        .map(|connection| (connection, holds))
        .map_err(|error| error.to_string())
}

/// Reads and writes at the same time, so that a router that does not read cannot keep its own
/// reports from being heard.
async fn exchange<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    core: &Arc<Core>,
    reader: Reader<R>,
    (writer, holds): (Writer<W>, Option<Holding>),
    connection: &Connection,
    fingerprint: &str,
) -> ControlError {
    let wants_whole = Notify::new();
    let (answers, answered) = mpsc::channel(1);
    let told = (writer, holds, &wants_whole, answered);
    tokio::select! {
        error = hear(core, reader, connection, &wants_whole, &answers) => error,
        error = tell(core, told, connection, fingerprint) => error,
        () = connection.superseded.cancelled() => ControlError::Superseded,
    }
}

async fn hear<R: AsyncRead + Unpin>(
    core: &Arc<Core>,
    mut reader: Reader<R>,
    connection: &Connection,
    wants_whole: &Notify,
    answers: &mpsc::Sender<ControllerMessage>,
) -> ControlError {
    loop {
        let handled = match reader.next().await {
            Ok(RouterMessage::WholeWanted) => {
                wants_whole.notify_one();
                Ok(())
            }
            Ok(RouterMessage::Renew { request }) => {
                // One after the other: a router that asks too often holds up itself.
                let answer = renewed(core, connection, &request).await;
                // The other half ends this one.
                drop(answers.send(answer).await);
                Ok(())
            }
            Ok(RouterMessage::Quarantine(request)) => {
                if let Some(answer) = begun(core, connection, request).await {
                    drop(answers.send(answer).await);
                }
                Ok(())
            }
            Ok(message) => handle_report(core, connection, message),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = handled {
            return error;
        }
    }
}

async fn renewed(core: &Arc<Core>, connection: &Connection, request: &str) -> ControllerMessage {
    let router = &connection.router;
    match renew_router(core, router, request).await {
        Ok(certificate) => {
            tracing::info!(%router, "router's certificate renewed");
            ControllerMessage::Certificate { certificate, ca: core.authority.bundle().pem().into() }
        }
        Err(error) => {
            tracing::warn!(%router, %error, "router's certificate not renewed");
            ControllerMessage::NoCertificate { reason: error.to_string() }
        }
    }
}

/// The answer to a router that asks for a quarantine, if it is not refused.
async fn begun(
    core: &Arc<Core>,
    connection: &Connection,
    request: QuarantineRequest,
) -> Option<ControllerMessage> {
    let (router, identity) = (&connection.router, request.identity.clone());
    match begin_quarantine_for_router(core, router, request).await {
        Ok(()) => {
            let index = core.read(|memory| memory.index);
            Some(ControllerMessage::QuarantineBegun { identity, index })
        }
        Err(error) => {
            tracing::warn!(%router, %identity, %error, "quarantine refused");
            None
        }
    }
}

fn handle_report(
    core: &Arc<Core>,
    connection: &Connection,
    message: RouterMessage,
) -> Result<(), ControlError> {
    match message {
        RouterMessage::Hello { .. } => return Err(ControlError::SecondHello),
        // They are answered, and change nothing that is known.
        RouterMessage::WholeWanted | RouterMessage::Renew { .. } | RouterMessage::Quarantine(_) => {
        }
        RouterMessage::TerminatorAdded(terminator) => {
            core.update_live(|live| live.add_terminator(connection, terminator))?;
        }
        RouterMessage::TerminatorRemoved { id } => {
            core.update_live(|live| live.remove_terminator(connection, &id));
        }
        RouterMessage::Activity(activity) => {
            core.write(|memory| memory.live.set_activity(connection, *activity))?;
        }
        RouterMessage::Circuits { notes, lost } => {
            if notes.len() > MAX_NOTES {
                return Err(LiveError::TooMany { what: "events", limit: MAX_NOTES }.into());
            }
            if lost > 0 {
                core.events.add_gap(connection.router.clone(), lost);
            }
            let (router, now) = (&connection.router, clock::timestamp());
            core.write(|memory| {
                notes.into_iter().for_each(|note| memory.live.note_circuit(router, note, now));
            });
        }
        RouterMessage::Usage { deltas } => {
            if deltas.len() > MAX_USAGE {
                return Err(LiveError::TooMany { what: "lines of usage", limit: MAX_USAGE }.into());
            }
            core.write(|memory| deltas.into_iter().for_each(|delta| memory.usage.add(delta)));
        }
        RouterMessage::Links { links } => {
            core.update_live(|live| live.set_links(connection, links))?;
        }
    }
    Ok(())
}

async fn tell<W: AsyncWrite + Unpin>(
    core: &Core,
    (mut writer, mut holds, wants_whole, mut answered): (
        Writer<W>,
        Option<Holding>,
        &Notify,
        mpsc::Receiver<ControllerMessage>,
    ),
    connection: &Connection,
    fingerprint: &str,
) -> ControlError {
    let mut published = core.subscribe();
    // The router's own enrollment may be too recent to be published yet.
    let mut wanted = core.read(|memory| memory.index);
    let silence = Duration::from_secs(ALIVE_EVERY);
    loop {
        let next = tokio::select! {
            next = newer(&mut published, wanted) => match next {
                Some(next) => Some(next),
                None => return ControlError::Revoked,
            },
            () = wants_whole.notified() => {
                tracing::warn!(router = %connection.router, "router wants the whole model");
                holds = None;
                Some(published.borrow().clone())
            }
            Some(answer) = answered.recv() => {
                if let Err(error) = writer.send_message(&answer).await {
                    return error.into();
                }
                continue;
            }
            () = tokio::time::sleep(silence) => None,
        };
        if router_of(core, fingerprint).as_ref() != Some(&connection.router) {
            // One that goes on with a renewed certificate keeps what it knows.
            if !is_allowed(core, &connection.router) {
                tell_nothing(&mut writer).await;
            }
            return ControlError::Revoked;
        }
        let sent = match next {
            Some(next) => {
                wanted = next.index + 1;
                let bodies = next.after(holds.replace(next.holding()));
                send_all(&mut writer, bodies).await
            }
            None => writer.send_message(&ControllerMessage::Alive).await,
        };
        if let Err(error) = sent {
            return error.into();
        }
    }
}

/// Sends messages, or a sign of life if there are none.
async fn send_all<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    bodies: Vec<Bytes>,
) -> Result<(), ChannelError> {
    if bodies.is_empty() {
        return writer.send_message(&ControllerMessage::Alive).await;
    }
    for body in bodies {
        writer.send(body).await?;
    }
    Ok(())
}

/// The latest publication, once it has reached `index`; `None` when the controller stops.
async fn newer(published: &mut watch::Receiver<Published>, index: u64) -> Option<Published> {
    published.wait_for(|published| published.index >= index).await.ok().map(|next| next.clone())
}
