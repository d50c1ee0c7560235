//! From the bytes of a query to the bytes of its answer.

use std::{collections::BTreeMap, net::IpAddr};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, RData, Record, RecordType},
};
use nightgate_telemetry::DnsOutcome;

use crate::names::{HostName, NameAddresses};

/// The names that may be dialed, with their synthetic addresses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NameTable(BTreeMap<HostName, NameAddresses>);

/// What becomes of a query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// For the metrics.
    pub outcome: DnsOutcome,
    /// The message to send back; none where an answer would only help an attacker. At most 512 bytes,
    /// so it fits into any client's buffer (RFC 1035 section 4.2.1).
    pub message: Option<Vec<u8>>,
}

/// Seconds for which a client may remember an address; short, because services come and go.
const TTL: u32 = 5;

/// Bytes of a DNS header (RFC 1035 section 4.1.1).
const HEADER_LENGTH: usize = 12;

/// Largest datagram this server would take (RFC 9715 section 3.1).
const MAX_PAYLOAD: u16 = 1232;

/// Answers the query in `bytes`: an address for a name in `table`, NXDOMAIN for any other name.
///
/// No answer is sent to what is itself an answer, nor to what is shorter than a header: both are
/// spoofed or lost, and answering could start a loop between two servers.
pub fn answer(bytes: &[u8], table: &NameTable) -> Answer {
    if bytes.len() < HEADER_LENGTH || bytes[2] & 0x80 != 0 {
        return Answer { outcome: DnsOutcome::Malformed, message: None };
    }
    let Ok(query) = Message::from_vec(bytes) else {
        return encode(DnsOutcome::Malformed, format_error(bytes));
    };
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.authoritative = true;
    if let Some(edns) = &query.edns {
        reply.edns = Some(reply_edns());
        if edns.version() != 0 {
            reply.metadata.response_code = ResponseCode::BADVERS;
            return encode(DnsOutcome::Refused, reply);
        }
    }
    let outcome = match (query.metadata.op_code, query.queries.as_slice()) {
        (OpCode::Query, [question]) => answer_question(question, table, &mut reply),
        (OpCode::Query, _) => {
            reply.metadata.response_code = ResponseCode::FormErr;
            DnsOutcome::Malformed
        }
        (_, _) => {
            reply.metadata.response_code = ResponseCode::NotImp;
            DnsOutcome::Refused
        }
    };
    encode(outcome, reply)
}

fn answer_question(question: &Query, table: &NameTable, reply: &mut Message) -> DnsOutcome {
    reply.add_query(question.clone());
    if question.query_class() != DNSClass::IN {
        reply.metadata.response_code = ResponseCode::Refused;
        return DnsOutcome::Refused;
    }
    let Some(addresses) = table.lookup(&question.name().to_ascii()) else {
        reply.metadata.response_code = ResponseCode::NXDomain;
        return DnsOutcome::UnknownName;
    };
    let kind = question.query_type();
    let data = if kind == RecordType::A {
        RData::A(addresses.v4.into())
    } else if kind == RecordType::AAAA {
        RData::AAAA(addresses.v6.into())
    } else {
        return DnsOutcome::NoData;
    };
    reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
    DnsOutcome::Address
}

/// The answer to what has the header of a query but no readable rest (RFC 1035 section 4.1.1).
fn format_error(bytes: &[u8]) -> Message {
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)
}

fn reply_edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_PAYLOAD);
    edns
}

fn encode(outcome: DnsOutcome, reply: Message) -> Answer {
    debug_assert_eq!(reply.metadata.message_type, MessageType::Response);
    Answer { outcome, message: reply.to_vec().ok().filter(|bytes| bytes.len() <= 512) }
}

impl NameTable {
    /// The synthetic addresses of a name as it is written in a query.
    pub fn lookup(&self, name: &str) -> Option<NameAddresses> {
        HostName::try_from(name).ok().and_then(|name| self.0.get(&name).copied())
    }

    /// The names in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&HostName, &NameAddresses)> {
        self.0.iter()
    }

    /// The name behind a synthetic address.
    pub fn name_of(&self, address: IpAddr) -> Option<&HostName> {
        self.0.iter().find(|(_, its)| its.iter().any(|one| one == address)).map(|(name, _)| name)
    }
}

impl FromIterator<(HostName, NameAddresses)> for NameTable {
    fn from_iter<I: IntoIterator<Item = (HostName, NameAddresses)>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use hickory_proto::rr::Name;
    use proptest::prelude::*;

    use super::*;

    const V4: Ipv4Addr = Ipv4Addr::new(100, 64, 3, 4);
    const V6: Ipv6Addr = Ipv6Addr::new(0xfd64, 0x6e67, 0, 0, 0, 0, 3, 4);

    #[test]
    fn a_known_name_is_answered_with_its_address_of_either_family() {
        for (kind, data) in
            [(RecordType::A, RData::A(V4.into())), (RecordType::AAAA, RData::AAAA(V6.into()))]
        {
            let (outcome, reply) = ask("web.example.", kind);

            assert_eq!(outcome, DnsOutcome::Address);
            assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
            assert_eq!(reply.answers.len(), 1);
            assert_eq!(reply.answers[0].data, data);
            assert!(reply.answers[0].ttl <= 60);
        }
    }

