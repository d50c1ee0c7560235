//! `nightgate tunnel ...`

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use nightgate_config::Metrics;
use nightgate_gateway::{
    admin::{Topic, ask},
    hosting::InstanceSecret,
};
use nightgate_tunnel::{
    Attach, AttachedTo, FlowReport, HostConfig, StatusReport, TunnelConfig, policy::Policy,
};

use crate::{
    config_file, identity_file,
    output::{OutputArgs, Table},
    signals::StopSignals,
};

/// `nightgate tunnel ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TunnelCommand {
    /// Intercept what programs of this host connect to, and carry it over the overlay; host what the identity may host
    Run(RunArgs),
    /// Host what the identity may host, and intercept nothing: needs no privileges
    Host(HostArgs),
    /// Show whose programs are intercepted, and how
    Status(FlowsArgs),
    /// Show what is carried right now, and for which programs
    Flows(FlowsArgs),
}

/// `nightgate tunnel run`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The whole host, with names of services in DNS:
  nightgate tunnel run --identity laptop.json
One service of systemd, and nothing that it does goes out if the tunneler is killed:
  nightgate tunnel run --identity app.json --cgroup /sys/fs/cgroup/system.slice/app.service --fail-closed")]
pub(crate) struct RunArgs {
    /// Identity file of who dials, as `nightgate enroll` wrote it
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Folder of a cgroup v2 whose programs are intercepted; may be repeated [default: the root of the hierarchy,
    /// and so the whole host]
    #[arg(long, value_name = "FOLDER")]
    cgroup: Vec<PathBuf>,
    /// Where to intercept: `cgroup`, which knows programs; `tc`, on the way out of interfaces, which does not; `auto`, which
    /// is `tc` where there are no cgroups v2, or the kernel does not take hooks on them, and says so
    #[arg(long, value_name = "HOW", default_value = "auto")]
    attach: Attach,
    /// Which programs may use which services (docs/tunneler.md); without it, all may use all
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Where a record of every flow that has ended goes: YAML with `file`, `syslog`, `http` and `interim`, as under
    /// `telemetry.flows` of a gateway (docs/flow-records.md)
    #[arg(long, value_name = "FILE")]
    flow_records: Option<PathBuf>,
    /// Leave DNS alone: services are reached by the addresses of their intercept.v1 only
    #[arg(long)]
    no_dns: bool,
    /// If the tunneler is killed, refuse connections to what it intercepted; otherwise they go where they would
    /// without it
    #[arg(long)]
    fail_closed: bool,
    /// BPF file system in which --fail-closed keeps the hooks
    #[arg(long, value_name = "FOLDER", default_value = "/sys/fs/bpf")]
    bpf: PathBuf,
    #[command(flatten)]
    hosting: HostingArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

/// `nightgate tunnel host`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A database that only the overlay reaches, from a host that listens nowhere:
  nightgate service create db --intercept db.corp:5432 --host 10.2.0.2:5432
  nightgate policy create host-db bind --identity @server --service @db
  nightgate tunnel host --identity server.json")]
pub(crate) struct HostArgs {
    /// Identity file of who hosts, as `nightgate enroll` wrote it
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Socket where `nightgate tunnel flows` asks; without it, nowhere
    #[arg(long, value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    #[command(flatten)]
    hosting: HostingArgs,
}

#[derive(Debug, clap::Args)]
struct HostingArgs {
    /// File with what is shown to host under instance names that other hosts have too, 16 to 1024 bytes (docs/hosting.md)
    #[arg(long, value_name = "FILE")]
    instance_secret_file: Option<PathBuf>,
    /// What is copied for intrusion detection, and to which sensors: YAML with `sensors`, `sessions` and `never`, as under
    /// `mirror` of a gateway, and `packets` for capture files (docs/mirror.md); needs privileges
    #[arg(long, value_name = "FILE")]
    mirror: Option<PathBuf>,
    /// Serve metrics for Prometheus at this address and port (docs/metrics.md)
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_listen: Option<SocketAddr>,
    /// Serve metrics for Prometheus at this UNIX socket
    #[arg(long, value_name = "PATH")]
    metrics_socket: Option<PathBuf>,
}

/// `nightgate tunnel flows`
#[derive(Debug, clap::Args)]
pub(crate) struct FlowsArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct AdminArgs {
    /// Socket where the tunneler is asked
    #[arg(long, value_name = "PATH", default_value = "/run/nightgate/tunnel.sock")]
    admin_socket: PathBuf,
}

impl TunnelCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Run(args) => args.run().await,
            Self::Host(args) => args.run().await,
            Self::Status(args) => args.status().await,
            Self::Flows(args) => args.run().await,
        }
    }
}

