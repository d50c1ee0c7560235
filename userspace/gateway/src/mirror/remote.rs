//! Sessions that operators have asked for at the controller: `mirror.v1` among the configs of services.

use std::collections::BTreeSet;

use nightgate_config::{ConfigError, Mirror, Session, SessionName};
use nightgate_model::{configs::MirrorV1, entity::Service, id::RouterId, replica::Replica};
use serde_json::{Map, Value};
use tracing::{info, warn};

/// What an operator asks for about one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Name of the service.
    pub service: String,
    /// The document without the names of those that it is for.
    pub document: Map<String, Value>,
}

/// What the controller asks for, and what of it could not be had when that was last tried.
#[derive(Debug, Default)]
pub struct Wishes {
    all: Vec<Wish>,
    left_out: BTreeSet<String>,
}

impl Wishes {
    /// All of them.
    pub fn all(&self) -> &[Wish] {
        &self.all
    }

    /// Takes the place of those before. Whether sessions are to be planned anew: there are others, or some could not be had, for which
    /// the reason may have gone.
    pub fn replace(&mut self, wishes: Vec<Wish>) -> bool {
        let differ = wishes != self.all;
        self.all = wishes;
        differ || self.are_left_out()
    }

    /// Whether some could not be had.
    pub fn are_left_out(&self) -> bool {
        !self.left_out.is_empty()
    }

    /// Notes what could not be had, and why, for people. It is logged once, until it can be had or the reason is another.
    pub fn note(&mut self, left_out: BTreeSet<String>) {
        for error in left_out.difference(&self.left_out) {
            warn!(
                error,
                "a mirror session that the controller asks for is left out, until its reason has gone"
            );
        }
        if !self.all.is_empty() && left_out.is_empty() && self.are_left_out() {
            info!(sessions = self.all.len(), "all mirror sessions that the controller asks for");
        }
        self.left_out = left_out;
    }
}

/// The wishes that are for this gateway, about the services that it intercepts or hosts.
pub(crate) fn wishes<'a>(
    replica: &Replica,
    router: &RouterId,
    carried: impl Iterator<Item = &'a str>,
) -> Vec<Wish> {
    let mirrored = replica.services.values().filter(|it| it.config.contains_key(MirrorV1::TYPE));
    let mirrored: Vec<&Service> = mirrored.collect();
    // Most models have none, and may have thousands of services.
    if mirrored.is_empty() {
        return Vec::new();
    }
    let carried: BTreeSet<&str> = carried.collect();
    let own = replica.router(router).map_or("", |router| router.name.as_str());
    let wish = |Service { name, config, .. }: &Service| {
        let document = MirrorV1::for_gateway(config.get(MirrorV1::TYPE)?, own)?;
        carried.contains(name.as_str()).then(|| Wish { service: name.clone(), document })
    };
    mirrored.into_iter().filter_map(wish).collect()
}

impl Wish {
    /// The session, if the configuration has a sensor of that name and lets the controller ask for sessions.
    ///
    /// # Errors
    /// The document does not fit the configuration's sensors, for people.
    pub(crate) fn session(&self, mirror: &Mirror) -> Option<Result<Session, String>> {
        let is_known = |name: &str| mirror.sensors.keys().any(|known| known.as_str() == name);
        let sensor = self.document.get("sensor")?;
        let many = sensor.as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut names = sensor.as_str().into_iter().chain(many);
        if !mirror.remote || !names.any(is_known) {
            return None;
        }
        Some(
            self.read(mirror).map_err(|error| {
                format!("{} of service {}: {error}", MirrorV1::TYPE, self.service)
            }),
        )
    }

    fn read(&self, mirror: &Mirror) -> Result<Session, String> {
        let id = name(&self.service, mirror).ok_or("no name is left for the session")?;
        let mut document = self.document.clone();
        document.insert("id".to_owned(), id.as_str().into());
        document.insert("services".to_owned(), vec![self.service.clone()].into());
        let text = Value::Object(document).to_string();
        let read = nightgate_config::mirror_session(&text, MirrorV1::TYPE, &mirror.sensors);
        let session = read.map_err(|errors| lines(&errors))?;
        if session.expires.is_none() || !session.filter.is_empty() {
            return Err("expected expires, and no filter".to_owned());
        }
        Ok(session)
    }
}

