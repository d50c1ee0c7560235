//! The channels of one context: kept open, and opened again when lost.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::ClientConfig;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    channel::Channel,
    connect::{ConnectError, connect},
};
use crate::controller::{Controller, ListedRouter};

/// Pause before a router is tried again; doubles with each failure and each short-lived channel.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Longest pause between two attempts to reach a router.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Channels to the edge routers an identity may use.
pub(crate) struct Pool {
    tls: watch::Sender<Arc<ClientConfig>>,
    controller: Arc<Controller>,
    slots: Mutex<HashMap<String, Slot>>,
    changed: Arc<Notify>,
}

struct Slot {
    channel: watch::Receiver<Option<Channel>>,
    _supervisor: AbortOnDropHandle<()>,
}

impl Pool {
    pub(crate) fn new(tls: ClientConfig, controller: Arc<Controller>) -> Self {
        Self {
            tls: watch::Sender::new(Arc::new(tls)),
            controller,
            slots: Mutex::default(),
            changed: Arc::new(Notify::new()),
        }
    }

    /// Uses this for channels that are opened from now on.
    pub(crate) fn set_tls(&self, tls: ClientConfig) {
        self.tls.send_replace(Arc::new(tls));
    }

    /// Addresses (`host:port`) of the routers that are known.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.slots().keys().cloned().collect()
    }

    /// Connects to the routers that are not known yet.
    pub(crate) fn add(&self, routers: &[ListedRouter]) {
        let mut slots = self.slots();
        for router in routers {
            let Some(address) = router.address() else { continue };
            if !slots.contains_key(address) {
                tracing::debug!(router = router.name, address, "edge router added");
                slots.insert(address.to_owned(), self.slot(address.to_owned()));
            }
        }
    }

    /// Connects to the routers that are not known yet, and opens no new circuits through others.
    pub(crate) fn replace(&self, routers: &[ListedRouter]) {
        let listed: HashSet<_> = routers.iter().filter_map(ListedRouter::address).collect();
        self.slots().retain(|address, _| listed.contains(address.as_str()));
        self.add(routers);
    }

    /// The quickest open channel to one of the routers; none if none is open within `patience`.
    pub(crate) async fn best(
        &self,
        routers: &[ListedRouter],
        patience: Duration,
    ) -> Option<Channel> {
        self.add(routers);
        let found = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(channel) = self.open_channel(routers) {
                    return channel;
                }
                changed.await;
            }
        };
        timeout(patience, found).await.ok()
    }

    /// Waits for the channel to one router; none if that is not, or no longer, in the pool.
    pub(crate) async fn connected(&self, address: &str) -> Option<Channel> {
        let mut slot = self.slots().get(address)?.channel.clone();
        let open = slot.wait_for(|channel| channel.as_ref().is_some_and(Channel::is_open));
        open.await.ok()?.clone()
    }

    fn open_channel(&self, routers: &[ListedRouter]) -> Option<Channel> {
        let slots = self.slots();
        routers
            .iter()
            .filter_map(|router| slots.get(router.address()?)?.channel.borrow().clone())
            .filter(Channel::is_open)
            .min_by_key(Channel::latency)
    }

    fn slot(&self, address: String) -> Slot {
        let (sender, channel) = watch::channel(None);
        let supervisor = supervise(
            address,
            self.tls.subscribe(),
            Arc::clone(&self.controller),
            sender,
            Arc::clone(&self.changed),
        );
        Slot { channel, _supervisor: AbortOnDropHandle::new(tokio::spawn(supervisor)) }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one channel open for as long as the task is not aborted.
async fn supervise(
    address: String,
    tls: watch::Receiver<Arc<ClientConfig>>,
    controller: Arc<Controller>,
    current: watch::Sender<Option<Channel>>,
    changed: Arc<Notify>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let config = Arc::clone(&tls.borrow());
        match connect(&config, &address, &controller.token()).await {
            Ok(channel) => {
                tracing::debug!(address, "channel open");
                let opened = Instant::now();
                current.send_replace(Some(channel.clone()));
                changed.notify_waiters();
                channel.closed().await;
                current.send_replace(None);
                if opened.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
            }
            Err(error) => {
                tracing::info!(
                    address,
                    error = &error as &dyn std::error::Error,
                    "edge router not reached"
                );
                if let ConnectError::Refused { .. } = error {
                    renew_session(&controller).await;
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A router refuses the hello of an API session that has ended.
async fn renew_session(controller: &Controller) {
    if let Err(error) = controller.renew().await {
        tracing::info!(error = &error as &dyn std::error::Error, "API session not renewed");
    }
}
