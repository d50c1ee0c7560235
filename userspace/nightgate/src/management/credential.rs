//! `nightgate authenticator ...`, `nightgate enrollment ...` and `nightgate session ...`: what is listed and taken away.

use serde_json::Value;

use super::{
    ManagementArgs,
    entity::{ListArgs, NameArgs},
};
use crate::output::{Table, print_text};

/// What identities authenticate with.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AuthenticatorCommand {
    /// List the certificates and passwords of identities
    List(ListArgs),
    /// Take one away: sessions that began with it end at once, and their circuits
    Delete(NameArgs),
}

/// Enrollments that nobody has redeemed yet.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum EnrollmentCommand {
    /// List the enrollments that nobody has redeemed yet
    List(ListArgs),
    /// Take one back: its token is good for nothing from now on
    Delete(NameArgs),
}

/// API sessions.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SessionCommand {
    /// List who is authenticated
    List(ListArgs),
    /// End one at once, with its circuits; the client may authenticate again
    Delete(NameArgs),
}

/// Column of a table and where its value stands.
type Column = (&'static str, &'static str);

impl AuthenticatorCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        const COLUMNS: &[Column] = &[
            ("identity", "/identity/name"),
            ("method", "/method"),
            ("username", "/username"),
            ("fingerprint", "/fingerprint"),
            ("ends", "/notAfter"),
            ("id", "/id"),
        ];
        match self {
            Self::List(args) => list("authenticators", args, COLUMNS).await,
            Self::Delete(args) => delete("authenticators", args).await,
        }
    }
}

impl EnrollmentCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        const COLUMNS: &[Column] = &[
            ("identity", "/identity/name"),
            ("router", "/edgeRouter/name"),
            ("method", "/method"),
            ("expires", "/expiresAt"),
            ("id", "/id"),
        ];
        match self {
            Self::List(args) => list("enrollments", args, COLUMNS).await,
            Self::Delete(args) => delete("enrollments", args).await,
        }
    }
}

impl SessionCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        const COLUMNS: &[Column] = &[
            ("identity", "/identity/name"),
            ("by", "/authenticatorId"),
            ("began", "/createdAt"),
            ("expires", "/expiresAt"),
            ("id", "/id"),
        ];
        match self {
            Self::List(args) => list("api-sessions", args, COLUMNS).await,
            Self::Delete(args) => delete("api-sessions", args).await,
        }
    }
}

async fn list(path: &str, args: ListArgs, columns: &[Column]) -> anyhow::Result<()> {
    let (filter, management): (Option<String>, ManagementArgs) = args.into();
    let client = management.connect().await?;
    let found = client.list_at(path, filter.as_deref().unwrap_or_default()).await?;
    management.output.print(&found, |found| {
        let heads: Vec<_> = columns.iter().map(|(head, _)| *head).collect();
        found.iter().fold(Table::new(&heads), |table, one| {
            table.row(columns.iter().map(|(_, pointer)| cell(one, pointer)))
        })
    })
}

fn cell(one: &Value, pointer: &str) -> String {
    one.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned()
}

async fn delete(path: &str, args: NameArgs) -> anyhow::Result<()> {
    let client = args.management.connect().await?;
    client.delete_at(&format!("{path}/{}", args.name)).await?;
    print_text(&format!("{} deleted", args.name))
}
