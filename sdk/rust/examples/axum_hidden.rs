//! A web server without a listening port: only who may dial the service reaches it.
//!
//! ```text
//! cargo run -p nightgate-sdk --example axum_hidden -- IDENTITY.json SERVICE
//! ```

use std::{io::IsTerminal as _, path::PathBuf};

use anyhow::Context as _;
use axum::{Router, extract::ConnectInfo, routing::get};
use clap::Parser;
use nightgate_sdk::{Caller, Context, Identity};

#[derive(Parser)]
#[command(about = "Serves a web page over the overlay, without a listening port")]
struct Arguments {
    /// Identity file, as enrollment wrote it.
    identity: PathBuf,
    /// Name of the service to host.
    service: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).init();
    let Arguments { identity, service } = Arguments::parse();

    let identity = Identity::load(identity)?;
    let context = Context::load(&identity).await.context("join the overlay")?;
    let listener = context.bind(&service).await?;
    tracing::info!(service, host = listener.host().name, "serving");

    let app = Router::new().route("/", get(greet));
    axum::serve(listener, app.into_make_service_with_connect_info::<Caller>()).await?;
    Ok(())
}

async fn greet(ConnectInfo(caller): ConnectInfo<Caller>) -> String {
    format!("Hello {}, this server has no listening port.\n", caller.name)
}
