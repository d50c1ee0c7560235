//! All outputs of a gateway.

use std::{sync::Arc, time::Duration};

use nightgate_config::FlowRecords;
use nightgate_telemetry::Metrics;

use crate::{
    file::FileSink,
    http::{HttpError, HttpSink},
    queue::{Queue, Retired, Sink},
    record::Waiting,
    syslog::SyslogSink,
};

/// How long the records that wait may take when the gateway stops.
const GRACE: Duration = Duration::from_secs(3);

/// The kernel's word for this host.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The name of this host, as syslog messages tell it; empty if the kernel does not say.
pub fn host_name() -> String {
    std::fs::read_to_string(HOST_NAME).unwrap_or_default().trim().to_owned()
}

/// All outputs of a gateway.
#[derive(Debug, Default)]
pub struct Outputs {
    queues: Vec<Queue>,
    /// Those that the configuration does not name any more, until they have delivered what waits.
    retired: Vec<Retired>,
}

/// What a configuration asks for, ready to deliver.
#[derive(Debug)]
pub struct Sinks(Vec<(&'static str, Sink)>);

impl Sinks {
    /// Those of a configuration, for a host of this name. What cannot be reached or written yet is tried with the first
    /// record.
    ///
    /// # Errors
    /// A file that says how to reach a collector cannot be used.
    pub fn new(config: &FlowRecords, host: &str) -> Result<Self, HttpError> {
        let mut sinks = Vec::new();
        if let Some(file) = &config.file {
            sinks.push(("file", Sink::File(FileSink::new(file))));
        }
        if let Some(syslog) = &config.syslog {
            sinks.push(("syslog", Sink::Syslog(SyslogSink::new(syslog, host))));
        }
        if let Some(http) = &config.http {
            sinks.push(("http", Sink::Http(HttpSink::new(http)?)));
        }
        Ok(Self(sinks))
    }
}

impl Outputs {
    /// Starts those of a configuration, for a host of this name.
    ///
    /// # Errors
    /// As [`Sinks::new`].
    pub fn start(config: &FlowRecords, host: &str, metrics: &Metrics) -> Result<Self, HttpError> {
        let mut outputs = Self::default();
        outputs.change(Some(Sinks::new(config, host)?), metrics);
        Ok(outputs)
    }

    /// Goes on with those of another configuration, or none. What waits for an output goes by its new way, or by the old one
    /// if it has no new one.
    pub fn change(&mut self, sinks: Option<Sinks>, metrics: &Metrics) {
        let mut before = std::mem::take(&mut self.queues);
        for (name, sink) in sinks.into_iter().flat_map(|sinks| sinks.0) {
            let place = before.iter().position(|queue| queue.name() == name);
            let queue = match place.map(|place| before.swap_remove(place)) {
                Some(queue) => {
                    queue.replace(sink);
                    queue
                }
                None => Queue::start(name, sink, metrics),
            };
            self.queues.push(queue);
        }
        self.retired.retain(|retired| !retired.is_finished());
        self.retired.extend(before.into_iter().map(Queue::retire));
    }

    /// Hands a record to every output: a JSON object with one field at least, to which each adds how many records it has
    /// lost before, and when it was made (RFC 3339). Returns at once.
    pub fn submit(&self, timestamp: &str, record: &str) {
        let Some(open) = record.strip_suffix('}') else { return };
        let waiting = Waiting { timestamp: timestamp.to_owned(), open: open.to_owned() };
        let waiting = Arc::new(waiting);
        self.queues.iter().for_each(|queue| queue.submit(&waiting));
    }

    /// Delivers what waits, and ends.
    pub async fn close(self) {
        let Self { queues, mut retired } = self;
        retired.extend(queues.into_iter().map(Queue::retire));
        for output in retired {
            output.close(GRACE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use nightgate_config::RecordFile;
    use serde_json::{Value, json};
    use tokio::time::timeout;

    use super::*;
    use crate::queue::WAITING;

    fn config(path: &Path) -> FlowRecords {
        let file = RecordFile { path: path.to_owned(), size: 1 << 30, files: 2 };
        FlowRecords { interim: None, file: Some(file), syslog: None, http: None }
    }

    fn outputs(path: &Path, metrics: &Metrics) -> Outputs {
        Outputs::start(&config(path), "gw", metrics).unwrap()
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn records_are_written_as_lines_that_say_what_was_lost_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/flows.jsonl");
        let metrics = Metrics::new().unwrap();
        let outputs = outputs(&path, &metrics);
        // The queue is full before its task runs for the first time.
        for number in 0..WAITING + 3 {
            outputs.submit("", &json!({ "n": number }).to_string());
        }
        outputs.close().await;
        let lines = lines(&path);
        assert_eq!(lines.len(), WAITING);
        assert_eq!(lines[0], json!({ "n": 0, "lost": 3 }));
        assert_eq!(lines[WAITING - 1], json!({ "n": WAITING - 1, "lost": 0 }));
        let text = metrics.render().unwrap();
        for line in [
            "nightgate_flow_records_total{output=\"file\",result=\"delivered\"} 16384",
            "nightgate_flow_records_total{output=\"file\",result=\"lost\"} 3",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_costs_records_that_the_next_one_tells_of() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("logs");
        fs::write(&blocked, "in the way").unwrap();
        let metrics = Metrics::new().unwrap();
        let path = blocked.join("flows.jsonl");
        let outputs = outputs(&path, &metrics);
        outputs.submit("", "{\"n\":1}");
        // Meanwhile it is tried again, and succeeds.
        tokio::time::sleep(Duration::from_millis(100)).await;
        fs::remove_file(&blocked).unwrap();
        let written = async {
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), written).await.unwrap();
        outputs.submit("", "{\"n\":2}");
        outputs.close().await;
        assert_eq!(lines(&path), [json!({ "n": 1, "lost": 0 }), json!({ "n": 2, "lost": 0 })]);

        fs::remove_dir_all(&blocked).unwrap();
        fs::write(&blocked, "in the way").unwrap();
        let outputs = self::outputs(&path, &metrics);
        outputs.submit("", "{\"n\":3}");
        // Closed, it does not try for long.
        outputs.close().await;
        assert!(metrics.render().unwrap().contains("result=\"lost\"} 1"));
    }

    #[tokio::test]
    async fn what_waits_goes_by_the_new_way_and_by_the_old_one_if_there_is_no_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first.jsonl", "second.jsonl"].map(|name| folder.path().join(name));
        let metrics = Metrics::new().unwrap();
        let mut outputs = outputs(&first, &metrics);
        // Its task has not run yet.
        outputs.submit("", "{\"n\":1}");
        outputs.change(Some(Sinks::new(&config(&second), "gw").unwrap()), &metrics);
        outputs.submit("", "{\"n\":2}");
        outputs.change(None, &metrics);
        outputs.submit("", "{\"n\":3}");
        outputs.close().await;
        assert!(!first.exists());
        assert_eq!(lines(&second), [json!({ "n": 1, "lost": 0 }), json!({ "n": 2, "lost": 0 })]);
    }

    #[tokio::test]
    async fn an_output_that_is_named_no_more_is_tried_until_it_has_what_waits() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("logs");
        fs::write(&blocked, "in the way").unwrap();
        let metrics = Metrics::new().unwrap();
        let path = blocked.join("flows.jsonl");
        let mut outputs = outputs(&path, &metrics);
        outputs.submit("", "{\"n\":1}");
        outputs.change(None, &metrics);
        tokio::time::sleep(Duration::from_millis(100)).await;
        fs::remove_file(&blocked).unwrap();
        let delivered = async {
            while !outputs.retired[0].is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), delivered).await.unwrap();
        assert_eq!(lines(&path), [json!({ "n": 1, "lost": 0 })]);
        outputs.change(None, &metrics);
        assert!(outputs.retired.is_empty());
    }
}
