//! `create`, `list`, `show`, `update` and `delete`: the same for every kind of entity.

use std::{collections::HashMap, fmt::Debug};

use nightgate_model::{
    api::IdentityEnrollment,
    entity::Role,
    id::{CaId, Identifier as _},
    kind::EntityKind,
    spec::Entity,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ManagementArgs,
    client::{ManagementClient, Named},
    tag::{ChangedTags, NewTags},
    token::TokenArgs,
};
use crate::output::{Table, print_text};

/// A kind of entity that operators manage from the command line.
pub(crate) trait Managed: Entity + 'static {
    /// Flags of `create`, with the name.
    type Create: clap::Args + Debug;
    /// Flags of `update`.
    type Update: clap::Args + Debug + Serialize;
    /// Columns of a table between `name` and `created`.
    const COLUMNS: &'static [&'static str];
    /// Kinds whose entities a table names.
    const NAMES: &'static [EntityKind] = &[];
    /// The command that redeems the token of a new one.
    const ENROLL: &'static str = "";

    /// What is to be created.
    fn wanted(args: Self::Create) -> anyhow::Result<Self::Spec>;

    /// Where the token of a new one goes, if it gets one.
    fn token(_args: &Self::Create) -> Option<&TokenArgs> {
        None
    }

    /// How it enrolls, if not as its kind does; the CA by name.
    fn enrollment(_args: &Self::Create) -> Option<IdentityEnrollment> {
        None
    }

    /// How it is to be created: query of the call.
    fn options(_args: &Self::Create) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What is to be changed: fields of the spec.
    fn changes(args: Self::Update) -> anyhow::Result<Map<String, Value>> {
        given(&args)
    }

    /// The cells of [`Self::COLUMNS`].
    fn cells(shown: &Shown<Self>, names: &Names) -> Vec<String>;
}

/// `nightgate KIND ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum EntityCommand<M: Managed> {
    /// Create one
    Create(CreateArgs<M>),
    /// List all, or those that a filter selects
    List(ListArgs),
    /// Show one
    Show(NameArgs),
    /// Change one; what is not mentioned stays as it is
    Update(UpdateArgs<M>),
    /// Delete one; what only it allowed or carried ends at once
    Delete(NameArgs),
}

/// `nightgate KIND create`
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs<M: Managed> {
    #[command(flatten)]
    own: M::Create,
    #[command(flatten)]
    tags: NewTags,
    #[command(flatten)]
    management: ManagementArgs,
}

/// `nightgate KIND list`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Filters compare fields as --json shows them, with = != < <= > >= contains, icontains, in [..], between,
and, or, not, anyOf(FIELD), isEmpty(FIELD); then sort by FIELD [desc], skip N, limit N:
  'name contains \"gw\" and not disabled = true sort by createdAt desc limit 5'
  'anyOf(roleAttributes) = \"staff\"'")]
pub(crate) struct ListArgs {
    /// Which, in which order
    filter: Option<String>,
    #[command(flatten)]
    management: ManagementArgs,
}

impl From<ListArgs> for (Option<String>, ManagementArgs) {
    fn from(args: ListArgs) -> Self {
        (args.filter, args.management)
    }
}

/// Names one entity.
#[derive(Debug, clap::Args)]
pub(crate) struct NameArgs {
    /// Name or id
    pub(super) name: String,
    #[command(flatten)]
    pub(super) management: ManagementArgs,
}

/// `nightgate KIND update`
#[derive(Debug, clap::Args)]
pub(crate) struct UpdateArgs<M: Managed> {
    /// Name or id
    #[arg(id = "which", value_name = "NAME")]
    which: String,
    #[command(flatten)]
    own: M::Update,
    #[command(flatten)]
    tags: ChangedTags,
    #[command(flatten)]
    management: ManagementArgs,
}

/// An entity as the controller shows it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown<E> {
    /// The entity.
    #[serde(flatten)]
    pub(super) entity: E,
    created_at: String,
    /// What else the controller shows.
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

/// Names by kind and id.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<(EntityKind, String), String>);

