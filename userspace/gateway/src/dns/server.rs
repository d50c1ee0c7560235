//! The sockets of the private DNS.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nightgate_packet::protocol;
use nightgate_telemetry::{DnsOutcome, Metrics};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::debug;

use super::{
    NameTable,
    answer::answer,
    forward::{Inquiry, Policy},
    framing,
    limit::Limiter,
    upstream,
};
use crate::asked::Asked;

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

/// What the servers know; all of them the same.
#[derive(Clone, Debug)]
pub struct Knowledge {
    /// The newest names.
    pub names: watch::Receiver<Arc<NameTable>>,
    /// Whom they answer, and whom they ask.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// Counts.
    pub metrics: Metrics,
    /// What they are asked.
    pub asked: Asked,
}

#[derive(Clone)]
struct Responder {
    knowledge: Knowledge,
    limiter: Arc<Mutex<Limiter>>,
    /// One for each question that is asked of other servers.
    asking: Arc<Semaphore>,
}

/// What to do with a query.
enum Next {
    /// Answer it so, or not at all.
    Answer(Option<Vec<u8>>),
    /// Ask these servers; should none answer, that is the answer.
    Ask(Box<Inquiry>, Vec<SocketAddr>, OwnedSemaphorePermit),
}

/// Datagrams longer than this are no queries (RFC 9715 section 3.1); they are cut and so malformed.
const DATAGRAM_LENGTH: usize = 1232;

/// Questions that other servers are asked at one time; more are answered that it does not work.
const MAX_ASKED: usize = 512;

/// Connections served at one time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;

/// A connection that sends no query for this long is closed (RFC 7766 section 6.2.3: a few seconds).
const IDLE: Duration = Duration::from_secs(5);

