//! `nightgate router run`: a router without firewall, which needs no privileges.

use anyhow::Context as _;
use nightgate_gateway::{
    admin::{AdminServer, Query, Request, Topic},
    exporter::{Exporter, Source},
    report::RouterReport,
};
use nightgate_router::{Router, Traffic};

use crate::{config_file::ConfigArgs, signals::StopSignals};

/// Runs a router until a signal asks it to stop.
pub(crate) async fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let config = args.load()?;
    anyhow::ensure!(
        config.gateway.is_none(),
        "the configuration has zones: run it with `nightgate gateway run`, or remove them"
    );
    let mut stop = StopSignals::new()?;
    let mut admin = AdminServer::start(&config.admin_socket)?;
    let exporter = match &config.metrics {
        Some(metrics) => {
            Some(Exporter::start(metrics, &Source::Admin(config.admin_socket.clone())).await?)
        }
        None => None,
    };
    let traffic = Traffic::start(config.router.threads).context("start threads")?;
    let router = Router::start(args.router(&config)?, traffic.lanes()).await;
    let router = router.context("start the router")?;
    tracing::info!(id = %router.id(), listen = ?router.listening(), "router runs");
    loop {
        tokio::select! {
            () = stop.wait() => break,
            Some(query) = admin.next() => answer(query, &router).await,
        }
    }
    drop(exporter);
    router.shutdown().await;
    Ok(())
}

async fn answer(query: Query, router: &Router) {
    let answer = match &query.request {
        Request::Show(Topic::Router) => {
            let status = router.status().await;
            let report = RouterReport::new(status, &router.replica().borrow());
            serde_json::to_value(report).map_err(|error| error.to_string())
        }
        Request::Show(Topic::Metrics) => match router.metrics().await {
            Ok(text) => Ok(text.into()),
            Err(error) => Err(error.to_string()),
        },
        Request::Show(
            Topic::Counters
            | Topic::Drops
            | Topic::Rules
            | Topic::Flows
            | Topic::Mirror
            | Topic::Sensors
            | Topic::Names
            | Topic::Verdicts
            | Topic::Quarantine
            | Topic::Tunnel,
        )
        | Request::Plan(_)
        | Request::Trace(_)
        | Request::Flows(_)
        | Request::KillFlows(_)
        | Request::Quarantine(_)
        | Request::Release(_)
        | Request::SecondFactor(_)
        | Request::Apply(_)
        | Request::Confirm
        | Request::Rollback
        | Request::Explain(_)
        | Request::Learn(_)
        | Request::StopLearning
        | Request::Learned => Err("this is a router, only a gateway has these".into()),
    };
    query.answer(answer);
}
