//! A tunneler that hosts, and intercepts nothing.

use std::{net::TcpListener, path::Path};

use nightgate_config::{Metrics as Scraping, Mirror, PacketFiles};
use nightgate_export::{Capture, CaptureError};
use nightgate_gateway::{
    admin::{AdminServer, Query, Topic},
    exporter::{Exporter, ExporterError, Source},
    hosting::InstanceSecret,
};
use nightgate_sdk::{Context, Identity};
use nightgate_telemetry::Metrics;
use tracing::{info, warn};

use crate::{
    answers::{asks, shown, tell},
    attach, capture,
    copying::Copying,
    flows::Flows,
    follower::Follower,
    hooks::Hooks,
    hosting::OwnHosting,
    mirror::{self, Mirroring},
    second_factor::take_codes,
    table::Table,
    tunneler::{REFRESH, TunnelError},
};

/// What a tunneler needs that hosts.
#[derive(Debug, Default)]
pub struct HostConfig {
    /// Shown for instance names that other hosts have too.
    pub secret: InstanceSecret,
    /// What is copied for sensors; `None` for nothing.
    pub mirror: Option<Mirror>,
    /// Capture files; `None` for none.
    pub packets: Option<PacketFiles>,
    /// Where metrics are scraped; `None` for nowhere.
    pub metrics: Option<Scraping>,
}

impl HostConfig {
    /// Serves the metrics. What is told of copies is told at the admin socket.
    pub(crate) async fn export(
        &self,
        metrics: &Metrics,
        admin_socket: Option<&Path>,
    ) -> Result<Option<Exporter>, ExporterError> {
        let Some(scraping) = &self.metrics else { return Ok(None) };
        let source = match (&self.mirror, admin_socket) {
            (Some(_), Some(socket)) => Source::Admin(socket.to_owned()),
            (None, _) | (_, None) => Source::Counters(metrics.clone()),
        };
        Exporter::start(scraping, &source).await.map(Some)
    }

    /// Writes capture files, if any are wanted, of what `identity` dials and hosts.
    pub(crate) fn capture(
        &self,
        flows: &Flows,
        identity: String,
    ) -> Result<Option<Capture>, CaptureError> {
        let Some(packets) = &self.packets else { return Ok(None) };
        capture::start(packets, (flows, identity)).map(Some)
    }

    /// Makes copies, if any are wanted; `listeners` take what programs connect to.
    pub(crate) async fn mirror(
        &self,
        copying: &Copying,
        hooks: &Hooks,
        listeners: &[TcpListener],
    ) -> Result<Option<Mirroring>, TunnelError> {
        let Some(mirror) = &self.mirror else { return Ok(None) };
        Mirroring::start((mirror, copying), hooks.clone(), listeners).await.map(Some)
    }

    /// Who says of which services, likewise.
    pub(crate) fn follower(&self, copying: &Copying) -> Result<Option<Follower>, TunnelError> {
        let Some(mirror) = &self.mirror else { return Ok(None) };
        Ok(Some(Follower::new(copying.clone(), mirror.clone())?))
    }
}

/// Hosts what the identity may host, and intercepts nothing, until `stop` completes: without hooks and sockets, and so
/// without privileges, unless copies are made. Operators may ask at `admin_socket` what it carries.
///
/// # Errors
/// The identity cannot join the overlay, operators could not ask, metrics cannot be served, or copies not be made.
pub async fn host(
    identity: &Identity,
    config: HostConfig,
    admin_socket: Option<&Path>,
    stop: impl Future<Output = ()>,
) -> Result<(), TunnelError> {
    let mut admin = admin_socket.map(AdminServer::start).transpose()?;
    let metrics = Metrics::new()?;
    let flows = Flows::new(None, metrics.clone());
    let _exporter = config.export(&metrics, admin_socket).await?;
    let context = Context::load(identity).await?;
    let _capture = config.capture(&flows, context.identity_name())?;
    let copying = Copying::new(mirror::plan(config.mirror.as_ref()).await?);
    let follower = config.follower(&copying)?;
    let hooks = config.mirror.as_ref().map(|_| attach::nowhere()).transpose()?;
    let hooks = hooks.map(Hooks::new);
    let mut mirroring = match &hooks {
        Some(hooks) => config.mirror(&copying, hooks, &[]).await?,
        None => None,
    };
    info!(identity = %context.identity_name(), "tunneler hosts");
    let codes = take_codes(context.clone(), identity.path().map(Path::to_owned));
    let told = (metrics.clone(), flows.clone());
    let follower = follower.zip(hooks);
    let hosting = OwnHosting::new(context.clone(), told, (config.secret, copying));
    let answers = async {
        loop {
            tokio::select! {
                () = mirror::follow(&mut mirroring) => {}
                Some(query) = next(&mut admin) => {
                    let shown = asks(&query, Topic::Flows).then(|| shown(&flows.report()));
                    tell(query, shown, (mirroring.as_ref(), &metrics)).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop => {}
        ((), (), ()) = async { tokio::join!(keep(context, hosting, follower), codes, answers) } => {}
    }
    if let Some(mirroring) = mirroring {
        mirroring.close().await;
    }
    Ok(())
}

async fn next(admin: &mut Option<AdminServer>) -> Option<Query> {
    match admin {
        Some(admin) => admin.next().await,
        None => std::future::pending().await,
    }
}

/// Keeps what is hosted, and copied of it, as the controller allows it.
async fn keep(context: Context, mut hosting: OwnHosting, mut follower: Option<(Follower, Hooks)>) {
    // Nothing is intercepted: it has the numbers of services.
    let mut table = Table::new();
    loop {
        context.second_factor_becomes_due(false).await;
        match context.services().await {
            Ok(services) => {
                if let Some((follower, hooks)) = &mut follower {
                    follower.heed(&services, hooks).await;
                    let identity = context.identity_name();
                    follower.follow(&services, (&identity, &mut table), &mut hooks.lock());
                }
                hosting.apply(&services);
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "the controller does not say what may be hosted; what is hosted stays"
            ),
        }
        tokio::time::sleep(REFRESH).await;
    }
}
