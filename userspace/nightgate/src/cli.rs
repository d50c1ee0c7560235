//! The tree of commands.

use clap::{Args, Parser, Subcommand};
use nightgate_model::entity::{
    AuthPolicy, Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Service, ServiceEdgeRouterPolicy,
    ServicePolicy,
};
use nightgate_telemetry::{LEVEL_VARIABLE, LogFormat};

use crate::{
    change::{self, ApplyArgs, PlanArgs},
    check::{self, CheckArgs},
    config_file::ConfigArgs,
    controller::ControllerCommand,
    cut_off::{self, CutOffCommand},
    enroll::{self, EnrollArgs, EnrollRouterArgs},
    explain::{self, PacketArgs},
    flows::{self, FlowArgs},
    gateway::{self, DownArgs, GatewayArgs, RestoreArgs},
    learn::{self, LearnArgs},
    lint::{self, LintArgs},
    management::{
        ApplyNetworkArgs, AuditArgs, AuthenticatorCommand, CaCommand, EnrollmentCommand,
        EntityCommand, EventArgs, ExplainArgs, ExportArgs, FabricCommand, IdentityCommand,
        LoginArgs, LogoutArgs, QuarantineCommand, SessionCommand, TerminatorCommand, UsageArgs,
    },
    mfa::MfaCommand,
    observe::{self, ObserveArgs},
    proxy::ProxyArgs,
    quickstart::QuickstartArgs,
    router,
    trace::{self, TraceArgs},
    trace_route::TraceRouteArgs,
    tunnel::TunnelCommand,
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
A whole overlay on this machine, in one command:
  nightgate quickstart

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
    /// Least important messages to log: error, warn, info, debug, trace, or target=level [default:
    /// warn,nightgate=info]
    #[arg(
        id = "log_level",
        long = "log-level",
        global = true,
        value_name = "LEVEL",
        env = LEVEL_VARIABLE
    )]
    level: Option<String>,
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
    /// Carry what programs of this host connect to: no TUN device, no port that others reach
    #[command(subcommand)]
    Tunnel(TunnelCommand),
    /// Try the overlay: controller, router, two identities and a hidden web page, in one directory
    ///
    /// Runs all of it in this process, on 127.0.0.1, fetches the page through the overlay, and says what to try
    /// next. Ctrl-C ends it; the next start goes on with what is in the directory. To begin anew, remove it.
    Quickstart(QuickstartArgs),
    /// Bring a service of the overlay to a local TCP port
    Proxy(ProxyArgs),
    /// Show the routers on the way to a service, and how far each is
    TraceRoute(TraceRouteArgs),
    /// Redeem the enrollment token of an identity
    Enroll(EnrollArgs),
    /// Give an identity a second factor, and show its codes
    #[command(subcommand)]
    Mfa(MfaCommand),
    /// Log in to a controller with a password; management commands use the session
    Login(LoginArgs),
    /// End the session of `login`
    Logout(LogoutArgs),
    /// Manage who can join the overlay
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Manage by what identities may authenticate
    #[command(subcommand)]
    AuthPolicy(EntityCommand<AuthPolicy>),
    /// Manage certificate authorities of others, whose certificates can stand for identities
    #[command(subcommand)]
    Ca(CaCommand),
    /// Manage the certificates and passwords of identities
    #[command(subcommand)]
    Authenticator(AuthenticatorCommand),
    /// Manage enrollments that nobody has redeemed yet
    #[command(subcommand)]
    Enrollment(EnrollmentCommand),
    /// Manage who is authenticated
    #[command(subcommand)]
    Session(SessionCommand),
    /// Manage what can be dialed and hosted
    #[command(subcommand)]
    Service(EntityCommand<Service>),
    /// Manage documents that services share: where they are intercepted, where they are hosted
    #[command(subcommand)]
    Config(EntityCommand<Config>),
    /// Manage what documents have to look like
    #[command(subcommand)]
    ConfigType(EntityCommand<ConfigType>),
    /// Manage who may dial and host what
    #[command(subcommand)]
    Policy(EntityCommand<ServicePolicy>),
    /// Manage who may use which routers
    ///
    /// A new controller has one policy, all-identities-all-routers. Gateways may always use themselves.
    #[command(subcommand)]
    EdgeRouterPolicy(EntityCommand<EdgeRouterPolicy>),
    /// Manage which routers may carry which services
    ///
    /// A new controller has one policy, all-services-all-routers.
    #[command(subcommand)]
    ServiceEdgeRouterPolicy(EntityCommand<ServiceEdgeRouterPolicy>),
    /// Show where services are hosted
    #[command(subcommand)]
    Terminator(TerminatorCommand),
    /// Show and change which identities are cut off for a while, by an alert or by hand
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Show routers, links, circuits and what becomes of dials, as the controller hears of them
    #[command(subcommand)]
    Fabric(FabricCommand),
    /// Say whether an identity can dial or bind a service, and why or why not
    Explain(ExplainArgs),
    /// Show who changed what in the controller's model, the latest first
    Audit(AuditArgs),
    /// Show what happens in the overlay: changes of the model, sessions, routers, links, circuits
    Events(EventArgs),
    /// Show what identities have used: circuits and bytes, by service and host
    Usage(UsageArgs),
    /// Make the controller's identities, routers, services and policies what a file says
    Apply(ApplyNetworkArgs),
    /// Print the controller's identities, routers, services and policies as a file for `apply`
    Export(ExportArgs),
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
    Mirror(observe::MirrorArgs),
    /// Show the alerts of sensors that this gateway has judged, and what was done about them, the latest first
    Verdicts(ObserveArgs),
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
    Manage(EntityCommand<EdgeRouter>),
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
    /// Bring the firewall into force and end; for the boot, before the network
    ///
    /// Needs root, and neither controller nor identity nor network. Uses the rules that the gateway would start with;
    /// if the configuration is damaged, the one that it has started with last. Interfaces that are not there yet are
    /// protected by `gateway run` when they come. deploy/systemd has units that do both in order.
    Restore(RestoreArgs),
    /// Take the firewall of a stopped gateway off its interfaces, which carry everything then; needs root
    Down(DownArgs),
}

