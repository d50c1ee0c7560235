//! A syslog server (RFC 5424) by UDP (RFC 5426), TCP with octet counting (RFC 6587 section 3.4.1), or the socket of this
//! host's.

use std::{io, path::PathBuf, process, time::Duration};

use nightgate_config::{Syslog, SyslogServer};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpStream, UdpSocket, UnixDatagram},
    time::timeout,
};

use crate::record::Line;

/// Severity "informational" (RFC 5424 section 6.2.1).
const INFORMATIONAL: u8 = 6;
/// How long a server may take to accept a connection, or what is written to it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A syslog server.
#[derive(Debug)]
pub(crate) struct SyslogSink {
    server: SyslogServer,
    head: Head,
    connection: Option<Connection>,
}

/// What all messages have in common.
#[derive(Debug)]
struct Head {
    priority: u8,
    host: String,
    process: u32,
}

#[derive(Debug)]
enum Connection {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Unix(UnixDatagram),
}

impl SyslogSink {
    pub(crate) fn new(syslog: &Syslog, host: &str) -> Self {
        let priority = syslog.facility * 8 + INFORMATIONAL;
        let head = Head { priority, host: header_field(host), process: process::id() };
        Self { server: syslog.server.clone(), head, connection: None }
    }

    /// Sends one message for each line. After an error, the next call connects anew.
    ///
    /// # Errors
    /// The server does not take them.
    pub(crate) async fn deliver(&mut self, lines: &[Line<'_>]) -> io::Result<()> {
        let sent = timeout(PATIENCE, self.send(lines)).await;
        let sent = sent.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
        if sent.is_err() {
            self.connection = None;
        }
        sent
    }

    async fn send(&mut self, lines: &[Line<'_>]) -> io::Result<()> {
        if self.connection.as_ref().is_none_or(Connection::is_over) {
            self.connection = Some(connect(&self.server).await?);
        }
        let head = &self.head;
        let messages = lines.iter().map(|line| head.message(line));
        match &mut self.connection {
            Some(Connection::Udp(socket)) => {
                for message in messages {
                    socket.send(message.as_bytes()).await?;
                }
            }
            Some(Connection::Unix(socket)) => {
                for message in messages {
                    socket.send(message.as_bytes()).await?;
                }
            }
            Some(Connection::Tcp(stream)) => {
                let frames: String =
                    messages.map(|message| format!("{} {message}", message.len())).collect();
                stream.write_all(frames.as_bytes()).await?;
            }
            None => return Err(io::ErrorKind::NotConnected.into()),
        }
        Ok(())
    }
}

impl Head {
    /// The message of a line (RFC 5424 section 6), with no structured data: everything is in the line.
    fn message(&self, line: &Line<'_>) -> String {
        let Self { priority, host, process } = self;
        let text = line.text.trim_end();
        format!("<{priority}>1 {} {host} nightgate {process} flow - {text}", line.timestamp)
    }
}

impl Connection {
    /// Whether the server has closed it: what was written to it then would be lost unnoticed. Servers send nothing.
    fn is_over(&self) -> bool {
        match self {
            Self::Udp(_) | Self::Unix(_) => false,
            Self::Tcp(stream) => match stream.try_read(&mut [0; 64]) {
                Ok(length) => length == 0,
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            },
        }
    }
}

async fn connect(server: &SyslogServer) -> io::Result<Connection> {
    match server {
        SyslogServer::Udp(address) => {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(address).await?;
            Ok(Connection::Udp(socket))
        }
        SyslogServer::Tcp(address) => Ok(Connection::Tcp(TcpStream::connect(address).await?)),
        SyslogServer::Unix(path) => unix(path.clone()),
    }
}

fn unix(path: PathBuf) -> io::Result<Connection> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(Connection::Unix(socket))
}

/// A name as a field of the header: up to 255 printable ASCII characters, `-` for none (RFC 5424 section 6.2.4).
fn header_field(name: &str) -> String {
    let printable = |character: char| if character.is_ascii_graphic() { character } else { '_' };
    let field: String = name.chars().take(255).map(printable).collect();
    if field.is_empty() { "-".into() } else { field }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;

    fn sink(server: SyslogServer) -> SyslogSink {
        SyslogSink::new(&Syslog { server, facility: 16 }, "gw ä")
    }

    fn lines() -> [Line<'static>; 2] {
        ["{\"n\":1,\"lost\":0}\n", "{\"n\":2,\"lost\":0}\n"]
            .map(|text| Line { timestamp: "2026-11-22T03:04:05.000006Z", text: text.into() })
    }

    fn message(number: u32) -> String {
        let process = process::id();
        format!(
            "<134>1 2026-11-22T03:04:05.000006Z gw__ nightgate {process} flow - {{\"n\":{number},\"lost\":0}}"
        )
    }

    #[tokio::test]
    async fn a_message_is_a_datagram() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(address).await.unwrap();
            let to: SocketAddr = server.local_addr().unwrap();
            sink(SyslogServer::Udp(to)).deliver(&lines()).await.unwrap();
            let mut buffer = [0; 2_048];
            for number in 1..=2 {
                let length = server.recv(&mut buffer).await.unwrap();
                assert_eq!(String::from_utf8_lossy(&buffer[..length]), message(number));
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert!(sink(SyslogServer::Unix(path.clone())).deliver(&lines()).await.is_err());
        let server = UnixDatagram::bind(&path).unwrap();
        sink(SyslogServer::Unix(path)).deliver(&lines()).await.unwrap();
        let mut buffer = [0; 2_048];
        let length = server.recv(&mut buffer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), message(1));
    }

    #[tokio::test]
    async fn over_tcp_messages_are_counted_and_a_server_that_comes_again_is_found() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sink = sink(SyslogServer::Tcp(server.local_addr().unwrap()));
        let expected: String = (1..=2)
            .map(|number| format!("{} {}", message(number).len(), message(number)))
            .collect();
        for _connection in 0..2 {
            sink.deliver(&lines()).await.unwrap();
            let (mut stream, _) = server.accept().await.unwrap();
            let mut found = vec![0; expected.len()];
            stream.read_exact(&mut found).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&found), expected);
            drop(stream);
            // Until it is known that the server has closed it.
            while !sink.connection.as_ref().unwrap().is_over() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}
