//! The control channel: this router's only connection to the controller.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use nightgate_identity::{Identity, IdentityError};
use nightgate_model::{
    activity::Activity,
    control::{CONTENT_TYPE, ControllerMessage, Holding, RouterMessage, SILENCE, VERSION},
    id::RouterId,
    replica::{ChangeSet, Digest, Misfit, Replica},
};
use nightgate_wire::channel::{Limits, Message};
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Mutex, Notify, mpsc, watch},
};
use tokio_rustls::client::TlsStream;
use tracing::{debug, info, warn};

use crate::{
    Offline,
    actor::Event,
    backoff::Backoff,
    channel::{ChannelError, MessageReader, MessageWriter},
    contact::Contact,
    mailbox::Mailbox,
    notes::Notes,
    own::Own,
    quarantines::Quarantines,
    renewal::{Answer, Renewal},
    report::Report,
    router::{RouterConfig, StartError},
    usage::Meter,
};

/// Why the control channel ended.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("connect to the controller at {address}")]
    Connect { address: String, source: std::io::Error },
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("the controller sent an unreadable message")]
    Unreadable(#[from] serde_json::Error),
    #[error("the controller refused this router: {reason}")]
    Refused { reason: String },
    #[error("the controller has been silent for {SILENCE} s")]
    Silent,
    #[error("the controller's host name cannot be verified")]
    Name(#[from] InvalidDnsNameError),
}

/// Pause before the controller is tried again with a renewed certificate.
const REOPEN_PAUSE: Duration = Duration::from_secs(5);

/// A connection to the controller, and with what it was made.
struct Connection {
    own: Arc<Own>,
    stream: TlsStream<TcpStream>,
}

/// Keeps a control channel up for ever.
pub(crate) struct Channel {
    id: RouterId,
    controller: (String, u16),
    advertise: Option<String>,
    offline: Offline,
    events: Mailbox,
    renewal: Renewal,
    report: watch::Receiver<Report>,
    /// What else is to be told, as it comes.
    wished: Mutex<mpsc::UnboundedReceiver<RouterMessage>>,
    activity: watch::Receiver<Arc<Activity>>,
    notes: Notes,
    meter: Meter,
    quarantines: Quarantines,
}

/// What the controller is told.
pub(crate) struct Told {
    pub(crate) report: watch::Receiver<Report>,
    pub(crate) activity: watch::Receiver<Arc<Activity>>,
    pub(crate) wished: mpsc::UnboundedReceiver<RouterMessage>,
    pub(crate) notes: Notes,
    pub(crate) meter: Meter,
    pub(crate) quarantines: Quarantines,
}

impl Channel {
    pub(crate) fn new(
        config: &RouterConfig,
        (id, events, renewal): (RouterId, Mailbox, Renewal),
        told: Told,
    ) -> Result<Self, StartError> {
        Ok(Self {
            id,
            controller: address(&config.identity)?,
            advertise: config.advertise.clone(),
            offline: config.offline.clone(),
            events,
            renewal,
            report: told.report,
            wished: Mutex::new(told.wished),
            activity: told.activity,
            notes: told.notes,
            meter: told.meter,
            quarantines: told.quarantines,
        })
    }

    pub(crate) async fn run(
        self,
        replica: watch::Sender<Arc<Replica>>,
        contact: watch::Sender<Contact>,
    ) {
        let mut backoff = Backoff::new();
        let mut own = self.renewal.own.subscribe();
        let mut next = None;
        loop {
            let before = replica.borrow().index;
            let connection = match next.take() {
                Some(connection) => Ok(connection),
                None => self.open(&mut own).await,
            };
            let ended = match connection {
                Ok(connection) => tokio::select! {
                    ended = self.talk(connection, &replica, &contact) => ended,
                    renewed = self.reopen(&mut own) => {
                        next = Some(renewed);
                        continue;
                    }
                },
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                warn!(error = %chain(&error), "control channel down; circuits go on");
            }
            if replica.borrow().index != before {
                backoff.reset();
            }
            self.lose(&contact);
            backoff.wait().await;
        }
    }

    /// Once the certificate is another, a connection with that one, as soon as it stands: what was reported over the
    /// present connection is forgotten only then.
    async fn reopen(&self, own: &mut watch::Receiver<Arc<Own>>) -> Connection {
        while own.changed().await.is_ok() {
            match self.open(own).await {
                Ok(connection) => return connection,
                Err(error) => {
                    warn!(error = %chain(&error), "the controller is not reached with the renewed certificate");
                    own.mark_changed();
                    tokio::time::sleep(REOPEN_PAUSE).await;
                }
            }
        }
        std::future::pending().await
    }

    /// Notes that the controller is away, if it was there.
    fn lose(&self, contact: &watch::Sender<Contact>) {
        let lost =
            contact.send_if_modified(|contact| std::mem::replace(&mut contact.is_there, false));
        if lost {
            let until = self.offline.valid_until(contact.borrow().heard);
            self.events.tell(Event::Validity(Some(until)));
        }
    }

    /// Notes that the controller is there.
    fn hear_of(&self, contact: &watch::Sender<Contact>) {
        let came = contact.send_if_modified(|contact| {
            contact.heard = SystemTime::now();
            !std::mem::replace(&mut contact.is_there, true)
        });
        if came {
            self.events.tell(Event::Validity(None));
        }
    }

    /// Connects with the latest certificate.
    async fn open(&self, own: &mut watch::Receiver<Arc<Own>>) -> Result<Connection, ControlError> {
        let own = Arc::clone(&own.borrow_and_update());
        let (host, port) = &self.controller;
        let failed = |source| ControlError::Connect { address: format!("{host}:{port}"), source };
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        let name = ServerName::try_from(host.clone())?;
        let stream = own.control.connect(name, tcp).await.map_err(failed)?;
        Ok(Connection { own, stream })
    }

    async fn talk(
        &self,
        Connection { own, stream }: Connection,
        replica: &watch::Sender<Arc<Replica>>,
        contact: &watch::Sender<Contact>,
    ) -> Result<(), ControlError> {
        let (reader, writer) = tokio::io::split(stream);
        let wants_whole = Notify::new();
        let held = {
            let held = Arc::clone(&replica.borrow());
            (held.index > 0).then(|| Held::new(held))
        };
        let holds = held.as_ref().map(Held::holding);
        let writer = self.tell(MessageWriter::new(writer), holds, &wants_whole);
        let heard = (&own, &wants_whole);
        let reader = self.hear(MessageReader::new(reader), held, (replica, contact), heard);
        tokio::select! {
            ended = writer => ended,
            ended = reader => ended,
        }
    }

    /// Says hello, then tells every change.
    async fn tell<W: AsyncWrite + Unpin>(
        &self,
        mut writer: MessageWriter<W>,
        holds: Option<Holding>,
        wants_whole: &Notify,
    ) -> Result<(), ControlError> {
        let mut report = self.report.clone();
        let mut activity = self.activity.clone();
        activity.mark_changed();
        let mut told = report.borrow_and_update().clone();
        let hello = RouterMessage::Hello {
            version: VERSION,
            router: self.id.clone(),
            address: self.advertise.clone(),
            terminators: told.terminators.clone(),
            links: told.links.clone(),
            holds,
        };
        writer.send(encode(&hello)?).await?;
        let mut wished = self.wished.lock().await;
        self.notes.begin();
        self.meter.begin();
        loop {
            tokio::select! {
                changed = report.changed() => if changed.is_err() {
                    return Ok(());
                },
                changed = activity.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let now = Activity::clone(&activity.borrow_and_update());
                    writer.queue(encode(&RouterMessage::Activity(Box::new(now)))?);
                }
                () = wants_whole.notified() => writer.queue(encode(&RouterMessage::WholeWanted)?),
                Some(wish) = wished.recv() => writer.queue(encode(&wish)?),
                () = self.notes.come() => {}
            }
            let now = report.borrow_and_update().clone();
            for message in now.changes(&told) {
                writer.queue(encode(&message)?);
            }
            told = now;
            while let Some(message) = self.notes.take(Instant::now()) {
                writer.queue(encode(&message)?);
            }
            while let Some(message) = self.meter.take() {
                writer.queue(encode(&message)?);
            }
            writer.flush().await?;
            self.notes.sent();
            self.meter.sent();
        }
    }

    /// The core first: whoever waits for the index finds it in force.
    fn publish(&self, new: &Arc<Replica>, replica: &watch::Sender<Arc<Replica>>) {
        self.events.tell(Event::Replica(Arc::clone(new)));
        replica.send_replace(Arc::clone(new));
    }

    async fn hear<R: AsyncRead + Unpin>(
        &self,
        mut reader: MessageReader<R>,
        mut held: Option<Held>,
        (replica, contact): (&watch::Sender<Arc<Replica>>, &watch::Sender<Contact>),
        (own, wants_whole): (&Arc<Own>, &Notify),
    ) -> Result<(), ControlError> {
        let silence = Duration::from_secs(SILENCE);
        loop {
            let come = reader.buffered();
            let message = tokio::time::timeout(silence, reader.next(Limits::CONTROL)).await;
            // A long message over a slow line is no silence.
            let Ok(message) = message else {
                if reader.buffered() > come {
                    continue;
                }
                return Err(ControlError::Silent);
            };
            let message = message?;
            match serde_json::from_slice(&message.body)? {
                ControllerMessage::Refused { reason } => {
                    return Err(ControlError::Refused { reason });
                }
                ControllerMessage::Replica(new) => {
                    info!(index = new.index, "model received");
                    let new = held.insert(Held::new(new.into()));
                    self.publish(&new.replica, replica);
                }
                ControllerMessage::Changes(changes) => {
                    let index = changes.index;
                    match held.take().map(|held| held.after(*changes)) {
                        Some(Ok(new)) => {
                            debug!(index, "model changed");
                            self.publish(&held.insert(new).replica, replica);
                        }
                        Some(Err(error)) => {
                            warn!(%error, "changes do not fit; the whole model is wanted");
                            wants_whole.notify_one();
                        }
                        // The whole is on its way.
                        None => {}
                    }
                }
                ControllerMessage::Certificate { certificate, ca } => {
                    self.renewal.answer(Answer::Certificate { certificate, ca });
                }
                ControllerMessage::NoCertificate { reason } => {
                    self.renewal.answer(Answer::Refused { reason });
                }
                ControllerMessage::QuarantineBegun { identity, index } => {
                    self.quarantines.begun(&identity, index);
                }
                ControllerMessage::Alive => {}
            }
            self.renewal.confirm(own);
            self.hear_of(contact);
        }
    }
}

/// The replica that changes are applied to.
struct Held {
    replica: Arc<Replica>,
    digest: Digest,
}

impl Held {
    fn new(replica: Arc<Replica>) -> Self {
        Self { digest: replica.digest(), replica }
    }

    fn holding(&self) -> Holding {
        Holding { index: self.replica.index, digest: self.digest }
    }

    fn after(mut self, changes: ChangeSet) -> Result<Self, Misfit> {
        // Parts that do not change stay shared.
        let mut replica = Replica::clone(&self.replica);
        changes.apply(&mut replica, &mut self.digest)?;
        Ok(Self { replica: Arc::new(replica), digest: self.digest })
    }
}

fn encode(message: &RouterMessage) -> Result<Message, serde_json::Error> {
    Ok(Message::new(CONTENT_TYPE).with_body(Bytes::from(serde_json::to_vec(message)?)))
}

fn address(identity: &Identity) -> Result<(String, u16), IdentityError> {
    identity.controller_address()
}

/// An error and all its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