/// `nightgate fw ...`
#[derive(Debug, Subcommand)]
pub(crate) enum FirewallCommand {
    /// Check a configuration file and print every error or its rules; needs no root, changes nothing
    Check(CheckArgs),
    /// Show what is odd about a file's rules; needs no root, changes nothing
    ///
    /// Rules that decide no packet or contradict each other, zones that no rule names, and rules that let
    /// strangers reach everything. What is said is proved for every packet; what cannot be proved in a moment is not
    /// said. `fw check` and `fw plan` say the same.
    Lint(LintArgs),
    /// Say what becomes of a packet, which rule decides, and why the others do not
    #[command(after_long_help = explain::GRAMMAR)]
    Explain(PacketArgs),
    /// Accept and record for a while what no rule matches, then propose rules for it
    ///
    /// While the gateway learns, everything that no rule matches is accepted between the zones asked for. It ends when
    /// the time is over, with `--stop`, when the gateway stops, and by a timer in the kernel if the gateway is
    /// killed. `--propose` prints rules that accept exactly what was recorded, by zones, protocol, service port and the
    /// addresses of both ends, as a configuration that `fw check` accepts. Without an option: how far it is.
    Learn(LearnArgs),
    /// Show what became of packets, and why
    Counters(ObserveArgs),
    /// Show what a file would change in a running gateway: zones, rules, private DNS, mirror, flow records; changes nothing
    Plan(PlanArgs),
    /// Put a file in force in a running gateway: zones, rules, private DNS and mirror
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
    /// Show the rules in force: how often each decided, and when last
    #[command(alias = "rules")]
    Show(ObserveArgs),
    /// Show what was refused, by reason and interface
    ///
    /// An interface's counts begin anew when it is detached; `fw counters` has the sums since the programs
    /// were loaded, and what passed.
    Drops(ObserveArgs),
    /// Show the tracked flows, or kill some
    Flows(FlowArgs),
    /// Show and change which addresses are cut off for a while, by an alert or by hand
    #[command(subcommand)]
    Quarantine(CutOffCommand),
    /// Show packets as they come: what becomes of them, and why
    ///
    /// The kernel programs choose the packets and never tell more than 1,000 in a second on each CPU, so that a trace
    /// cannot slow traffic down; the last line says how many were left out. It ends by its time, even if the
    /// gateway dies.
    #[command(after_help = "Examples:\n  \
        nightgate fw trace --filter 'verdict=drop interface=wan0'\n  \
        nightgate fw trace --filter 'protocol=tcp host=10.1.0.7 port=443' --duration 1m\n  \
        nightgate fw trace --sample 1/100 --count 50 --json")]
    Trace(TraceArgs),
}

