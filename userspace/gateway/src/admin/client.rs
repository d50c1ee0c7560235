//! The asking side of the socket.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

use super::{Answer, Request};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminClientError {
    /// Nobody answers at the socket.
    #[error(
        "connect to {}: {source}; is the process running, as this user, with this admin_socket?",
        path.display()
    )]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The connection broke.
    #[error("ask at {}: {source}", path.display())]
    Exchange {
        /// The socket's path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The answer is not understood; often because the connection was refused to this user.
    #[error("answer at {}: {source}; expected one line of JSON", path.display())]
    Answer {
        /// The socket's path.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The process has no answer.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Asks the process that serves the socket at `path`.
///
/// # Errors
/// Nobody answers there, or the process has no answer.
pub async fn ask(
    path: &Path,
    request: impl Into<Request>,
) -> Result<serde_json::Value, AdminClientError> {
    follow(path, request, |_event| Ok(())).await
}

/// Asks the process that serves the socket at `path` for something that it tells as it happens; `event` gets
/// each of it, and may end it by an error.
///
/// # Errors
/// Nobody answers there, the process has no answer, or `event` says so.
pub async fn follow(
    path: &Path,
    request: impl Into<Request>,
    mut event: impl FnMut(serde_json::Value) -> io::Result<()>,
) -> Result<serde_json::Value, AdminClientError> {
    let stream = UnixStream::connect(path).await.map_err(|source| {
        let path = path.to_owned();
        AdminClientError::Connect { path, source }
    })?;
    let broken = |source| AdminClientError::Exchange { path: path.to_owned(), source };
    let mut stream = BufReader::new(stream);
    send(&mut stream, &request.into()).await.map_err(broken)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.map_err(broken)?;
        match serde_json::from_str(&line) {
            Ok(Answer::Event(value)) => event(value).map_err(broken)?,
            Ok(Answer::Ok(value)) => return Ok(value),
            Ok(Answer::Error(reason)) => {
                return Err(AdminClientError::Refused { path: path.to_owned(), reason });
            }
            Err(source) => {
                return Err(AdminClientError::Answer { path: path.to_owned(), source });
            }
        }
    }
}

async fn send(stream: &mut BufReader<UnixStream>, request: &Request) -> io::Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await
}
