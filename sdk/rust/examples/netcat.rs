//! Standard input and output over the overlay: dials a service, or hosts it for one circuit.
//!
//! ```text
//! cargo run -p nightgate-sdk --example netcat -- IDENTITY.json SERVICE
//! cargo run -p nightgate-sdk --example netcat -- --listen IDENTITY.json SERVICE
//! ```

use std::{io::IsTerminal as _, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use nightgate_sdk::{Context, Identity, Stream};
use tokio::io::{AsyncWriteExt as _, copy, split, stdin, stdout};

#[derive(Parser)]
#[command(about = "Connects standard input and output with a service of the overlay")]
struct Arguments {
    /// Host the service and take one circuit, instead of dialing it.
    #[arg(long)]
    listen: bool,
    /// Identity file, as enrollment wrote it.
    identity: PathBuf,
    /// Name of the service.
    service: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).init();
    let Arguments { listen, identity, service } = Arguments::parse();

    let identity = Identity::load(identity)?;
    let context = Context::load(&identity).await.context("join the overlay")?;
    if listen {
        let mut listener = context.bind(&service).await?;
        tracing::info!(service, "waiting for a circuit");
        let (stream, caller) = listener.accept().await;
        tracing::info!(caller = caller.name, "circuit accepted");
        pipe(stream).await
    } else {
        pipe(context.dial(&service).await?).await
    }
}

/// Copies both ways until the other end has ended its half; ends ours when standard input ends.
async fn pipe(stream: Stream) -> anyhow::Result<()> {
    let (mut from_peer, mut to_peer) = split(stream);
    let sending = async {
        copy(&mut stdin(), &mut to_peer).await?;
        to_peer.shutdown().await
    };
    let receiving = async {
        let mut out = stdout();
        copy(&mut from_peer, &mut out).await?;
        out.flush().await
    };
    tokio::try_join!(sending, receiving).context("pipe standard input and output")?;
    Ok(())
}
