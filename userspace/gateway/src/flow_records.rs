//! Flows that have ended, told to whom the configuration names.

mod describe;
mod lookout;

use std::path::Path;

use nightgate_config::Gateway;
use nightgate_datapath::DatapathError;
use nightgate_export::{HttpError, Outputs, host_name};
use nightgate_mirror::flow::Told;
use nightgate_telemetry::Metrics;
use tokio::sync::mpsc;
use tracing::warn;

pub(crate) use describe::View;

use crate::{asked::Asked, carried::CarriedFlows, firewall::Firewall};

/// Batches of ended flows that wait to be described; the lookout waits for room.
const WAITING: usize = 16;

/// Who knows more of flows than the kernel does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// The circuits that carry them, and what their clients say first.
    pub(crate) carried: CarriedFlows,
    /// What is asked of the private DNS.
    pub(crate) asked: Asked,
}

/// What becomes of ended flows. Without outputs, nothing looks for them.
#[derive(Debug, Default)]
pub(crate) struct FlowRecords {
    told: Option<mpsc::Receiver<Vec<Told>>>,
    outputs: Outputs,
    sources: Sources,
}

/// Flows that cannot be told of.
#[derive(Debug, thiserror::Error)]
pub enum FlowRecordsError {
    /// The kernel refuses.
    #[error(transparent)]
    Tables(#[from] DatapathError),
    /// A collector cannot be used as configured.
    #[error(transparent)]
    Collector(#[from] HttpError),
}

impl FlowRecords {
    /// Begins to look for flows that end, if the configuration wants them told. What ended while no process looked is
    /// told as well.
    ///
    /// # Errors
    /// The kernel refuses, or a file that an output needs cannot be used.
    pub(crate) fn start(
        gateway: &Gateway,
        firewall: &Firewall,
        sources: Sources,
        admin_socket: &Path,
        metrics: &Metrics,
    ) -> Result<Self, FlowRecordsError> {
        let Some(config) = &gateway.telemetry.flows else {
            return Ok(Self { sources, ..Self::default() });
        };
        let outputs = Outputs::start(config, &host_name(), metrics)?;
        let tables = firewall.datapath.flow_tables()?;
        let (sender, told) = mpsc::channel(WAITING);
        let mark = lookout::Mark::beside(admin_socket);
        lookout::start(tables, config.interim, mark, sender);
        sources.carried.look(true);
        sources.asked.want(true);
        Ok(Self { told: Some(told), outputs, sources })
    }

    /// The next flows to tell of; never, if none are wanted.
    pub(crate) async fn next(&mut self) -> Vec<Told> {
        match &mut self.told {
            Some(told) => match told.recv().await {
                Some(batch) => batch,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Tells of flows.
    pub(crate) fn tell(&self, batch: &[Told], view: &View<'_>) {
        for told in batch {
            let record = view.record(told, &self.sources);
            match serde_json::to_string(&record) {
                Ok(text) => self.outputs.submit(&record.timestamp, &text),
                Err(error) => warn!(%error, "a flow cannot be told of"),
            }
        }
    }

    /// Ends the lookout; gives what it has found and nobody has described.
    pub(crate) fn stop(&mut self) -> Vec<Told> {
        let mut left = Vec::new();
        if let Some(mut told) = self.told.take() {
            told.close();
            while let Ok(batch) = told.try_recv() {
                left.extend(batch);
            }
        }
        left
    }

    /// Delivers what waits.
    pub(crate) async fn close(self) {
        self.outputs.close().await;
    }
}