    #[test]
    fn the_question_comes_back_in_the_spelling_it_was_asked() {
        let (_, reply) = ask("wEb.eXample.", RecordType::A);

        assert_eq!(reply.queries[0].name().to_ascii(), "wEb.eXample.");
        assert_eq!(reply.answers[0].name.to_ascii(), "wEb.eXample.");
    }

    #[test]
    fn another_name_does_not_exist() {
        for name in ["secret.example.", "example.", "sub.web.example.", "."] {
            let (outcome, reply) = ask(name, RecordType::A);

            assert_eq!(outcome, DnsOutcome::UnknownName, "{name}");
            assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{name}");
            assert!(reply.answers.is_empty());
        }
    }

    #[test]
    fn a_known_name_has_no_record_of_another_type() {
        let (outcome, reply) = ask("web.example.", RecordType::MX);

        assert_eq!(outcome, DnsOutcome::NoData);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.answers.is_empty());
    }

    #[test]
    fn edns_is_answered_with_edns_and_an_unknown_version_with_badvers() {
        let mut query = query("web.example.", RecordType::A);
        query.edns = Some(Edns::new());
        let (_, reply) = send(&query.to_vec().unwrap());
        assert_eq!(reply.edns.unwrap().max_payload(), MAX_PAYLOAD);

        let mut edns = Edns::new();
        edns.set_version(1);
        query.edns = Some(edns);
        let (outcome, reply) = send(&query.to_vec().unwrap());
        assert_eq!(outcome, DnsOutcome::Refused);
        // BADVERS and BADSIG are the same number (RFC 6895 section 2.3).
        assert_eq!(u16::from(reply.metadata.response_code), u16::from(ResponseCode::BADVERS));
    }

    #[test]
    fn several_questions_or_none_are_a_format_error() {
        let mut two = query("web.example.", RecordType::A);
        two.add_query(Query::query(Name::root(), RecordType::A));
        let mut none = query("web.example.", RecordType::A);
        none.queries.clear();

        for message in [two, none] {
            let (outcome, reply) = send(&message.to_vec().unwrap());
            assert_eq!(outcome, DnsOutcome::Malformed);
            assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
        }
    }

    #[test]
    fn what_is_no_query_gets_no_answer() {
        let response = Message::response(7, OpCode::Query).to_vec().unwrap();
        for bytes in [&[][..], &[0; 11], &response] {
            assert_eq!(answer(bytes, &table()).message, None);
        }
    }

    #[test]
    fn a_pointer_loop_in_the_question_is_a_format_error() {
        let mut bytes = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend([0xc0, 12, 0, 1, 0, 1]);

        let (outcome, reply) = send(&bytes);

        assert_eq!(outcome, DnsOutcome::Malformed);
        assert_eq!((reply.metadata.id, reply.metadata.response_code), (9, ResponseCode::FormErr));
    }

    #[test]
    fn another_operation_or_class_is_refused() {
        let mut notify = query("web.example.", RecordType::A);
        notify.metadata.op_code = OpCode::Notify;
        assert_eq!(send(&notify.to_vec().unwrap()).1.metadata.response_code, ResponseCode::NotImp);

        let mut chaos = query("web.example.", RecordType::A);
        chaos.queries[0].set_query_class(DNSClass::CH);
        assert_eq!(send(&chaos.to_vec().unwrap()).1.metadata.response_code, ResponseCode::Refused);
    }

    #[test]
    fn the_longest_question_is_answered_in_512_bytes() {
        let label = "a".repeat(63);
        let name = format!("{label}.{label}.{label}.{}.", "a".repeat(61));
        let table = [(HostName::try_from(name.as_str()).unwrap(), addresses())];
        let mut query = query(&name, RecordType::AAAA);
        query.edns = Some(Edns::new());

        let answer = answer(&query.to_vec().unwrap(), &table.into_iter().collect());

        assert_eq!(answer.outcome, DnsOutcome::Address);
        assert!(answer.message.unwrap().len() <= 512);
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic_or_a_long_answer(bytes in hostile()) {
            let answer = answer(&bytes, &table());
            if let Some(message) = answer.message {
                prop_assert!(message.len() <= 512);
                prop_assert_eq!(&message[..2], &bytes[..2]);
                prop_assert!(message[2] & 0x80 != 0);
            }
        }
    }

    /// Random bytes, and valid queries with a few bytes changed or cut off.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let random = proptest::collection::vec(any::<u8>(), 0..700);
        let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
        let damaged = (damage, 0_usize..64).prop_map(|(changes, cut)| {
            let mut query = query("web.example.", RecordType::A);
            query.edns = Some(Edns::new());
            let mut bytes = query.to_vec().unwrap();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(bytes.len().saturating_sub(cut / 4));
            bytes
        });
        prop_oneof![random, damaged]
    }

    fn ask(name: &str, kind: RecordType) -> (DnsOutcome, Message) {
        send(&query(name, kind).to_vec().unwrap())
    }

    fn send(bytes: &[u8]) -> (DnsOutcome, Message) {
        let answer = answer(bytes, &table());
        (answer.outcome, Message::from_vec(&answer.message.unwrap()).unwrap())
    }

    fn query(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn table() -> NameTable {
        [(HostName::try_from("web.example").unwrap(), addresses())].into_iter().collect()
    }

    fn addresses() -> NameAddresses {
        NameAddresses { v4: V4, v6: V6 }
    }
}
