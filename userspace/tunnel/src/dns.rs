//! DNS queries of programs: names of services are answered here, all others by the server that was asked.

pub(crate) mod stream;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::{Message, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::PTR},
};
use nightgate_gateway::names::{HostName, NameAddresses};
use socket2::SockRef;
use tokio::{net::UdpSocket, time::timeout};

use crate::shared::Shared;

/// Seconds for which a program may remember an address; short, because services come and go.
const TTL: u32 = 5;
/// Longest wait for the server that was asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is passed on, in bytes.
const MAX_ANSWER: usize = 65_535;

/// What a query wants to know.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Asked {
    /// Something about a name.
    Name(HostName),
    /// The name of an address: RFC 1035 section 3.5, RFC 3596 section 2.5.
    Address(IpAddr),
}

/// The answer to a query for a name or an address of a service, which may be that there is no such name; `None` to a
/// query that is for the server that was asked.
pub(crate) fn own_answer(query: &[u8], shared: &Shared) -> Option<Vec<u8>> {
    let (asked, message) = asked(query)?;
    let name = match &asked {
        Asked::Name(name) => name.clone(),
        Asked::Address(address) => shared.name_of(*address)?,
    };
    let addresses = shared.resolve(&name)?;
    if !shared.shows(&name, addresses) {
        return no_such_name(&message);
    }
    match asked {
        Asked::Name(_) => answer(&message, addresses),
        Asked::Address(_) => answer_with_name(&message, &name),
    }
}

/// What a query wants to know, if it is one question of the Internet's names.
fn asked(bytes: &[u8]) -> Option<(Asked, Message)> {
    let query = Message::from_vec(bytes).ok()?;
    let [question] = query.queries.as_slice() else { return None };
    if query.metadata.op_code != OpCode::Query || question.query_class() != DNSClass::IN {
        return None;
    }
    if question.query_type() == RecordType::PTR {
        let network = question.name().parse_arpa_name().ok()?;
        let is_one = network.prefix_len() == network.max_prefix_len();
        return is_one.then(|| (Asked::Address(network.addr()), query));
    }
    let name = HostName::try_from(question.name().to_ascii().as_str()).ok()?;
    Some((Asked::Name(name), query))
}

/// The answer to a query for the name of an address.
fn answer_with_name(query: &Message, name: &HostName) -> Option<Vec<u8>> {
    let name = Name::from_ascii(format!("{name}.")).ok()?;
    reply(query, ResponseCode::NoError, Some(RData::PTR(PTR(name))))
}

/// The answer to a query for a name of a service: an address, or that there is no such record.
fn answer(query: &Message, addresses: NameAddresses) -> Option<Vec<u8>> {
    reply(query, ResponseCode::NoError, data(query.queries.first()?, addresses))
}

/// The answer to a query for a name that this host may not know.
fn no_such_name(query: &Message) -> Option<Vec<u8>> {
    reply(query, ResponseCode::NXDomain, None)
}

fn reply(query: &Message, code: ResponseCode, data: Option<RData>) -> Option<Vec<u8>> {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.response_code = code;
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    let question = query.queries.first()?;
    reply.add_query(question.clone());
    if let Some(data) = data {
        reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
    }
    reply.to_vec().ok()
}

fn data(question: &Query, addresses: NameAddresses) -> Option<RData> {
    let kind = question.query_type();
    if kind == RecordType::A {
        Some(RData::A(addresses.v4.into()))
    } else if kind == RecordType::AAAA {
        Some(RData::AAAA(addresses.v6.into()))
    } else {
        None
    }
}

/// Marks what a socket sends, so that hooks on interfaces leave it alone.
fn set_mark(socket: SockRef<'_>, mark: Option<u32>) -> io::Result<()> {
    mark.map_or(Ok(()), |mark| socket.set_mark(mark))
}

/// Asks the server that a program meant, and gives its answer. The port is one that the system chooses, and only that
/// server's answers with the query's number count.
pub(crate) async fn forward(
    query: &[u8],
    server: SocketAddr,
    mark: Option<u32>,
) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    set_mark(SockRef::from(&socket), mark)?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; MAX_ANSWER];
    timeout(PATIENCE, async {
        loop {
            let length = socket.recv(&mut buffer).await?;
            if buffer.get(..2) == query.get(..2) {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    })
    .await?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query for www.corp of this type: RFC 1035 section 4.1.
    fn query(kind: u8) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(b"\x03WWW\x04corp\x00");
        bytes.extend([0, kind, 0, 1]);
        bytes
    }

    #[test]
    fn a_name_of_a_service_is_answered_with_its_addresses_and_nothing_else() {
        let addresses =
            NameAddresses { v4: Ipv4Addr::new(100, 64, 0, 1), v6: "fd64::1".parse().unwrap() };
        for (kind, expected) in [(1, "100.64.0.1"), (28, "fd64::1"), (16, "")] {
            let (asked, message) = asked(&query(kind)).unwrap();
            assert_eq!(asked, Asked::Name(HostName::try_from("www.corp").unwrap()));
            let reply = Message::from_vec(&answer(&message, addresses).unwrap()).unwrap();
            assert_eq!(reply.metadata.id, 0x1234);
            let said: Vec<_> = reply.answers.iter().map(|it| it.data.to_string()).collect();
            assert_eq!(said.join(" "), expected);
        }
    }

    #[test]
    fn a_name_that_may_not_be_known_does_not_exist() {
        let (_, message) = asked(&query(1)).unwrap();
        let reply = Message::from_vec(&no_such_name(&message).unwrap()).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert!(reply.answers.is_empty());
    }

    #[test]
    fn an_address_has_the_name_that_it_was_given_for() {
        let name = HostName::try_from("www.corp").unwrap();
        for address in ["100.64.0.1", "fd64::1"] {
            let address: IpAddr = address.parse().unwrap();
            let mut query = Message::query();
            query.add_query(Query::query(Name::from(address), RecordType::PTR));
            let (asked, message) = asked(&query.to_vec().unwrap()).unwrap();
            assert_eq!(asked, Asked::Address(address));
            let answer = answer_with_name(&message, &name).unwrap();
            let reply = Message::from_vec(&answer).unwrap();
            assert_eq!(reply.answers[0].data.to_string(), "www.corp.");
        }
    }

    #[test]
    fn what_is_no_query_has_no_name() {
        let mut two = query(1);
        two[5] = 2;
        let mut chaos = query(1);
        *chaos.last_mut().unwrap() = 3;
        for bytes in [&b""[..], b"x", &two, &chaos, &[0; 12]] {
            assert!(asked(bytes).is_none(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn other_names_are_asked_of_the_server_that_was_meant() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            server.send_to(b"\xff\xffforged", from).await.unwrap();
            server.send_to(&[&buffer[..2], b"answer"].concat(), from).await.unwrap();
            length
        });
        let query = query(1);
        assert_eq!(
            forward(&query, address, None).await.unwrap(),
            [&query[..2], b"answer"].concat()
        );
        assert_eq!(serving.await.unwrap(), query.len());
    }
}
