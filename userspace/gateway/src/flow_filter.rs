//! Which flows an operator means, in the language of [`crate::filter`].

use nightgate_datapath::FlowEntry;

use crate::{
    clock::Clock,
    filter::{self, FilterError, Term},
    report::FlowReport,
};

/// Conditions that all have to hold for a flow.
#[derive(Clone, Debug, Default)]
pub struct FlowFilter(Vec<Term>);

/// A flow, as conditions see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) flow: &'a FlowEntry,
    pub(crate) report: &'a FlowReport,
    pub(crate) clock: &'a Clock,
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
        terms.iter().try_for_each(check)?;
        Ok(Self(terms))
    }

    /// Whether a flow is meant.
    ///
    /// # Errors
    /// A condition is not understood.
    pub(crate) fn matches(&self, seen: Seen<'_>) -> Result<bool, FilterError> {
        for term in &self.0 {
            if !holds(term, seen)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Refuses a condition that would be refused for any flow.
fn check(term: &Term) -> Result<(), FilterError> {
    match term.key.as_str() {
        "protocol" => term.protocol().and_then(|_| term.holds(true)).map(drop),
        "host" | "source" | "destination" => term.prefix().and_then(|_| term.holds(true)).map(drop),
        "port" | "source-port" | "destination-port" => {
            term.port().and_then(|_| term.holds(true)).map(drop)
        }
        "zone" | "from" | "to" | "rule" | "state" | "service" | "" => term.holds(true).map(drop),
        "age" | "idle" => term.duration().map(drop),
        "bytes" => term.amount().map(drop),
        _ => Err(term.expected(KEYS)),
    }
}

fn holds(term: &Term, seen: Seen<'_>) -> Result<bool, FilterError> {
    let Seen { flow, report, clock } = seen;
    let ends = [flow.origin.address, flow.responder.address];
    let zones = &report.zones;
    let is = |word: &Option<String>| word.as_deref() == Some(term.value.as_str());
    match term.key.as_str() {
        "protocol" => term.holds(term.protocol()? == flow.protocol),
        "host" => {
            let prefix = term.prefix()?;
            term.holds(ends.iter().any(|end| prefix.contains(end.ip())))
        }
        "source" => term.holds(term.prefix()?.contains(ends[0].ip())),
        "destination" => term.holds(term.prefix()?.contains(ends[1].ip())),
        "port" => {
            let port = term.port()?;
            term.holds(ends.iter().any(|end| end.port() == port))
        }
        "source-port" => term.holds(term.port()? == ends[0].port()),
        "destination-port" => term.holds(term.port()? == ends[1].port()),
        "zone" => term.holds(zones.iter().any(is)),
        "from" => term.holds(is(&zones[0])),
        "to" => term.holds(is(&zones[1])),
        "rule" => term.holds(is(&report.rule)),
        "state" => term.holds(report.state == term.value),
        "service" => term.holds(is(&report.service)),
        "age" => {
            Ok(term.compares(&clock.age(flow.first_seen).unwrap_or_default(), &term.duration()?))
        }
        "idle" => {
            Ok(term.compares(&clock.age(flow.last_seen).unwrap_or_default(), &term.duration()?))
        }
        "bytes" => {
            Ok(term
                .compares(&(flow.origin.sent.bytes + flow.responder.sent.bytes), &term.amount()?))
        }
        "" => Ok(report.words().any(|word| word.contains(&term.value))),
        _ => Err(term.expected(KEYS)),
    }
}
