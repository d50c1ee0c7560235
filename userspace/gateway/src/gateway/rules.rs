//! The rules in force, those before them, and the time within which a change has to be confirmed.

use std::time::Duration;

use nightgate_config::{Config, Gateway};
use nightgate_ruleset::RuleSet;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::surroundings::{Prepared, Surroundings};
use crate::{
    admin::{Apply, RuleFile},
    change::{Candidate, Difference},
    firewall::Firewall,
    flow_records::{self, FlowRecords},
    state::{StateError, StateFolder},
};

/// What a change is made to.
pub(super) struct Host<'a> {
    firewall: &'a mut Firewall,
    surroundings: &'a mut Surroundings,
    records: &'a mut FlowRecords,
}

impl<'a> Host<'a> {
    pub(super) fn new(
        firewall: &'a mut Firewall,
        surroundings: &'a mut Surroundings,
        records: &'a mut FlowRecords,
    ) -> Self {
        Self { firewall, surroundings, records }
    }

    /// Opens what a configuration needs beyond its rules. Nothing changes yet.
    async fn prepare(
        &mut self,
        gateway: &Gateway,
    ) -> Result<(Prepared, flow_records::Prepared), String> {
        let records = self.records.prepare(gateway, self.firewall);
        let records = records.map_err(|error| error.to_string())?;
        let prepared = self.surroundings.prepare(gateway, self.firewall).await;
        Ok((prepared.map_err(|error| error.to_string())?, records))
    }

    /// Goes back to what a configuration says of flow records, if it can be had.
    fn return_records(&mut self, gateway: &Gateway) {
        match self.records.prepare(gateway, self.firewall) {
            Ok(records) => self.records.settle(records),
            Err(error) => error!(%error, "flow records cannot be put back, they stay as they are"),
        }
    }
}

/// What a restart would use, and what can come back.
pub(super) struct Rules {
    /// The configuration that the gateway was started with.
    configuration: RuleFile,
    started: Config,
    state: StateFolder,
    current: Candidate,
    previous: Option<Candidate>,
    /// When the previous rules come back.
    deadline: Option<Instant>,
}

/// How long after the deadline the kernel goes back by itself: this process does it before, if it is alive, and
/// knows then what is in force.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// A configuration to start with that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// It is a router's.
    #[error(
        "the configuration has no zones: add zones and rules, or run it with `nightgate router run`"
    )]
    NoZones,
    /// The rules applied last cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a change did.
#[derive(Debug, Serialize)]
pub(super) struct ChangeReport {
    /// File whose rules are in force.
    file: String,
    differences: Vec<Difference>,
    /// Seconds until the rules before come back.
    returns_in: Option<u32>,
    /// What a restart uses.
    restart: String,
}

impl Rules {
    /// Chooses the configuration to start with: see [`StateFolder::newest`].
    pub(super) fn choose(
        configuration: RuleFile,
        started: Config,
        compiled: RuleSet,
        state: StateFolder,
    ) -> Result<Self, ChooseError> {
        let gateway = started.gateway.clone().ok_or(ChooseError::NoZones)?;
        let own = Candidate { file: configuration.clone(), gateway, rules: compiled };
        let newest = state.newest(&configuration)?;
        let current = if newest == configuration {
            own
        } else {
            match Candidate::read(newest, &started) {
                Ok(applied) => {
                    info!(
                        file = applied.file.name,
                        "rules applied last; change the configuration to use its own"
                    );
                    applied
                }
                Err(error) => {
                    warn!(
                        error,
                        "the rules applied last do not fit, using those of the configuration"
                    );
                    own
                }
            }
        };
        Ok(Self { configuration, started, state, current, previous: None, deadline: None })
    }

    /// The rules in force.
    pub(super) fn compiled(&self) -> &RuleSet {
        &self.current.rules
    }

    /// The configuration in force.
    pub(super) fn gateway(&self) -> &Gateway {
        &self.current.gateway
    }

    /// Name of the file whose rules are in force.
    pub(super) fn file(&self) -> &str {
        &self.current.file.name
    }

    /// Where rules are kept.
    pub(super) fn state(&self) -> &StateFolder {
        &self.state
    }

    /// Whether a change waits for its confirmation.
    pub(super) fn is_waiting(&self) -> bool {
        self.deadline.is_some()
    }

    /// Remembers the configuration as one that a gateway has started with.
    pub(super) fn remember(&self) {
        if let Err(error) = self.state.keep_good(&self.configuration) {
            warn!(%error, "a boot with a damaged configuration could not use this one");
        }
    }

    /// What a file would change.
    pub(super) fn plan(&self, file: RuleFile) -> Result<Vec<Difference>, String> {
        let next = self.read(file)?;
        Ok(self.current.differences(&next))
    }

