//! The sockets of the private DNS.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use nightgate_telemetry::Metrics;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::debug;

use super::answer::{NameTable, answer};

/// The private DNS, over UDP and TCP. Dropping it closes its sockets.
#[derive(Debug)]
pub struct DnsServer {
    addresses: Vec<SocketAddr>,
    tasks: JoinSet<()>,
}

/// A DNS socket that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "dns.listen: open {protocol} {address}: {source}; expected a free port on an address of this host"
)]
pub struct DnsError {
    protocol: &'static str,
    address: SocketAddr,
    source: io::Error,
}

#[derive(Clone)]
struct Responder {
    names: watch::Receiver<Arc<NameTable>>,
    metrics: Metrics,
}

/// Datagrams longer than this are no queries (RFC 9715 section 3.1); they are cut and so malformed.
const DATAGRAM_LENGTH: usize = 1232;

/// Connections served at one time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;

/// A connection that sends no query for this long is closed (RFC 7766 section 6.2.3: a few seconds).
const IDLE: Duration = Duration::from_secs(5);

impl DnsServer {
    /// Opens a UDP and a TCP socket at each address and answers from the newest table.
    ///
    /// # Errors
    /// A socket cannot be opened; none stays open then.
    pub async fn start(
        listen: &[SocketAddr],
        names: watch::Receiver<Arc<NameTable>>,
        metrics: Metrics,
    ) -> Result<Self, DnsError> {
        let mut server = Self { addresses: Vec::new(), tasks: JoinSet::new() };
        let responder = Responder { names, metrics };
        for &address in listen {
            let udp = UdpSocket::bind(address).await.map_err(|source| DnsError {
                protocol: "UDP",
                address,
                source,
            })?;
            let address =
                udp.local_addr().map_err(|source| DnsError { protocol: "UDP", address, source })?;
            let tcp = TcpListener::bind(address).await.map_err(|source| DnsError {
                protocol: "TCP",
                address,
                source,
            })?;
            server.tasks.spawn(serve_udp(udp, responder.clone()));
            server.tasks.spawn(serve_tcp(tcp, responder.clone()));
            server.addresses.push(address);
        }
        Ok(server)
    }

    /// Where it answers.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Responder {
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let answer = answer(query, &self.names.borrow());
        self.metrics.dns_answered(answer.outcome);
        answer.message
    }
}

async fn serve_udp(socket: UdpSocket, responder: Responder) {
    let mut buffer = [0; DATAGRAM_LENGTH];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error for an earlier answer; the socket goes on.
                debug!(%error, "private DNS could not receive");
                continue;
            }
        };
        if let Some(message) = responder.answer(&buffer[..length])
            && let Err(error) = socket.send_to(&message, client).await
        {
            debug!(%error, "private DNS could not answer");
        }
    }
}

async fn serve_tcp(listener: TcpListener, responder: Responder) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let responder = responder.clone();
                connections.spawn(async move {
                    if let Err(error) = serve_connection(stream, &responder).await {
                        debug!(%error, "private DNS connection ended");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                debug!(%error, "private DNS could not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers one query after another, each with its length in front (RFC 1035 section 4.2.2).
async fn serve_connection(mut stream: TcpStream, responder: &Responder) -> io::Result<()> {
    loop {
        let mut query = Vec::new();
        let read = async {
            let length = stream.read_u16().await?;
            query.resize(usize::from(length), 0);
            stream.read_exact(&mut query).await.map(|_| ())
        };
        timeout(IDLE, read).await??;
        let Some(message) = responder.answer(&query) else { return Ok(()) };
        let mut framed = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
        framed.extend_from_slice(&message);
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use hickory_proto::{
        op::{Message, MessageType, OpCode, Query, ResponseCode},
        rr::{Name, RecordType},
    };

    use super::*;
    use crate::names::{HostName, NameAddresses};

    #[tokio::test]
    async fn both_transports_answer_from_the_newest_table() {
        let (table, names) = watch::channel(Arc::new(NameTable::default()));
        let listen = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let server = DnsServer::start(&listen, names, Metrics::new().unwrap()).await.unwrap();
        let address = server.addresses()[0];

        assert_eq!(ask_udp(address).await.metadata.response_code, ResponseCode::NXDomain);
        table.send_replace(Arc::new(one_name()));
        assert_eq!(ask_udp(address).await.answers.len(), 1);
        assert_eq!(ask_tcp(address).await.answers.len(), 1);
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_names_the_address() {
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = taken.local_addr().unwrap();
        let (_table, names) = watch::channel(Arc::new(NameTable::default()));

        let error = DnsServer::start(&[address], names, Metrics::new().unwrap()).await.unwrap_err();

        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    async fn ask_udp(server: SocketAddr) -> Message {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.send_to(&query(), server).await.unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).await.unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    async fn ask_tcp(server: SocketAddr) -> Message {
        let mut stream = TcpStream::connect(server).await.unwrap();
        let query = query();
        stream.write_u16(u16::try_from(query.len()).unwrap()).await.unwrap();
        stream.write_all(&query).await.unwrap();
        let mut reply = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut reply).await.unwrap();
        Message::from_vec(&reply).unwrap()
    }

    fn query() -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        let name = Name::from_ascii("web.example.").unwrap();
        message.add_query(Query::query(name, RecordType::A));
        message.to_vec().unwrap()
    }

    fn one_name() -> NameTable {
        let name = HostName::try_from("web.example").unwrap();
        let addresses = NameAddresses { v4: Ipv4Addr::LOCALHOST, v6: Ipv6Addr::LOCALHOST };
        [(name, addresses)].into_iter().collect()
    }
}
