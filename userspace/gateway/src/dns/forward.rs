//! What is asked of other servers for names that are not ours, and which of their answers are believed.
//!
//! Whoever would forge an answer has to guess, within the time of one question, its identifier, the port it was asked
//! from, and which letters of its name are capitals (RFC 5452, draft-vixie-dnsext-dns0x20). Nothing is kept, so
//! that a forged answer would deceive the one client that asked.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};

use crate::{intercept::Sources, names::HostName};

/// Whom the private DNS answers, and whom it asks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// Who is answered at all.
    pub clients: Sources,
    /// Who knows the names below a domain, and the domain itself; the longest domain counts.
    pub domains: Vec<(HostName, Vec<SocketAddr>)>,
    /// Who knows all other names, in the order they are asked in; nobody if it is empty.
    pub upstreams: Vec<SocketAddr>,
}

impl Policy {
    /// Whether a client is answered.
    pub fn allows(&self, client: IpAddr) -> bool {
        self.clients.allow(client)
    }

    /// Who is asked about a name; nobody if there is no such server.
    pub fn servers(&self, name: &Name) -> &[SocketAddr] {
        let Ok(name) = HostName::try_from(name.to_ascii().as_str()) else {
            return &self.upstreams;
        };
        let is_in = |domain: &HostName| *domain == name || name.parents().any(|p| p == *domain);
        let matching = self.domains.iter().filter(|(domain, _)| is_in(domain));
        matching
            .max_by_key(|(domain, _)| domain.as_str().len())
            .map_or(&self.upstreams, |(_, servers)| servers)
    }
}

/// A client's question that another server may know the answer to.
#[derive(Clone, Debug)]
pub struct Inquiry {
    id: u16,
    question: Query,
    recursion_desired: bool,
    /// Longest answer that the client takes by UDP; none if it knows no EDNS.
    payload: Option<u16>,
}

/// A question as it is sent to another server.
#[derive(Clone, Debug)]
pub struct Question {
    id: u16,
    question: Query,
}

/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotBelieved {
    /// It is no answer to this question.
    #[error("it answers another question")]
    Other,
    /// It was cut; by TCP there may be all of it.
    #[error("it was cut")]
    Cut,
}

/// Longest answer that we take by UDP (RFC 9715 section 3.1).
const MAX_PAYLOAD: u16 = 1232;

/// Longest answer by UDP to a client without EDNS (RFC 1035 section 4.2.1).
const PLAIN_PAYLOAD: usize = 512;

impl Inquiry {
    /// A query that asks one question.
    pub(super) fn new(query: &Message, question: &Query) -> Self {
        Self {
            id: query.metadata.id,
            question: question.clone(),
            recursion_desired: query.metadata.recursion_desired,
            payload: query.edns.as_ref().map(Edns::max_payload),
        }
    }

    /// The name it is about.
    pub fn name(&self) -> &Name {
        self.question.name()
    }

    /// What to send to another server. `random` has to be unpredictable, and another for every question.
    pub fn ask(&self, random: u128) -> (Question, Option<Vec<u8>>) {
        let [first, second, ..] = random.to_be_bytes();
        let id = u16::from_be_bytes([first, second]);
        let mut bits = random;
        let name: String = self
            .name()
            .to_ascii()
            .chars()
            .map(|letter| {
                if !letter.is_ascii_alphabetic() {
                    return letter;
                }
                bits = bits.rotate_right(1);
                if bits & 1 == 0 {
                    letter.to_ascii_lowercase()
                } else {
                    letter.to_ascii_uppercase()
                }
            })
            .collect();
        let name = Name::from_ascii(&name).unwrap_or_else(|_| self.name().clone());
        let mut question = self.question.clone();
        question.set_name(name);
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.add_query(question.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_PAYLOAD);
        message.edns = Some(edns);
        (Question { id, question }, message.to_vec().ok())
    }

