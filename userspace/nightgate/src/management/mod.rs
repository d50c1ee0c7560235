//! Commands that change or show the controller's model, over its management interface.

mod client;
mod explain;
mod identity;
mod policy;
mod role;
mod router;
mod service;
mod terminator;
mod token;

use std::path::PathBuf;

use self::client::ManagementClient;
pub(crate) use self::{
    explain::ExplainArgs, identity::IdentityCommand, policy::PolicyCommand,
    router::ManageRouterCommand, service::ServiceCommand, terminator::TerminatorCommand,
};
use crate::output::OutputArgs;

/// Who asks, and how the answer is printed.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ManagementArgs {
    /// Identity file of an administrator, for example admin.json of the controller's directory; it
    /// names the controller
    #[arg(
        long = "identity-file",
        visible_alias = "identity",
        value_name = "FILE",
        env = "NIGHTGATE_IDENTITY",
        hide_env_values = true
    )]
    identity_file: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

impl ManagementArgs {
    /// Authenticates at the controller.
    async fn connect(&self) -> anyhow::Result<ManagementClient> {
        ManagementClient::connect(&self.identity_file).await
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
