//! The asking side of the socket.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
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
    let path = path.to_owned();
    let mut stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(source) => return Err(AdminClientError::Connect { path, source }),
    };
    let text = match exchange(&mut stream, &request.into()).await {
        Ok(text) => text,
        Err(source) => return Err(AdminClientError::Exchange { path, source }),
    };
    match serde_json::from_slice(&text) {
        Ok(Answer::Ok(value)) => Ok(value),
        Ok(Answer::Error(reason)) => Err(AdminClientError::Refused { path, reason }),
        Err(source) => Err(AdminClientError::Answer { path, source }),
    }
}

async fn exchange(stream: &mut UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await?;
    Ok(text)
}
