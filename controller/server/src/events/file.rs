//! The file of events: `events/events.jsonl` in the controller's directory, and those before it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nightgate_telemetry::{LineFile, RotatingFile};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::log::{EventLog, Line, Reader};

/// How long to wait before another try when the file cannot be written.
const RETRY: Duration = Duration::from_secs(1);

/// How much of the events is kept in files.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct EventBounds {
    /// Most files; 0 to write none.
    pub files: u32,
    /// Length at which a file is closed and the next one begun, in bytes.
    pub max_bytes: u64,
}

impl Default for EventBounds {
    /// Four files of 16 MiB, some two hundred thousand events.
    fn default() -> Self {
        Self { files: 4, max_bytes: 16 * 1024 * 1024 }
    }
}

/// Writes every event to the file until stopped, then those that are left.
pub(crate) async fn write_events(
    log: Arc<EventLog>,
    (dir, bounds): (PathBuf, EventBounds),
    stop: CancellationToken,
) {
    if bounds.files == 0 {
        return;
    }
    let mut reader = log.read_after(0);
    let mut file = LineFile::new(file(&dir, bounds));
    loop {
        let batch = tokio::select! {
            biased;
            batch = reader.next() => batch,
            () = stop.cancelled() => return write_rest(&mut reader, file).await,
        };
        if let Err(error) = file.append(texts(&batch)).await {
            let dir = dir.display();
            tracing::error!(%error, %dir, "cannot write events; those that do not wait are lost");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn write_rest(reader: &mut Reader, mut file: LineFile) {
    loop {
        let batch = reader.take();
        if batch.is_empty() {
            return;
        }
        if let Err(error) = file.append(texts(&batch)).await {
            return tracing::error!(%error, "cannot write the last events");
        }
    }
}

fn texts(batch: &[Arc<Line>]) -> Vec<String> {
    batch.iter().map(|line| line.text.clone()).collect()
}

/// The file of events.
fn file(dir: &Path, bounds: EventBounds) -> RotatingFile {
    RotatingFile::new(dir.join("events.jsonl"), bounds.files, bounds.max_bytes)
}

#[cfg(test)]
mod tests {
    use nightgate_model::event::{GapEvent, Occurrence};
    use nightgate_store::Timestamp;

    use super::*;

    #[tokio::test]
    async fn events_are_written_in_their_order_and_the_oldest_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(EventLog::new());
        for lost in 10..17 {
            log.add(Timestamp(0), Occurrence::Gap(GapEvent { lost, router_id: None }));
        }
        let batch = log.read_after(0).take();
        let max_bytes = batch.iter().take(2).map(|line| line.text.len() as u64).sum();
        let bounds = EventBounds { files: 3, max_bytes };
        LineFile::new(file(dir.path(), bounds)).append(texts(&batch)).await.unwrap();
        let file = file(dir.path(), bounds);
        let lines = |age| -> Vec<u64> {
            let text = std::fs::read_to_string(file.path(age)).unwrap();
            let lost =
                |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["lost"].as_u64();
            text.lines().map(|line| lost(line).unwrap()).collect()
        };
        assert_eq!(lines(0), [16]);
        assert_eq!(lines(1), [14, 15]);
        assert_eq!(lines(2), [12, 13]);
        assert!(!file.path(3).exists());
    }
}