impl RunArgs {
    async fn run(self) -> anyhow::Result<()> {
        let policy = self.policy.as_deref().map(Policy::load).transpose()?;
        let records = self.flow_records.as_deref().map(config_file::flow_records).transpose()?;
        let mut signals = StopSignals::new()?;
        let config = TunnelConfig {
            identity: identity_file::load(&self.identity)?,
            attach: self.attach,
            cgroups: self.cgroup,
            fail_closed: self.fail_closed.then(|| self.bpf.join("nightgate/tunnel")),
            dns: !self.no_dns,
            policy: policy.unwrap_or_default(),
            records,
            admin_socket: self.admin.admin_socket,
            hosting: self.hosting.config()?,
        };
        nightgate_tunnel::run(config, signals.wait()).await.context("run the tunneler")
    }
}

impl HostArgs {
    async fn run(self) -> anyhow::Result<()> {
        let mut signals = StopSignals::new()?;
        let identity = identity_file::load(&self.identity)?;
        let (hosting, admin) = (self.hosting.config()?, self.admin_socket.as_deref());
        nightgate_tunnel::host(&identity, hosting, admin, signals.wait()).await.context("host")
    }
}

impl HostingArgs {
    fn config(self) -> anyhow::Result<HostConfig> {
        let read = |file: &PathBuf| InstanceSecret::read("--instance-secret-file", file);
        let secret = self.instance_secret_file.as_ref().map(read).transpose()?;
        let (listen, socket) = (self.metrics_listen, self.metrics_socket);
        let is_served = listen.is_some() || socket.is_some();
        let metrics = is_served.then_some(Metrics { listen, socket });
        let mirror = self.mirror.as_deref().map(config_file::tunnel_mirror).transpose()?;
        let (mirror, packets) = mirror.map(|it| (it.mirror, it.packets)).unzip();
        let (secret, packets) = (secret.unwrap_or_default(), packets.flatten());
        Ok(HostConfig { secret, mirror, packets, metrics })
    }
}

impl FlowsArgs {
    async fn status(self) -> anyhow::Result<()> {
        let answer = ask(&self.admin.admin_socket, Topic::Tunnel).await?;
        let status: StatusReport = serde_json::from_value(answer)?;
        self.output.print(&status, |status| {
            let (how, places) = match status.attach {
                AttachedTo::Cgroup => {
                    let cgroups = status.cgroups.iter().map(|path| path.display().to_string());
                    ("cgroup", cgroups.collect::<Vec<_>>())
                }
                AttachedTo::Tc => ("tc (programs are not known)", status.interfaces.clone()),
            };
            Table::new(&["identity", "attach", "where", "prefixes", "flows"]).row([
                status.identity.clone(),
                how.to_owned(),
                places.join(" "),
                status.prefixes.to_string(),
                status.flows.to_string(),
            ])
        })
    }

    async fn run(self) -> anyhow::Result<()> {
        let answer = ask(&self.admin.admin_socket, Topic::Flows).await?;
        let flows: Vec<FlowReport> = serde_json::from_value(answer)?;
        self.output.print(&flows, |flows| {
            let columns = [
                "service",
                "destination",
                "dialer",
                "program",
                "pid",
                "user",
                "age",
                "sent",
                "received",
            ];
            flows.iter().fold(Table::new(&columns), |table, flow| {
                let destination = match &flow.name {
                    Some(name) => format!("{name}:{}", flow.destination.port()),
                    None => flow.destination.to_string(),
                };
                let program = flow.process.as_ref();
                let unknown = || "-".to_owned();
                table.row([
                    flow.service.clone(),
                    destination,
                    flow.dialer.clone().unwrap_or_else(unknown),
                    program.map_or_else(unknown, |it| {
                        it.executable.clone().unwrap_or_else(|| it.command.clone())
                    }),
                    program.map_or_else(unknown, |it| it.pid.to_string()),
                    program.map_or_else(unknown, |it| it.user.to_string()),
                    format!("{} s", flow.age),
                    flow.sent.to_string(),
                    flow.received.to_string(),
                ])
            })
        })
    }
}
