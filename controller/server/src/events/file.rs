//! The file of events: `events/events.jsonl` in the controller's directory, and those before it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::log::{EventLog, Line, Reader};

/// How long to wait before another try when the file cannot be written.
const RETRY: Duration = Duration::from_secs(1);

/// Longest piece of a line that an interrupted write may have left, in bytes.
const LONGEST_PIECE: u64 = 4 * 1024 * 1024;

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
    let mut file = EventFile { dir, bounds, open: None };
    loop {
        let batch = tokio::select! {
            biased;
            batch = reader.next() => batch,
            () = stop.cancelled() => return write_rest(&mut reader, file).await,
        };
        let written;
        (file, written) = write(file, batch).await;
        if let Err(error) = written {
            let dir = file.dir.display();
            tracing::error!(%error, %dir, "cannot write events; those that do not wait are lost");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn write_rest(reader: &mut Reader, mut file: EventFile) {
    loop {
        let batch = reader.take();
        if batch.is_empty() {
            return;
        }
        let written;
        (file, written) = write(file, batch).await;
        if let Err(error) = written {
            return tracing::error!(%error, "cannot write the last events");
        }
    }
}

/// Writes to the disk, on a thread that may block.
async fn write(mut file: EventFile, batch: Vec<Arc<Line>>) -> (EventFile, io::Result<()>) {
    let work = move || {
        let written = file.append(&batch);
        if written.is_err() {
            file.open = None;
        }
        (file, written)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

struct EventFile {
    dir: PathBuf,
    bounds: EventBounds,
    /// The file that is written to, and its length.
    open: Option<(File, u64)>,
}

impl EventFile {
    fn append(&mut self, batch: &[Arc<Line>]) -> io::Result<()> {
        for line in batch {
            let length = line.text.len() as u64;
            if self.open.as_ref().is_some_and(|(_, has)| has + length > self.bounds.max_bytes) {
                self.rotate()?;
            }
            if self.open.is_none() {
                self.open = Some(open(&self.dir, &self.path(0))?);
            }
            if let Some((file, has)) = &mut self.open {
                file.write_all(line.text.as_bytes())?;
                *has += length;
            }
        }
        Ok(())
    }

    /// The file becomes the first of those before it; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        if self.bounds.files == 1 {
            return fs::remove_file(self.path(0));
        }
        for age in (0..self.bounds.files - 1).rev() {
            match fs::rename(self.path(age), self.path(age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn path(&self, age: u32) -> PathBuf {
        match age {
            0 => self.dir.join("events.jsonl"),
            age => self.dir.join(format!("events.{age}.jsonl")),
        }
    }
}

/// Opens the file to go on with it. What a crash has left of a line is cut off: every line of the file can be read.
fn open(dir: &Path, path: &Path) -> io::Result<(File, u64)> {
    fs::create_dir_all(dir)?;
    let mut file = File::options().create(true).read(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    let tail = length.min(LONGEST_PIECE);
    file.seek(SeekFrom::Start(length - tail))?;
    let mut bytes = Vec::new();
    (&mut file).take(tail).read_to_end(&mut bytes)?;
    let piece = bytes.iter().rev().take_while(|byte| **byte != b'\n').count() as u64;
    file.set_len(length - piece)?;
    Ok((file, length - piece))
}

#[cfg(test)]
mod tests {
    use nightgate_model::event::{GapEvent, Occurrence};
    use nightgate_store::Timestamp;

    use super::*;

    fn add(log: &EventLog, lost: u64) {
        log.add(Timestamp(0), Occurrence::Gap(GapEvent { lost, router_id: None }));
    }

    fn file(dir: &Path, files: u32, max_bytes: u64) -> EventFile {
        EventFile { dir: dir.to_owned(), bounds: EventBounds { files, max_bytes }, open: None }
    }

    fn lines(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        let lost = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["lost"].as_u64();
        text.lines().map(|line| lost(line).unwrap()).collect()
    }

    #[test]
    fn files_are_rotated_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(EventLog::new());
        (10..17).for_each(|lost| add(&log, lost));
        let batch = log.read_after(0).take();
        let two_lines = batch.iter().take(2).map(|line| line.text.len() as u64).sum();
        let mut three = file(dir.path(), 3, two_lines);
        three.append(&batch).unwrap();
        assert_eq!(lines(&three.path(0)), [16]);
        assert_eq!(lines(&three.path(1)), [14, 15]);
        assert_eq!(lines(&three.path(2)), [12, 13]);
        assert!(!three.path(3).exists());

        let other = tempfile::tempdir().unwrap();
        let mut one = file(other.path(), 1, two_lines);
        one.append(&batch).unwrap();
        assert_eq!(lines(&one.path(0)), [16]);
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_of_a_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(EventLog::new());
        add(&log, 1);
        let mut before = file(dir.path(), 2, 1_000_000);
        before.append(&log.read_after(0).take()).unwrap();
        let (open, _) = before.open.as_mut().unwrap();
        open.write_all(br#"{"version":1,"num"#).unwrap();

        add(&log, 2);
        let mut after = file(dir.path(), 2, 1_000_000);
        after.append(&log.read_after(1).take()).unwrap();

        assert_eq!(lines(&after.path(0)), [1, 2]);
    }
}
