//! Reads the configuration file of a router or gateway.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, anyhow};
use nightgate_config::{
    Config, ConfigError, Endpoint, FlowRecords, LinkGroup, Links, TunnelMirror,
};
use nightgate_gateway::admin::RuleFile;
use nightgate_router::{LinkConfig, Offline, RouterConfig};

use crate::identity_file;

/// Which configuration file to run with.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file (YAML)
    #[arg(long = "config", value_name = "FILE")]
    file: std::path::PathBuf,
}

impl ConfigArgs {
    /// Reads and checks the file.
    pub(crate) fn load(&self) -> anyhow::Result<Config> {
        load(&self.file)
    }

    /// As [`Self::load`], with the file itself.
    pub(crate) fn load_with_text(&self) -> anyhow::Result<(Config, RuleFile)> {
        let (file, parsed) = read(&self.file, self.name())?;
        Ok((listed(parsed)?, file))
    }

    /// The file's absolute path.
    pub(crate) fn name(&self) -> String {
        let path = std::path::absolute(&self.file);
        path.as_deref().unwrap_or(&self.file).display().to_string()
    }

    /// Loads the router's identity.
    pub(crate) fn router(&self, config: &Config) -> anyhow::Result<RouterConfig> {
        let folder = self.file.parent().unwrap_or_else(|| Path::new(""));
        let path = folder.join(&config.router.identity);
        let identity = identity_file::load(&path).with_context(|| {
            format!(
                "router.identity in {}: load {}; write it with `nightgate router enroll`",
                self.file.display(),
                path.display()
            )
        })?;
        Ok(RouterConfig {
            identity,
            listen: config.router.listen,
            advertise: config.router.advertise.as_ref().map(Endpoint::to_string),
            legacy_clients: config.router.legacy_clients,
            links: links(&config.router.links),
            offline: Offline {
                limit: config.router.offline.limit,
                file: Some(match &config.router.offline.file {
                    Some(file) => folder.join(file),
                    None => path.with_extension("model"),
                }),
            },
        })
    }
}

fn links(links: &Links) -> LinkConfig {
    let names =
        |groups: &BTreeSet<LinkGroup>| groups.iter().map(|group| group.as_str().into()).collect();
    LinkConfig {
        connections: links.connections,
        cost: links.cost,
        dial: names(&links.dial),
        listen: names(&links.listen),
    }
}

/// Reads and checks a configuration file; the error lists everything that is wrong with it.
pub(crate) fn load(file: &Path) -> anyhow::Result<Config> {
    let (_, parsed) = read(file, file.display().to_string())?;
    listed(parsed)
}

/// Reads a configuration file, with the files that it names, under a name for messages.
pub(crate) fn read(
    file: &Path,
    name: String,
) -> anyhow::Result<(RuleFile, Result<Config, Vec<ConfigError>>)> {
    RuleFile::read(file, name)
        .with_context(|| format!("read the configuration file {}", file.display()))
}

/// What a configuration says; the error lists everything that is wrong with it.
pub(crate) fn listed<T>(parsed: Result<T, Vec<ConfigError>>) -> anyhow::Result<T> {
    parsed.map_err(|errors| {
        let lines = errors.iter().map(|error| format!("\n  {error}")).collect::<String>();
        anyhow!("{} in the configuration:{lines}", count(errors.len()))
    })
}

/// What a file says is told of flows.
pub(crate) fn flow_records(file: &Path) -> anyhow::Result<FlowRecords> {
    let name = file.display().to_string();
    let text = fs::read_to_string(file)
        .with_context(|| format!("read {name}: expected where flow records go"))?;
    listed(nightgate_config::parse_flow_records(&text, &name))
}

/// What a file says that a tunneler copies.
pub(crate) fn tunnel_mirror(file: &Path) -> anyhow::Result<TunnelMirror> {
    let name = file.display().to_string();
    let text = fs::read_to_string(file)
        .with_context(|| format!("read {name}: expected what is copied for sensors"))?;
    listed(nightgate_config::parse_tunnel_mirror(&text, &name))
}

fn count(errors: usize) -> String {
    if errors == 1 { "1 error".into() } else { format!("{errors} errors") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_a_file_is_listed_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("router.yaml");
        fs::write(&file, "version: 1\nrouter:\n  identity: 7\ntypo: 1\n").unwrap();

        let error = load(&file).unwrap_err().to_string();

        assert!(error.starts_with("2 errors in the configuration:"), "{error}");
        assert!(error.contains("router.yaml:3: router.identity"), "{error}");
        assert!(error.contains("router.yaml:4: typo"), "{error}");
    }

    #[test]
    fn a_missing_identity_names_the_key_the_file_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("router.yaml");
        fs::write(&file, "version: 1\nrouter: { identity: r.json }\n").unwrap();
        let args = ConfigArgs { file };

        let error = args.router(&args.load().unwrap()).unwrap_err().to_string();

        assert!(error.contains("router.identity"), "{error}");
        assert!(error.contains(folder.path().join("r.json").to_str().unwrap()), "{error}");
        assert!(error.contains("router enroll"), "{error}");
    }
}
