//! What was asked of the private DNS, for the records of the flows that asked.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use hickory_proto::op::Message;
use nightgate_mirror::flow::{DnsAsked, DnsQuery};

use crate::ends::plain;

/// Flows whose questions are remembered; the oldest go first. At most 5 KiB each.
const FLOWS: usize = 8_192;

/// Questions of a flow that are remembered: clients ask for A and AAAA by one socket, and few more.
const QUESTIONS: usize = 4;

/// The questions of each flow to the private DNS. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_wanted: AtomicBool,
    known: Mutex<Known>,
}

/// IP protocol, the client, and the port that it asked.
type Key = (u8, SocketAddr, u16);

#[derive(Debug, Default)]
struct Known {
    flows: HashMap<Key, (u64, Vec<DnsQuery>)>,
    /// The order in which they came, by number; those that were taken are still in it.
    order: VecDeque<(u64, Key)>,
    last: u64,
}

impl Asked {
    /// Remembers questions from now on, or none.
    pub(crate) fn want(&self, is_wanted: bool) {
        self.0.is_wanted.store(is_wanted, Ordering::Relaxed);
        if !is_wanted {
            *self.lock() = Known::default();
        }
    }

    /// Notes the question of a query that a client has sent to a port.
    pub(crate) fn note(&self, protocol: u8, client: SocketAddr, port: u16, query: &[u8]) {
        if !self.0.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        let Ok(message) = Message::from_vec(query) else { return };
        let Some(question) = message.queries.first() else { return };
        let query = DnsQuery {
            rrname: question.name().to_ascii().trim_end_matches('.').to_owned(),
            rrtype: question.query_type().to_string(),
        };
        self.lock().note((protocol, plain(client), port), query);
    }

    /// What a flow has asked.
    pub(crate) fn find(&self, protocol: u8, client: SocketAddr, port: u16) -> Option<DnsAsked> {
        let known = self.lock();
        let (_, queries) = known.flows.get(&(protocol, plain(client), port))?;
        Some(DnsAsked { queries: queries.clone() })
    }

    /// Forgets a flow, which has ended.
    pub(crate) fn forget(&self, protocol: u8, client: SocketAddr, port: u16) {
        self.lock().flows.remove(&(protocol, plain(client), port));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn note(&mut self, key: Key, query: DnsQuery) {
        if let Some((_, queries)) = self.flows.get_mut(&key) {
            if queries.len() < QUESTIONS && !queries.contains(&query) {
                queries.push(query);
            }
            return;
        }
        self.last += 1;
        self.flows.insert(key, (self.last, vec![query]));
        self.order.push_back((self.last, key));
        while self.order.len() > FLOWS
            && let Some((number, key)) = self.order.pop_front()
        {
            if self.flows.get(&key).is_some_and(|(current, _)| *current == number) {
                self.flows.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{MessageType, OpCode, Query},
        rr::{Name, RecordType},
    };

    use super::*;

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn client(port: u16) -> SocketAddr {
        ([10, 1, 0, 2], port).into()
    }

    #[test]
    fn the_first_questions_of_a_flow_are_known_until_it_has_ended() {
        let asked = Asked::default();
        asked.note(17, client(1), 53, &query("web.corp.", RecordType::A));
        assert_eq!(asked.find(17, client(1), 53), None, "nobody wants them");
        asked.want(true);
        for kind in [RecordType::A, RecordType::AAAA, RecordType::A] {
            asked.note(17, client(1), 53, &query("web.corp.", kind));
        }
        asked.note(17, client(1), 53, b"no query");
        let found = asked.find(17, client(1), 53).unwrap();
        let texts = found.queries.iter().map(|it| format!("{} {}", it.rrname, it.rrtype));
        assert_eq!(texts.collect::<Vec<_>>(), ["web.corp A", "web.corp AAAA"]);
        for number in 0..9 {
            asked.note(17, client(1), 53, &query(&format!("n{number}."), RecordType::A));
        }
        assert_eq!(asked.find(17, client(1), 53).unwrap().queries.len(), QUESTIONS);
        for (protocol, port, server) in [(6, 1, 53), (17, 2, 53), (17, 1, 5353)] {
            assert_eq!(asked.find(protocol, client(port), server), None);
        }
        asked.forget(17, client(1), 53);
        assert_eq!(asked.find(17, client(1), 53), None);
    }

    #[test]
    fn flows_are_bounded_and_the_newest_known() {
        let asked = Asked::default();
        asked.want(true);
        let query = query("web.corp.", RecordType::A);
        for port in 0..=u16::MAX {
            asked.note(17, client(port), 53, &query);
            if port % 2 == 0 {
                asked.forget(17, client(port), 53);
            }
        }
        let known = asked.lock();
        assert_eq!((known.order.len(), known.flows.len()), (FLOWS, FLOWS / 2));
        assert!(known.flows.contains_key(&(17, client(u16::MAX), 53)));
    }
}
