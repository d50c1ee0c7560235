//! What is done about the alerts of an intrusion detection system.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    decode::{self, Malformed},
    limit::FlowRate,
    names::RuleId,
    node::Node,
    prefix::Prefix,
    reader::Reader,
};

/// Where alerts come from, and what follows from them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// Where alerts are read; at least one.
    pub alerts: Vec<AlertSource>,
    /// What follows from an alert: the first rule that matches decides, and without one it is only noted.
    pub policy: Vec<VerdictRule>,
    /// What nothing is done to, whatever the policy.
    pub never: Never,
    /// Actions in a minute; further alerts are only noted, so that a noisy signature does not take the network
    /// down. Default 10.
    pub actions_per_minute: u32,
}

/// Where alerts are read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AlertSource {
    /// A file that Suricata writes events to, as JSON lines (EVE). It is followed when it is rotated.
    Eve(PathBuf),
    /// A UNIX stream socket that is opened here, for Suricata's `filetype: unix_stream`.
    Socket(PathBuf),
    /// An address that takes alerts by HTTP POST.
    Webhook {
        /// Where it listens.
        listen: SocketAddr,
        /// File with the token that callers have to send (`Authorization: Bearer`, RFC 6750).
        token_file: PathBuf,
    },
}

/// A rule about alerts. Empty lists match all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerdictRule {
    /// Unique name.
    pub id: RuleId,
    /// Alerts of this severity and graver ones: 1 is the gravest, 255 the least.
    pub severity: u8,
    /// Numbers of signatures.
    pub signatures: Vec<u32>,
    /// Categories, as the sensor writes them.
    pub categories: Vec<String>,
    /// Names of services that the flow is of.
    pub services: Vec<String>,
    /// What is done.
    pub action: VerdictAction,
}

/// What is done about an alert.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VerdictAction {
    /// It is noted.
    Observe,
    /// The flow ends.
    Cut,
    /// Whoever began the flow sends and gets no more packets than that for a time: the identity's connections by this
    /// gateway together, or all of the address.
    RateLimit(FlowRate, Duration),
    /// Whoever began the flow is cut off for a time: the identity at the controller where it is known, the address
    /// in the kernel else.
    Quarantine(Duration),
    /// The identity that began the flow has to show its second factor again before it may do anything else. If it has
    /// none, or it is not known, what [`Self::Quarantine`] does for this time.
    RequireMfa(Duration),
}

/// What nothing is done to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Never {
    /// Names of identities.
    pub identities: Vec<String>,
    /// Names of services.
    pub services: Vec<String>,
    /// Addresses that begin flows.
    pub sources: Vec<Prefix>,
}

/// Default of `actions_per_minute`.
const ACTIONS: u32 = 10;
/// Longest quarantine: longer than this somebody should have looked.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Verdict> {
    let mut section = reader.section(node)?;
    let alerts = reader
        .required(&mut section, "alerts", |reader, node| reader.one_or_more(node, alert_source));
    let mut seen = BTreeMap::new();
    let policy = reader.required(&mut section, "policy", |reader, node| {
        reader.list(node, |reader, node| rule(reader, node, &mut seen))
    });
    let never = reader.optional(&mut section, "never", never);
    let actions = reader.optional(&mut section, "actions_per_minute", |reader, node| {
        decode::integer(reader, node, 1, 10_000)
    });
    reader.close(section);
    Some(Verdict {
        alerts: alerts?,
        policy: policy?,
        never: never?.unwrap_or_default(),
        actions_per_minute: actions?.unwrap_or(ACTIONS),
    })
}

fn alert_source(reader: &mut Reader<'_>, node: Node) -> Option<AlertSource> {
    let line = node.line;
    let mut section = reader.section(node)?;
    let eve = reader.optional(&mut section, "eve", decode::path);
    let socket = reader.optional(&mut section, "socket", decode::path);
    let webhook = reader.optional(&mut section, "webhook", decode::socket_address);
    let token_file = reader.optional(&mut section, "token_file", decode::path);
    reader.close(section);
    match (eve?, socket?, webhook?, token_file?) {
        (Some(path), None, None, None) => Some(AlertSource::Eve(path)),
        (None, Some(path), None, None) => Some(AlertSource::Socket(path)),
        (None, None, Some(listen), Some(token_file)) => {
            Some(AlertSource::Webhook { listen, token_file })
        }
        _ => {
            let found = "a source of alerts that is not clear";
            let expected = "one of eve, socket, or webhook with token_file";
            reader.report(line, found, expected, "write one source for each entry of the list");
            None
        }
    }
}

