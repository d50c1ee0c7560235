//! Commands that change or show the controller's model, over its management interface.

mod attribute;
mod audit;
mod auth_policy;
mod ca;
mod client;
mod config;
mod credential;
mod entity;
mod events;
mod explain;
mod fabric;
mod identity;
mod login;
mod network;
mod password;
mod paths;
mod policy;
mod quarantine;
mod role;
mod router;
mod router_policy;
mod service;
mod tag;
mod terminator;
mod token;
mod usage;

use std::path::PathBuf;

use self::login::SessionArgs;
pub(crate) use self::{
    audit::AuditArgs,
    ca::CaCommand,
    client::ManagementClient,
    credential::{AuthenticatorCommand, EnrollmentCommand, SessionCommand},
    entity::EntityCommand,
    events::EventArgs,
    explain::ExplainArgs,
    fabric::FabricCommand,
    identity::IdentityCommand,
    login::{LoginArgs, LogoutArgs},
    network::{ApplyNetworkArgs, ExportArgs},
    password::{PasswordArgs, ask_hidden},
    quarantine::QuarantineCommand,
    terminator::TerminatorCommand,
    usage::UsageArgs,
};
use crate::output::OutputArgs;

/// Who asks, and how the answer is printed.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ManagementArgs {
    /// Identity file of an administrator, for example admin.json of the controller's directory; it
    /// names the controller. Without it, the session of `nightgate login` is used
    #[arg(
        long = "identity-file",
        value_name = "FILE",
        env = "NIGHTGATE_IDENTITY",
        hide_env_values = true
    )]
    identity_file: Option<PathBuf>,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ManagementArgs {
    /// Authenticates at the controller.
    async fn connect(&self) -> anyhow::Result<ManagementClient> {
        match &self.identity_file {
            Some(file) => ManagementClient::connect(file).await,
            None => ManagementClient::resume(&self.session.path()?).await,
        }
    }
}

/// A lower-case list for a table; `-` for none.
fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "-".into() } else { items.join(" ") }
}

/// `yes` or `no`, for a table.
fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
mod tests;
