//! `nightgate events`

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    time::Duration,
};

use anyhow::Context as _;
use nightgate_model::event::{
    CircuitEvent, EntityEvent, Event, LinkEvent, Occurrence, RouterEvent, SessionEvent,
    TerminatorEvent,
};
use serde::Serialize;

use super::{ManagementArgs, client::EventStream};

/// How long to wait before another try when the stream broke.
const RETRY: Duration = Duration::from_secs(1);

/// `nightgate events`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The controller keeps the latest events in memory, and writes all of them to DIR/events/events.jsonl. docs/events.md
says what each field means. A line of type gap says how many are missing, because whoever reads was too slow.

Examples:
  nightgate events --follow --type circuit,link
  nightgate events --last 1000 --json | jq 'select(.type == \"circuit\" and .event == \"failed\")'")]
pub(crate) struct EventArgs {
    /// Only events of these types, separated by commas
    #[arg(long = "type", value_name = "TYPES", value_delimiter = ',',
        value_parser = clap::builder::PossibleValuesParser::new(Occurrence::TYPES))]
    types: Vec<String>,
    /// How many of the events before
    #[arg(long, value_name = "N", default_value_t = 100)]
    last: usize,
    /// Go on with what happens from now on
    #[arg(long, short)]
    follow: bool,
    /// Print the JSON schema of the lines, and nothing else
    #[arg(long)]
    schema: bool,
    #[command(flatten)]
    management: ManagementArgs,
}

/// What is asked for.
#[derive(Serialize)]
struct Question<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
    last: usize,
    follow: bool,
}

/// How far this reader has come.
#[derive(Default)]
struct Place {
    /// Which controller, and the number of its last event.
    at: Option<(String, u64)>,
}

impl EventArgs {
    /// Prints events until there are no more; for ever with `--follow`.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        if self.schema {
            let schema = nightgate_model::event::schema();
            return crate::output::print_text(&serde_json::to_string_pretty(&schema)?);
        }
        let mut place = Place::default();
        let mut is_first = true;
        loop {
            match self.read(&mut place).await {
                Ok(Ended::Here) => return Ok(()),
                Ok(Ended::There) => {}
                Err(error) if is_first => return Err(error),
                Err(error) => tracing::warn!(%error, "events are interrupted"),
            }
            is_first = false;
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn read(&self, place: &mut Place) -> anyhow::Result<Ended> {
        let types = self.types.iter().map(String::as_str).collect::<BTreeSet<_>>();
        let types = types.into_iter().collect::<Vec<_>>().join(",");
        let mut stream = self.open(&types, place).await?;
        let instance = stream.instance().to_owned();
        while let Some(line) = stream.next().await? {
            let event: Event = serde_json::from_str(&line)
                .with_context(|| format!("the controller sent no event: {line}"))?;
            place.at = Some((instance.clone(), event.number));
            let text = if self.management.output.is_json() { line } else { describe(&event) };
            let mut out = io::stdout().lock();
            match writeln!(out, "{text}").and_then(|()| out.flush()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Ended::Here),
                written => written.context("write to standard output")?,
            }
        }
        Ok(if self.follow { Ended::There } else { Ended::Here })
    }

    /// Goes on after the last event; a controller that was started anew counts anew.
    async fn open(&self, types: &str, place: &Place) -> anyhow::Result<EventStream> {
        let client = self.management.connect().await?;
        let ask = |after| Question { r#type: types, after, last: self.last, follow: self.follow };
        let Some((instance, number)) = &place.at else { return client.stream(&ask(None)).await };
        let stream = client.stream(&ask(Some(*number))).await?;
        if stream.instance() == instance { Ok(stream) } else { client.stream(&ask(Some(0))).await }
    }
}

/// Who ended the stream.
enum Ended {
    Here,
    There,
}

/// One line for people.
fn describe(event: &Event) -> String {
    let (what, detail) = match &event.what {
        Occurrence::Controller(it) => (word(&it.event), format!("release {}", it.release)),
        Occurrence::Entity(it) => (word(&it.event), entity(it)),
        Occurrence::Session(it) => (word(&it.event), session(it)),
        Occurrence::Router(it) => (word(&it.event), router(it)),
        Occurrence::Link(it) => (word(&it.event), link(it)),
        Occurrence::Terminator(it) => (word(&it.event), terminator(it)),
        Occurrence::Circuit(it) => (word(&it.event), circuit(it)),
        Occurrence::Gap(it) => {
            let by = it.router_id.as_ref().map(|router| format!(" by router {router}"));
            ("-".into(), format!("{} events are missing{}", it.lost, by.unwrap_or_default()))
        }
    };
    let kind = event.what.kind();
    format!("{}  {kind:<10}  {what:<12}  {detail}", event.at)
}

/// The word of an `event` as the JSON has it.
fn word(change: &impl Serialize) -> String {
    let value = serde_json::to_value(change).unwrap_or_default();
    value.as_str().unwrap_or("-").to_owned()
}

fn entity(it: &EntityEvent) -> String {
    format!("{} {} by {}", it.kind, it.name, it.author)
}

fn session(it: &SessionEvent) -> String {
    match (&it.service, &it.permission) {
        (Some(service), Some(permission)) => {
            format!("{} may {} {service}", it.identity, word(permission).to_lowercase())
        }
        _ => format!("{} at the controller", it.identity),
    }
}

fn router(it: &RouterEvent) -> String {
    let address = it.address.as_deref().map(|at| format!(" at {at}")).unwrap_or_default();
    let reason = it.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}{address}{reason}", it.router)
}

fn link(it: &LinkEvent) -> String {
    format!("{} > {}, cost {}", it.from, it.to, it.cost)
}

fn terminator(it: &TerminatorEvent) -> String {
    format!("{} by {} at {}", it.service, it.host, it.router)
}

fn circuit(it: &CircuitEvent) -> String {
    let host = it.host.as_deref().map(|host| format!(" at {host}")).unwrap_or_default();
    let path =
        if it.path.is_empty() { String::new() } else { format!(", {}", it.path.join(" > ")) };
    let cause = it.cause.as_deref().map(|cause| format!(", {cause}")).unwrap_or_default();
    let bytes = match it.sent + it.received {
        0 => String::new(),
        _ => format!(", {} bytes sent, {} received", it.sent, it.received),
    };
    format!("{} to {}{host}{path}{cause}{bytes}, {} ms", it.dialer, it.service, it.milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_happened() {
        let line = r#"{"version":1,"number":7,"at":"2026-01-01T00:00:00.007Z","type":"circuit",
            "event":"closed","toldById":"a","toldBy":"hub","circuitId":"00ff","serviceId":"s","service":"web","dialerId":"d",
            "dialer":"alice","hostId":"h","host":"bob","pathIds":["a","b"],"path":["hub","edge"],
            "cause":"link-lost","sent":5,"received":7,"moves":1,"milliseconds":1200}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(
            describe(&event),
            "2026-01-01T00:00:00.007Z  circuit     closed        alice to web at bob, hub > edge, \
             link-lost, 5 bytes sent, 7 received, 1200 ms"
        );
        let gap = r#"{"version":1,"number":7,"at":"x","type":"gap","lost":3,"routerId":null}"#;
        let gap: Event = serde_json::from_str(gap).unwrap();
        assert!(describe(&gap).ends_with("3 events are missing"), "{}", describe(&gap));
    }
}
