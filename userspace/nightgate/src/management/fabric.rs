//! `nightgate fabric ...`: what the controller hears of routers.

use super::{ManagementArgs, paths::PathArgs};
use crate::observe::Columns;

/// `nightgate fabric ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum FabricCommand {
    /// Show routers: who is connected, and what each carries
    Routers(FabricArgs),
    /// Show links between routers and their cost, as each end reports them
    Links(FabricArgs),
    /// Show which path would be chosen between two routers or to a service, what each leg costs, and what else there is
    Paths(PathArgs),
    /// Show circuits as routers last reported them, every 5 s
    ///
    /// Of each router 2,000 circuits at most are shown; `fabric routers` has their number.
    Circuits(FabricArgs),
    /// Show what became of the dials of each service since its routers started, and which leg is ill
    ///
    /// ILL is where most dials failed: at or between routers, from the last router to the host, or from the host to
    /// the server behind it. Refusals by policy make nothing ill.
    Services(FabricArgs),
}

/// Which entries of a list.
#[derive(Debug, clap::Args)]
pub(crate) struct FabricArgs {
    /// OpenZiti's filter language, for example 'from="hub" and cost>10'
    #[arg(default_value = "")]
    filter: String,
    #[command(flatten)]
    management: ManagementArgs,
}

const ROUTERS: Columns = Columns::all(&[
    ("name", "name"),
    ("online", "isOnline"),
    ("address", "address"),
    ("links", "links"),
    ("terminators", "terminators"),
    ("circuits", "circuits"),
    ("id", "id"),
]);
const LINKS: Columns = Columns::all(&[("from", "from"), ("to", "to"), ("cost", "cost")]);
const CIRCUITS: Columns = Columns::all(&[
    ("id", "id"),
    ("service", "service"),
    ("dialer", "dialer"),
    ("host", "host"),
    ("path", "path"),
    ("sent", "sent"),
    ("received", "received"),
]);
const SERVICES: Columns = Columns::all(&[
    ("service", "name"),
    ("opened", "opened"),
    ("mean ms", "meanMilliseconds"),
    ("failed", "failed"),
    ("ill", "ill"),
    ("causes", "causes"),
]);

impl FabricCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (path, args, columns) = match self {
            Self::Routers(args) => ("fabric/routers", args, ROUTERS),
            Self::Links(args) => ("fabric/links", args, LINKS),
            Self::Paths(args) => return args.run().await,
            Self::Circuits(args) => ("fabric/circuits", args, CIRCUITS),
            Self::Services(args) => ("fabric/services", args, SERVICES),
        };
        let listed = args.management.connect().await?.list_at(path, &args.filter).await?;
        args.management.output.print(&serde_json::Value::from(listed), |list| columns.table(list))
    }
}
