//! What rules do with packets.

use crate::{
    decode::{self, Malformed},
    node::Node,
    reader::{Reader, Section},
};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// It passes, and its flow after it.
    Accept,
    /// It is refused.
    Drop,
    /// It is refused, and its sender is told.
    Reject(Answer),
    /// It is counted, and the next rule that matches decides.
    Count,
}

/// What the sender of a rejected packet is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Answer {
    /// What fits the protocol: TCP a reset, UDP that the port is unreachable, others that it is prohibited.
    #[default]
    Fitting,
    /// A TCP reset; only with TCP.
    Reset,
    /// ICMP: port unreachable.
    PortUnreachable,
    /// ICMP: host (IPv6: address) unreachable.
    HostUnreachable,
    /// ICMP: network unreachable (IPv6: no route).
    NetworkUnreachable,
    /// ICMP: administratively prohibited.
    Prohibited,
}

impl Action {
    /// The word for it in a configuration file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
            Self::Reject(_) => "reject",
            Self::Count => "count",
        }
    }
}

/// Decodes the keys `action` and `with`.
pub(crate) fn decode(reader: &mut Reader<'_>, section: &mut Section) -> Option<Action> {
    let line = section.line_of("with");
    let action = reader.required(section, "action", action);
    let answer = reader.optional(section, "with", answer);
    match (action?, answer?) {
        (Action::Reject(_), Some(answer)) => Some(Action::Reject(answer)),
        (action @ (Action::Accept | Action::Drop | Action::Count), Some(_)) => {
            reader.under("with", |reader| {
                let found = format!("an answer with action {}", action.word());
                let remedy = "set action to reject, or remove the key";
                reader.report(line, found, "an answer with reject only", remedy);
            });
            None
        }
        (action, None) => Some(action),
    }
}

fn action(reader: &mut Reader<'_>, node: Node) -> Option<Action> {
    decode::checked(reader, node, |text| match text {
        "accept" => Ok(Action::Accept),
        "drop" => Ok(Action::Drop),
        "reject" => Ok(Action::Reject(Answer::default())),
        "count" => Ok(Action::Count),
        _ => Err(Malformed::new("accept, drop, reject or count", "choose one")),
    })
}

fn answer(reader: &mut Reader<'_>, node: Node) -> Option<Answer> {
    decode::checked(reader, node, |text| match text {
        "reset" => Ok(Answer::Reset),
        "port-unreachable" => Ok(Answer::PortUnreachable),
        "host-unreachable" => Ok(Answer::HostUnreachable),
        "network-unreachable" => Ok(Answer::NetworkUnreachable),
        "prohibited" => Ok(Answer::Prohibited),
        _ => Err(Malformed::new(
            "reset, port-unreachable, host-unreachable, network-unreachable or prohibited",
            "choose one, or remove the key for the answer that fits the protocol",
        )),
    })
}
