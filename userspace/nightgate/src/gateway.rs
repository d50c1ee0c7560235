//! `nightgate gateway ...`: a router that owns interfaces. It needs root.

use std::path::PathBuf;

use anyhow::Context as _;
use nightgate_config::Config;
use nightgate_datapath::Pins;
use nightgate_gateway::{
    gateway::{self, GatewayConfig, WasUp},
    state::StateFolder,
};

use crate::{config_file::ConfigArgs, output::print_text, signals::StopSignals};

/// Which gateway is meant, and where its part in the kernel is kept.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// BPF file system that keeps the firewall while no process runs; mounted if it is not
    #[arg(long, value_name = "DIR", env = "NIGHTGATE_BPFFS", default_value = "/sys/fs/bpf")]
    bpffs: PathBuf,
    /// Folder for the rules that `fw apply` put in force, for the next start
    #[arg(long, value_name = "DIR", env = "NIGHTGATE_STATE", default_value = "/var/lib/nightgate")]
    state: PathBuf,
}

impl GatewayArgs {
    fn pins(&self, config: &Config) -> anyhow::Result<Pins> {
        Ok(Pins::of_gateway(&self.bpffs, &config.admin_socket)?)
    }
}

/// Runs a gateway until a signal asks it to stop.
pub(crate) async fn run(args: &GatewayArgs) -> anyhow::Result<()> {
    let (config, file) = args.config.load_with_text()?;
    let router = args.config.router(&config)?;
    let pins = args.pins(&config)?;
    let gateway = config.gateway.context(
        "the configuration has no zones: add zones and rules, or run it with `nightgate router run`",
    )?;
    let mut stop = StopSignals::new()?;
    let state = StateFolder::of_gateway(&args.state, &config.admin_socket);
    let admin_socket = config.admin_socket;
    let config = GatewayConfig { router, admin_socket, gateway, pins, file, state };
    gateway::run(config, stop.wait()).await?;
    Ok(())
}

/// Takes the firewall of a stopped gateway off its interfaces.
pub(crate) async fn down(args: &GatewayArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let pins = args.pins(&config)?;
    print_text(match gateway::down(&config, &pins).await? {
        WasUp::Yes => "the firewall is off: its interfaces carry everything\n",
        WasUp::No => "there was no firewall of this configuration in this network namespace\n",
    })
}