impl<M: Managed> EntityCommand<M> {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(args) => create::<M>(args).await,
            Self::List(args) => {
                let client = args.management.connect().await?;
                let filter = args.filter.as_deref().unwrap_or_default();
                print::<M>(&client, &args.management, &client.list(M::KIND, filter).await?).await
            }
            Self::Show(args) => {
                let client = args.management.connect().await?;
                let found: Value = client.find(M::KIND, &args.name).await?;
                print::<M>(&client, &args.management, &found).await
            }
            Self::Update(args) => {
                let client = args.management.connect().await?;
                let found: Named = client.find(M::KIND, &args.which).await?;
                let mut changes = client.resolved(M::changes(args.own)?).await?;
                args.tags.add_to(&mut changes);
                anyhow::ensure!(!changes.is_empty(), "nothing to change; see --help");
                client.update(M::KIND, &found.id, &changes).await?;
                print_text(&format!("{} updated", found.name))
            }
            Self::Delete(args) => {
                let deleted = args.management.connect().await?.delete(M::KIND, &args.name).await?;
                print_text(&format!("{} deleted", deleted.name))
            }
        }
    }
}

impl Names {
    /// The name of an entity; its id if it is not known.
    pub(super) fn name<'a>(&'a self, kind: EntityKind, id: &'a str) -> &'a str {
        self.0.get(&(kind, id.to_owned())).map_or(id, String::as_str)
    }

    /// Roles that select entities of this kind, by name.
    pub(super) fn roles(&self, kind: EntityKind, roles: &[Role]) -> String {
        super::joined(roles.iter().map(|role| match role {
            Role::Id(id) => format!("@{}", self.name(kind, id)),
            Role::All | Role::Attribute(_) => role.to_string(),
        }))
    }

    /// Asks for the names of these kinds.
    pub(super) async fn load(
        client: &ManagementClient,
        kinds: &[EntityKind],
    ) -> anyhow::Result<Self> {
        let mut names = HashMap::new();
        for kind in kinds {
            let named: Vec<Named> = serde_json::from_value(client.list(*kind, "").await?)?;
            names.extend(named.into_iter().map(|named| ((*kind, named.id), named.name)));
        }
        Ok(Self(names))
    }
}

/// The flags that were given, as fields of a spec.
pub(super) fn given(flags: &impl Serialize) -> anyhow::Result<Map<String, Value>> {
    let Value::Object(mut fields) = serde_json::to_value(flags)? else { return Ok(Map::new()) };
    fields.retain(|_, value| !value.is_null());
    Ok(fields)
}

async fn create<M: Managed>(args: CreateArgs<M>) -> anyhow::Result<()> {
    let token = M::token(&args.own).cloned();
    if let Some(token) = &token {
        token.check()?;
    }
    let options = M::options(&args.own);
    let client = args.management.connect().await?;
    let enrollment = M::enrollment(&args.own);
    let Value::Object(spec) = serde_json::to_value(M::wanted(args.own)?)? else {
        unreachable!("specs are objects")
    };
    let mut spec = client.resolved(spec).await?;
    args.tags.add_to(&mut spec);
    if let Some(mut enrollment) = enrollment {
        if let Some(ca) = &mut enrollment.ottca {
            *ca = CaId::new(client.find::<Named>(EntityKind::Ca, ca.as_str()).await?.id);
        }
        spec.insert("enrollment".into(), serde_json::to_value(enrollment)?);
    }
    let created = client.create(M::KIND, &spec, &options).await?;
    let name = spec["name"].as_str().unwrap_or_default();
    match token {
        Some(token) => token.deliver(&args.management, name, &created, M::ENROLL),
        None => args.management.output.print(&created, |created| {
            Table::new(&["name", "id"]).row([name, created.id.as_str()])
        }),
    }
}

/// Prints one entity or several, as the controller sent them or as a table.
async fn print<M: Managed>(
    client: &ManagementClient,
    args: &ManagementArgs,
    found: &Value,
) -> anyhow::Result<()> {
    let shown: Vec<Shown<M>> = match found {
        Value::Array(_) => serde_json::from_value(found.clone())?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            vec![serde_json::from_value(found.clone())?]
        }
    };
    let names = Names::load(client, M::NAMES).await?;
    args.output.print(found, |_| table(&shown, &names))
}

fn table<M: Managed>(shown: &[Shown<M>], names: &Names) -> Table {
    let columns: Vec<_> = ["name"].iter().chain(M::COLUMNS).chain(&["created", "id"]).collect();
    let columns: Vec<&str> = columns.into_iter().copied().collect();
    shown.iter().fold(Table::new(&columns), |table, shown| {
        let mut cells = vec![shown.entity.name().to_owned()];
        cells.append(&mut M::cells(shown, names));
        cells.extend([shown.created_at.clone(), shown.entity.id().text().to_owned()]);
        table.row(cells)
    })
}
