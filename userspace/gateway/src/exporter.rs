//! Metrics over HTTP, for Prometheus: `GET /metrics` and nothing else.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::AbortHandle,
    time::timeout,
};
use tracing::{debug, info, warn};

use crate::admin::{Topic, ask};

/// Serves the metrics of the process that answers at an admin socket. Dropping it closes the port.
#[derive(Debug)]
pub struct Exporter {
    address: SocketAddr,
    task: AbortHandle,
}

/// A port that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "metrics.listen: open {address}: {source}; expected a free port of an address of this host"
)]
pub struct ExporterError {
    address: SocketAddr,
    source: io::Error,
}

/// Longest head of a request, bytes.
const HEAD: u64 = 8_192;
/// A scraper that is slower than this is disconnected.
const PATIENCE: Duration = Duration::from_secs(10);
/// Scrapers served at one time; others wait.
const SCRAPERS: usize = 4;
/// Media type of Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Exporter {
    /// Opens the port.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn start(address: SocketAddr, admin_socket: &Path) -> Result<Self, ExporterError> {
        let failed = |source| ExporterError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        info!(%address, "metrics are served");
        let task = tokio::spawn(accept(listener, admin_socket.to_owned())).abort_handle();
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, admin_socket: PathBuf) {
    let places = Arc::new(Semaphore::new(SCRAPERS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin_socket = admin_socket.clone();
                tokio::spawn(async move {
                    let served = timeout(PATIENCE, serve(stream, &admin_socket)).await;
                    if !matches!(served, Ok(Ok(()))) {
                        debug!("a scraper was not served");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a scraper could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(mut stream: TcpStream, admin_socket: &Path) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read.take(HEAD)).lines();
    let request = lines.next_line().await?.unwrap_or_default();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let (status, body) = answer(&request, admin_socket).await;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {TEXT}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    write.write_all(head.as_bytes()).await?;
    write.write_all(body.as_bytes()).await?;
    write.shutdown().await
}

/// The status and the body for a request line.
async fn answer(request: &str, admin_socket: &Path) -> (&'static str, String) {
    let mut words = request.split(' ');
    let path = match (words.next(), words.next()) {
        (Some("GET"), Some(target)) => target.split('?').next().unwrap_or_default(),
        _ => return ("405 Method Not Allowed", "only GET /metrics is answered\n".into()),
    };
    if path != "/metrics" {
        return ("404 Not Found", "metrics are at /metrics\n".into());
    }
    match ask(admin_socket, Topic::Metrics).await {
        Ok(text) => ("200 OK", text.as_str().unwrap_or_default().to_owned()),
        Err(error) => ("503 Service Unavailable", format!("{error}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::AdminServer;

    #[tokio::test]
    async fn metrics_and_nothing_else_are_served_over_tcp() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let mut admin = AdminServer::start(&socket).unwrap();
        let loopback = "127.0.0.1:0".parse().unwrap();
        let exporter = Exporter::start(loopback, &socket).await.unwrap();
        let answers = tokio::spawn(async move {
            admin.next().await.unwrap().answer(Ok("nightgate_flows 7\n".into()));
            admin
        });

        let text = scrape(exporter.address(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("nightgate_flows 7\n"),
            "{text}"
        );
        let admin = answers.await.unwrap();
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("\r\n\r\n", "405"),
        ] {
            let text = scrape(exporter.address(), request).await;
            assert!(text.contains(status), "{text}");
        }
        drop(admin);
        let text = scrape(exporter.address(), "GET /metrics HTTP/1.0\r\n\r\n").await;
        assert!(text.contains("503"), "{text}");
    }

    async fn scrape(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}
