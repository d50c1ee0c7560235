//! `nightgate quarantine ...`

use std::time::Duration;

use nightgate_model::{kind::EntityKind, quarantine::Evidence};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{ManagementArgs, entity::NameArgs};
use crate::{
    cut_off::duration,
    output::{Table, print_text},
};

/// Identities that are cut off for a while, by an alert or by hand
#[derive(Debug, clap::Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List the identities in quarantine, and why they are
    List(ManagementArgs),
    /// Put an identity in quarantine: its sessions and circuits end at once
    Add(AddArgs),
    /// Release an identity before its time
    Release(NameArgs),
}

/// Who, for how long and why.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Name of the identity
    name: String,
    /// For how long: a number and s, m, h or d
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = duration)]
    time: Duration,
    /// Why, for those who read the list
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    management: ManagementArgs,
}

/// A quarantine as the controller shows it.
#[derive(Debug, Deserialize, Serialize)]
struct Shown {
    id: String,
    identity: Named,
    since: String,
    until: String,
    by: String,
    #[serde(default, rename = "secondFactor")]
    second_factor: bool,
    reason: String,
    evidence: Option<Evidence>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Named {
    id: String,
    name: String,
}

impl QuarantineCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(args) => list(&args).await,
            Self::Add(args) => add(&args).await,
            Self::Release(args) => release(&args).await,
        }
    }
}

async fn list(args: &ManagementArgs) -> anyhow::Result<()> {
    let found = args.connect().await?.list_at("quarantines", "").await?;
    let found: Vec<Shown> = serde_json::from_value(found.into())?;
    args.output.print(&found, |found| {
        let columns = ["identity", "since", "until", "by", "reason", "service", "client", "server"];
        found.iter().fold(Table::new(&columns), |table, shown| {
            let evidence = shown.evidence.clone().unwrap_or_default();
            let known = |text: &str| if text.is_empty() { "-".into() } else { text.to_owned() };
            table.row([
                shown.identity.name.clone(),
                shown.since.clone(),
                if shown.second_factor {
                    "it shows its second factor".into()
                } else {
                    shown.until.clone()
                },
                shown.by.clone(),
                known(&shown.reason),
                known(&evidence.service),
                known(&evidence.client),
                known(&evidence.server),
            ])
        })
    })
}

async fn add(args: &AddArgs) -> anyhow::Result<()> {
    let client = args.management.connect().await?;
    let identity: Named = client.find(EntityKind::Identity, &args.name).await?;
    let body = json!({
        "identityId": identity.id,
        "seconds": args.time.as_secs(),
        "reason": args.reason,
    });
    client.create_at("quarantines", &body).await?;
    print_text(&format!("{} is in quarantine", args.name))
}

async fn release(args: &NameArgs) -> anyhow::Result<()> {
    let client = args.management.connect().await?;
    let identity: Named = client.find(EntityKind::Identity, &args.name).await?;
    client.delete_at(&format!("quarantines/{}", identity.id)).await?;
    print_text(&format!("{} is released", args.name))
}
