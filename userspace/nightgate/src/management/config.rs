//! `nightgate config ...` and `nightgate config-type ...`

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use nightgate_model::{
    entity::{Config, ConfigType},
    id::ConfigTypeId,
    kind::EntityKind,
    spec::{ConfigSpec, ConfigTypeSpec},
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::entity::{Managed, Names, Shown, given};

/// `nightgate config create`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, data.yaml:
  { protocol: tcp, address: 10.2.0.2, port: 8080 }

  nightgate config create web-host host.v1 --data data.yaml
  nightgate service create web --config web-host")]
pub(crate) struct CreateConfig {
    /// Unique name
    name: String,
    /// Name or id of its type: intercept.v1, host.v1, host.v2, end-to-end.v1, mirror.v1, or one of `nightgate config-type list`
    #[arg(value_name = "TYPE")]
    kind: String,
    /// File with the document, YAML or JSON
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
}

/// `nightgate config update`
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct UpdateConfig {
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// File with the new document, YAML or JSON
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    data: Option<PathBuf>,
}

/// `nightgate config-type create`
#[derive(Debug, clap::Args)]
pub(crate) struct CreateConfigType {
    /// Unique name
    name: String,
    /// File with a JSON schema, YAML or JSON; without it any document goes
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
}

/// `nightgate config-type update`
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct UpdateConfigType {
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// File with the new JSON schema, YAML or JSON
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    schema: Option<PathBuf>,
}

impl Managed for Config {
    type Create = CreateConfig;
    type Update = UpdateConfig;
    const COLUMNS: &'static [&'static str] = &["type", "data"];
    const NAMES: &'static [EntityKind] = &[EntityKind::ConfigType];

    fn wanted(args: CreateConfig) -> anyhow::Result<ConfigSpec> {
        let config_type_id = ConfigTypeId::new(args.kind);
        Ok(ConfigSpec { name: args.name, config_type_id, data: read(&args.data)? })
    }

    fn changes(args: UpdateConfig) -> anyhow::Result<Map<String, Value>> {
        let mut changes = given(&args)?;
        if let Some(file) = &args.data {
            changes.insert("data".into(), read(file)?);
        }
        Ok(changes)
    }

    fn cells(shown: &Shown<Self>, names: &Names) -> Vec<String> {
        let kind = names.name(EntityKind::ConfigType, shown.entity.config_type_id.as_str());
        vec![kind.to_owned(), shown.entity.data.to_string()]
    }
}

impl Managed for ConfigType {
    type Create = CreateConfigType;
    type Update = UpdateConfigType;
    const COLUMNS: &'static [&'static str] = &["requires"];

    fn wanted(args: CreateConfigType) -> anyhow::Result<ConfigTypeSpec> {
        let schema = args.schema.as_ref().map(read).transpose()?;
        Ok(ConfigTypeSpec { name: args.name, schema: schema.unwrap_or_else(|| Map::new().into()) })
    }

    fn changes(args: UpdateConfigType) -> anyhow::Result<Map<String, Value>> {
        let mut changes = given(&args)?;
        if let Some(file) = &args.schema {
            changes.insert("schema".into(), read(file)?);
        }
        Ok(changes)
    }

    fn cells(shown: &Shown<Self>, _names: &Names) -> Vec<String> {
        let required = shown.entity.schema["required"].as_array().into_iter().flatten();
        vec![super::joined(required.filter_map(Value::as_str))]
    }
}

/// Reads a YAML or JSON file.
fn read(file: &PathBuf) -> anyhow::Result<Value> {
    let shown = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("read {shown}"))?;
    serde_saphyr::from_str(&text).with_context(|| shown.to_string())
}
