//! Health checks of `host.v1`, and what follows from them.

use std::time::Duration;

use serde::Deserialize;

use super::duration;

/// What tells, again and again, whether a server is well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// What is tried.
    pub probe: Probe,
    /// Time between two tries, at least [`MIN_INTERVAL`].
    pub interval: Duration,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// What follows.
    pub actions: Vec<HealthAction>,
}

/// Shortest time between two tries of a check.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// What a check tries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Probe {
    /// A TCP connection to `host:port`.
    Port(String),
    /// An HTTP request.
    Http(HttpProbe),
}

/// An HTTP request, and the answer that counts as well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpProbe {
    /// `http://` or `https://`.
    pub url: String,
    /// Method.
    pub method: HttpMethod,
    /// Body to send.
    pub body: String,
    /// Status of the answer, 100 to 599.
    pub status: u16,
    /// Text that the answer's body contains.
    pub contains: Option<String>,
}

/// Methods of HTTP checks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// GET.
    #[default]
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
}

/// Something that follows from the outcome of a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HealthAction {
    /// After which outcome.
    pub trigger: Trigger,
    /// Only after as many outcomes of the same kind in a row.
    pub consecutive: u16,
    /// Only when outcomes have been of the same kind for as long.
    pub lasting: Duration,
    /// What.
    pub effect: Effect,
}

/// Outcomes that something follows from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// The check failed.
    Fail,
    /// It passed.
    Pass,
    /// It passed after having failed, or the reverse.
    Change,
}

/// What follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// The terminator has its configured precedence.
    MarkHealthy,
    /// The terminator is taken after all others.
    MarkUnhealthy,
    /// The terminator's cost changes by as much; never below the configured one, never above 65535.
    ChangeCost(i32),
    /// The outcome is told.
    SendEvent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PortDocument {
    address: String,
    #[serde(deserialize_with = "duration::deserialize")]
    interval: Duration,
    #[serde(deserialize_with = "duration::deserialize")]
    timeout: Duration,
    #[serde(default)]
    actions: Vec<ActionDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HttpDocument {
    url: String,
    #[serde(default)]
    method: HttpMethod,
    #[serde(default)]
    body: String,
    expect_status: Option<u16>,
    expect_in_body: Option<String>,
    #[serde(deserialize_with = "duration::deserialize")]
    interval: Duration,
    #[serde(deserialize_with = "duration::deserialize")]
    timeout: Duration,
    #[serde(default)]
    actions: Vec<ActionDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ActionDocument {
    trigger: Trigger,
    #[serde(default)]
    consecutive_events: u16,
    #[serde(default, deserialize_with = "duration::deserialize")]
    duration: Duration,
    action: String,
}

/// Status that an HTTP check expects where none is given.
const OK: u16 = 200;

/// Reads the checks of a host, or says which key has what wrong.
pub(super) fn checks(
    ports: Vec<PortDocument>,
    https: Vec<HttpDocument>,
) -> Result<Vec<Check>, (&'static str, String)> {
    let ports = ports.into_iter().map(|port| {
        let PortDocument { address, interval, timeout, actions } = port;
        check(Probe::Port(address), (interval, timeout), &actions)
            .map_err(|detail| ("portChecks", detail))
    });
    let https = https.into_iter().map(|http| {
        let probe = Probe::Http(HttpProbe {
            url: http.url,
            method: http.method,
            body: http.body,
            status: http.expect_status.unwrap_or(OK),
            contains: http.expect_in_body,
        });
        check(probe, (http.interval, http.timeout), &http.actions)
            .map_err(|detail| ("httpChecks", detail))
    });
    ports.chain(https).collect()
}

fn check(
    probe: Probe,
    (interval, timeout): (Duration, Duration),
    actions: &[ActionDocument],
) -> Result<Check, String> {
    if interval < MIN_INTERVAL || timeout.is_zero() {
        let shortest = MIN_INTERVAL.as_millis();
        return Err(format!(
            "interval {interval:?} and timeout {timeout:?}, expected at least {shortest}ms and more than none"
        ));
    }
    let actions = actions.iter().map(HealthAction::try_from).collect::<Result<_, _>>()?;
    Ok(Check { probe, interval, timeout, actions })
}

impl TryFrom<&ActionDocument> for HealthAction {
    type Error = String;

    fn try_from(document: &ActionDocument) -> Result<Self, String> {
        Ok(Self {
            trigger: document.trigger,
            consecutive: document.consecutive_events.max(1),
            lasting: document.duration,
            effect: effect(&document.action)
                .ok_or_else(|| format!("action {:?} is unknown", document.action))?,
        })
    }
}

fn effect(text: &str) -> Option<Effect> {
    let cost = |text: &str| text.parse::<i32>().ok();
    match text {
        "mark healthy" => Some(Effect::MarkHealthy),
        "mark unhealthy" => Some(Effect::MarkUnhealthy),
        "send event" => Some(Effect::SendEvent),
        _ => text
            .strip_prefix("increase cost ")
            .and_then(cost)
            .or_else(|| text.strip_prefix("decrease cost ").and_then(cost)?.checked_neg())
            .map(Effect::ChangeCost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configs::{HostV1, Protocol};

    #[test]
    fn checks_and_their_actions_are_read() {
        let mut document = HostV1::document(Protocol::Tcp, "10.0.0.1", 80);
        document["portChecks"] = serde_json::json!([{
            "address": "10.0.0.1:80", "interval": "5s", "timeout": "1s",
            "actions": [
                { "trigger": "fail", "consecutiveEvents": 3, "action": "mark unhealthy" },
                { "trigger": "pass", "duration": "10s", "action": "mark healthy" },
                { "trigger": "fail", "action": "increase cost 100" },
                { "trigger": "pass", "action": "decrease cost 25" },
                { "trigger": "change", "action": "send event" },
            ],
        }]);
        document["httpChecks"] = serde_json::json!([{
            "url": "http://10.0.0.1/health", "interval": "5s", "timeout": "1s", "expectInBody": "ok",
        }]);
        let host: HostV1 = serde_json::from_value(document).unwrap();

        let [port, http] = &host.checks[..] else { panic!("{host:?}") };
        let effects: Vec<_> = port.actions.iter().map(|action| action.effect).collect();
        assert_eq!(
            effects,
            [
                Effect::MarkUnhealthy,
                Effect::MarkHealthy,
                Effect::ChangeCost(100),
                Effect::ChangeCost(-25),
                Effect::SendEvent,
            ]
        );
        assert_eq!((port.actions[0].consecutive, port.actions[1].consecutive), (3, 1));
        let Probe::Http(probe) = &http.probe else { panic!("{http:?}") };
        assert_eq!((probe.status, probe.contains.as_deref()), (200, Some("ok")));
    }

    #[test]
    fn a_check_without_pause_is_refused() {
        let mut document = HostV1::document(Protocol::Tcp, "10.0.0.1", 80);
        document["portChecks"] =
            serde_json::json!([{ "address": "10.0.0.1:80", "interval": "1ms", "timeout": "1s" }]);

        let error = serde_json::from_value::<HostV1>(document).unwrap_err().to_string();

        assert!(error.contains("portChecks: interval 1ms"), "{error}");
    }
}
