//! The serving side of the socket.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nightgate_telemetry::open_socket;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream, unix::WriteHalf},
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tracing::{debug, warn};

use super::{Answer, Request};

/// Serves the socket. Dropping it closes and removes it.
#[derive(Debug)]
pub struct AdminServer {
    path: PathBuf,
    queries: mpsc::Receiver<Query>,
    task: AbortHandle,
}

/// A question of an operator. Dropping it unanswered tells the operator that the process is stopping.
#[derive(Debug)]
pub struct Query {
    /// What is asked for.
    pub request: Request,
    answer: oneshot::Sender<Reply>,
}

/// What an operator gets.
#[derive(Debug)]
enum Reply {
    /// One line.
    Line(Answer),
    /// Lines as they come, up to one that is no event.
    Lines(mpsc::Receiver<Answer>),
}

/// An operator who is told about something as it happens. Dropping it tells him that the process is stopping.
#[derive(Debug)]
pub struct Audience(mpsc::Sender<Answer>);

/// A socket that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminSocketError {
    /// The folder or the socket cannot be created.
    #[error("admin_socket: open {}: {source}; expected a path that this user may write", path.display())]
    Open {
        /// The socket's path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Something else is there.
    #[error("admin_socket: {} is not a socket; expected no file there", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another process answers there.
    #[error("admin_socket: {} is in use; stop the other process or configure another path", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
}

/// Rights of the socket: who runs the process alone.
const OPERATORS: u32 = 0o600;

/// Longest request line, bytes: room for 100,000 rules.
const MAX_REQUEST: u64 = 1 << 26;

/// A client that does not finish its request in this time is disconnected.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Lines that wait for an operator who does not keep up.
const LINES: usize = 4_096;

/// Questions waiting at one time.
const QUEUE: usize = 16;

impl AdminServer {
    /// Opens the socket at `path`, for this user alone, and replaces one that nobody answers at.
    ///
    /// # Errors
    /// The path cannot be used.
    pub fn start(path: &Path) -> Result<Self, AdminSocketError> {
        let failed = |source| AdminSocketError::Open { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let listener = open_socket(path, OPERATORS).map_err(|source| {
            let path = path.to_owned();
            if source.kind() == io::ErrorKind::AlreadyExists {
                AdminSocketError::NotASocket { path }
            } else if source.kind() == io::ErrorKind::AddrInUse {
                AdminSocketError::InUse { path }
            } else {
                AdminSocketError::Open { path, source }
            }
        })?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        let (sender, queries) = mpsc::channel(QUEUE);
        let task = tokio::spawn(accept(listener, sender)).abort_handle();
        Ok(Self { path: path.to_owned(), queries, task })
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next question; none only if the runtime is shutting down.
    pub async fn next(&mut self) -> Option<Query> {
        self.queries.recv().await
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = fs::remove_file(&self.path) {
            warn!(%error, path = %self.path.display(), "admin socket could not be removed");
        }
    }
}

impl Query {
    /// Answers with a value, or with why there is none.
    pub fn answer(self, answer: Result<serde_json::Value, String>) {
        let answer = match answer {
            Ok(value) => Answer::Ok(value),
            Err(reason) => Answer::Error(reason),
        };
        // The operator may have gone.
        drop(self.answer.send(Reply::Line(answer)));
    }

    /// Answers with what is told later.
    pub fn listen(self) -> Audience {
        let (sender, lines) = mpsc::channel(LINES);
        // The operator may have gone; the audience is closed then.
        drop(self.answer.send(Reply::Lines(lines)));
        Audience(sender)
    }
}

impl Audience {
    /// Tells of an event; returns it if the operator does not keep up, or has gone.
    ///
    /// # Errors
    /// It was not told.
    pub fn tell(&self, event: serde_json::Value) -> Result<(), serde_json::Value> {
        match self.0.try_send(Answer::Event(event)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(answer) | TrySendError::Closed(answer)) => match answer {
                Answer::Event(event) | Answer::Ok(event) => Err(event),
                Answer::Error(reason) => Err(reason.into()),
            },
        }
    }

    /// Waits until the operator has gone.
    pub async fn gone(&self) {
        self.0.closed().await;
    }

    /// Ends with a value.
    pub fn end(self, value: serde_json::Value) {
        // Waits for an operator who does not keep up; one who has gone needs no end.
        tokio::spawn(async move { drop(self.0.send(Answer::Ok(value)).await) });
    }
}

async fn accept(listener: UnixListener, queries: mpsc::Sender<Query>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let queries = queries.clone();
                connections.spawn(async move {
                    if let Err(error) = serve(stream, queries).await {
                        debug!(%error, "admin connection failed");
                    }
                });
            }
            Err(error) => {
                warn!(%error, "admin connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, queries: mpsc::Sender<Query>) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != nix::unistd::geteuid().as_raw() {
        warn!(uid = peer, "admin connection refused");
        return Ok(());
    }
    let mut line = String::new();
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read.take(MAX_REQUEST));
    timeout(REQUEST_TIMEOUT, read.read_line(&mut line)).await??;
    let reply = match serde_json::from_str::<Request>(&line) {
        Ok(request) => forward(request, &queries).await,
        Err(error) => Reply::Line(Answer::Error(format!("request: {error}"))),
    };
    match reply {
        Reply::Line(answer) => put(&mut write, &answer).await?,
        Reply::Lines(lines) => put_all(&mut read, &mut write, lines).await?,
    }
    write.shutdown().await
}