/// A name for the session of a service that no other session has.
fn name(service: &str, mirror: &Mirror) -> Option<SessionName> {
    /// Bytes of the service's name that are kept, so that a number finds room behind it.
    const KEPT: usize = 24;
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let base: String = "by-".chars().chain(service.chars().map(allowed)).take(KEPT).collect();
    let candidates = (1..=mirror.sessions.len() + 1).map(|number| match number {
        1 => base.clone(),
        _ => format!("{base}-{number}"),
    });
    let is_free = |name: &SessionName| mirror.sessions.iter().all(|session| session.id != *name);
    candidates.filter_map(|text| SessionName::new(&text)).find(is_free)
}

fn lines(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mirror(rest: &str) -> Mirror {
        let text = format!(
            "version: 1\nrouter: {{ identity: gw.json }}\nzones: {{ lan: {{ interfaces: [lan0] }} }}\nmirror:\n  \
             sensors: {{ ids: {{ address: 10.9.0.2, interface: mon0 }} }}\n  sessions: []\n{rest}"
        );
        let config = nightgate_config::parse(&text, "gw.yaml").unwrap();
        config.gateway.unwrap().mirror.unwrap()
    }

    fn wish(document: Value) -> Wish {
        let document = document.as_object().unwrap().clone();
        Wish { service: "Web Shop".into(), document }
    }

    #[test]
    fn a_wish_becomes_a_session_of_the_same_language_as_a_file_s() {
        let wish = wish(json!({
            "sensor": "ids", "expires": "2026-12-01T08:00:00Z", "sample": 10, "rate": "5/s", "vlan": "service",
        }));
        let session = wish.session(&mirror("")).unwrap().unwrap();
        assert_eq!(session.id.as_str(), "by-web-shop");
        assert_eq!(session.services, ["Web Shop"]);
        assert_eq!((session.expires, session.sample), (Some(1_796_112_000), Some(10)));
        assert_eq!(session.vlan, nightgate_config::Vlan::Service);
    }

    #[test]
    fn a_file_without_that_sensor_or_that_forbids_it_has_no_such_session() {
        let expires = "2026-12-01T08:00:00Z";
        let here = wish(json!({ "sensor": ["ids"], "expires": expires }));
        assert!(here.session(&mirror("")).is_some());
        assert!(here.session(&mirror("  remote: false\n")).is_none());
        assert!(
            wish(json!({ "sensor": "other", "expires": expires })).session(&mirror("")).is_none()
        );
    }

    #[test]
    fn what_could_not_be_had_is_tried_again_until_it_can() {
        let mut wishes = Wishes::default();
        let wish = wish(json!({ "sensor": "ids", "expires": "2026-12-01T08:00:00Z" }));
        assert!(!wishes.replace(Vec::new()));
        assert!(wishes.replace(vec![wish.clone()]));
        assert!(!wishes.replace(vec![wish.clone()]));
        wishes.note(BTreeSet::from(["no interface".to_owned()]));
        assert!(wishes.replace(vec![wish.clone()]) && wishes.are_left_out());
        wishes.note(BTreeSet::new());
        assert!(!wishes.replace(vec![wish]));
    }

    #[test]
    fn what_does_not_fit_says_why() {
        let expires = "2026-12-01T08:00:00Z";
        for (document, word) in [
            (json!({ "sensor": "ids" }), "expires"),
            (json!({ "sensor": ["ids", "other"], "expires": expires }), "unknown sensor other"),
            (json!({ "sensor": "ids", "expires": expires, "sample": 0 }), "sample"),
            (json!({ "sensor": "ids", "expires": expires, "filter": [{ "from": "lan" }] }), "lan"),
        ] {
            let error = wish(document).session(&mirror("")).unwrap().unwrap_err();
            assert!(error.contains(word) && error.contains("Web Shop"), "{error}");
        }
    }
}
