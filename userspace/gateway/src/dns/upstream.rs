//! The sockets by which other servers are asked.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::op::Message;
use tokio::{
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use tracing::debug;

use super::{
    forward::{Inquiry, NotBelieved, Question},
    framing,
};

/// Until another server is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks servers in turn until one answers.
pub(super) async fn ask(inquiry: &Inquiry, servers: &[SocketAddr]) -> Option<Message> {
    for server in servers {
        match timeout(PATIENCE, ask_one(inquiry, *server)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => debug!(%server, %error, "a name server could not be asked"),
            Err(_elapsed) => debug!(%server, "a name server did not answer"),
        }
    }
    None
}

async fn ask_one(inquiry: &Inquiry, server: SocketAddr) -> io::Result<Message> {
    let (question, bytes) = inquiry.ask(random());
    let bytes = bytes.ok_or(io::ErrorKind::InvalidInput)?;
    match by_udp(&question, &bytes, server).await? {
        Ok(answer) => Ok(answer),
        Err(_cut) => by_tcp(&question, &bytes, server).await,
    }
}

/// A port of its own for every question, which only the server's answers reach.
async fn by_udp(
    question: &Question,
    bytes: &[u8],
    server: SocketAddr,
) -> io::Result<Result<Message, NotBelieved>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = [0; 4_096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match question.believe(&buffer[..length]) {
            // Somebody guesses, or an answer is late: the right one may still come.
            Err(NotBelieved::Other) => {
                debug!(%server, "an answer of a name server was not believed")
            }
            believed => return Ok(believed),
        }
    }
}

async fn by_tcp(question: &Question, bytes: &[u8], server: SocketAddr) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    framing::write(&mut stream, bytes).await?;
    let answer = framing::read(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    question.believe(&answer).map_err(io::Error::other)
}

/// 122 bits of the system's randomness, and six that are always the same.
fn random() -> u128 {
    uuid::Uuid::new_v4().as_u128()
}
