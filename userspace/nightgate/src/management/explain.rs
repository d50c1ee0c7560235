//! `nightgate explain ...`

use nightgate_model::{api::Explanation, entity::Permission};

use super::{ManagementArgs, policy::PermissionArg};
use crate::output::Table;

/// `nightgate explain`
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 if it is allowed and would work, 1 if not.")]
pub(crate) struct ExplainArgs {
    /// What the identity wants to do
    #[arg(value_enum)]
    permission: PermissionArg,
    /// Name or id of the identity
    identity: String,
    /// Name or id of the service
    service: String,
    #[command(flatten)]
    management: ManagementArgs,
}

impl ExplainArgs {
    /// Prints every check; fails with the verdict if one of them does.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let client = self.management.connect().await?;
        let query = [
            ("identity", self.identity.as_str()),
            ("service", self.service.as_str()),
            ("type", Permission::from(self.permission).as_str()),
        ];
        let explanation: Explanation = client.ask("explain", &query).await?;
        self.management.output.print(&explanation, table)?;
        anyhow::ensure!(explanation.allowed, "{}", explanation.verdict);
        Ok(())
    }
}

fn table(explanation: &Explanation) -> Table {
    explanation.steps.iter().fold(Table::new(&["check", "ok", "found"]), |table, step| {
        table.row([&step.check, super::yes_or_no(step.ok), &step.detail])
    })
}
