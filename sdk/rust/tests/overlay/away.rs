//! Routers whose controller is away.

use nightgate_model::replica::LinkReport;

use crate::{
    renewal::{Gateway, echo, say},
    support::Overlay,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_comes_while_the_controller_is_away_is_found_by_the_routers_next_to_it() {
    let mut overlay = Overlay::start().await;
    overlay.operator.create_service("echo", false).await;
    let near = Gateway::start(&overlay, "near", "echo-dial").await;
    let far = Gateway::start(&overlay, "far", "echo-host").await;
    let ends = [near.router.id().clone(), far.router.id().clone()];
    let mut replica = near.router.replica();
    let linked = replica.wait_for(|replica| {
        let between = |link: &&LinkReport| ends.contains(&link.from) && ends.contains(&link.to);
        replica.links.iter().filter(between).count() == 2
    });
    drop(linked.await.unwrap());
    overlay.stop_controller().await;

    let served = tokio::spawn(echo(far.host()));

    let mut circuit = near.dial().await;
    say(&mut circuit, "found").await;
    served.abort();
    near.router.shutdown().await;
    far.router.shutdown().await;
    overlay.stop().await;
}
