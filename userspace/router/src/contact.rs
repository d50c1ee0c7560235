//! When the controller was last heard, and what follows for the model.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use nightgate_model::{id::RouterId, replica::Replica};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::saved::{self, SavedModel};

/// What a router may do while it does not hear the controller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offline {
    /// How long it allows new circuits by the model it has, also after a restart.
    pub limit: Duration,
    /// Where it keeps the model; `None` to keep it in memory only.
    pub file: Option<PathBuf>,
}

impl Default for Offline {
    /// A day, in memory only.
    fn default() -> Self {
        Self { limit: Duration::from_secs(86_400), file: None }
    }
}

/// When the controller was last heard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Contact {
    /// The channel is up and the controller not silent.
    pub(crate) is_there: bool,
    /// Its last message, by the system's clock.
    pub(crate) heard: SystemTime,
}

impl Offline {
    /// The model to start with.
    pub(crate) fn saved(&self, router: &RouterId) -> Option<SavedModel> {
        let file = self.file.as_ref()?;
        match saved::read(file, router, SystemTime::now()) {
            Ok(Some(saved)) => {
                info!(index = saved.replica.index, file = %file.display(), "model read from disk");
                Some(saved)
            }
            Ok(None) => None,
            Err(error) => {
                let error = crate::control::chain(&error);
                error!(
                    error,
                    "the saved model is not used; nothing is allowed until the controller comes"
                );
                None
            }
        }
    }

    /// Until when a model may be used, if the controller is not heard from again.
    pub(crate) fn valid_until(&self, heard: SystemTime) -> Instant {
        let now = Instant::now();
        // Heard in the future: the clock was set back.
        let age = SystemTime::now().duration_since(heard).unwrap_or_default();
        now.checked_add(self.limit.saturating_sub(age)).unwrap_or(now)
    }

    /// Time between two confirmations on disk that the controller is there: what a crash may cost of the limit.
    fn confirm_every(&self) -> Duration {
        (self.limit / 24).clamp(Duration::from_secs(1), Duration::from_secs(3_600))
    }
}

/// Saves the model: after each change, when the controller goes, and now and then while it is there.
pub(crate) async fn keep_model(
    router: RouterId,
    offline: Offline,
    mut replica: watch::Receiver<Arc<Replica>>,
    mut contact: watch::Receiver<Contact>,
) {
    let Some(file) = offline.file.clone() else { return };
    let mut pause = Duration::ZERO;
    // What has been read from there needs no saving.
    replica.mark_unchanged();
    contact.mark_unchanged();
    loop {
        let news = tokio::select! {
            changed = replica.changed() => changed,
            changed = contact.changed() => changed,
            () = tokio::time::sleep(offline.confirm_every()), if contact.borrow().is_there => Ok(()),
        };
        if news.is_err() {
            return;
        }
        // A flood of changes leaves half of the time for other work.
        tokio::time::sleep(pause).await;
        contact.mark_unchanged();
        let saved = SavedModel {
            heard: contact.borrow().heard,
            replica: Arc::clone(&replica.borrow_and_update()),
        };
        if saved.replica.index == 0 {
            continue;
        }
        let started = Instant::now();
        let (path, router) = (file.clone(), router.clone());
        let written = tokio::task::spawn_blocking(move || saved::write(&path, &router, &saved));
        if let Ok(Err(error)) = written.await {
            let error = crate::control::chain(&error);
            warn!(
                error,
                "the model is not saved; a restart without the controller will allow nothing"
            );
        }
        pause = started.elapsed();
    }
}
