//! Hosting where some of the routers cannot be reached, and one is lost.

use std::{net::Ipv4Addr, time::Duration};

use nightgate_router::{Lanes, LinkConfig, Offline, Router, RouterConfig};
use nightgate_sdk::enroll_router;
use tokio::time::{sleep, timeout};

use crate::support::{Clients, Overlay, free_address, start_router};

/// Longest wait for what takes a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

/// A router that the controller knows and clients cannot reach.
async fn unreachable(overlay: &Overlay, name: &str) -> Router {
    let address = free_address(Ipv4Addr::LOCALHOST.into()).to_string();
    let token = overlay.operator.create_router(name).await;
    let identity = enroll_router(&token, Some(&address)).await.unwrap();
    let config = RouterConfig {
        identity,
        listen: None,
        advertise: Some(address),
        legacy_clients: false,
        links: LinkConfig::default(),
        offline: Offline::default(),
    };
    Router::start(config, Lanes::here()).await.unwrap()
}

async fn reachable(overlay: &Overlay, name: &str) -> Router {
    let address = free_address(Ipv4Addr::LOCALHOST.into());
    let token = overlay.operator.create_router(name).await;
    let identity = enroll_router(&token, Some(&address.to_string())).await.unwrap();
    start_router(&identity, (address, address), Clients::Modern).await
}

async fn hosts(router: &Router) -> bool {
    !router.status().await.terminators.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_bound_at_routers_that_it_reaches_and_at_another_when_one_is_lost() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("desk", false).await;
    let mut standing = Vec::new();
    // First in the list.
    for name in ["a1", "a2", "a3", "a4"] {
        standing.push(unreachable(&overlay, name).await);
    }
    let mut reached = vec![overlay.router.clone()];
    for name in ["s1", "s2", "s3"] {
        reached.push(reachable(&overlay, name).await);
    }
    let mut replica = overlay.router.replica();
    let all = replica
        .wait_for(|replica| replica.routers.iter().filter(|r| r.address.is_some()).count() == 8);
    timeout(PATIENCE, all).await.unwrap().unwrap();

    let host = overlay.join("host", &["desk-host"]).await;
    let _listener = host.bind("desk").await.unwrap();
    let bound = |reached: Vec<Router>| async move {
        let mut bound = Vec::new();
        for (at, router) in reached.iter().enumerate() {
            if hosts(router).await {
                bound.push(at);
            }
        }
        bound
    };
    let three = |reached: Vec<Router>| async move {
        loop {
            let bound = bound(reached.clone()).await;
            if bound.len() == 3 {
                return bound;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let first = timeout(PATIENCE, three(reached.clone())).await.expect("bound at three routers");
    let lost = reached.remove(first[0]);
    lost.shutdown().await;
    timeout(PATIENCE, three(reached.clone())).await.expect("bound at the fourth router");
    for router in standing.into_iter().chain(reached) {
        router.shutdown().await;
    }
}
