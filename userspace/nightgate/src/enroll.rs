//! Redeems enrollment tokens.

use std::{fs, path::PathBuf};

use anyhow::Context as _;

use crate::output::print_text;

/// `nightgate enroll`
#[derive(Debug, clap::Args)]
pub(crate) struct EnrollArgs {
    /// File with the token that `nightgate identity create` printed
    jwt_file: PathBuf,
    /// Where to write the identity file; readable by this user alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// `nightgate router enroll`
#[derive(Debug, clap::Args)]
pub(crate) struct EnrollRouterArgs {
    #[command(flatten)]
    enroll: EnrollArgs,
    /// Where clients and routers will reach this router; leave it out if it only dials out
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
}

/// Enrolls an identity.
pub(crate) async fn enroll(args: &EnrollArgs) -> anyhow::Result<()> {
    let token = args.token()?;
    let identity = nightgate_sdk::enroll(&token).await.context("enroll")?;
    identity.save(&args.out)?;
    print_text(&format!("identity written to {}", args.out.display()))
}

/// Enrolls a router or gateway.
pub(crate) async fn enroll_router(args: &EnrollRouterArgs) -> anyhow::Result<()> {
    let token = args.enroll.token()?;
    let identity = nightgate_sdk::enroll_router(&token, args.advertise.as_deref())
        .await
        .context("enroll the router")?;
    identity.save(&args.enroll.out)?;
    print_text(&format!("identity written to {}", args.enroll.out.display()))
}

impl EnrollArgs {
    /// The token; checks first that the result will have a place, because a token works only once.
    fn token(&self) -> anyhow::Result<String> {
        let out = self.out.display();
        anyhow::ensure!(!self.out.exists(), "{out} exists; move it away or choose another --out");
        let folder = self.out.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            anyhow::ensure!(folder.is_dir(), "{} is no folder; create it first", folder.display());
        }
        let token = fs::read_to_string(&self.jwt_file)
            .with_context(|| format!("read the token in {}", self.jwt_file.display()))?;
        Ok(token.trim().to_owned())
    }
}
