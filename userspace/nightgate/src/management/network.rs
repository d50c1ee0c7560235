//! `nightgate apply` and `nightgate export`: a whole network in one file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use nightgate_model::{
    auth::DEFAULT,
    entity::{
        AuthPolicy, Ca, Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Identity, IdentityKind,
        Role, Service, ServiceEdgeRouterPolicy, ServicePolicy, TerminatorSetting,
    },
    id::{AuthPolicyId, ConfigId, ConfigTypeId, IdentityId},
    kind::EntityKind,
    network::{Action, Changed, Difference, Network, Tagged, Tags, Unnamed, VERSION, is_built_in},
    spec::Entity,
};
use serde::Deserialize;

use super::{ManagementArgs, client::ManagementClient, entity::Names, token};
use crate::output::{Table, print_text};

/// `nightgate apply`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, network.yaml (`nightgate export` writes one of what there is):
  version: 1
  identities:
    - { name: alice, roleAttributes: [staff], tags: { site: eu } }
  services:
    - name: web
      config: { host.v1: { protocol: tcp, address: 10.2.0.2, port: 8080 } }
  servicePolicies:
    - { name: web-dial, type: Dial, semantic: AnyOf, identityRoles: ['#staff'], serviceRoles: ['@web'] }

All is done or nothing: the controller makes the changes in one transaction, and routers hear of them at once.")]
pub(crate) struct ApplyNetworkArgs {
    /// The file
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete what the file does not name, except administrators
    #[arg(long)]
    prune: bool,
    /// Where enrollment tokens of new identities and routers go, each to NAME.jwt
    #[arg(long, value_name = "DIR")]
    jwt_dir: Option<PathBuf>,
    #[command(flatten)]
    management: ManagementArgs,
}

/// `nightgate export`
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    management: ManagementArgs,
}

impl ExportArgs {
    /// Prints the network: YAML, or JSON if asked for, both good for `apply`.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let network = live(&self.management.connect().await?).await?;
        let yaml = serde_saphyr::to_string(&network).context("write the network as YAML")?;
        self.management.output.print(&network, |_| yaml)
    }
}

impl ApplyNetworkArgs {
    /// Shows what differs, and makes it so.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let shown = self.file.display();
        let text = fs::read_to_string(&self.file).with_context(|| format!("read {shown}"))?;
        let wanted: Network = serde_saphyr::from_str(&text).with_context(|| shown.to_string())?;
        let client = self.management.connect().await?;
        let unnamed = if self.prune { Unnamed::Delete } else { Unnamed::Keep };
        let differences = match live(&client).await?.differences(&wanted, unnamed) {
            Ok(differences) => differences,
            Err(errors) => {
                let errors: Vec<_> = errors.iter().map(|e| format!("{shown}: {e}")).collect();
                bail!("nothing was changed:\n{}", errors.join("\n"));
            }
        };
        if !self.dry_run {
            check_tokens(&differences, self.jwt_dir.as_deref())?;
        }
        self.management.output.print(&differences, |differences| table(differences))?;
        if !self.dry_run {
            let changed = client.change(&differences).await.context(
                "the controller confirmed no change: all is done or nothing; after a time-out, the same \
                 command with --dry-run says which",
            )?;
            write_tokens(&changed, self.jwt_dir.as_deref())?;
        } else if differences.is_empty() && !self.management.output.is_json() {
            print_text("nothing differs")?;
        }
        Ok(())
    }
}

/// Writes the enrollment tokens of what is new.
fn write_tokens(changed: &[Changed], jwt_dir: Option<&Path>) -> anyhow::Result<()> {
    for Changed { name, enrollment_jwt, .. } in changed {
        if let (Some(jwt), Some(dir)) = (enrollment_jwt, jwt_dir) {
            token::write(&token_file(dir, name), jwt)
                .context("the changes are made; ask for the missing tokens again")?;
        }
    }
    Ok(())
}

/// Makes sure before anything is created that its token will have a place.
fn check_tokens(differences: &[Difference], jwt_dir: Option<&Path>) -> anyhow::Result<()> {
    let enrolling = differences.iter().filter(|difference| {
        difference.action == Action::Create
            && matches!(difference.kind, EntityKind::Identity | EntityKind::EdgeRouter)
    });
    for Difference { kind, name, .. } in enrolling {
        let Some(dir) = jwt_dir else {
            bail!("{kind} {name} is new: say where its enrollment token goes with --jwt-dir DIR");
        };
        ensure!(dir.is_dir(), "{} is no folder; create it first", dir.display());
        ensure!(!name.contains('/'), "{kind} {name}: its name cannot be the name of a file");
        let file = token_file(dir, name);
        ensure!(!file.exists(), "{} exists; move it away", file.display());
    }
    Ok(())
}