    /// Puts a file in force. What is wrong changes nothing.
    pub(super) async fn apply(
        &mut self,
        host: &mut Host<'_>,
        apply: Apply,
    ) -> Result<ChangeReport, String> {
        if self.deadline.is_some() {
            return Err(
                "a change waits for `nightgate fw confirm` or `nightgate fw rollback`".into()
            );
        }
        let next = self.read(apply.file)?;
        if let Some(session) = &apply.session {
            let interface =
                host.firewall.interface_of(session).map_err(|error| error.to_string())?;
            let zone = interface.and_then(|interface| next.zone_of(&interface));
            if let Some(why) = zone.and_then(|from| next.cuts(from, session)) {
                return Err(why);
            }
        }
        let (prepared, records) = host.prepare(&next.gateway).await?;
        let differences = self.current.differences(&next);
        if apply.confirm_within.is_none()
            && let Err(error) = self.keep(&next)
        {
            host.firewall.forget_announced(true);
            return Err(error);
        }
        let time = apply.confirm_within.map(|seconds| Duration::from_secs(seconds.into()));
        let grace = time.map(|time| time + GRACE);
        if let Err(error) = host.firewall.adopt(&next.gateway, &next.rules, grace) {
            host.firewall.forget_announced(true);
            self.keep(&self.current)?;
            return Err(error.to_string());
        }
        host.records.settle(records);
        let settled = host.surroundings.settle(&next.gateway, prepared, host.firewall).await;
        self.previous = Some(std::mem::replace(&mut self.current, next));
        self.deadline = time.map(|time| Instant::now() + time);
        info!(
            file = self.current.file.name,
            confirm_within = apply.confirm_within,
            "applied rules"
        );
        settled.map_err(|error| {
            format!("the rules are in force, but not all of the mirror: {error}")
        })?;
        Ok(self.report(differences, apply.confirm_within))
    }

    /// Keeps the rules that wait for it.
    pub(super) fn confirm(&mut self, firewall: &mut Firewall) -> Result<ChangeReport, String> {
        if self.deadline.is_none() {
            return Err("no change waits for a confirmation".into());
        }
        self.keep(&self.current)?;
        firewall.keep().map_err(|error| error.to_string())?;
        self.deadline = None;
        info!(file = self.current.file.name, "confirmed rules");
        Ok(self.report(Vec::new(), None))
    }

    /// Puts the rules before in force again.
    pub(super) async fn rollback(&mut self, host: &mut Host<'_>) -> Result<ChangeReport, String> {
        let Some(previous) = self.previous.clone() else {
            return Err(
                "there are no rules to go back to: none were applied since the gateway started"
                    .into(),
            );
        };
        let prepared = host.surroundings.prepare_return(&previous.gateway, host.firewall).await;
        if let Err(error) = host.firewall.adopt(&previous.gateway, &previous.rules, None) {
            host.firewall.forget_announced(true);
            return Err(error.to_string());
        }
        if let Some(prepared) = prepared {
            host.surroundings.go_back(&previous.gateway, prepared, host.firewall).await;
        }
        host.return_records(&previous.gateway);
        let differences = self.current.differences(&previous);
        let was_kept = self.deadline.is_none();
        (self.current, self.previous, self.deadline) = (previous, None, None);
        if was_kept && let Err(error) = self.keep(&self.current) {
            return Err(format!(
                "the rules before are in force again, but a restart would use the others: {error}"
            ));
        }
        info!(file = self.current.file.name, "rolled back");
        Ok(self.report(differences, None))
    }

    /// Waits until the time for a confirmation is over; for ever if none is awaited.
    pub(super) async fn expired(&self) {
        match self.deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    /// Puts the rules before in force again, as nobody has confirmed.
    pub(super) async fn expire(&mut self, host: &mut Host<'_>) {
        /// When to try again what the kernel has refused.
        const AGAIN: Duration = Duration::from_secs(1);
        warn!("nobody confirmed the rules, the rules before come back");
        if let Err(error) = self.rollback(host).await {
            error!(error, "rules could not be rolled back, trying again");
            self.deadline = Some(Instant::now() + AGAIN);
        }
    }

    /// Reads a file whose interfaces are there, or are awaited already.
    fn read(&self, file: RuleFile) -> Result<Candidate, String> {
        let next = Candidate::read(file, &self.started)?;
        let missing = next.missing_interfaces(&self.current.gateway);
        if missing.is_empty() { Ok(next) } else { Err(missing.join("\n")) }
    }

    fn keep(&self, rules: &Candidate) -> Result<(), String> {
        self.state.keep(&self.configuration, &rules.file).map_err(|error| error.to_string())
    }

    fn report(&self, differences: Vec<Difference>, returns_in: Option<u32>) -> ChangeReport {
        let restart = match returns_in {
            Some(_) => "the rules before, unless these are confirmed".into(),
            None => format!("these rules, until {} is changed", self.configuration.name),
        };
        ChangeReport { file: self.current.file.name.clone(), differences, returns_in, restart }
    }
}
