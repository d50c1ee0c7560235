//! The tree of commands.

use clap::{Args, Parser, Subcommand};
use nightgate_telemetry::{LEVEL_VARIABLE, LogFormat};

use crate::{
    change::{self, ApplyArgs, PlanArgs},
    check::{self, CheckArgs},
    config_file::ConfigArgs,
    controller::ControllerCommand,
    enroll::{self, EnrollArgs, EnrollRouterArgs},
    gateway::{self, GatewayArgs},
    management::{
        ExplainArgs, IdentityCommand, ManageRouterCommand, PolicyCommand, ServiceCommand,
        TerminatorCommand,
    },
    observe::{self, FlowArgs, ObserveArgs},
    router,
};

/// Gateway router, firewall and zero-trust overlay in one binary.
///
/// Each role is a command: `controller run`, `router run`, `gateway run`. The rest looks into
/// running roles or changes the controller's model.
#[derive(Debug, Parser)]
#[command(name = "nightgate", version, arg_required_else_help = true, after_long_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
A first overlay, step by step:
  nightgate controller run --dir ctrl --address ctrl.example:1280
  export NIGHTGATE_IDENTITY=ctrl/admin.json
  nightgate router create hub --jwt-out hub.jwt
  nightgate router enroll hub.jwt --out hub.json --advertise hub.example:443
  nightgate router run --config hub.yaml
  nightgate fw check gateway.yaml                  needs no root
  nightgate gateway run --config gateway.yaml      needs root
  nightgate gateway down --config gateway.yaml     the firewall stays until this
  nightgate circuits                               who is connected to what right now

Exit status: 0 success, 1 failure, 2 wrong usage.";

/// What is logged to standard error, and how.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Least important messages to log: error, warn, info, debug, trace, or target=level
    #[arg(
        id = "log_level",
        long = "log-level",
        global = true,
        value_name = "LEVEL",
        env = LEVEL_VARIABLE,
        default_value = "warn,nightgate=info"
    )]
    pub(crate) level: String,
    /// Log JSON objects instead of text
    #[arg(id = "log_json", long = "log-json", global = true)]
    json: bool,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Keep the overlay's identities, services and policies, and tell routers and clients
    #[command(subcommand)]
    Controller(ControllerCommand),
    /// Carry circuits for clients and other routers
    #[command(subcommand)]
    Router(RouterCommand),
    /// Own interfaces: firewall, interception, private DNS, hosting, mirror
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// Redeem the enrollment token of an identity
    Enroll(EnrollArgs),
    /// Manage who can join the overlay
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Manage what can be dialed and hosted
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Manage who may dial and host what
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Show where services are hosted
    #[command(subcommand)]
    Terminator(TerminatorCommand),
    /// Say whether an identity can dial or bind a service, and why or why not
    Explain(ExplainArgs),
    /// Look into the firewall of a gateway, and change its rules
    #[command(subcommand)]
    Fw(FirewallCommand),
    /// Show the circuits of a running router or gateway
    Circuits(ObserveArgs),
    /// Show the links of a running router or gateway
    Links(ObserveArgs),
    /// Show the private host names that a running gateway answers for
    Names(ObserveArgs),
    /// Show what became of the copies that a running gateway makes for sensors
    Mirror(ObserveArgs),
    /// Print the metrics of a running router or gateway in Prometheus' format
    Metrics(ObserveArgs),
}

/// `nightgate router ...`
#[derive(Debug, Subcommand)]
pub(crate) enum RouterCommand {
    /// Run a router; needs no root
    Run(ConfigArgs),
    /// Redeem the enrollment token of a router or gateway
    Enroll(EnrollRouterArgs),
    #[command(flatten)]
    Manage(ManageRouterCommand),
}

/// `nightgate gateway ...`
#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Run a gateway; needs root
    ///
    /// When it stops, for whatever reason, the firewall stays: the rules remain in force and established
    /// connections go on, while intercepted connections are refused. The next start takes over without a
    /// gap. `nightgate gateway down` takes the firewall away.
    Run(GatewayArgs),
    /// Take the firewall of a stopped gateway off its interfaces, which carry everything then; needs root
    Down(GatewayArgs),
}

/// `nightgate fw ...`
#[derive(Debug, Subcommand)]
pub(crate) enum FirewallCommand {
    /// Check a configuration file and print every error or its rules; needs no root, changes nothing
    Check(CheckArgs),
    /// Show what became of packets, and why
    Counters(ObserveArgs),
    /// Show what a file's rules would change in a running gateway; changes nothing
    Plan(PlanArgs),
    /// Put a file's rules in force in a running gateway
    ///
    /// Every packet is judged by the old rules or by the new, and so is every open flow from its next packet
    /// on. Nothing changes if anything is wrong with the file, or if the rules would cut the SSH session that
    /// this is typed in. A restart of the gateway uses the rules that were applied (and confirmed) last, until
    /// the configuration that it runs with is changed.
    Apply(ApplyArgs),
    /// Keep the rules of `apply --confirm`
    Confirm(ObserveArgs),
    /// Go back to the rules before the last `apply`
    Rollback(ObserveArgs),
    /// Show the rules in force and how often each decided
    #[command(alias = "rules")]
    Show(ObserveArgs),
    /// Show what was refused, by reason
    Drops(ObserveArgs),
    /// Show the tracked flows
    Flows(FlowArgs),
}

impl LogArgs {
    /// Text or JSON.
    pub(crate) fn format(&self) -> LogFormat {
        if self.json { LogFormat::Json } else { LogFormat::Text }
    }
}

impl Command {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Controller(command) => command.run().await,
            Self::Router(command) => command.run().await,
            Self::Gateway(GatewayCommand::Run(args)) => gateway::run(&args).await,
            Self::Gateway(GatewayCommand::Down(args)) => gateway::down(&args).await,
            Self::Enroll(args) => enroll::enroll(&args).await,
            Self::Identity(command) => command.run().await,
            Self::Service(command) => command.run().await,
            Self::Policy(command) => command.run().await,
            Self::Terminator(command) => command.run().await,
            Self::Explain(args) => args.run().await,
            Self::Fw(command) => command.run().await,
            Self::Circuits(args) => observe::circuits(&args).await,
            Self::Links(args) => observe::links(&args).await,
            Self::Names(args) => observe::names(&args).await,
            Self::Mirror(args) => observe::mirror(&args).await,
            Self::Metrics(args) => observe::metrics(&args).await,
        }
    }
}

impl RouterCommand {
    async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Run(args) => router::run(&args).await,
            Self::Enroll(args) => enroll::enroll_router(&args).await,
            Self::Manage(command) => command.run().await,
        }
    }
}

impl FirewallCommand {
    async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(args) => check::check(&args),
            Self::Counters(args) => observe::counters(&args).await,
            Self::Plan(args) => change::plan(&args).await,
            Self::Apply(args) => change::apply(&args).await,
            Self::Confirm(args) => change::confirm(&args).await,
            Self::Rollback(args) => change::rollback(&args).await,
            Self::Show(args) => observe::rules(&args).await,
            Self::Drops(args) => observe::drops(&args).await,
            Self::Flows(args) => observe::flows(&args).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_tree_is_well_formed() {
        Cli::command().debug_assert();
    }
}