    /// The client's answer made of a believed one, at most `limit` bytes; cut if that does not suffice.
    pub fn answer(&self, believed: Message, limit: usize) -> Option<Vec<u8>> {
        let mut reply = self.reply(believed.metadata.response_code);
        let mut wanted = vec![self.name().clone()];
        for mut record in believed.answers {
            // What does not follow from the question is not the server's to say here.
            if !wanted.contains(&record.name) {
                continue;
            }
            if let RData::CNAME(target) = &record.data {
                wanted.push(target.0.clone());
            }
            if record.name == wanted[0] {
                record.name = wanted[0].clone();
            }
            reply.add_answer(record);
        }
        // How long a name or record does not exist (RFC 2308 section 3), by a zone that the name is in.
        let is_soa = |record: &&hickory_proto::rr::Record| record.record_type() == RecordType::SOA;
        let zone = |record: &&hickory_proto::rr::Record| {
            wanted.iter().any(|name| record.name.zone_of(name))
        };
        reply.authorities.extend(believed.authorities.iter().filter(is_soa).filter(zone).cloned());
        let bytes = reply.to_vec().ok()?;
        if bytes.len() <= limit {
            return Some(bytes);
        }
        let mut cut = self.reply(reply.metadata.response_code);
        cut.metadata.truncation = true;
        cut.to_vec().ok()
    }

    /// The answer when no server gave one.
    pub fn failure(&self) -> Option<Vec<u8>> {
        self.reply(ResponseCode::ServFail).to_vec().ok()
    }

    /// Longest answer that the client takes by UDP.
    pub fn limit(&self) -> usize {
        self.payload.map_or(PLAIN_PAYLOAD, |payload| {
            usize::from(payload.min(MAX_PAYLOAD)).max(PLAIN_PAYLOAD)
        })
    }

    fn reply(&self, code: ResponseCode) -> Message {
        let mut reply = Message::response(self.id, OpCode::Query);
        reply.metadata.recursion_desired = self.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.response_code = code;
        reply.add_query(self.question.clone());
        if self.payload.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_PAYLOAD);
            reply.edns = Some(edns);
        }
        reply
    }
}

