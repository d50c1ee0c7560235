//! What the proxies for TCP and UDP have in common: the command line, and the way into the overlay.

use std::{io::IsTerminal as _, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use nightgate_sdk::{Context, Identity};

#[derive(Parser)]
struct Arguments {
    /// Identity file, as enrollment wrote it.
    identity: PathBuf,
    #[command(subcommand)]
    role: Role,
}

/// Which end of the service the proxy is.
#[derive(Subcommand)]
pub(crate) enum Role {
    /// Receive on a local address and dial the service for each client.
    Dial { service: String, listen: SocketAddr },
    /// Host the service and go to a server for each circuit.
    Host { service: String, server: SocketAddr },
}

/// Reads the command line of a program that does what `about` says, and joins the overlay.
pub(crate) async fn join(about: &'static str) -> anyhow::Result<(Context, Role)> {
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).init();
    let matches = Arguments::command().about(about).get_matches();
    let Arguments { identity, role } = Arguments::from_arg_matches(&matches)?;

    let identity = Identity::load(identity)?;
    let context = Context::load(&identity).await.context("join the overlay")?;
    Ok((context, role))
}
