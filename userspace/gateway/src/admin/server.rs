//! The serving side of the socket.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
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
    answer: oneshot::Sender<Answer>,
}

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

/// Longest request line, bytes: room for 100,000 rules.
const MAX_REQUEST: u64 = 1 << 26;

/// A client that does not finish its request in this time is disconnected.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

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
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let (sender, queries) = mpsc::channel(QUEUE);
        let task = tokio::spawn(accept(listener, sender)).abort_handle();
        Ok(Self { path: path.to_owned(), queries, task })
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
        drop(self.answer.send(answer));
    }
}

fn remove_stale(path: &Path) -> Result<(), AdminSocketError> {
    use std::os::unix::fs::FileTypeExt as _;

    let path = path.to_owned();
    match fs::symlink_metadata(&path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(AdminSocketError::NotASocket { path });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(AdminSocketError::Open { path, source }),
    }
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        return Err(AdminSocketError::InUse { path });
    }
    fs::remove_file(&path).map_err(|source| AdminSocketError::Open { path, source })
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
    let (read, _) = stream.split();
    timeout(REQUEST_TIMEOUT, BufReader::new(read.take(MAX_REQUEST)).read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => forward(request, &queries).await,
        Err(error) => Answer::Error(format!("request: {error}")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    stream.shutdown().await
}

async fn forward(request: Request, queries: &mpsc::Sender<Query>) -> Answer {
    let (answer, answered) = oneshot::channel();
    if queries.send(Query { request, answer }).await.is_ok()
        && let Ok(answer) = answered.await
    {
        return answer;
    }
    Answer::Error("the process is stopping".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{AdminClientError, Topic, ask};

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
