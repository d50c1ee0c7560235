//! `nightgate mfa ...`

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use nightgate_gateway::admin::{Request, ask};
use nightgate_sdk::{Context, SecondFactorEnrollment};
use nightgate_tunnel::socket_of;
use serde_json::json;

use crate::{identity_file, output::OutputArgs};

/// A second factor of an identity: one-time passwords of an authenticator app (RFC 6238)
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
A second factor for a laptop, and a code for the tunneler that runs there:
  nightgate mfa enroll --identity laptop.json
  nightgate mfa verify --identity laptop.json 123456
  nightgate mfa authenticate --identity laptop.json 654321

A code is good once, for about a minute. Who has lost the app gives a recovery code in its place; who has lost both
asks an administrator for `nightgate identity remove-mfa NAME`.")]
pub(crate) enum MfaCommand {
    /// Make a second factor, and print how an authenticator app is set up with it, and recovery codes
    Enroll(MfaArgs),
    /// End the enrollment with the app's first code: from now on, sessions that begin wait for a code
    Verify(CodeArgs),
    /// Give a code to the tunneler that runs with this identity file, which shows it to the controller
    Authenticate(CodeArgs),
    /// Take the second factor away
    Remove(CodeArgs),
    /// Print the recovery codes that are left
    RecoveryCodes(RecoveryArgs),
    /// Say whether the identity has a second factor
    Status(MfaArgs),
}

/// Whose second factor.
#[derive(Debug, clap::Args)]
pub(crate) struct MfaArgs {
    /// Identity file, as `nightgate enroll` wrote it
    #[arg(long, value_name = "FILE", env = "NIGHTGATE_IDENTITY")]
    identity: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// Whose, and a code.
#[derive(Debug, clap::Args)]
pub(crate) struct CodeArgs {
    /// Code of the authenticator app
    code: String,
    #[command(flatten)]
    mfa: MfaArgs,
}

/// Whose, a code, and whether they are replaced.
#[derive(Debug, clap::Args)]
pub(crate) struct RecoveryArgs {
    #[command(flatten)]
    code: CodeArgs,
    /// Replace them: those before are good no more
    #[arg(long)]
    renew: bool,
}

impl MfaCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Enroll(args) => enroll(&args).await,
            Self::Verify(args) => {
                args.mfa.join().await?.verify_second_factor(&args.code).await?;
                args.mfa.done("the second factor is verified: sessions that begin wait for a code")
            }
            Self::Authenticate(args) => authenticate(&args).await,
            Self::Remove(args) => {
                args.mfa.join().await?.remove_second_factor(&args.code).await?;
                args.mfa.done("the second factor is removed")
            }
            Self::RecoveryCodes(RecoveryArgs { code, renew }) => {
                let codes = code.mfa.join().await?.recovery_codes(&code.code, renew).await?;
                code.mfa.output.print(&codes, |codes| codes.join("\n"))
            }
            Self::Status(args) => status(&args).await,
        }
    }
}

impl MfaArgs {
    async fn join(&self) -> anyhow::Result<Context> {
        let identity = identity_file::load(&self.identity)?;
        Context::load(&identity).await.context("join the overlay")
    }

    fn done(&self, text: &str) -> anyhow::Result<()> {
        self.output.print(&json!({ "done": true }), |_| text.to_owned())
    }
}

async fn enroll(args: &MfaArgs) -> anyhow::Result<()> {
    let made = args.join().await?.enroll_second_factor().await?;
    args.output.print(&made, |SecondFactorEnrollment { provisioning_url, recovery_codes }| {
        format!(
            "Set up an authenticator app with this address, or the secret in it:\n  {provisioning_url}\n\n\
             Recovery codes, each good once; keep them apart from the app:\n  {}\n\n\
             It counts after: nightgate mfa verify --identity {} CODE",
            recovery_codes.join("\n  "),
            args.identity.display()
        )
    })
}

async fn authenticate(args: &CodeArgs) -> anyhow::Result<()> {
    let socket = socket_of(&args.mfa.identity);
    ensure!(
        socket.exists(),
        "nobody takes codes at {}: `nightgate tunnel run`, `tunnel host` and `proxy` do, while they run with this \
         identity file",
        socket.display()
    );
    ask(&socket, Request::SecondFactor(args.code.clone())).await?;
    args.mfa.done("the code was right")
}

async fn status(args: &MfaArgs) -> anyhow::Result<()> {
    let is_enrolled = args.join().await?.has_second_factor().await?;
    args.output.print(&json!({ "isEnrolled": is_enrolled }), |_| {
        let word = if is_enrolled { "has a" } else { "has no" };
        format!("the identity {word} second factor")
    })
}
