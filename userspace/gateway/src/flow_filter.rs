//! Which flows an operator means, in the language of [`crate::filter`].

use std::time::Duration;

use nightgate_datapath::FlowEntry;

use crate::{
    clock::Clock,
    filter::{self, FilterError, Operator, PacketTerm, Term},
    report::FlowReport,
};

/// Conditions that all have to hold for a flow.
#[derive(Clone, Debug, Default)]
pub struct FlowFilter(Vec<(Operator, Condition)>);

/// A flow, as conditions see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) flow: &'a FlowEntry,
    pub(crate) report: &'a FlowReport,
    pub(crate) clock: &'a Clock,
}

/// What a condition compares.
#[derive(Clone, Debug)]
enum Condition {
    Packet(PacketTerm),
    Word(Word, String),
    Age(Duration),
    Idle(Duration),
    Bytes(u64),
}

/// A word of a flow.
#[derive(Clone, Copy, Debug)]
enum Word {
    /// A part of any.
    Any,
    Zone,
    From,
    To,
    Rule,
    State,
    Service,
}

/// What conditions may look at.
const KEYS: &str = "protocol, host, source, destination, port, source-port, destination-port, zone, from, to, rule, \
                    state, service, age, idle or bytes, or a text without =";

impl FlowFilter {
    /// Reads conditions.
    ///
    /// # Errors
    /// One of them is not understood.
    pub fn parse(texts: &[String]) -> Result<Self, FilterError> {
        let terms = filter::parse(texts)?;
        let read = |term: &Term| Ok((term.operator, Condition::of(term)?));
        terms.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a flow is meant.
    pub(crate) fn matches(&self, seen: Seen<'_>) -> bool {
        self.0.iter().all(|(operator, condition)| condition.holds(*operator, seen))
    }
}

impl Condition {
    fn of(term: &Term) -> Result<Self, FilterError> {
        if let Some(packet) = term.packet()? {
            return Ok(Self::Packet(packet));
        }
        let word = match term.key.as_str() {
            "age" => return term.duration().map(Self::Age),
            "idle" => return term.duration().map(Self::Idle),
            "bytes" => return term.amount().map(Self::Bytes),
            "" => Word::Any,
            "zone" => Word::Zone,
            "from" => Word::From,
            "to" => Word::To,
            "rule" => Word::Rule,
            "state" => Word::State,
            "service" => Word::Service,
            _ => return Err(term.expected(KEYS)),
        };
        term.equality()?;
        Ok(Self::Word(word, term.value.clone()))
    }

    fn holds(&self, operator: Operator, Seen { flow, report, clock }: Seen<'_>) -> bool {
        let age = |since| clock.age(since).unwrap_or_default();
        match self {
            Self::Packet(term) => operator.holds(is_of(flow, *term)),
            Self::Word(word, value) => operator.holds(word.is_in(report, value)),
            Self::Age(wanted) => operator.compares(&age(flow.first_seen), wanted),
            Self::Idle(wanted) => operator.compares(&age(flow.last_seen), wanted),
            Self::Bytes(wanted) => {
                let bytes = flow.origin.sent.bytes + flow.responder.sent.bytes;
                operator.compares(&bytes, wanted)
            }
        }
    }
}

fn is_of(flow: &FlowEntry, term: PacketTerm) -> bool {
    let ends = [flow.origin.address, flow.responder.address];
    match term {
        PacketTerm::Protocol(protocol) => flow.protocol == protocol,
        PacketTerm::Address(side, prefix) => side.any(ends, |end| prefix.contains(end.ip())),
        PacketTerm::Port(side, port) => side.any(ends, |end| end.port() == port),
    }
}

impl Word {
    fn is_in(self, report: &FlowReport, value: &str) -> bool {
        let is = |word: &Option<String>| word.as_deref() == Some(value);
        let zones = &report.zones;
        match self {
            Self::Any => report.words().any(|word| word.contains(value)),
            Self::Zone => zones.iter().any(is),
            Self::From => is(&zones[0]),
            Self::To => is(&zones[1]),
            Self::Rule => is(&report.rule),
            Self::State => report.state == value,
            Self::Service => is(&report.service),
        }
    }
}
