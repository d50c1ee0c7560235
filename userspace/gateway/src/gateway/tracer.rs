//! Reading what the kernel programs tell of packets: for the log, and for an operator who traces.

use std::time::Duration;

use nightgate_abi::{Reason, event::Event, reason::Kind};
use nightgate_datapath::{DatapathError, Events, PacketEvent};
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tracing::{info, warn};

use super::clock;
use crate::{
    admin::{Audience, Query, TraceRequest},
    firewall::Firewall,
    trace::{self, PacketReport},
};

/// The readers of both rings, and the operator who traces.
pub(super) struct Tracer {
    log: Events,
    traces: Events,
    /// When the rings are read: records wake nobody, which would cost their packets time.
    reading: Interval,
    running: Option<Running>,
}

/// A trace.
struct Running {
    audience: Audience,
    /// Packets that may still be told; `None` for any number.
    left: Option<u64>,
    until: Instant,
    told: u64,
    /// Packets that were not told, as the operator did not keep up.
    skipped: u64,
    /// What the kernel had left out before.
    before: Left,
}

/// What the kernel leaves out.
#[derive(Clone, Copy)]
struct Left {
    suppressed: u64,
    lost: u64,
}

/// The end of a trace.
#[derive(Debug, Serialize)]
struct TraceReport {
    packets: u64,
    /// Packets that were wanted and not told, since there were too many.
    suppressed: u64,
}

/// What has happened.
pub(super) enum News {
    /// There may be records.
    Records,
    /// The time of the trace is over, or its operator has gone.
    Over,
}

/// How often the rings are read.
const READING: Duration = Duration::from_millis(50);
/// How long a trace may take.
const LONGEST: Duration = Duration::from_secs(86_400);
/// How much longer than the operator's time the kernel traces if nobody ends it.
const GRACE: Duration = Duration::from_secs(1);

impl Tracer {
    /// Begins to read.
    pub(super) fn new(firewall: &Firewall) -> Result<Self, DatapathError> {
        let mut reading = interval(READING);
        reading.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            log: firewall.datapath.log()?,
            traces: firewall.datapath.traces()?,
            reading,
            running: None,
        })
    }

    /// Waits for news.
    pub(super) async fn news(&mut self) -> News {
        let Self { reading, running, .. } = self;
        let over = async {
            match running {
                Some(running) => tokio::select! {
                    () = sleep_until(running.until) => {}
                    () = running.audience.gone() => {}
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _now = reading.tick() => News::Records,
            () = over => News::Over,
        }
    }

    /// Does what the news ask for; gives the packets that were refused and logged.
    pub(super) fn handle(&mut self, news: News, firewall: &mut Firewall) -> Vec<PacketEvent> {
        let refused = self.read_log(firewall);
        self.read_traces(firewall);
        match news {
            News::Records => {}
            News::Over => self.stop(firewall),
        }
        refused
    }

    fn read_log(&mut self, firewall: &Firewall) -> Vec<PacketEvent> {
        let mut refused = Vec::new();
        while let Some(event) = self.log.read() {
            let packet = firewall.datapath.describe_event(&event);
            if let (Some(packet), Ok(clock)) = (packet, clock()) {
                PacketReport::new(&packet, &clock).log(packet.suppressed);
                if packet.reason.kind() == Kind::Drop {
                    refused.push(packet);
                }
            }
        }
        refused
    }

    fn read_traces(&mut self, firewall: &mut Firewall) {
        while let Some(event) = self.traces.read() {
            self.tell(&event, firewall);
        }
    }

    /// Begins a trace, and answers.
    pub(super) fn start(&mut self, query: Query, request: &TraceRequest, firewall: &mut Firewall) {
        match self.prepare(request, firewall) {
            Ok((until, before)) => {
                info!(filter = request.filter.join(" "), seconds = request.seconds, "trace begins");
                let audience = query.listen();
                let left = request.count;
                self.running = Some(Running { audience, left, until, told: 0, skipped: 0, before });
            }
            Err(error) => query.answer(Err(error)),
        }
    }

    fn prepare(
        &mut self,
        request: &TraceRequest,
        firewall: &mut Firewall,
    ) -> Result<(Instant, Left), String> {
        if self.running.is_some() {
            return Err("somebody traces already: one at a time".into());
        }
        let time = Duration::from_secs(request.seconds.max(1).into());
        if time > LONGEST {
            return Err(format!("a trace takes at most {} s", LONGEST.as_secs()));
        }
        let deadline = Duration::from_nanos(clock()?.now()) + time + GRACE;
        let trace = trace::compile(request, deadline, |name| firewall.interface(name))
            .map_err(|error| error.to_string())?;
        // What an earlier operator did not read.
        while self.traces.read().is_some() {}
        let before = left_out(firewall).map_err(|error| error.to_string())?;
        firewall.datapath.start_trace(&trace).map_err(|error| error.to_string())?;
        Ok((Instant::now() + time, before))
    }

    fn tell(&mut self, event: &Event, firewall: &mut Firewall) {
        let Some(running) = &mut self.running else { return };
        let Some((packet, clock)) = firewall.datapath.describe_event(event).zip(clock().ok())
        else {
            return;
        };
        let told = serde_json::to_value(PacketReport::new(&packet, &clock))
            .is_ok_and(|report| running.audience.tell(report).is_ok());
        if !told {
            running.skipped += 1;
            return;
        }
        running.told += 1;
        if let Some(left) = &mut running.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.stop(firewall);
            }
        }
    }

    /// Ends the trace, if there is one.
    pub(super) fn stop(&mut self, firewall: &mut Firewall) {
        let Some(running) = self.running.take() else { return };
        if let Err(error) = firewall.datapath.stop_trace() {
            warn!(%error, "the trace could not be ended; it ends by its deadline");
        }
        let after = left_out(firewall).unwrap_or(running.before);
        let suppressed = running.skipped + after.suppressed - running.before.suppressed
            + after.lost
            - running.before.lost;
        let report = TraceReport { packets: running.told, suppressed };
        info!(packets = report.packets, suppressed, "trace is over");
        running.audience.end(serde_json::to_value(report).unwrap_or_default());
    }
}

fn left_out(firewall: &Firewall) -> Result<Left, DatapathError> {
    let statistics = firewall.datapath.statistics()?;
    let packets = |reason| statistics.get(reason).packets;
    Ok(Left { suppressed: packets(Reason::TraceSuppressed), lost: packets(Reason::TraceLost) })
}
