//! For how long the model may be used to allow circuits.

use std::time::Instant;

use crate::{DialRefusal, FailureCause, Router};

impl Router {
    /// Takes until when the model may be used for new circuits; `None` for as long as the controller is heard.
    ///
    /// Circuits that stand go on. A router begins with `None`: its empty model allows nothing.
    pub fn handle_validity(&mut self, until: Option<Instant>) {
        self.announcement.is_stale |= until.is_some() != self.valid_until.is_some();
        self.valid_until = until;
    }

    /// Refuses what a model that is too old would allow.
    pub(crate) fn check_validity(&self, now: Instant) -> Result<(), DialRefusal> {
        if self.valid_until.is_none_or(|until| now < until) {
            return Ok(());
        }
        let detail = if self.replica.index == 0 {
            format!("router {} has heard nothing from the controller yet", self.id)
        } else {
            format!(
                "router {} has not heard from the controller for longer than its configuration allows \
                 (router.offline)",
                self.id
            )
        };
        Err(DialRefusal::new(FailureCause::NoModel, detail))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nightgate_model::id::{IdentityId, RouterId, ServiceId};

    use super::*;
    use crate::{Dial, KeyShare, Lane};

    #[test]
    fn a_model_that_is_too_old_allows_nothing_until_the_controller_is_heard() {
        let now = Instant::now();
        let mut router = Router::new(RouterId::new("r"), [1; 32]);
        let dial = Dial {
            service: ServiceId::new("web"),
            dialer: IdentityId::new("anna"),
            instance: String::new(),
            caller: String::new(),
            key_share: KeyShare::default(),
            session: Default::default(),
            app_data: Default::default(),
        };
        let mut cause = |until: Option<Instant>| {
            router.handle_validity(until);
            router.dial(dial.clone(), Lane::default(), now).unwrap_err().cause
        };
        assert_eq!(cause(Some(now)), FailureCause::NoModel);
        assert_eq!(cause(Some(now + Duration::from_secs(1))), FailureCause::Unauthorized);
        assert_eq!(cause(None), FailureCause::Unauthorized);
    }
}