impl Question {
    /// Reads an answer to it.
    ///
    /// # Errors
    /// It is none, or only a part of one.
    pub fn believe(&self, bytes: &[u8]) -> Result<Message, NotBelieved> {
        let answer = Message::from_vec(bytes).map_err(|_unreadable| NotBelieved::Other)?;
        let is_answer = answer.metadata.id == self.id
            && answer.metadata.message_type == MessageType::Response
            && answer.metadata.op_code == OpCode::Query;
        let [question] = answer.queries.as_slice() else { return Err(NotBelieved::Other) };
        let is_same = question.name().eq_case(self.question.name())
            && question.query_type() == self.question.query_type()
            && question.query_class() == self.question.query_class();
        if !is_answer || !is_same {
            return Err(NotBelieved::Other);
        }
        if answer.metadata.truncation { Err(NotBelieved::Cut) } else { Ok(answer) }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{
        Record,
        rdata::{A, CNAME},
    };
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn servers_are_chosen_by_the_longest_domain() {
        let server = |last: u8| vec![SocketAddr::from(([192, 0, 2, last], 53))];
        let domain = |text: &str| HostName::try_from(text).unwrap();
        let policy = Policy {
            clients: Sources::default(),
            domains: vec![(domain("corp"), server(1)), (domain("lab.corp"), server(2))],
            upstreams: server(3),
        };
        for (name, last) in
            [("a.corp.", 1), ("Corp.", 1), ("x.LAB.corp.", 2), ("acorp.", 3), ("example.", 3)]
        {
            assert_eq!(policy.servers(&Name::from_ascii(name).unwrap()), server(last), "{name}");
        }
    }

    #[test]
    fn an_answer_is_believed_if_identifier_question_and_capitals_are_the_same() {
        let inquiry = inquiry("www.example.com.", None);
        let (question, bytes) = inquiry.ask(0x1234_0000_0000_0000_0000_0000_0000_aaaa);
        let asked = Message::from_vec(&bytes.unwrap()).unwrap();
        assert_eq!(asked.metadata.id, 0x1234);
        assert!(asked.queries[0].name().to_ascii().contains(|c: char| c.is_ascii_uppercase()));

        let good = response(&asked, |_| {});
        assert!(question.believe(&good).is_ok());
        for (forged, why) in [
            (response(&asked, |m| m.metadata.id ^= 1), NotBelieved::Other),
            (
                response(&asked, |m| m.metadata.message_type = MessageType::Query),
                NotBelieved::Other,
            ),
            (
                response(&asked, |m| {
                    m.queries[0].set_query_type(RecordType::AAAA);
                }),
                NotBelieved::Other,
            ),
            (response(&asked, |m| m.queries.clear()), NotBelieved::Other),
            (
                response(&asked, |m| {
                    m.queries[0].set_name(Name::from_ascii("www.example.com.").unwrap());
                }),
                NotBelieved::Other,
            ),
            (response(&asked, |m| m.metadata.truncation = true), NotBelieved::Cut),
        ] {
            assert_eq!(question.believe(&forged).unwrap_err(), why);
        }
    }

    #[test]
    fn the_client_gets_what_follows_from_its_question_and_no_more() {
        let inquiry = inquiry("www.example.com.", Some(4_096));
        let (question, bytes) = inquiry.ask(7);
        let asked = Message::from_vec(&bytes.unwrap()).unwrap();
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let address = |owner: &str, last| {
            Record::from_rdata(name(owner), 60, RData::A(A::new(192, 0, 2, last)))
        };
        let answer = response(&asked, |message| {
            let alias = RData::CNAME(CNAME(name("host.example.net.")));
            message.add_answer(Record::from_rdata(name("www.example.com."), 60, alias));
            message.add_answer(address("host.example.net.", 1));
            message.add_answer(address("bank.example.", 66));
            message.additionals.push(address("bank.example.", 66));
        });
        let reply = inquiry.answer(question.believe(&answer).unwrap(), inquiry.limit()).unwrap();
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.id, 77);
        assert_eq!(reply.queries[0].name().to_ascii(), "www.example.com.");
        assert_eq!(reply.answers.len(), 2);
        assert!(reply.additionals.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_cut() {
        let many = |message: &mut Message| {
            let name = message.queries[0].name().clone();
            for last in 0..100 {
                let data = RData::A(A::new(192, 0, 2, last));
                message.add_answer(Record::from_rdata(name.clone(), 60, data));
            }
        };
        for (payload, limit) in
            [(None, 512), (Some(100), 512), (Some(800), 800), (Some(9_000), 1_232)]
        {
            let inquiry = inquiry("www.example.com.", payload);
            assert_eq!(inquiry.limit(), limit);
            let (question, bytes) = inquiry.ask(7);
            let answer = response(&Message::from_vec(&bytes.unwrap()).unwrap(), many);
            let believed = question.believe(&answer).unwrap();
            let reply = inquiry.answer(believed.clone(), limit).unwrap();
            assert!(reply.len() <= limit);
            assert!(Message::from_vec(&reply).unwrap().metadata.truncation);
            let whole = Message::from_vec(&inquiry.answer(believed, 65_535).unwrap()).unwrap();
            assert_eq!((whole.answers.len(), whole.metadata.truncation), (100, false));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_believed_or_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (question, _) = inquiry("www.example.com.", None).ask(u128::MAX);
            prop_assert!(question.believe(&bytes).is_err());
        }
    }

    fn inquiry(name: &str, payload: Option<u16>) -> Inquiry {
        let mut query = Message::new(77, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        query.edns = payload.map(|payload| {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            edns
        });
        Inquiry::new(&query, &query.queries[0])
    }

    fn response(asked: &Message, change: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::response(asked.metadata.id, OpCode::Query);
        message.add_query(asked.queries[0].clone());
        change(&mut message);
        message.to_vec().unwrap()
    }
}
