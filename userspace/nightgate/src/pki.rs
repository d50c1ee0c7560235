//! `nightgate controller pki ...`

use std::path::PathBuf;

use anyhow::Context as _;
use nightgate_server::{certificates, roll_over, roll_over_root};
use serde_json::{Value, json};

use crate::output::{OutputArgs, Table, print_text};

/// `nightgate controller pki ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum PkiCommand {
    /// Show the controller's certificates: what they are for, and when they end
    Show(ShowArgs),
    /// Make another signing certificate; the controller has to be stopped, and uses it when it starts again
    ///
    /// What the one before has signed goes on, for as long as it is valid: both are trusted until then. Clients and
    /// routers need no change. The old signer's key is gone, and so is the root's no longer needed after this: keep
    /// root.key elsewhere, and put it back for the next roll-over.
    Rollover(RolloverArgs),
}

/// The directory.
#[derive(Debug, clap::Args)]
pub(crate) struct FolderArgs {
    /// Directory of the controller
    #[arg(long, value_name = "DIR", env = "NIGHTGATE_CONTROLLER_DIR")]
    dir: PathBuf,
}

/// `nightgate controller pki rollover`
#[derive(Debug, clap::Args)]
pub(crate) struct RolloverArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Make another root too
    ///
    /// Both roots vouch for the new signer. Who enrolls, or renews a certificate, is given both; the others go on with
    /// the root that they know, until their certificates end. After 366 days the old root is trusted no more, and until
    /// then there is no other roll-over. If somebody else has the old root's key, remove old-root.pem from DIR/pki as soon
    /// as everybody has renewed or enrolled anew.
    #[arg(long)]
    root: bool,
}

/// `nightgate controller pki show`
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl PkiCommand {
    /// Does what was asked for.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Show(args) => show(&args),
            Self::Rollover(RolloverArgs { folder: FolderArgs { dir }, root }) => {
                let (done, what) = match root {
                    true => (roll_over_root(&dir), "another root and another signer are there"),
                    false => (roll_over(&dir), "another signer is there"),
                };
                done.with_context(|| format!("roll over in {}", dir.display()))?;
                print_text(&format!("{what}; the controller uses it when it starts"))
            }
        }
    }
}

fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let shown: Vec<Value> = certificates(&args.folder.dir)?
        .into_iter()
        .map(|one| {
            json!({
                "file": one.file,
                "purpose": one.purpose,
                "subject": one.subject,
                "fingerprint": one.fingerprint,
                "notBefore": one.not_before.to_string(),
                "notAfter": one.not_after.to_string(),
                "hasKey": one.has_key,
            })
        })
        .collect();
    args.output.print(&shown, |shown| {
        let fields = ["file", "purpose", "notBefore", "notAfter", "fingerprint"];
        let columns = ["file", "purpose", "begins", "ends", "fingerprint"];
        shown.iter().fold(Table::new(&columns), |table, one| {
            table.row(fields.map(|field| one[field].as_str().unwrap_or_default().to_owned()))
        })
    })
}