impl Cli {
    /// What is logged unless somebody asks for more: a quickstart talks to a person already.
    pub(crate) fn log_level(&self) -> &str {
        let is_quiet = matches!(self.command, Command::Quickstart(_));
        let default = if is_quiet { "error" } else { "warn,nightgate=info" };
        self.log.level.as_deref().unwrap_or(default)
    }
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
            Self::Gateway(GatewayCommand::Restore(args)) => gateway::restore(&args),
            Self::Gateway(GatewayCommand::Down(args)) => gateway::down(&args).await,
            Self::Tunnel(command) => command.run().await,
            Self::Quickstart(args) => args.run().await,
            Self::Proxy(args) => args.run().await,
            Self::TraceRoute(args) => args.run().await,
            Self::Enroll(args) => enroll::enroll(&args).await,
            Self::Mfa(command) => command.run().await,
            Self::Login(args) => args.run().await,
            Self::Logout(args) => args.run().await,
            Self::Identity(command) => command.run().await,
            Self::AuthPolicy(command) => command.run().await,
            Self::Ca(command) => command.run().await,
            Self::Authenticator(command) => command.run().await,
            Self::Enrollment(command) => command.run().await,
            Self::Session(command) => command.run().await,
            Self::Service(command) => command.run().await,
            Self::Config(command) => command.run().await,
            Self::ConfigType(command) => command.run().await,
            Self::Policy(command) => command.run().await,
            Self::EdgeRouterPolicy(command) => command.run().await,
            Self::ServiceEdgeRouterPolicy(command) => command.run().await,
            Self::Terminator(command) => command.run().await,
            Self::Quarantine(command) => command.run().await,
            Self::Fabric(command) => command.run().await,
            Self::Explain(args) => args.run().await,
            Self::Audit(args) => args.run().await,
            Self::Events(args) => args.run().await,
            Self::Usage(args) => args.run().await,
            Self::Apply(args) => args.run().await,
            Self::Export(args) => args.run().await,
            Self::Fw(command) => command.run().await,
            Self::Circuits(args) => observe::circuits(&args).await,
            Self::Links(args) => observe::links(&args).await,
            Self::Names(args) => observe::names(&args).await,
            Self::Mirror(args) => observe::mirror(&args).await,
            Self::Verdicts(args) => observe::verdicts(&args).await,
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
            Self::Lint(args) => lint::lint(&args),
            Self::Explain(args) => explain::explain(&args).await,
            Self::Learn(args) => learn::learn(&args).await,
            Self::Counters(args) => observe::counters(&args).await,
            Self::Plan(args) => change::plan(&args).await,
            Self::Apply(args) => change::apply(&args).await,
            Self::Confirm(args) => change::confirm(&args).await,
            Self::Rollback(args) => change::rollback(&args).await,
            Self::Show(args) => observe::rules(&args).await,
            Self::Drops(args) => observe::drops(&args).await,
            Self::Flows(args) => flows::flows(&args).await,
            Self::Quarantine(command) => cut_off::run(command).await,
            Self::Trace(args) => trace::trace(&args).await,
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
