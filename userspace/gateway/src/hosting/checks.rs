//! The health checks of a server, run again and again.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use nightgate_model::configs::{Check, HostV1};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{
    health::{Health, Standing},
    probe::Prober,
};

/// Runs the checks of a server of `service` for as long as the set of tasks is kept; gives what dialers should choose
/// the server by, from now on.
pub fn watch_health(
    prober: &Prober,
    service: &str,
    host: &HostV1,
) -> (watch::Receiver<Standing>, JoinSet<()>) {
    let health = Health::new(&host.listen, host.checks.len());
    let (sender, standing) = watch::channel(health.standing());
    let shared = Arc::new((Mutex::new(health), sender));
    let mut tasks = JoinSet::new();
    for (index, check) in host.checks.iter().cloned().enumerate() {
        let (prober, service) = (prober.clone(), service.to_owned());
        tasks.spawn(run_check(prober, service, Arc::clone(&shared), (index, check)));
    }
    (standing, tasks)
}

/// Tries one check again and again.
async fn run_check(
    prober: Prober,
    service: String,
    shared: Arc<(Mutex<Health>, watch::Sender<Standing>)>,
    (index, check): (usize, Check),
) {
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = prober.probe(&check).await;
        let (event, standing) = {
            let mut health = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
            let event = health.record(index, &check, outcome.is_ok(), Instant::now());
            (event, health.standing())
        };
        let changed =
            shared.1.send_if_modified(|known| std::mem::replace(known, standing) != standing);
        let detail = outcome.as_ref().err().map_or("passed", String::as_str);
        if event {
            info!(service, check = index, detail, "health event");
        }
        if changed {
            warn!(service, check = index, detail, ?standing, "health changed");
        }
    }
}
