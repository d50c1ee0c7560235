//! The commands against a running controller.

use std::{net::TcpListener, path::Path};

use clap::Parser;
use nightgate_server::{Controller, Settings, init};
use tempfile::TempDir;

use super::*;

#[derive(Debug, Parser)]
enum Command {
    #[command(subcommand)]
    Identity(IdentityCommand),
    #[command(subcommand)]
    Router(ManageRouterCommand),
    #[command(subcommand)]
    Service(ServiceCommand),
    #[command(subcommand)]
    Policy(PolicyCommand),
    #[command(subcommand)]
    Terminator(TerminatorCommand),
    Explain(ExplainArgs),
}

struct Lab {
    dir: TempDir,
    _controller: Controller,
}

impl Lab {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The address has to be known before the controller starts: it is in the identity file.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        init(dir.path(), &Settings::new(free.to_string().parse().unwrap(), free)).unwrap();
        let controller = Controller::start(dir.path()).await.unwrap();
        Self { dir, _controller: controller }
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Runs a command line as the first administrator.
    async fn run(&self, line: &str) -> anyhow::Result<()> {
        let admin = self.file("admin.json");
        let words = ["nightgate"].into_iter().chain(line.split_whitespace());
        let words = words.chain(["--identity-file", &admin]);
        match Command::try_parse_from(words)? {
            Command::Identity(command) => command.run().await,
            Command::Router(command) => command.run().await,
            Command::Service(command) => command.run().await,
            Command::Policy(command) => command.run().await,
            Command::Terminator(command) => command.run().await,
            Command::Explain(command) => command.run().await,
        }
    }

    async fn refused(&self, line: &str) -> String {
        format!("{:#}", self.run(line).await.unwrap_err())
    }
}

#[tokio::test]
async fn an_operator_goes_from_nothing_to_an_explained_policy() {
    let lab = Lab::start().await;
    let token = lab.file("alice.jwt");
    lab.run(&format!("identity create alice --attribute staff --jwt-out {token}")).await.unwrap();
    assert_eq!(std::fs::read_to_string(&token).unwrap().matches('.').count(), 2);
    lab.run("router create gw --tunneler --attribute gateways --json").await.unwrap();
    lab.run("service create web --intercept web.corp:80 --host 10.2.0.2:8080").await.unwrap();
    let refused = lab.refused("explain dial alice web").await;
    assert_eq!(refused, "alice cannot dial web: there is no Dial policy");
    lab.run("policy create web-dial dial --identity #staff --service @web").await.unwrap();
    lab.run("policy create web-bind bind --identity @gw --service @web --all-of").await.unwrap();
    let refused = lab.refused("explain dial alice web").await;
    assert_eq!(refused, "alice cannot dial web: nobody hosts web now");
    for line in [
        "identity list",
        "identity list --json",
        "identity show alice",
        "router list",
        "service list",
        "service show web --json",
        "policy list",
        "terminator list",
        "policy delete web-dial",
        "service delete web",
        "router delete gw",
        "identity delete alice",
    ] {
        lab.run(line).await.unwrap_or_else(|error| panic!("{line}: {error:#}"));
    }
}

#[tokio::test]
async fn mistakes_are_named_with_their_remedy() {
    let lab = Lab::start().await;
    lab.run("identity create alice").await.unwrap();
    assert!(lab.refused("identity create alice").await.contains("already identity \"alice\""));
    assert!(lab.refused("identity show bob").await.contains("no \"bob\" among the identities"));
    let unknown = lab.refused("policy create p dial --identity @bob --service #all").await;
    assert!(unknown.contains("no \"bob\""), "{unknown}");
    let role = lab.refused("policy create p dial --identity bob --service #all").await;
    assert!(role.contains("expected #all, #attribute or @name"), "{role}");
    let token = lab.file("admin.json");
    let taken = lab.refused(&format!("identity create carol --jwt-out {token}")).await;
    assert!(taken.contains("exists"), "{taken}");
    assert!(
        lab.refused("identity show carol").await.contains("no \"carol\""),
        "nothing was created"
    );
}

#[tokio::test]
async fn a_stopped_controller_and_a_missing_file_are_named() {
    let Lab { dir, _controller: controller } = Lab::start().await;
    controller.stop().await;
    let error = ManagementClient::connect(&dir.path().join("admin.json")).await.err().unwrap();
    assert!(format!("{error:#}").contains("cannot be reached"), "{error:#}");
    let error = ManagementClient::connect(Path::new("/nonexistent.json")).await.err().unwrap();
    assert!(error.to_string().contains("/nonexistent.json"), "{error:#}");
}
