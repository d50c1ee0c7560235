//! `nightgate controller ...`

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::Context as _;
use nightgate_server::{
    Address, Controller, Initialized, Restored, Settings, backup, check, init, restore,
};

use crate::{
    output::{OutputArgs, Table, print_text},
    pki::PkiCommand,
    signals::StopSignals,
};

/// `nightgate controller ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ControllerCommand {
    /// Make a controller directory: certificates, database and the first administrator
    Init(InitArgs),
    /// Serve a controller directory until SIGTERM; makes it first when it is new
    Run(RunArgs),
    /// Look at the controller's certificates, and replace the one that signs
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Copy a controller directory into a new directory; the controller may run meanwhile
    ///
    /// The copy holds the controller's keys: keep it as private as the directory. It is checked before it appears.
    Backup(BackupArgs),
    /// Put a backup in the place of a controller directory; the controller must not run
    ///
    /// In one step: a restore that is interrupted has changed nothing. The former directory stays beside the new
    /// one, as DIR.before-restore-TIME. Clients authenticate again; what changed after the backup is gone, and enrollment
    /// tokens that were used after it can be used again until they expire.
    Restore(RestoreArgs),
    /// Check a controller directory or a backup: settings, database, certificates and keys; changes nothing
    #[command(after_help = "Exit status: 0 if nothing is wrong, 1 if something is.")]
    Check(CheckArgs),
}

/// `nightgate controller backup`
#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    existing: ExistingArgs,
    /// The new directory
    backup: PathBuf,
}

/// `nightgate controller restore`
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    existing: ExistingArgs,
    /// A directory that `nightgate controller backup` made
    backup: PathBuf,
}

/// `nightgate controller check`
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    existing: ExistingArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The directory alone.
#[derive(Debug, clap::Args)]
struct ExistingArgs {
    /// Directory of the controller
    #[arg(long, value_name = "DIR", env = "NIGHTGATE_CONTROLLER_DIR")]
    dir: PathBuf,
}

/// `nightgate controller init`
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    directory: DirectoryArgs,
}

/// `nightgate controller run`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The private keys in DIR/pki are encrypted from the first start with a passphrase on, and every later one needs it; so is that
of an admin.json that is made then:
  NIGHTGATE_KEY_PASSPHRASE_FILE=FILE, else the systemd credential nightgate-key-passphrase
  (LoadCredential=nightgate-key-passphrase:FILE), else NIGHTGATE_KEY_PASSPHRASE=TEXT")]
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
    /// Most entries that the audit log keeps [default: 1000000]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    audit_entries: Option<u32>,
    /// Days after which an entry of the audit log is removed [default: never]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    audit_days: Option<u32>,
    /// Most files of events in DIR/events, 0 for none [default: 4]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=1_000))]
    event_files: Option<u32>,
    /// Most MiB of a file of events [default: 16]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    event_file_mib: Option<u32>,
    /// Where to serve metrics to Prometheus, in the clear and to anybody who reaches it, for example 127.0.0.1:9465;
    /// `off` for nowhere [default: off]
    #[arg(long, value_name = "IP:PORT", value_parser = metrics_address)]
    metrics_listen: Option<MetricsAddress>,
    /// UNIX socket where to serve them too, to the user that the controller runs as, and its group; `off` for none
    /// [default: off]
    #[arg(long, value_name = "PATH")]
    metrics_socket: Option<PathBuf>,
}

/// Where metrics are served, if they are.
#[derive(Clone, Copy, Debug)]
struct MetricsAddress(Option<SocketAddr>);

fn metrics_address(text: &str) -> Result<MetricsAddress, String> {
    if text == "off" {
        return Ok(MetricsAddress(None));
    }
    let address = text.parse().map_err(|_error| "expected an IP address and a port, or off")?;
    Ok(MetricsAddress(Some(address)))
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
            Self::Backup(args) => {
                let made = backup(&args.existing.dir, &args.backup)?;
                let (files, to) = (made.files, args.backup.display());
                print_text(&format!("{files} files are in {to}; it holds keys, keep it private"))
            }
            Self::Restore(args) => {
                let restored = restore(&args.backup, &args.existing.dir)?;
                print_text(&restored_text(&args, &restored))
            }
            Self::Check(args) => check_directory(&args),
            Self::Pki(command) => command.run(),
        }
    }
}

fn restored_text(args: &RestoreArgs, restored: &Restored) -> String {
    let dir = args.existing.dir.display();
    let before = match &restored.before {
        Some(before) => format!("\nWhat was there before is in {}", before.display()),
        None => String::new(),
    };
    format!("{dir} is restored from {}.{before}", args.backup.display())
}

fn check_directory(args: &CheckArgs) -> anyhow::Result<()> {
    let findings = check(&args.existing.dir)?;
    args.output.print(&findings, |findings| {
        findings.iter().fold(Table::new(&["check", "ok", "found"]), |table, finding| {
            let Some((first, others)) = finding.faults.split_first() else {
                return table.row([finding.check, "yes", "-"]);
            };
            let table = table.row([finding.check, "no", first]);
            others.iter().fold(table, |table, fault| table.row(["", "", fault]))
        })
    })?;
    let faults: usize = findings.iter().map(|finding| finding.faults.len()).sum();
    anyhow::ensure!(
        faults == 0,
        "{faults} {} wrong with {}",
        if faults == 1 { "thing is" } else { "things are" },
        args.existing.dir.display()
    );
    Ok(())
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
    if let Some(entries) = args.audit_entries {
        settings.audit.max_entries = entries;
    }
    if args.audit_days.is_some() {
        settings.audit.max_days = args.audit_days;
    }
    if let Some(files) = args.event_files {
        settings.events.files = files;
    }
    if let Some(MetricsAddress(listen)) = args.metrics_listen {
        settings.metrics = listen;
    }
    if let Some(path) = &args.metrics_socket {
        settings.metrics_socket = (path.as_os_str() != "off").then(|| path.clone());
    }
    if let Some(mib) = args.event_file_mib {
        settings.events.max_bytes = u64::from(mib) * 1024 * 1024;
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
        let (listen, names) = (None, vec![]);
        DirectoryArgs {
            dir,
            address,
            listen,
            names,
            audit_entries: None,
            audit_days: None,
            event_files: None,
            event_file_mib: None,
            metrics_listen: None,
            metrics_socket: None,
            legacy_clients: None,
        }
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
