//! `nightgate fw quarantine`: who is cut off or limited for a while.

use std::{net::IpAddr, time::Duration};

use nightgate_gateway::admin::{self, AddressQuarantine, Request, Topic};

use crate::{
    observe::{ObserveArgs, QUARANTINE},
    output::print_text,
};

/// `nightgate fw quarantine`
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum CutOffCommand {
    /// List the addresses that are cut off, the addresses and identities that are limited, and for how much longer
    List(ObserveArgs),
    /// Cut an address off: what it has open ends, and nothing passes from or to it; or let packets pass at a rate
    ///
    /// Rules do not matter, and neither does `verdict.never` of the configuration: mind your own address.
    Add(AddArgs),
    /// Release an address, or an identity that is limited, before its time
    Release(ReleaseArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// IPv4 or IPv6 address of a client or server
    address: IpAddr,
    /// For how long: a number and s, m, h or d
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = duration)]
    time: Duration,
    /// So many packets from and to it still pass: a number and /s, /min or /h
    #[arg(long)]
    rate: Option<String>,
    #[command(flatten)]
    observe: ObserveArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReleaseArgs {
    /// The address, or the name of the identity
    who: String,
    #[command(flatten)]
    observe: ObserveArgs,
}

/// Does what was asked for.
pub(crate) async fn run(command: CutOffCommand) -> anyhow::Result<()> {
    match command {
        CutOffCommand::List(args) => {
            let answer = admin::ask(&args.socket, Topic::Quarantine).await?;
            args.output.print(&answer, |answer| QUARANTINE.table(answer))
        }
        CutOffCommand::Add(AddArgs { address, time, rate, observe }) => {
            let done = match &rate {
                Some(rate) => format!("{address} is limited to {rate}"),
                None => format!("{address} is cut off"),
            };
            let request = AddressQuarantine { address, seconds: time.as_secs(), rate };
            admin::ask(&observe.socket, Request::Quarantine(request)).await?;
            print_text(&done)
        }
        CutOffCommand::Release(ReleaseArgs { who, observe }) => {
            let was = admin::ask(&observe.socket, Request::Release(who.clone())).await?;
            anyhow::ensure!(was == true, "{who} is neither cut off nor limited");
            print_text(&format!("{who} is released"))
        }
    }
}

/// A time that is not 0.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    nightgate_config::duration(text)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| format!("{text:?}: expected a number and s, m, h or d, such as 10m"))
}
