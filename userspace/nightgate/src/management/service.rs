//! `nightgate service ...`

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use nightgate_model::{
    configs::{DialOptions, HostV1, InterceptV1, PortRange, Protocol},
    entity::{Service, TerminatorStrategy},
    id::ConfigId,
    kind::EntityKind,
    spec::ServiceSpec,
};
use nightgate_server::Address;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    attribute::AttributeList,
    entity::{Managed, Names, Shown, given},
    joined, yes_or_no,
};

/// `nightgate service create`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  nightgate service create web --intercept web.corp:80 --host 10.2.0.2:8080"
)]
pub(crate) struct CreateService {
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
    /// Config that it shares with other services, by name or id; may be repeated
    #[arg(long = "config", value_name = "NAME")]
    configs: Vec<String>,
    /// Let clients and hosts do without end-to-end encryption
    #[arg(long)]
    no_encryption: bool,
    /// Which of its terminators a dial reaches: smartrouting (that of the least cost), weighted, random, or sticky (the
    /// same again for each identity)
    #[arg(long, default_value = "smartrouting")]
    strategy: TerminatorStrategy,
}

/// `nightgate service update`
#[derive(Debug, Serialize, clap::Args)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateService {
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// All its attributes from now on, separated by commas; '' for none
    #[arg(long, value_name = "A,B")]
    #[serde(rename = "roleAttributes")]
    attributes: Option<AttributeList>,
    /// Where it is intercepted from now on (TCP); may be repeated. With --host, all its configuration
    #[arg(long = "intercept", value_name = "ADDRESS:PORT")]
    #[serde(skip)]
    intercepts: Vec<Address>,
    /// Where a hosting gateway or tunneler connects to from now on (TCP). With --intercept, all its
    /// configuration
    #[arg(long, value_name = "ADDRESS:PORT")]
    #[serde(skip)]
    host: Option<Address>,
    /// All configs that it shares with other services from now on, by name or id; may be repeated
    #[arg(long = "config", value_name = "NAME")]
    configs: Option<Vec<String>>,
    /// Whether both ends must encrypt end to end
    #[arg(long = "encryption", value_name = "BOOL")]
    encryption_required: Option<bool>,
    /// Which of its terminators a dial reaches from now on: smartrouting, weighted, random or sticky
    #[arg(long = "strategy", value_name = "STRATEGY")]
    terminator_strategy: Option<TerminatorStrategy>,
}

impl Managed for Service {
    type Create = CreateService;
    type Update = UpdateService;
    const COLUMNS: &'static [&'static str] =
        &["attributes", "intercept", "host", "configs", "encrypted"];
    const NAMES: &'static [EntityKind] = &[EntityKind::Config];

    fn wanted(args: CreateService) -> anyhow::Result<ServiceSpec> {
        Ok(ServiceSpec {
            config: configs(&args.intercepts, args.host.as_ref())?,
            name: args.name,
            role_attributes: args.attributes.into_iter().collect(),
            encryption_required: !args.no_encryption,
            terminator_strategy: args.strategy,
            terminators: BTreeSet::new(),
            configs: args.configs.into_iter().map(ConfigId::new).collect(),
        })
    }

    fn changes(args: UpdateService) -> anyhow::Result<Map<String, Value>> {
        let mut changes = given(&args)?;
        let configs = configs(&args.intercepts, args.host.as_ref())?;
        if !configs.is_empty() {
            changes.insert("config".into(), serde_json::to_value(configs)?);
        }
        Ok(changes)
    }

    fn cells(shown: &Shown<Self>, names: &Names) -> Vec<String> {
        let service = &shown.entity;
        vec![
            joined(&service.role_attributes),
            intercept_text(service),
            host_text(service),
            joined(service.configs.iter().map(|id| names.name(EntityKind::Config, id.as_str()))),
            yes_or_no(service.encryption_required).into(),
        ]
    }
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
        let server = address.host().to_str();
        let document = HostV1::document(Protocol::Tcp, &server, address.port());
        configs.insert(HostV1::TYPE.into(), document);
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
        dial_options: DialOptions::default(),
        source_ip: None,
        allowed_source_addresses: Vec::new(),
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
    joined(service.hosts().unwrap_or_default())
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
