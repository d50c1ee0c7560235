//! `nightgate service ...`

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use nightgate_model::{
    api::CreateService,
    configs::{HostV1, InterceptV1, PortRange, Protocol},
    entity::Service,
};
use nightgate_server::Address;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ManagementArgs, joined, yes_or_no};
use crate::output::{Table, print_text};

const KIND: &str = "services";

/// `nightgate service ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ServiceCommand {
    /// Create a service
    Create(CreateArgs),
    /// List all services
    List(ManagementArgs),
    /// Show one service
    Show(NameArgs),
    /// Delete a service; its circuits are cut
    Delete(NameArgs),
}

/// `nightgate service create`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  nightgate service create web --intercept web.corp:80 --host 10.2.0.2:8080"
)]
pub(crate) struct CreateArgs {
    /// Unique name
    name: String,
    /// Attribute that policies select by #attribute; may be repeated
    #[arg(long = "attribute", value_name = "ATTRIBUTE")]
    attributes: Vec<String>,
    /// Where gateways and tunnelers intercept connections (TCP) to it; may be repeated
    #[arg(long = "intercept", value_name = "ADDRESS:PORT")]
    intercepts: Vec<Address>,
    /// Where a hosting gateway or tunneler connects to (TCP); not needed when an SDK hosts it
    #[arg(long, value_name = "ADDRESS:PORT")]
    host: Option<Address>,
    /// Let clients and hosts do without end-to-end encryption
    #[arg(long)]
    no_encryption: bool,
    #[command(flatten)]
    management: ManagementArgs,
}

/// Names one service.
#[derive(Debug, clap::Args)]
pub(crate) struct NameArgs {
    /// Name or id
    name: String,
    #[command(flatten)]
    management: ManagementArgs,
}

/// A service as the controller shows it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    service: Service,
    created_at: String,
}

impl ServiceCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(args) => create(args).await,
            Self::List(args) => list(&args).await,
            Self::Show(args) => show(&args).await,
            Self::Delete(args) => {
                let deleted = args.management.connect().await?.delete(KIND, &args.name).await?;
                print_text(&format!("{} deleted", deleted.name))
            }
        }
    }
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let body = CreateService {
        config: configs(&args.intercepts, args.host.as_ref())?,
        name: args.name,
        role_attributes: args.attributes.into_iter().collect(),
        encryption_required: !args.no_encryption,
    };
    let created = args.management.connect().await?.create(KIND, &body).await?;
    args.management
        .output
        .print(&created, |created| Table::new(&["name", "id"]).row([&body.name, &created.id]))
}

async fn list(args: &ManagementArgs) -> anyhow::Result<()> {
    let services: Vec<Shown> = args.connect().await?.list(KIND).await?;
    args.output.print(&services, |services| table(services))
}

async fn show(args: &NameArgs) -> anyhow::Result<()> {
    let shown: Shown = args.management.connect().await?.find(KIND, &args.name).await?;
    args.management.output.print(&shown, |shown| table(std::slice::from_ref(shown)))
}

/// The configuration documents of a service.
fn configs(
    intercepts: &[Address],
    host: Option<&Address>,
) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut configs = BTreeMap::new();
    if !intercepts.is_empty() {
        configs.insert(InterceptV1::TYPE.into(), serde_json::to_value(intercept(intercepts)?)?);
    }
    if let Some(address) = host {
        let host = HostV1 {
            protocol: Protocol::Tcp,
            address: address.host().to_str().into_owned(),
            port: address.port(),
        };
        configs.insert(HostV1::TYPE.into(), serde_json::to_value(host)?);
    }
    Ok(configs)
}

/// `intercept.v1` means every address with every port, so only that can be asked for.
fn intercept(pairs: &[Address]) -> anyhow::Result<InterceptV1> {
    let wanted: BTreeSet<_> =
        pairs.iter().map(|pair| (pair.host().to_str().into_owned(), pair.port())).collect();
    let addresses: BTreeSet<_> = wanted.iter().map(|(host, _)| host.clone()).collect();
    let ports: BTreeSet<_> = wanted.iter().map(|(_, port)| *port).collect();
    ensure!(
        addresses.len() * ports.len() == wanted.len(),
        "a service intercepts every one of its ports at every one of its addresses; \
         name each pair, or create one service for each"
    );
    Ok(InterceptV1 {
        protocols: vec![Protocol::Tcp],
        addresses: addresses.into_iter().collect(),
        port_ranges: ports.into_iter().map(|port| PortRange { low: port, high: port }).collect(),
    })
}

fn table(services: &[Shown]) -> Table {
    let columns = ["name", "attributes", "intercept", "host", "encrypted", "created", "id"];
    services.iter().fold(Table::new(&columns), |table, shown| {
        let service = &shown.service;
        table.row([
            service.name.clone(),
            joined(&service.role_attributes),
            intercept_text(service),
            host_text(service),
            yes_or_no(service.encryption_required).into(),
            shown.created_at.clone(),
            service.id.to_string(),
        ])
    })
}

fn intercept_text(service: &Service) -> String {
    let Ok(Some(intercept)) = service.intercept() else { return "-".into() };
    let ports: Vec<_> = intercept
        .port_ranges
        .iter()
        .map(|range| {
            if range.low == range.high {
                range.low.to_string()
            } else {
                format!("{}-{}", range.low, range.high)
            }
        })
        .collect();
    format!("{}:{}", intercept.addresses.join(","), ports.join(","))
}

fn host_text(service: &Service) -> String {
    match service.host() {
        Ok(Some(host)) => format!("{}:{}", host.address, host.port),
        Ok(None) | Err(_) => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn flags_become_openzitis_configs() {
        let host = "[fd00::2]:8080".parse().unwrap();
        let configs = configs(&addresses(&["web.corp:80", "10.2.0.2:80"]), Some(&host)).unwrap();
        let intercept: InterceptV1 =
            serde_json::from_value(configs["intercept.v1"].clone()).unwrap();
        assert_eq!(intercept.addresses, ["10.2.0.2", "web.corp"]);
        assert_eq!(intercept.port_ranges, [PortRange { low: 80, high: 80 }]);
        assert_eq!(configs["host.v1"]["address"], "fd00::2");
    }

    #[test]
    fn more_than_was_asked_for_is_never_intercepted() {
        assert!(intercept(&addresses(&["a.corp:80", "b.corp:443"])).is_err());
        let all = ["a.corp:80", "b.corp:443", "a.corp:443", "b.corp:80"];
        assert_eq!(intercept(&addresses(&all)).unwrap().port_ranges.len(), 2);
    }
}
