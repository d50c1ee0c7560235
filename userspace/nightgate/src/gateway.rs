//! `nightgate gateway run`: a router that owns interfaces. It needs root.

use anyhow::Context as _;
use nightgate_gateway::gateway::{self, GatewayConfig};

use crate::{config_file::ConfigArgs, signals::StopSignals};

/// Runs a gateway until a signal asks it to stop.
pub(crate) async fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let config = args.load()?;
    let router = args.router(&config)?;
    let gateway = config.gateway.context(
        "the configuration has no zones: add zones and rules, or run it with `nightgate router run`",
    )?;
    let mut stop = StopSignals::new()?;
    let config = GatewayConfig { router, admin_socket: config.admin_socket, gateway };
    gateway::run(config, stop.wait()).await?;
    Ok(())
}
