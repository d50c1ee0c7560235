//! Fetches a web page from a service of the overlay, with hyper's client.
//!
//! ```text
//! cargo run -p nightgate-sdk --example web_client -- IDENTITY.json http://SERVICE/path
//! ```

use std::{
    io::{Write as _, stdout},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Parser;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Uri, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use nightgate_sdk::{Connector, Context, Identity};

#[derive(Parser)]
#[command(about = "Fetches a web page from a service of the overlay and prints it")]
struct Arguments {
    /// Identity file, as enrollment wrote it.
    identity: PathBuf,
    /// Page to fetch; its host is the name of the service.
    url: Uri,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { identity, url } = Arguments::parse();

    let identity = Identity::load(identity)?;
    let context = Context::load(&identity).await.context("join the overlay")?;
    let client: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build(Connector::new(context));

    let answer = client.get(url.clone()).await.with_context(|| format!("fetch {url}"))?;
    let status = answer.status();
    let page = answer.into_body().collect().await.context("read the page")?.to_bytes();
    stdout().write_all(&page).context("print the page")?;
    anyhow::ensure!(status.is_success(), "{url}: {status}");
    Ok(())
}
