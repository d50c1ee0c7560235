//! Metrics that are what a process knows at the moment when it is asked.

use std::collections::HashMap;

use prometheus::{IntCounterVec, IntGaugeVec, Registry, TextEncoder};

use crate::{
    metrics::{CounterMetric, GaugeMetric},
    registry::{MetricsError, register, register_gauge},
};

/// Most series of one metric; what is more is left out and counted by nothing but this bound.
const MAX_SERIES: usize = 10_000;

/// What one scrape finds.
#[derive(Debug, Default)]
pub struct Scrape {
    registry: Registry,
    counters: HashMap<&'static str, (IntCounterVec, usize)>,
    gauges: HashMap<&'static str, (IntGaugeVec, usize)>,
}

impl Scrape {
    /// Notes what a counter stands at, one value for each label of the metric. The same labels again add up.
    ///
    /// # Errors
    /// The metric's declaration is not valid, or the labels are not as many.
    pub fn count(
        &mut self,
        metric: CounterMetric,
        labels: &[&str],
        value: u64,
    ) -> Result<(), MetricsError> {
        let (family, series) = match self.counters.entry(metric.name) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert((register(&self.registry, metric)?, 0))
            }
        };
        if *series < MAX_SERIES {
            *series += 1;
            family.get_metric_with_label_values(labels)?.inc_by(value);
        }
        Ok(())
    }

    /// Notes what a gauge shows, one value for each label of the metric.
    ///
    /// # Errors
    /// As for [`Self::count`].
    pub fn gauge(
        &mut self,
        metric: GaugeMetric,
        labels: &[&str],
        value: u64,
    ) -> Result<(), MetricsError> {
        let (family, series) = match self.gauges.entry(metric.name) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert((register_gauge(&self.registry, metric)?, 0))
            }
        };
        if *series < MAX_SERIES {
            *series += 1;
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            family.get_metric_with_label_values(labels)?.set(value);
        }
        Ok(())
    }

    /// Renders everything in Prometheus' text format.
    ///
    /// # Errors
    /// A metric cannot be written as text.
    pub fn render(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{CIRCUITS_REFUSED, FLOWS};

    #[test]
    fn a_scrape_shows_what_was_noted() {
        let mut scrape = Scrape::default();
        scrape.count(CIRCUITS_REFUSED, &["dialer", "no-route"], 3).unwrap();
        scrape.count(CIRCUITS_REFUSED, &["dialer", "no-route"], 1).unwrap();
        scrape.gauge(FLOWS, &["opening"], 7).unwrap();
        assert!(scrape.gauge(FLOWS, &["opening", "too many"], 7).is_err());
        let text = scrape.render().unwrap();
        for line in [
            "nightgate_circuits_refused_total{cause=\"no-route\",end=\"dialer\"} 4",
            "nightgate_flows{state=\"opening\"} 7",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_metric_has_so_many_series_and_no_more() {
        let mut scrape = Scrape::default();
        for number in 0..MAX_SERIES + 5 {
            scrape.gauge(FLOWS, &[&number.to_string()], 1).unwrap();
        }
        let text = scrape.render().unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("nightgate")).count(), MAX_SERIES);
    }
}