fn rule(
    reader: &mut Reader<'_>,
    node: Node,
    seen: &mut BTreeMap<RuleId, u32>,
) -> Option<VerdictRule> {
    let line = node.line;
    let mut section = reader.section(node)?;
    let id = reader.required(&mut section, "id", |reader, node| {
        let wanted = ("a name of its own", "rename one of the two");
        decode::unique(reader, node, seen, wanted, RuleId::decode)
    });
    let severity = reader
        .optional(&mut section, "severity", |reader, node| decode::integer(reader, node, 1, 255));
    let signatures = reader.optional(&mut section, "signatures", |reader, node| {
        reader.one_or_more(node, |r, node| decode::integer(r, node, 1, i64::from(u32::MAX)))
    });
    let mut texts = |reader: &mut Reader<'_>, key| {
        reader.optional(&mut section, key, |reader, node| reader.one_or_more(node, decode::text))
    };
    let categories = texts(reader, "categories");
    let services = texts(reader, "services");
    let action = reader.required(&mut section, "action", |reader, node| {
        decode::checked(reader, node, |text| match text {
            "observe" | "cut" | "rate-limit" | "quarantine" | "require-mfa" => Ok(text.to_owned()),
            _ => Err(Malformed::new(
                "observe, cut, rate-limit, quarantine or require-mfa",
                "write one of them",
            )),
        })
    });
    let time = reader.optional(&mut section, "for", time);
    let rate = reader.optional(&mut section, "rate", FlowRate::decode);
    reader.close(section);
    let action = self::action(reader, line, (&action?, rate?, time?))?;
    Some(VerdictRule {
        id: id?,
        severity: severity?.unwrap_or(u8::MAX),
        signatures: signatures?.unwrap_or_default(),
        categories: categories?.unwrap_or_default(),
        services: services?.unwrap_or_default(),
        action,
    })
}

fn time(reader: &mut Reader<'_>, node: Node) -> Option<Duration> {
    decode::checked(reader, node, |text| {
        decode::duration(text).filter(|time| !time.is_zero() && *time <= LONGEST).ok_or_else(|| {
            Malformed::new("a time of 1s to 30d", "write a number and s, m, h or d: 10m")
        })
    })
}

/// The action of this name with what stands beside it, or a report of what is missing or too much.
fn action(
    reader: &mut Reader<'_>,
    line: u32,
    said: (&str, Option<FlowRate>, Option<Duration>),
) -> Option<VerdictAction> {
    let (found, expected, remedy) = match said {
        ("observe", None, None) => return Some(VerdictAction::Observe),
        ("cut", None, None) => return Some(VerdictAction::Cut),
        ("quarantine", None, Some(time)) => return Some(VerdictAction::Quarantine(time)),
        ("require-mfa", None, Some(time)) => return Some(VerdictAction::RequireMfa(time)),
        ("rate-limit", Some(rate), Some(time)) => {
            return Some(VerdictAction::RateLimit(rate, time));
        }
        ("quarantine", None, None) => {
            ("quarantine without a time", "for beside it", "add for, such as 10m")
        }
        ("require-mfa", None, None) => (
            "require-mfa without a time for whoever has no second factor",
            "for beside it",
            "add for, such as 10m",
        ),
        ("rate-limit", ..) => (
            "rate-limit without rate and time",
            "rate and for beside it",
            "add both, such as rate: 100/s, for: 10m",
        ),
        (_, Some(_), _) => (
            "rate beside another action",
            "action: rate-limit",
            "remove rate, or write action: rate-limit",
        ),
        _ => (
            "for beside another action",
            "action: quarantine, require-mfa or rate-limit",
            "remove for, or write action: quarantine",
        ),
    };
    reader.report(line, found, expected, remedy);
    None
}

fn never(reader: &mut Reader<'_>, node: Node) -> Option<Never> {
    let mut section = reader.section(node)?;
    let mut texts = |reader: &mut Reader<'_>, key| {
        reader.optional(&mut section, key, |reader, node| reader.one_or_more(node, decode::text))
    };
    let identities = texts(reader, "identities");
    let services = texts(reader, "services");
    let sources = reader
        .optional(&mut section, "sources", |reader, node| reader.one_or_more(node, Prefix::decode));
    reader.close(section);
    Some(Never {
        identities: identities?.unwrap_or_default(),
        services: services?.unwrap_or_default(),
        sources: sources?.unwrap_or_default(),
    })
}
