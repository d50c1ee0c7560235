//! Flows that have ended, told to whom the configuration names.

mod describe;
mod lookout;

use std::path::Path;

use nightgate_config::{FlowRecords as Wanted, Gateway};
use nightgate_datapath::{DatapathError, FlowTables, PacketEvent};
use nightgate_export::{HttpError, Outputs, Sinks, host_name};
use nightgate_mirror::flow::{FlowRecord, Told};
use nightgate_telemetry::Metrics;
use tokio::sync::mpsc;
use tracing::warn;

pub(crate) use describe::View;
use lookout::{Interim, Mark};

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
#[derive(Debug)]
pub(crate) struct FlowRecords {
    /// What is told at present.
    config: Option<Wanted>,
    told: Option<mpsc::Receiver<Vec<Told>>>,
    interim: Interim,
    mark: Mark,
    outputs: Outputs,
    sources: Sources,
    metrics: Metrics,
}

/// What another configuration needs, ready to be used; `None` if nothing changes.
#[derive(Debug, Default)]
pub(crate) struct Prepared(Option<Next>);

#[derive(Debug)]
struct Next {
    config: Option<Wanted>,
    sinks: Option<Sinks>,
    tables: Option<FlowTables>,
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
    /// Nothing yet.
    pub(crate) fn new(sources: Sources, admin_socket: &Path, metrics: Metrics) -> Self {
        let (config, told, interim) = (None, None, Interim::default());
        let (mark, outputs) = (Mark::beside(admin_socket), Outputs::default());
        Self { config, told, interim, mark, outputs, sources, metrics }
    }

    /// Opens what a configuration needs. Nothing changes yet.
    ///
    /// # Errors
    /// The kernel refuses, or a file that an output needs cannot be used.
    pub(crate) fn prepare(
        &self,
        gateway: &Gateway,
        firewall: &Firewall,
    ) -> Result<Prepared, FlowRecordsError> {
        let config = gateway.telemetry.flows.clone();
        if config == self.config {
            return Ok(Prepared::default());
        }
        let sinks = config.as_ref().map(|config| Sinks::new(config, &host_name())).transpose()?;
        let needs_tables = config.is_some() && self.told.is_none();
        let tables = needs_tables.then(|| firewall.datapath.flow_tables()).transpose()?;
        Ok(Prepared(Some(Next { config, sinks, tables })))
    }

    /// Tells of flows as a configuration says. If none were told of before, what ended while no process looked is told as
    /// well. What waits for an output is delivered.
    pub(crate) fn settle(&mut self, prepared: Prepared) {
        let Some(Next { config, sinks, tables }) = prepared.0 else { return };
        self.sources.carried.look(config.is_some());
        self.sources.asked.want(config.is_some());
        self.interim.set(config.as_ref().and_then(|config| config.interim));
        self.outputs.change(sinks, &self.metrics);
        if config.is_none() {
            self.told = None;
        }
        if let Some(tables) = tables {
            let (sender, told) = mpsc::channel(WAITING);
            lookout::start(tables, self.interim.clone(), self.mark.clone(), sender);
            self.told = Some(told);
        }
        self.config = config;
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

    /// Whether anybody is told.
    pub(crate) fn are_told(&self) -> bool {
        self.config.is_some()
    }

    /// Tells of flows.
    pub(crate) fn tell(&self, batch: &[Told], view: &View<'_>) {
        batch.iter().for_each(|told| self.submit(&view.record(told, &self.sources)));
    }

    /// Tells of packets that were refused.
    pub(crate) fn tell_refused(&self, packets: &[PacketEvent], view: &View<'_>) {
        let records = packets.iter().filter_map(|packet| view.refused(packet));
        records.for_each(|record| self.submit(&record));
    }

    fn submit(&self, record: &FlowRecord) {
        match serde_json::to_string(record) {
            Ok(text) => self.outputs.submit(&record.timestamp, &text),
            Err(error) => warn!(%error, "a flow cannot be told of"),
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
