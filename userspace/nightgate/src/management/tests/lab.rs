//! A running controller, and command lines as its operators write them.

use std::net::TcpListener;

use clap::Parser;
use nightgate_model::entity::{
    AuthPolicy, Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Service, ServiceEdgeRouterPolicy,
    ServicePolicy,
};
use nightgate_server::{Controller, Settings, init};
use tempfile::TempDir;

use super::super::*;
use crate::enroll::{EnrollArgs, enroll};

#[derive(Debug, Parser)]
enum Command {
    #[command(subcommand)]
    Identity(IdentityCommand),
    #[command(subcommand)]
    Router(EntityCommand<EdgeRouter>),
    #[command(subcommand)]
    Service(EntityCommand<Service>),
    #[command(subcommand)]
    Policy(EntityCommand<ServicePolicy>),
    #[command(subcommand)]
    Config(EntityCommand<Config>),
    #[command(subcommand)]
    ConfigType(EntityCommand<ConfigType>),
    #[command(subcommand)]
    EdgeRouterPolicy(EntityCommand<EdgeRouterPolicy>),
    #[command(subcommand)]
    ServiceEdgeRouterPolicy(EntityCommand<ServiceEdgeRouterPolicy>),
    #[command(subcommand)]
    AuthPolicy(EntityCommand<AuthPolicy>),
    #[command(subcommand)]
    Ca(CaCommand),
    #[command(subcommand)]
    Authenticator(AuthenticatorCommand),
    #[command(subcommand)]
    Enrollment(EnrollmentCommand),
    #[command(subcommand)]
    Session(SessionCommand),
    #[command(subcommand)]
    Terminator(TerminatorCommand),
    Explain(ExplainArgs),
    Audit(AuditArgs),
    Usage(UsageArgs),
    Apply(ApplyNetworkArgs),
    Export(ExportArgs),
    Login(LoginArgs),
    Logout(LogoutArgs),
    Enroll(EnrollArgs),
}

/// A controller, and the folder of its administrator.
pub(super) struct Lab {
    pub(super) dir: TempDir,
    pub(super) controller: Controller,
}

impl Lab {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The address has to be known before the controller starts: it is in the identity file.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        init(dir.path(), &Settings::new(free.to_string().parse().unwrap(), free)).unwrap();
        let controller = Controller::start(dir.path()).await.unwrap();
        Self { dir, controller }
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Runs a command line as the first administrator.
    pub(super) async fn run(&self, line: &str) -> anyhow::Result<()> {
        let admin = self.file("admin.json");
        let words = ["nightgate"].into_iter().chain(line.split_whitespace());
        Self::run_words(words.chain(["--identity-file", &admin])).await
    }

    /// Enrolls by a command line.
    pub(super) async fn enroll(&self, line: &str) -> anyhow::Result<()> {
        self.run_bare(&format!("enroll {line}")).await
    }

    /// Runs a command line that says itself who asks.
    pub(super) async fn run_bare(&self, line: &str) -> anyhow::Result<()> {
        Self::run_words(["nightgate"].into_iter().chain(line.split_whitespace())).await
    }

    async fn run_words(words: impl Iterator<Item = &str>) -> anyhow::Result<()> {
        match Command::try_parse_from(words)? {
            Command::Identity(command) => command.run().await,
            Command::Router(command) => command.run().await,
            Command::Service(command) => command.run().await,
            Command::Policy(command) => command.run().await,
            Command::Config(command) => command.run().await,
            Command::ConfigType(command) => command.run().await,
            Command::EdgeRouterPolicy(command) => command.run().await,
            Command::ServiceEdgeRouterPolicy(command) => command.run().await,
            Command::AuthPolicy(command) => command.run().await,
            Command::Ca(command) => command.run().await,
            Command::Authenticator(command) => command.run().await,
            Command::Enrollment(command) => command.run().await,
            Command::Session(command) => command.run().await,
            Command::Terminator(command) => command.run().await,
            Command::Explain(command) => command.run().await,
            Command::Audit(command) => command.run().await,
            Command::Usage(command) => command.run().await,
            Command::Apply(command) => command.run().await,
            Command::Export(command) => command.run().await,
            Command::Login(command) => command.run().await,
            Command::Logout(command) => command.run().await,
            Command::Enroll(args) => enroll(&args).await,
        }
    }

    pub(super) async fn refused(&self, line: &str) -> String {
        format!("{:#}", self.run(line).await.unwrap_err())
    }
}
