//! The rules in force, those before them, and the time within which a change has to be confirmed.

use std::time::Duration;

use nightgate_config::Gateway;
use nightgate_ruleset::RuleSet;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::{
    admin::{Apply, RuleFile},
    change::{Candidate, Difference},
    firewall::Firewall,
    state::{StateError, StateFolder},
};

/// What a restart would use, and what can come back.
pub(super) struct Rules {
    /// The configuration that the gateway runs with.
    configuration: RuleFile,
    state: StateFolder,
    current: Candidate,
    previous: Option<Candidate>,
    /// When the previous rules come back.
    deadline: Option<Instant>,
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
    /// Chooses the rules to start with: see [`StateFolder::newest`].
    pub(super) fn choose(
        configuration: RuleFile,
        gateway: &Gateway,
        compiled: RuleSet,
        state: StateFolder,
    ) -> Result<Self, StateError> {
        let own =
            Candidate { file: configuration.clone(), gateway: gateway.clone(), rules: compiled };
        let newest = state.newest(&configuration)?;
        let current = if newest == configuration {
            own
        } else {
            match Candidate::read(newest, gateway) {
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
        Ok(Self { configuration, state, current, previous: None, deadline: None })
    }

    /// The rules in force.
    pub(super) fn compiled(&self) -> &RuleSet {
        &self.current.rules
    }

    /// What a file would change.
    pub(super) fn plan(&self, file: RuleFile) -> Result<Vec<Difference>, String> {
        let next = Candidate::read(file, &self.current.gateway)?;
        Ok(self.current.differences(&next))
    }

    /// Puts the rules of a file in force. What is wrong changes nothing.
    pub(super) fn apply(
        &mut self,
        firewall: &mut Firewall,
        apply: Apply,
    ) -> Result<ChangeReport, String> {
        if self.deadline.is_some() {
            return Err(
                "a change waits for `nightgate fw confirm` or `nightgate fw rollback`".into()
            );
        }
        let next = Candidate::read(apply.file, &self.current.gateway)?;
        if let Some(session) = &apply.session {
            let zone = firewall.zone_of(session).map_err(|error| error.to_string())?;
            let from = zone.and_then(|zone| next.rules.zones().get(&zone).copied());
            if let Some(why) = from.and_then(|from| next.cuts(from, session)) {
                return Err(why);
            }
        }
        let differences = self.current.differences(&next);
        if apply.confirm_within.is_none() {
            self.keep(&next)?;
        }
        if let Err(error) = firewall.change(&next.rules) {
            self.keep(&self.current)?;
            return Err(error.to_string());
        }
        self.previous = Some(std::mem::replace(&mut self.current, next));
        self.deadline = apply
            .confirm_within
            .map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
        info!(
            file = self.current.file.name,
            confirm_within = apply.confirm_within,
            "applied rules"
        );
        Ok(self.report(differences, apply.confirm_within))
    }

    /// Keeps the rules that wait for it.
    pub(super) fn confirm(&mut self) -> Result<ChangeReport, String> {
        if self.deadline.is_none() {
            return Err("no change waits for a confirmation".into());
        }
        self.keep(&self.current)?;
        self.deadline = None;
        info!(file = self.current.file.name, "confirmed rules");
        Ok(self.report(Vec::new(), None))
    }

    /// Puts the rules before in force again.
    pub(super) fn rollback(&mut self, firewall: &mut Firewall) -> Result<ChangeReport, String> {
        let Some(previous) = self.previous.clone() else {
            return Err(
                "there are no rules to go back to: none were applied since the gateway started"
                    .into(),
            );
        };
        firewall.change(&previous.rules).map_err(|error| error.to_string())?;
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
    pub(super) fn expire(&mut self, firewall: &mut Firewall) {
        /// When to try again what the kernel has refused.
        const AGAIN: Duration = Duration::from_secs(1);
        warn!("nobody confirmed the rules, the rules before come back");
        if let Err(error) = self.rollback(firewall) {
            error!(error, "rules could not be rolled back, trying again");
            self.deadline = Some(Instant::now() + AGAIN);
        }
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
