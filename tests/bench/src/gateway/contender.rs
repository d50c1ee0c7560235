//! Who carries between client and server.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use nightgate_lab::{Process, memory, until};
use tempfile::TempDir;

use super::{
    PATIENCE,
    load::{Carried, Latency, Load, answers, connections, latency, requests, streams},
    server::Server,
    topology::Topology,
};

/// Streams that are carried at the same time.
pub(super) const STREAMS: [usize; 3] = [1, 4, 16];

/// One program, or none, on both gateways of a network of its own, ready. What is declared first ends first.
#[derive(Debug)]
pub(super) struct Contender {
    /// Of the gateways first.
    pub(super) processes: Vec<Process>,
    /// Whose time and memory count, of the processes.
    pub(super) gateways: usize,
    /// What the client connects to.
    pub(super) target: SocketAddr,
    pub(super) server: Server,
    pub(super) topology: Topology,
    /// Whatever else has to live as long.
    pub(super) _bpf: Option<nightgate_lab::BpfFileSystem>,
    pub(super) _folder: TempDir,
}

/// What one contender did in one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Gbit/s of 1, 4 and 16 streams.
    pub(super) streams: [f64; 3],
    /// CPU seconds of the gateways for a gigabyte of one stream.
    pub(super) cost: f64,
    pub(super) latency: Latency,
    pub(super) requests: f64,
    pub(super) connections: f64,
}

impl Contender {
    /// Waits until the client gets an answer from the server.
    pub(super) fn wait(&self) -> Result<()> {
        let ready = until("answer through the gateways", PATIENCE, || {
            Ok(answers(&self.topology.client, self.target)?.then_some(()))
        });
        ready.with_context(|| self.logs())
    }

    pub(super) fn round(&self) -> Result<Round> {
        self.try_round().with_context(|| self.logs())
    }

    /// The most memory that a gateway has had in use, in MiB (`VmHWM` of proc_pid_status(5)).
    pub(super) fn memory(&self) -> Result<f64> {
        let each = self.gateways().map(|process| mebibytes(process, "VmHWM"));
        each.collect::<Result<Vec<_>>>().map(|all| all.into_iter().fold(0.0, f64::max))
    }

    /// The memory that each gateway has in use now, in MiB (`VmRSS`).
    pub(super) fn resident(&self) -> Result<Vec<f64>> {
        self.gateways().map(|process| mebibytes(process, "VmRSS")).collect()
    }

    /// Carries streams, and counts the CPU seconds that it takes.
    pub(super) fn carry(&self, load: Load) -> Result<Carried> {
        let carried =
            streams(&self.topology.client, (self.target, &self.server), load, || self.time());
        carried.with_context(|| self.logs())
    }

    fn try_round(&self) -> Result<Round> {
        let client = &self.topology.client;
        let (mut rates, mut cost) = ([0.0; 3], 0.0);
        for (rate, count) in rates.iter_mut().zip(STREAMS) {
            let carried = self.carry(Load::of(count))?;
            *rate = carried.rate;
            if count == 1 {
                cost = carried.cost;
            }
        }
        Ok(Round {
            streams: rates,
            cost,
            latency: latency(client, self.target)?,
            requests: requests(client, self.target)?,
            connections: connections(client, self.target)?,
        })
    }

    /// CPU seconds that the gateways' programs have used so far.
    fn time(&self) -> Result<f64> {
        self.gateways().map(|process| crate::cpu::seconds(process.id())).sum()
    }

    fn gateways(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().take(self.gateways)
    }

    fn logs(&self) -> String {
        let tail = |process: &Process| {
            let log = process.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(8)..].join("\n");
            format!("--- {}\n{end}\n", process.name())
        };
        self.processes.iter().map(tail).collect()
    }
}

fn mebibytes(process: &Process, line: &str) -> Result<f64> {
    Ok(memory(process.id(), line)? as f64 / 1_024.0)
}
