//! `nightgate fw flows`: the tracked flows, and removing some.

use nightgate_gateway::admin::{self, FlowOrder, FlowRequest, KillRequest, Request};

use crate::observe::{FLOWS, ObserveArgs};

/// `nightgate fw flows`
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct FlowArgs {
    #[command(subcommand)]
    command: Option<FlowCommand>,
    /// Only flows for which all of these hold; may be repeated
    ///
    /// Conditions, separated by blanks, are KEY=VALUE or KEY!=VALUE with protocol, host, source, destination (an address
    /// or prefix), port, source-port, destination-port, zone, from, to, rule, state (opening, established, ...),
    /// service; age, idle (30s, 5m, 1h) and bytes (10k, 5M) also with < and >; or a text that an address, zone, rule,
    /// service or protocol has in it.
    #[arg(long, value_name = "CONDITIONS")]
    filter: Vec<String>,
    /// Which come first: the least idle, the oldest, or those with the most bytes
    #[arg(long, value_name = "ORDER", default_value = "idle")]
    sort: Order,
    /// Show so many at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    observe: ObserveArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum FlowCommand {
    /// Remove flows: what comes of them next is judged by the rules like a first packet
    ///
    /// Nothing is sent to the ends. A connection that the rules still accept goes on as a new flow, unless
    /// `tcp: { pickup: refuse }` is configured; change the rules first to cut it.
    Kill(KillArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct KillArgs {
    /// Flows for which all of these hold, as in `fw flows`; may be repeated
    #[arg(long, value_name = "CONDITIONS", required_unless_present = "all")]
    filter: Vec<String>,
    /// Every flow
    #[arg(long, conflicts_with = "filter")]
    all: bool,
    /// Only tell how many they are
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    observe: ObserveArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Order {
    Idle,
    Age,
    Bytes,
}

/// Prints the tracked flows, or removes some.
pub(crate) async fn flows(args: &FlowArgs) -> anyhow::Result<()> {
    if let Some(FlowCommand::Kill(args)) = &args.command {
        return kill(args).await;
    }
    let request = Request::Flows(FlowRequest {
        filter: args.filter.clone(),
        sort: match args.sort {
            Order::Idle => FlowOrder::Idle,
            Order::Age => FlowOrder::Age,
            Order::Bytes => FlowOrder::Bytes,
        },
        limit: args.limit,
    });
    let answer = admin::ask(&args.observe.socket, request).await?;
    args.observe.output.print(&answer, |answer| FLOWS.table(answer))
}

async fn kill(args: &KillArgs) -> anyhow::Result<()> {
    let request =
        Request::KillFlows(KillRequest { filter: args.filter.clone(), dry_run: args.dry_run });
    let answer = admin::ask(&args.observe.socket, request).await?;
    args.observe.output.print(&answer, |answer| {
        let verb = if args.dry_run { "would be" } else { "were" };
        format!("{} flows {verb} killed", answer["flows"])
    })
}