impl DnsServer {
    /// Opens a UDP and a TCP socket at each address and answers from the newest table.
    ///
    /// # Errors
    /// A socket cannot be opened; none stays open then.
    pub async fn start(listen: &[SocketAddr], knowledge: Knowledge) -> Result<Self, DnsError> {
        let mut server = Self { addresses: Vec::new(), tasks: JoinSet::new() };
        let asking = Arc::new(Semaphore::new(MAX_ASKED));
        let responder = Responder { knowledge, limiter: Arc::default(), asking };
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
    /// Whether a client is answered that may have lied about its address.
    fn admits(&self, client: SocketAddr) -> bool {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = limiter.admit(client.ip(), Instant::now());
        if !admitted {
            self.knowledge.metrics.dns_answered(DnsOutcome::Limited);
        }
        admitted
    }

    fn answer(&self, query: &[u8], client: SocketAddr) -> Next {
        let Knowledge { names, policy, metrics, .. } = &self.knowledge;
        let policy = policy.borrow();
        if !policy.allows(client.ip()) {
            metrics.dns_answered(DnsOutcome::Refused);
            return Next::Answer(None);
        }
        let answer = answer(query, &names.borrow(), client.ip(), Instant::now());
        let servers = answer.elsewhere.as_ref().map(|inquiry| policy.servers(inquiry.name()));
        let Some((inquiry, servers)) =
            answer.elsewhere.as_ref().zip(servers.filter(|s| !s.is_empty()))
        else {
            metrics.dns_answered(answer.outcome);
            return Next::Answer(answer.message);
        };
        match Arc::clone(&self.asking).try_acquire_owned() {
            Ok(permit) => {
                metrics.dns_answered(DnsOutcome::Forwarded);
                Next::Ask(Box::new(inquiry.clone()), servers.to_vec(), permit)
            }
            Err(_full) => {
                metrics.dns_answered(DnsOutcome::Limited);
                Next::Answer(inquiry.failure())
            }
        }
    }
}

/// The answer of other servers, at most `limit` bytes.
async fn ask_elsewhere(inquiry: &Inquiry, servers: &[SocketAddr], limit: usize) -> Option<Vec<u8>> {
    match upstream::ask(inquiry, servers).await {
        Some(believed) => inquiry.answer(believed, limit),
        None => inquiry.failure(),
    }
}

async fn serve_udp(socket: UdpSocket, responder: Responder) {
    let socket = Arc::new(socket);
    let mut asking = JoinSet::new();
    let mut buffer = [0; DATAGRAM_LENGTH];
    let port = socket.local_addr().map_or(0, |own| own.port());
    loop {
        while asking.try_join_next().is_some() {}
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error for an earlier answer; the socket goes on.
                debug!(%error, "private DNS could not receive");
                continue;
            }
        };
        if !responder.admits(client) {
            continue;
        }
        responder.knowledge.asked.note(protocol::UDP, client, port, &buffer[..length]);
        match responder.answer(&buffer[..length], client) {
            Next::Answer(message) => send(&socket, client, message).await,
            Next::Ask(inquiry, servers, permit) => {
                let socket = Arc::clone(&socket);
                asking.spawn(async move {
                    let message = ask_elsewhere(&inquiry, &servers, inquiry.limit()).await;
                    send(&socket, client, message).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, client: SocketAddr, message: Option<Vec<u8>>) {
    if let Some(message) = message
        && let Err(error) = socket.send_to(&message, client).await
    {
        debug!(%error, "private DNS could not answer");
    }
}

async fn serve_tcp(listener: TcpListener, responder: Responder) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, client)) => {
                let responder = responder.clone();
                connections.spawn(async move {
                    if let Err(error) = serve_connection(stream, client, &responder).await {
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

/// Answers one query after another.
async fn serve_connection(
    mut stream: TcpStream,
    client: SocketAddr,
    responder: &Responder,
) -> io::Result<()> {
    let port = stream.local_addr()?.port();
    loop {
        let Some(query) = timeout(IDLE, framing::read(&mut stream)).await?? else { return Ok(()) };
        responder.knowledge.asked.note(protocol::TCP, client, port, &query);
        let answer = match responder.answer(&query, client) {
            Next::Answer(message) => message,
            Next::Ask(inquiry, servers, _permit) => {
                ask_elsewhere(&inquiry, &servers, usize::from(u16::MAX)).await
            }
        };
        let Some(message) = answer else { return Ok(()) };
        timeout(IDLE, framing::write(&mut stream, &message)).await??;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use hickory_proto::{
        op::{Message, MessageType, OpCode, Query, ResponseCode},
        rr::{Name, RData, Record, RecordType, rdata::A},
    };

    use super::*;
    use crate::{
        intercept::Sources,
        names::{HostName, NameAddresses},
    };

    #[tokio::test]
    async fn both_transports_answer_from_the_newest_table() {
        let (table, _policy, server) = start(Policy::default()).await;
        let address = server.addresses()[0];

        assert_eq!(ask_udp(address).await.metadata.response_code, ResponseCode::NXDomain);
        table.send_replace(Arc::new(one_name()));
        assert_eq!(ask_udp(address).await.answers.len(), 1);
        assert_eq!(ask_tcp(address).await.answers.len(), 1);
    }

    #[tokio::test]
    async fn other_names_are_asked_of_the_servers_in_turn_and_cut_answers_by_tcp() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let upstream = resolver().await;
        let policy =
            Policy { upstreams: vec![silent.local_addr().unwrap(), upstream], ..Policy::default() };
        let (_table, _policy, server) = start(policy).await;
        let address = server.addresses()[0];

        let by_udp = ask_udp(address).await;
        assert_eq!((by_udp.answers.len(), by_udp.metadata.truncation), (0, true));
        let by_tcp = ask_tcp(address).await;
        assert_eq!((by_tcp.answers.len(), by_tcp.metadata.truncation), (100, false));
        assert_eq!(by_tcp.metadata.id, 7);
    }

    #[tokio::test]
    async fn who_is_not_permitted_gets_no_answer() {
        let clients = Sources::new(&["10.0.0.0/8"]).unwrap();
        let (_table, change, server) = start(Policy { clients, ..Policy::default() }).await;
        let address = server.addresses()[0];
        let asked = timeout(Duration::from_millis(300), ask_udp(address)).await;
        assert!(asked.is_err(), "{asked:?}");
        change.send_replace(Arc::new(Policy::default()));
        assert_eq!(ask_udp(address).await.metadata.response_code, ResponseCode::NXDomain);
    }

    /// A name server with an answer that only TCP carries whole.
    async fn resolver() -> SocketAddr {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let reply = |query: &[u8], cut: bool| {
            let query = Message::from_vec(query).unwrap();
            let mut reply = Message::response(query.metadata.id, OpCode::Query);
            let name = query.queries[0].name().clone();
            reply.add_query(query.queries[0].clone());
            reply.metadata.truncation = cut;
            for last in 0..if cut { 0 } else { 100 } {
                let data = RData::A(A::new(192, 0, 2, last));
                reply.add_answer(Record::from_rdata(name.clone(), 60, data));
            }
            reply.to_vec().unwrap()
        };
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
                udp.send_to(&reply(&buffer[..length], true), client).await.unwrap();
            }
        });
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let query = framing::read(&mut stream).await.unwrap().unwrap();
                let reply = reply(&query, false);
                framing::write(&mut stream, &reply).await.unwrap();
            }
        });
        address
    }

    type Senders = (watch::Sender<Arc<NameTable>>, watch::Sender<Arc<Policy>>, DnsServer);

    async fn start(policy: Policy) -> Senders {
        let (table, names) = watch::channel(Arc::new(NameTable::default()));
        let (change, policy) = watch::channel(Arc::new(policy));
        let listen = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let knowledge =
            Knowledge { names, policy, metrics: Metrics::new().unwrap(), asked: Asked::default() };
        let server = DnsServer::start(&listen, knowledge).await.unwrap();
        (table, change, server)
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_names_the_address() {
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = taken.local_addr().unwrap();
        let (_table, names) = watch::channel(Arc::new(NameTable::default()));
        let (_change, policy) = watch::channel(Arc::new(Policy::default()));
        let knowledge =
            Knowledge { names, policy, metrics: Metrics::new().unwrap(), asked: Asked::default() };

        let error = DnsServer::start(&[address], knowledge).await.unwrap_err();

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
        framing::write(&mut stream, &query()).await.unwrap();
        let reply = framing::read(&mut stream).await.unwrap().unwrap();
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
