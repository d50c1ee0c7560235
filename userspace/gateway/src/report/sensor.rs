//! What the admin socket, and metrics, tell about sensors.

use std::collections::BTreeMap;

use nightgate_abi::Counter;
use nightgate_config::{InterfaceName, Mirror, Sensor, SensorName};
use nightgate_datapath::DatapathError;
use nightgate_mirror::Plan;
use nightgate_telemetry::{
    MetricsError, Scrape,
    metrics::{
        MIRROR_COPIES, SENSOR_BYTES, SENSOR_CHANGES, SENSOR_COPIES, SENSOR_QUEUE_DROPS, SENSOR_UP,
    },
};
use serde::Serialize;

use super::MirrorReport;
use crate::{firewall::Firewall, mirror::Healths};

/// An element of the answer to [`crate::admin::Topic::Sensors`].
#[derive(Clone, Debug, Serialize)]
pub struct SensorReport {
    sensor: String,
    interface: String,
    address: Option<String>,
    encapsulation: &'static str,
    /// `up` or `down`.
    state: &'static str,
    /// Why it is down.
    trouble: Option<&'static str>,
    /// How often it went down or came back since the gateway's start, or since its configuration has changed.
    changes: u64,
    /// Frames sent to it, and their bytes without the encapsulation.
    packets: u64,
    bytes: u64,
    /// Packets that the queue of its interface has dropped, whoever sent them; `None` if the kernel does not say.
    queue_drops: Option<u32>,
}

/// Packets that queues of interfaces have dropped.
pub type QueueDrops = BTreeMap<InterfaceName, u32>;

impl Firewall {
    /// The sensors of the configuration.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn sensor_reports(
        &self,
        sensors: Option<(&Mirror, Healths)>,
        drops: &QueueDrops,
    ) -> Result<Vec<SensorReport>, DatapathError> {
        let Some((mirror, healths)) = sensors else { return Ok(Vec::new()) };
        let sent = |number| self.datapath.mirror_sensor_counter(number);
        sensor_reports((mirror, &self.mirror), &healths, sent, drops)
    }
}

/// The sensors of a configuration and its plan; `sent` tells what was sent to the one of a number.
///
/// # Errors
/// The kernel refuses.
pub fn sensor_reports(
    (mirror, plan): (&Mirror, &Plan),
    healths: &Healths,
    sent: impl Fn(u8) -> Result<Counter, DatapathError>,
    drops: &QueueDrops,
) -> Result<Vec<SensorReport>, DatapathError> {
    let report = |(name, sensor): (&SensorName, &Sensor)| {
        let planned = plan.sensors().iter().find(|planned| planned.name == *name);
        let counter = match planned {
            Some(planned) => sent(planned.number)?,
            None => Counter::default(),
        };
        let health = healths.get(name);
        let trouble = health.and_then(|health| health.trouble);
        Ok(SensorReport {
            sensor: name.to_string(),
            interface: sensor.interface.to_string(),
            address: sensor.address.map(|address| address.to_string()),
            encapsulation: sensor.encapsulation.as_str(),
            state: if trouble.is_none() { "up" } else { "down" },
            trouble: trouble.map(nightgate_mirror::Trouble::as_str),
            changes: health.map_or(0, |health| health.changes),
            packets: counter.packets,
            bytes: counter.bytes,
            queue_drops: drops.get(&sensor.interface).copied(),
        })
    };
    mirror.sensors.iter().map(report).collect()
}

/// What became of the mirror's copies, in Prometheus' text format.
///
/// # Errors
/// A metric's declaration is not valid.
pub fn mirror_metrics(
    copies: &[MirrorReport],
    sensors: &[SensorReport],
) -> Result<String, MetricsError> {
    let mut scrape = Scrape::default();
    for MirrorReport { session, outcome, packets, .. } in copies {
        scrape.count(MIRROR_COPIES, &[session, outcome], *packets)?;
    }
    for report in sensors {
        let labels: &[&str] = &[&report.sensor];
        scrape.gauge(SENSOR_UP, labels, report.trouble.is_none().into())?;
        scrape.count(SENSOR_CHANGES, labels, report.changes)?;
        scrape.count(SENSOR_COPIES, labels, report.packets)?;
        scrape.count(SENSOR_BYTES, labels, report.bytes)?;
        if let Some(drops) = report.queue_drops {
            scrape.count(SENSOR_QUEUE_DROPS, labels, drops.into())?;
        }
    }
    scrape.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_tell_of_each_session_and_each_sensor() {
        let copies =
            [("matched", 7), ("mirrored", 5), ("rate-limited", 2)].map(|(outcome, packets)| {
                MirrorReport { session: "web".into(), outcome, packets, bytes: 9 }
            });
        let sensor = SensorReport {
            sensor: "ids".into(),
            interface: "mon0".into(),
            address: None,
            encapsulation: "vxlan",
            state: "down",
            trouble: Some("link-down"),
            changes: 3,
            packets: 5,
            bytes: 500,
            queue_drops: Some(4),
        };
        let text = mirror_metrics(&copies, &[sensor]).unwrap();
        for line in [
            "nightgate_mirror_copies_total{outcome=\"matched\",session=\"web\"} 7",
            "nightgate_mirror_copies_total{outcome=\"rate-limited\",session=\"web\"} 2",
            "nightgate_sensor_up{sensor=\"ids\"} 0",
            "nightgate_sensor_changes_total{sensor=\"ids\"} 3",
            "nightgate_sensor_copies_total{sensor=\"ids\"} 5",
            "nightgate_sensor_bytes_total{sensor=\"ids\"} 500",
            "nightgate_sensor_queue_drops_total{sensor=\"ids\"} 4",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
