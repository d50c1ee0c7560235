//! `nightgate gateway ...`: a router that owns interfaces. It needs root.

use std::path::PathBuf;

use anyhow::Context as _;
use nightgate_config::Config;
use nightgate_datapath::Pins;
use nightgate_gateway::{
    admin::RuleFile,
    gateway::{self, GatewayConfig, RestoreConfig, WasUp},
    state::StateFolder,
};

use crate::{
    config_file::{self, ConfigArgs},
    output::OutputArgs,
    signals::StopSignals,
};

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

/// `nightgate gateway down`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Say what would be taken away; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// `nightgate gateway restore`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    output: OutputArgs,
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
    let mut stop = StopSignals::new()?;
    let state = StateFolder::of_gateway(&args.state, &config.admin_socket);
    let config = GatewayConfig { router, config, pins, file, state };
    gateway::run(config, stop.wait()).await?;
    Ok(())
}

/// Brings the firewall into force and ends.
pub(crate) fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let (config, file) = match args.gateway.config.load_with_text() {
        Ok(loaded) => loaded,
        Err(error) => args.last_good().with_context(|| format!("{error:#}"))?,
    };
    let pins = args.gateway.pins(&config)?;
    let state = StateFolder::of_gateway(&args.gateway.state, &config.admin_socket);
    let restored = gateway::restore(RestoreConfig { config, file, pins, state })?;
    args.output.print(&restored, |restored| {
        let awaited = match &restored.awaited[..] {
            [] => String::new(),
            names => {
                format!("; not there yet, protected once the gateway runs: {}", names.join(", "))
            }
        };
        let interfaces = restored.interfaces.join(", ");
        format!(
            "{} rules of {} are in force on {interfaces}{awaited}",
            restored.rules, restored.file
        )
    })
}

impl RestoreArgs {
    /// The configuration that the gateway has started with last: a firewall with yesterday's rules is better
    /// than none.
    fn last_good(&self) -> anyhow::Result<(Config, RuleFile)> {
        let file = StateFolder::last_good(&self.gateway.state, &self.gateway.config.name())
            .context("and no gateway has started with a good one yet")?;
        let config = config_file::listed(file.parse())?;
        tracing::warn!(file = file.name, "the configuration is damaged, using the last good one");
        Ok((config, file))
    }
}

/// Takes the firewall of a stopped gateway off its interfaces.
pub(crate) async fn down(args: &DownArgs) -> anyhow::Result<()> {
    let config = args.gateway.config.load()?;
    let pins = args.gateway.pins(&config)?;
    if args.dry_run {
        return args.output.print(&gateway::what_is_up(&config, &pins)?, |list| match &list[..] {
            [] => "there is nothing to take away".to_owned(),
            list => format!(
                "these, and the policy routing of intercepts, would go:\n{}",
                list.join("\n")
            ),
        });
    }
    let state = StateFolder::of_gateway(&args.gateway.state, &config.admin_socket);
    let was_up = gateway::down(&config, &pins, &state).await? == WasUp::Yes;
    args.output.print(&serde_json::json!({ "was_up": was_up }), |_| {
        if was_up {
            "the firewall is off: its interfaces carry everything"
        } else {
            "there was no firewall of this configuration in this network namespace"
        }
    })
}
