//! From the bytes of a query to the bytes of its answer.

use std::{net::IpAddr, time::Instant};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::PTR},
};
use nightgate_telemetry::DnsOutcome;

use crate::names::HostName;

use super::{NameTable, forward::Inquiry, table::Found};

/// What becomes of a query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// For the metrics.
    pub outcome: DnsOutcome,
    /// The message to send back; none where an answer would only help an attacker. At most 512 bytes,
    /// so it fits into any client's buffer (RFC 1035 section 4.2.1).
    pub message: Option<Vec<u8>>,
    /// What another server may be asked instead, if there is one: the name is none of ours.
    pub elsewhere: Option<Inquiry>,
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
pub fn answer(bytes: &[u8], table: &NameTable, client: IpAddr, now: Instant) -> Answer {
    if bytes.len() < HEADER_LENGTH || bytes[2] & 0x80 != 0 {
        return Answer { outcome: DnsOutcome::Malformed, message: None, elsewhere: None };
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
        (OpCode::Query, [question]) => answer_question(question, table, (client, now), &mut reply),
        (OpCode::Query, _) => {
            reply.metadata.response_code = ResponseCode::FormErr;
            DnsOutcome::Malformed
        }
        (_, _) => {
            reply.metadata.response_code = ResponseCode::NotImp;
            DnsOutcome::Refused
        }
    };
    let mut answer = encode(outcome, reply);
    if outcome == DnsOutcome::UnknownName {
        answer.elsewhere = elsewhere(&query, table);
    }
    answer
}

/// The question, if its name is none that we alone know.
fn elsewhere(query: &Message, table: &NameTable) -> Option<Inquiry> {
    let question = query.queries.first()?;
    let is_ours = match address_in(question.name()) {
        Some(address) => table.is_synthetic(address),
        None => table.has(&question.name().to_ascii()),
    };
    (!is_ours).then(|| Inquiry::new(query, question))
}

/// The address that a name of a reverse zone is about (RFC 1035 section 3.5, RFC 3596 section 2.5).
fn address_in(name: &Name) -> Option<IpAddr> {
    let network = name.parse_arpa_name().ok()?;
    let whole = if network.addr().is_ipv4() { 32 } else { 128 };
    (network.prefix_len() == whole).then(|| network.addr())
}

fn answer_question(
    question: &Query,
    table: &NameTable,
    (client, now): (IpAddr, Instant),
    reply: &mut Message,
) -> DnsOutcome {
    reply.add_query(question.clone());
    if question.query_class() != DNSClass::IN {
        reply.metadata.response_code = ResponseCode::Refused;
        return DnsOutcome::Refused;
    }
    let kind = question.query_type();
    if let Some(address) = address_in(question.name()) {
        return match table.reverse(address, client).and_then(|name| absolute(&name)) {
            Some(name) if kind == RecordType::PTR => {
                let data = RData::PTR(PTR(name));
                reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
                DnsOutcome::Address
            }
            Some(_) => DnsOutcome::NoData,
            None => unknown(reply),
        };
    }
    let addresses = match table.lookup(&question.name().to_ascii(), client, now) {
        Found::Addresses(addresses) => addresses,
        Found::Nothing => return unknown(reply),
        Found::Full => {
            reply.metadata.response_code = ResponseCode::ServFail;
            return DnsOutcome::Refused;
        }
    };
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

fn unknown(reply: &mut Message) -> DnsOutcome {
    reply.metadata.response_code = ResponseCode::NXDomain;
    DnsOutcome::UnknownName
}

fn absolute(name: &HostName) -> Option<Name> {
    Name::from_ascii(format!("{name}.")).ok()
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
    let message = reply.to_vec().ok().filter(|bytes| bytes.len() <= 512);
    Answer { outcome, message, elsewhere: None }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        dns::Clients,
        intercept::Sources,
        names::{NameAddresses, SharedDomains},
    };

    const V4: Ipv4Addr = Ipv4Addr::new(100, 64, 3, 4);
    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
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
    fn addresses_that_were_handed_out_have_names_and_others_may_have_elsewhere() {
        for address in [IpAddr::from(V4), V6.into()] {
            let name = Name::from(address).to_ascii();
            let (outcome, reply) = ask(&name, RecordType::PTR);
            assert_eq!(outcome, DnsOutcome::Address, "{name}");
            let name = Name::from_ascii("web.example.").unwrap();
            assert_eq!(reply.answers[0].data, RData::PTR(PTR(name)));
        }
        let other = query(&Name::from(IpAddr::from([192, 0, 2, 1])).to_ascii(), RecordType::PTR);
        let answer = answered(&other.to_vec().unwrap(), &table());
        assert_eq!(answer.outcome, DnsOutcome::UnknownName);
        assert!(answer.elsewhere.is_some());
    }

    #[test]
    fn names_of_ours_are_asked_about_nowhere_else() {
        let table = secret_table();
        for (name, client, is_elsewhere) in [
            ("secret.example.", [10, 2, 0, 1], false),
            ("x.secret.", [10, 2, 0, 1], false),
            ("secret.example.", [10, 1, 0, 1], false),
            ("public.example.", [10, 1, 0, 1], true),
        ] {
            let query = query(name, RecordType::A).to_vec().unwrap();
            let answer = answer(&query, &table, client.into(), Instant::now());
            assert_eq!(answer.elsewhere.is_some(), is_elsewhere, "{name} {client:?}");
        }
    }

    /// Names that only 10.1.0.0/16 may know.
    fn secret_table() -> NameTable {
        let mut clients = Clients::default();
        clients.add(Sources::new(&["10.1.0.0/16"]).unwrap());
        let name = |text| HostName::try_from(text).unwrap();
        let names = [(name("secret.example"), (addresses(), clients.clone()))];
        let domains = [(name("secret"), clients)];
        NameTable::new(names.into(), domains.into(), SharedDomains::default(), Vec::new())
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
            assert_eq!(answered(bytes, &table()).message, None);
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

        let answer = answered(&query.to_vec().unwrap(), &table.into_iter().collect());

        assert_eq!(answer.outcome, DnsOutcome::Address);
        assert!(answer.message.unwrap().len() <= 512);
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic_or_a_long_answer(bytes in hostile()) {
            let answer = answered(&bytes, &table());
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

    fn answered(bytes: &[u8], table: &NameTable) -> Answer {
        answer(bytes, table, CLIENT, Instant::now())
    }

    fn ask(name: &str, kind: RecordType) -> (DnsOutcome, Message) {
        send(&query(name, kind).to_vec().unwrap())
    }

    fn send(bytes: &[u8]) -> (DnsOutcome, Message) {
        let answer = answered(bytes, &table());
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
