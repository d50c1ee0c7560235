//! What it costs the controller that routers tell it of circuits, and that it makes events of that.

use std::time::Duration;

use anyhow::Result;
use nightgate_lab::Figure;
use nightgate_sdk::Context;
use tokio::{task::JoinSet, time::sleep};

use super::{dial::first_byte, figure, process::Role};

/// Circuits that open and end, and so many of them at the same time.
const CIRCUITS: usize = 10_000;
const AT_ONCE: usize = 50;
/// Routers tell what they have every 5 s, besides; usage is written every 10 s.
const AFTERWARDS: Duration = Duration::from_secs(11);

/// CPU time of the controller for circuits that open and end: two events each, their file, and usage. What the controller
/// does besides in that time is in it too.
pub(super) async fn measure(controller: &Role, client: &Context) -> Result<Vec<Figure>> {
    let before = controller.cpu()?;
    let mut dialing = JoinSet::new();
    for _ in 0..CIRCUITS {
        if dialing.len() >= AT_ONCE {
            dialing.join_next().await.transpose()?.transpose()?;
        }
        let client = client.clone();
        dialing.spawn(async move { first_byte(&client).await.map(drop) });
    }
    while let Some(dialed) = dialing.join_next().await {
        dialed??;
    }
    sleep(AFTERWARDS).await;
    let each = (controller.cpu()? - before) * 1e6 / CIRCUITS as f64;
    Ok(vec![figure("circuit that opens and ends", "controller's CPU", each, "us", None)])
}
