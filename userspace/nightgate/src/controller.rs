//! `nightgate controller ...`

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::Context as _;
use nightgate_server::{Address, Controller, Initialized, Settings, init};

use crate::{output::print_text, signals::StopSignals};

/// `nightgate controller ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ControllerCommand {
    /// Make a controller directory: certificates, database and the first administrator
    Init(InitArgs),
    /// Serve a controller directory until SIGTERM; makes it first when it is new
    Run(RunArgs),
}

/// `nightgate controller init`
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    directory: DirectoryArgs,
}

/// `nightgate controller run`
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    directory: DirectoryArgs,
}

/// The directory, and the settings that are kept in it.
#[derive(Clone, Debug, clap::Args)]
struct DirectoryArgs {
    /// Directory of the controller; holds its keys, so keep it private and back it up
    #[arg(long, value_name = "DIR", env = "NIGHTGATE_CONTROLLER_DIR")]
    dir: PathBuf,
    /// How clients, routers and operators reach this controller; needed once, then kept in the
    /// directory
    #[arg(long, value_name = "HOST:PORT", env = "NIGHTGATE_CONTROLLER_ADDRESS")]
    address: Option<Address>,
    /// Where to listen [default: every address of this host, port of --address]
    #[arg(long, value_name = "IP:PORT", env = "NIGHTGATE_CONTROLLER_LISTEN")]
    listen: Option<SocketAddr>,
    /// Further host name or IP address that the certificate is valid for; may be repeated
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// Also serve OpenZiti clients of 2022, which speak TLS 1.2 and take RS256 enrollment tokens
    /// only; their routers need `legacy_clients: true`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    legacy_clients: Option<bool>,
}

impl ControllerCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Init(args) => {
                let outcome = prepare(&args.directory)?;
                print_text(&next_steps(&args.directory, &outcome))
            }
            Self::Run(args) => run(&args.directory).await,
        }
    }
}

async fn run(args: &DirectoryArgs) -> anyhow::Result<()> {
    let mut signals = StopSignals::new()?;
    if needs_preparation(args)? {
        let outcome = prepare(args)?;
        if let Initialized::New { admin } = &outcome {
            tracing::info!(identity = %admin.display(), "controller directory made");
        }
    }
    let controller = Controller::start(&args.dir).await?;
    signals.wait().await;
    controller.stop().await;
    Ok(())
}

/// Whether the directory is new, incomplete, or has other settings than the ones asked for.
fn needs_preparation(args: &DirectoryArgs) -> anyhow::Result<bool> {
    let stored = Settings::load(&args.dir)?;
    let is_complete =
        args.dir.join("nightgate.db").exists() && args.dir.join("admin.json").exists();
    Ok(!is_complete || stored.as_ref() != Some(&settings(args, stored.clone())?))
}

fn prepare(args: &DirectoryArgs) -> anyhow::Result<Initialized> {
    let settings = settings(args, Settings::load(&args.dir)?)?;
    init(&args.dir, &settings).with_context(|| format!("initialize {}", args.dir.display()))
}

/// The stored settings, replaced by what is on the command line.
fn settings(args: &DirectoryArgs, stored: Option<Settings>) -> anyhow::Result<Settings> {
    let mut settings = match (stored, &args.address) {
        (Some(stored), _) => stored,
        (None, Some(address)) => {
            let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
            Settings::new(address.clone(), everywhere)
        }
        (None, None) => anyhow::bail!(
            "{} is new: say how others reach this controller with --address HOST:PORT",
            args.dir.display()
        ),
    };
    if let Some(address) = &args.address {
        settings.address = address.clone();
    }
    if let Some(listen) = args.listen {
        settings.listen = listen;
    }
    if !args.names.is_empty() {
        settings.names.clone_from(&args.names);
    }
    if let Some(legacy_clients) = args.legacy_clients {
        settings.legacy_clients = legacy_clients;
    }
    Ok(settings)
}

fn next_steps(args: &DirectoryArgs, outcome: &Initialized) -> String {
    let dir = args.dir.display();
    match outcome {
        Initialized::New { admin } => format!(
            "{dir} is ready. Next:\n  \
             nightgate controller run --dir {dir}\n  \
             export NIGHTGATE_IDENTITY={}\n  \
             nightgate router create NAME --jwt-out NAME.jwt\n  \
             nightgate identity create NAME --jwt-out NAME.jwt",
            admin.display()
        ),
        Initialized::Existing => {
            format!("{dir} was initialized before; its settings are as asked for now.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: PathBuf, address: Option<&str>) -> DirectoryArgs {
        let address = address.map(|address| address.parse().unwrap());
        DirectoryArgs { dir, address, listen: None, names: vec![], legacy_clients: None }
    }

    #[test]
    fn a_new_directory_needs_an_address_and_an_old_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("controller");
        let error = prepare(&args(dir.clone(), None)).unwrap_err();
        assert!(error.to_string().contains("--address"), "{error}");
        prepare(&args(dir.clone(), Some("localhost:1280"))).unwrap();
        assert!(!needs_preparation(&args(dir.clone(), None)).unwrap());
        let stored = Settings::load(&dir).unwrap().unwrap();
        assert_eq!(stored.listen, "[::]:1280".parse().unwrap());
    }

    #[test]
    fn what_is_asked_for_replaces_what_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().to_owned();
        prepare(&args(dir.clone(), Some("localhost:1280"))).unwrap();
        let mut moved = args(dir.clone(), Some("other.example:443"));
        moved.listen = Some("127.0.0.1:9".parse().unwrap());
        assert!(needs_preparation(&moved).unwrap());
        assert_eq!(prepare(&moved).unwrap(), Initialized::Existing);
        let stored = Settings::load(&dir).unwrap().unwrap();
        assert_eq!(stored.address.to_string(), "other.example:443");
        assert_eq!(stored.listen, "127.0.0.1:9".parse().unwrap());
    }

    #[test]
    fn legacy_clients_are_served_until_somebody_says_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().to_owned();
        for (asked, kept) in [(None, false), (Some(true), true), (None, true), (Some(false), false)]
        {
            let mut wanted = args(dir.clone(), Some("localhost:1280"));
            wanted.legacy_clients = asked;
            prepare(&wanted).unwrap();
            assert_eq!(Settings::load(&dir).unwrap().unwrap().legacy_clients, kept, "{asked:?}");
        }
    }
}
