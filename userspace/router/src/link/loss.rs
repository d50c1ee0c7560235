//! What the way to a neighbour loses, as TCP sees it: how full the link is does not matter.

use std::{
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use nightgate_netlink::{TcpSegments, tcp_segments};
use tokio::time::{MissedTickBehavior, interval};

use super::LinkError;
use crate::outbox::Traffic;

/// Time between two looks at a connection.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Counts the segments of a connection, as long as it is asked to.
pub(super) async fn count_losses(socket: OwnedFd, traffic: &Traffic) -> Result<(), LinkError> {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = TcpSegments::default();
    loop {
        looks.tick().await;
        let now = tcp_segments(&socket)?;
        add(&traffic.segments, before.sent, now.sent);
        add(&traffic.repeated, before.repeated, now.repeated);
        before = now;
    }
}

/// Adds what a count that turns over has grown by.
fn add(total: &AtomicU64, before: u32, now: u32) {
    total.fetch_add(now.wrapping_sub(before).into(), Ordering::Relaxed);
}
