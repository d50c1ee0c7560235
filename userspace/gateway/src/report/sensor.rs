//! What the admin socket tells about sensors.

use nightgate_config::{Mirror, Sensor, SensorName};
use nightgate_datapath::DatapathError;
use serde::Serialize;

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
}

impl Firewall {
    /// The sensors of the configuration.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn sensor_reports(
        &self,
        sensors: Option<(&Mirror, Healths)>,
    ) -> Result<Vec<SensorReport>, DatapathError> {
        let Some((mirror, healths)) = sensors else { return Ok(Vec::new()) };
        let report = |(name, sensor): (&SensorName, &Sensor)| {
            let planned = self.mirror.sensors().iter().find(|planned| planned.name == *name);
            let counter = match planned {
                Some(planned) => self.datapath.mirror_sensor_counter(planned.number)?,
                None => Default::default(),
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
            })
        };
        mirror.sensors.iter().map(report).collect()
    }
}