/// Writes lines until one is no event, or the operator has gone: nothing is expected from him but that.
async fn put_all(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut WriteHalf<'_>,
    mut lines: mpsc::Receiver<Answer>,
) -> io::Result<()> {
    let mut unexpected = [0];
    loop {
        tokio::select! {
            _gone = read.read(&mut unexpected) => return Ok(()),
            line = lines.recv() => match line {
                Some(answer @ Answer::Event(_)) => put(write, &answer).await?,
                Some(answer @ (Answer::Ok(_) | Answer::Error(_))) => return put(write, &answer).await,
                None => return put(write, &Answer::Error(STOPPING.into())).await,
            }
        }
    }
}

async fn put(write: &mut WriteHalf<'_>, answer: &Answer) -> io::Result<()> {
    let mut text = serde_json::to_vec(answer)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// What an operator hears who is not answered.
const STOPPING: &str = "the process is stopping";

async fn forward(request: Request, queries: &mpsc::Sender<Query>) -> Reply {
    let (answer, answered) = oneshot::channel();
    if queries.send(Query { request, answer }).await.is_ok()
        && let Ok(reply) = answered.await
    {
        return reply;
    }
    Reply::Line(Answer::Error(STOPPING.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::admin::{AdminClientError, Topic, ask, follow};

    #[tokio::test]
    async fn a_question_is_answered_over_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/admin.sock");
        let mut server = AdminServer::start(&path).unwrap();
        let asked = tokio::spawn({
            let path = path.clone();
            async move { (ask(&path, Topic::Names).await, ask(&path, Topic::Flows).await) }
        });

        let first = server.next().await.unwrap();
        assert_eq!(first.request, Request::Show(Topic::Names));
        first.answer(Ok(serde_json::json!(["web.example"])));
        server.next().await.unwrap().answer(Err("no firewall here".into()));

        let (names, flows) = asked.await.unwrap();
        assert_eq!(names.unwrap(), serde_json::json!(["web.example"]));
        let Err(AdminClientError::Refused { reason, .. }) = flows else { panic!("{flows:?}") };
        assert_eq!(reason, "no firewall here");
    }

    #[tokio::test]
    async fn what_happens_is_told_until_it_ends_or_nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let mut server = AdminServer::start(&path).unwrap();
        let asked = tokio::spawn({
            let path = path.clone();
            async move {
                let mut events = Vec::new();
                let end = follow(&path, Topic::Flows, |event| {
                    events.push(event);
                    Ok(())
                });
                (end.await.unwrap(), events)
            }
        });
        let audience = server.next().await.unwrap().listen();
        audience.tell(1.into()).unwrap();
        audience.tell(2.into()).unwrap();
        audience.end("over".into());
        assert_eq!(asked.await.unwrap(), ("over".into(), vec![1.into(), 2.into()]));

        let asked = tokio::spawn(async move {
            follow(&path, Topic::Flows, |_| Err(io::ErrorKind::BrokenPipe.into())).await
        });
        let audience = server.next().await.unwrap().listen();
        audience.tell(1.into()).unwrap();
        assert!(asked.await.unwrap().is_err());
        audience.gone().await;
    }

    #[tokio::test]
    async fn the_socket_is_for_its_owner_alone_and_vanishes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let server = AdminServer::start(&path).unwrap();

        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(server);
        assert!(!path.exists());
        assert!(matches!(ask(&path, Topic::Router).await, Err(AdminClientError::Connect { .. })));
    }

    #[tokio::test]
    async fn a_second_server_is_refused_and_a_dead_socket_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let first = AdminServer::start(&path).unwrap();
        assert!(matches!(AdminServer::start(&path), Err(AdminSocketError::InUse { .. })));
        drop(first);

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        drop(AdminServer::start(&path).unwrap());

        fs::write(&path, "precious").unwrap();
        assert!(matches!(AdminServer::start(&path), Err(AdminSocketError::NotASocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn what_is_no_request_gets_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let _server = AdminServer::start(&path).unwrap();

        let long = "x".repeat(10_000);
        for text in ["", "{}\n", "{\"show\":\"passwords\"}\n", &long] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            // The server may have closed before it has read all of the long one.
            drop(stream.write_all(text.as_bytes()).await);
            drop(stream.shutdown().await);
            let mut answer = String::new();
            let read = stream.read_to_string(&mut answer).await;
            assert!(read.is_err() || answer.starts_with("{\"error\":"), "{answer}");
        }
    }
}
