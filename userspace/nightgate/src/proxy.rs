//! `nightgate proxy`: a service of the overlay at a local port.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use nightgate_sdk::Context;
use nightgate_tunnel::take_codes;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{identity_file, output::print_text, signals::StopSignals};

/// `nightgate proxy`
#[derive(Debug, clap::Args)]
pub(crate) struct ProxyArgs {
    /// Identity file of who dials, as `nightgate enroll` wrote it
    identity: PathBuf,
    /// Name of the service
    service: String,
    /// Where to listen; whoever reaches it, reaches the service: use an address of this host alone
    #[arg(value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Dial the host of this name, if several host the service
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

impl ProxyArgs {
    /// Carries connections until a signal asks it to stop.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut signals = StopSignals::new()?;
        let identity = identity_file::load(&self.identity)?;
        let context = Context::load(&identity).await.context("join the overlay")?;
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("listen on {}; name another address", self.listen))?;
        print_text(&format!("{} is at {}", self.service, listener.local_addr()?))?;
        let mut connections = JoinSet::new();
        connections.spawn(take_codes(context.clone(), Some(self.identity.clone())));
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (connection, _) = accepted.context("accept a connection")?;
                    let (context, service) = (context.clone(), self.service.clone());
                    connections.spawn(carry(context, service, self.host.clone(), connection));
                }
                Some(_ended) = connections.join_next() => {}
                () = signals.wait() => return Ok(()),
            }
        }
    }
}

/// Carries one connection until both ends have ended their half.
async fn carry(context: Context, service: String, host: Option<String>, mut connection: TcpStream) {
    let dialed = match &host {
        Some(host) => context.dial_identity(&service, host).await,
        None => context.dial(&service).await,
    };
    let mut stream = match dialed {
        Ok(stream) => stream,
        Err(error) => {
            let error = crate::describe(&error.into());
            tracing::warn!(error, "not dialed");
            return;
        }
    };
    match copy_bidirectional(&mut connection, &mut stream).await {
        Ok((sent, received)) => tracing::info!(service, sent, received, "connection ended"),
        Err(error) => tracing::info!(service, %error, "connection lost"),
    }
}
