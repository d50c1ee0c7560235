//! Metrics over HTTP, for Prometheus: `GET /metrics` and nothing else.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use nightgate_config::Metrics;
use nightgate_telemetry::{Metrics as Counters, SCRAPER_RIGHTS, open_socket};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader, split,
    },
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::AbortHandle,
    time::timeout,
};
use tracing::{debug, info, warn};

use crate::admin::{Topic, ask};

/// Serves the metrics of a process. Dropping it closes port and socket.
#[derive(Debug)]
pub struct Exporter {
    address: Option<SocketAddr>,
    socket: Option<PathBuf>,
    tasks: Vec<AbortHandle>,
}

/// Whence the metrics are.
#[derive(Clone, Debug)]
pub enum Source {
    /// Of the process that answers at this admin socket.
    Admin(PathBuf),
    /// This process's counters, which are all that it has.
    Counters(Counters),
}

/// A port or a socket that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// The port.
    #[error(
        "metrics.listen: open {address}: {source}; expected a free port of an address of this host"
    )]
    Address {
        /// As configured.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The socket.
    #[error(
        "metrics.socket: open {}: {source}; expected a path in a folder that this user may write", path.display()
    )]
    Socket {
        /// As configured.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// What scrapers connect to.
enum Listener {
    Address(TcpListener),
    Socket(UnixListener),
}

/// A scraper's connection.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Longest head of a request, bytes.
const HEAD: u64 = 8_192;
/// A scraper that is slower than this is disconnected.
const PATIENCE: Duration = Duration::from_secs(10);
/// Scrapers served at one time; others wait.
const SCRAPERS: usize = 4;
/// Media type of Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Exporter {
    /// Opens what is configured.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn start(metrics: &Metrics, source: &Source) -> Result<Self, ExporterError> {
        let mut exporter = Self { address: None, socket: None, tasks: Vec::new() };
        if let Some(address) = metrics.listen {
            let failed = |source| ExporterError::Address { address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            info!(%address, "metrics are served");
            exporter.address = Some(address);
            exporter.serve(Listener::Address(listener), source);
        }
        if let Some(path) = &metrics.socket {
            let failed = |source| ExporterError::Socket { path: path.clone(), source };
            let listener = open_socket(path, SCRAPER_RIGHTS).map_err(failed)?;
            exporter.socket = Some(path.clone());
            let listener = UnixListener::from_std(listener).map_err(failed)?;
            info!(socket = %path.display(), "metrics are served");
            exporter.serve(Listener::Socket(listener), source);
        }
        Ok(exporter)
    }

    /// The port that it listens at, if it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    fn serve(&mut self, listener: Listener, source: &Source) {
        let task = tokio::spawn(accept(listener, source.clone()));
        self.tasks.push(task.abort_handle());
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        if let Some(path) = &self.socket
            && let Err(error) = std::fs::remove_file(path)
        {
            warn!(%error, path = %path.display(), "socket of the metrics could not be removed");
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Address(listener) => Box::new(listener.accept().await?.0),
            Self::Socket(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

async fn accept(listener: Listener, source: Source) {
    let places = Arc::new(Semaphore::new(SCRAPERS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok(stream) => {
                let source = source.clone();
                tokio::spawn(async move {
                    let served = timeout(PATIENCE, serve(stream, &source)).await;
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

async fn serve(stream: Box<dyn Connection>, source: &Source) -> io::Result<()> {
    let (read, mut write) = split(stream);
    let mut lines = BufReader::new(read.take(HEAD)).lines();
    let request = lines.next_line().await?.unwrap_or_default();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let (status, body) = answer(&request, source).await;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {TEXT}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    write.write_all(head.as_bytes()).await?;
    write.write_all(body.as_bytes()).await?;
    write.shutdown().await
}

/// The status and the body for a request line.
async fn answer(request: &str, source: &Source) -> (&'static str, String) {
    let mut words = request.split(' ');
    let path = match (words.next(), words.next()) {
        (Some("GET"), Some(target)) => target.split('?').next().unwrap_or_default(),
        _ => return ("405 Method Not Allowed", "only GET /metrics is answered\n".into()),
    };
    if path != "/metrics" {
        return ("404 Not Found", "metrics are at /metrics\n".into());
    }
    let text = match source {
        Source::Admin(socket) => match ask(socket, Topic::Metrics).await {
            Ok(text) => Ok(text.as_str().unwrap_or_default().to_owned()),
            Err(error) => Err(error.to_string()),
        },
        Source::Counters(counters) => counters.render().map_err(|error| error.to_string()),
    };
    match text {
        Ok(text) => ("200 OK", text),
        Err(error) => ("503 Service Unavailable", format!("{error}\n")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpStream, UnixStream};

    use super::*;
    use crate::admin::AdminServer;

    #[tokio::test]
    async fn metrics_and_nothing_else_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let mut admin = AdminServer::start(&socket).unwrap();
        let own = folder.path().join("metrics.sock");
        let loopback = "127.0.0.1:0".parse().unwrap();
        let metrics = Metrics { listen: Some(loopback), socket: Some(own.clone()) };
        let exporter = Exporter::start(&metrics, &Source::Admin(socket)).await.unwrap();
        let address = exporter.address().unwrap();
        let answers = tokio::spawn(async move {
            for _scrape in 0..2 {
                admin.next().await.unwrap().answer(Ok("nightgate_flows 7\n".into()));
            }
            admin
        });

        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        let over_socket = ask_of(UnixStream::connect(&own).await.unwrap(), request).await;
        for text in [scrape(address, request).await, over_socket] {
            assert!(
                text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("nightgate_flows 7\n"),
                "{text}"
            );
        }
        let admin = answers.await.unwrap();
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("\r\n\r\n", "405"),
        ] {
            let text = scrape(address, request).await;
            assert!(text.contains(status), "{text}");
        }
        drop(admin);
        let text = scrape(address, "GET /metrics HTTP/1.0\r\n\r\n").await;
        assert!(text.contains("503"), "{text}");
        drop(exporter);
        assert!(!own.exists());
    }

    #[tokio::test]
    async fn a_process_without_an_admin_socket_shows_its_counters() {
        let counters = Counters::new().unwrap();
        counters.bytes_sent(7);
        let metrics = Metrics { listen: Some("127.0.0.1:0".parse().unwrap()), socket: None };
        let exporter = Exporter::start(&metrics, &Source::Counters(counters)).await.unwrap();
        let text = scrape(exporter.address().unwrap(), "GET /metrics HTTP/1.0\r\n\r\n").await;
        let line = "nightgate_circuit_plaintext_bytes_total{direction=\"sent\"} 7";
        assert!(text.contains(line), "{text}");
    }

    async fn scrape(address: SocketAddr, request: &str) -> String {
        ask_of(TcpStream::connect(address).await.unwrap(), request).await
    }

    async fn ask_of(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}