fn token_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.jwt"))
}

/// The network as the controller has it, with names in the place of ids.
pub(super) async fn live(client: &ManagementClient) -> anyhow::Result<Network> {
    let names = Names::load(client, &EntityKind::ALL).await?;
    let mut network = Network {
        version: VERSION,
        edge_routers: specs::<EdgeRouter>(client).await?,
        auth_policies: specs::<AuthPolicy>(client).await?,
        cas: specs::<Ca>(client).await?,
        identities: specs_of(client, |it: &Identity| it.kind == IdentityKind::Default).await?,
        config_types: specs_of(client, |it: &ConfigType| !is_built_in(&it.name)).await?,
        configs: specs::<Config>(client).await?,
        services: specs::<Service>(client).await?,
        service_policies: specs::<ServicePolicy>(client).await?,
        edge_router_policies: specs::<EdgeRouterPolicy>(client).await?,
        service_edge_router_policies: specs::<ServiceEdgeRouterPolicy>(client).await?,
    };
    let name = |roles: &mut Vec<Role>, kind| {
        for role in roles {
            if let Role::Id(id) = role {
                *id = names.name(kind, id).to_owned();
            }
        }
    };
    for Tagged { spec: identity, .. } in &mut network.identities {
        let policy = &mut identity.auth_policy_id;
        if policy.as_str() != DEFAULT {
            *policy = AuthPolicyId::new(names.name(EntityKind::AuthPolicy, policy.as_str()));
        }
    }
    for Tagged { spec: config, .. } in &mut network.configs {
        let kind = names.name(EntityKind::ConfigType, config.config_type_id.as_str());
        config.config_type_id = ConfigTypeId::new(kind);
    }
    for Tagged { spec: service, .. } in &mut network.services {
        let configs = service.configs.iter();
        let named = configs.map(|id| ConfigId::new(names.name(EntityKind::Config, id.as_str())));
        service.configs = named.collect();
        let settings = std::mem::take(&mut service.terminators).into_iter().map(|setting| {
            let host = names.name(EntityKind::Identity, setting.identity.as_str());
            TerminatorSetting { identity: IdentityId::new(host), ..setting }
        });
        service.terminators = settings.collect();
    }
    for Tagged { spec: policy, .. } in &mut network.service_policies {
        name(&mut policy.identity_roles, EntityKind::Identity);
        name(&mut policy.service_roles, EntityKind::Service);
    }
    for Tagged { spec: policy, .. } in &mut network.edge_router_policies {
        name(&mut policy.identity_roles, EntityKind::Identity);
        name(&mut policy.edge_router_roles, EntityKind::EdgeRouter);
    }
    for Tagged { spec: policy, .. } in &mut network.service_edge_router_policies {
        name(&mut policy.service_roles, EntityKind::Service);
        name(&mut policy.edge_router_roles, EntityKind::EdgeRouter);
    }
    Ok(network)
}

async fn specs<E: Entity>(client: &ManagementClient) -> anyhow::Result<Vec<Tagged<E::Spec>>> {
    specs_of::<E>(client, |_| true).await
}

async fn specs_of<E: Entity>(
    client: &ManagementClient,
    is_wanted: impl Fn(&E) -> bool,
) -> anyhow::Result<Vec<Tagged<E::Spec>>> {
    let listed: Vec<Listed<E>> = serde_json::from_value(client.list(E::KIND, "").await?)
        .with_context(|| format!("the controller's {} are not as expected", E::KIND.path()))?;
    let wanted = listed.into_iter().filter(|listed| is_wanted(&listed.entity));
    Ok(wanted.map(|Listed { entity, tags }| Tagged { spec: entity.spec(), tags }).collect())
}

/// An entity as the controller lists it.
#[derive(Deserialize)]
struct Listed<E> {
    #[serde(flatten)]
    entity: E,
    tags: Tags,
}

fn table(differences: &[Difference]) -> Table {
    let columns = ["do", "kind", "name", "fields"];
    differences.iter().fold(Table::new(&columns), |table, difference| {
        let fields = difference.fields.iter().filter(|(field, _)| *field != "name");
        table.row([
            difference.action.as_str().to_owned(),
            difference.kind.to_string(),
            difference.name.clone(),
            super::joined(fields.map(|(field, value)| format!("{field}={value}"))),
        ])
    })
}
