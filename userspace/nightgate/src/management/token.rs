//! Where enrollment tokens of new identities and routers go.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nightgate_model::api::Created;
use nightgate_pki::{FileAccess, write_atomically};

use super::ManagementArgs;

/// Where the enrollment token goes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// Write the enrollment token to this file instead of printing it
    #[arg(long, value_name = "FILE")]
    jwt_out: Option<PathBuf>,
}

impl TokenArgs {
    /// Makes sure before something is created that its token will have a place.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Some(path) = &self.jwt_out else { return Ok(()) };
        let shown = path.display();
        anyhow::ensure!(!path.exists(), "{shown} exists; move it away or choose another --jwt-out");
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            anyhow::ensure!(folder.is_dir(), "{} is no folder; create it first", folder.display());
        }
        Ok(())
    }

    /// Writes or prints the token of what was created; `enroll` is the command that redeems it.
    pub(super) fn deliver(
        &self,
        args: &ManagementArgs,
        name: &str,
        created: &Created,
        enroll: &str,
    ) -> anyhow::Result<()> {
        let token = created.enrollment_jwt.as_deref().context("the controller sent no token")?;
        let Some(path) = &self.jwt_out else { return args.output.print(created, |_| token) };
        write(path, token)?;
        args.output.print(created, |_| {
            let file = path.display();
            format!(
                "{name} created. Its token works once, within 24 hours:\n  \
                 {enroll} {file} --out {name}.json"
            )
        })
    }
}

/// Writes a token to a file that only its owner reads.
pub(super) fn write(path: &Path, token: &str) -> anyhow::Result<()> {
    write_atomically(path, format!("{token}\n").as_bytes(), FileAccess::Owner)
        .with_context(|| format!("write the token to {}", path.display()))
}
