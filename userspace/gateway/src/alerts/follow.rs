//! A file of events that grows, and is replaced now and then.

use std::{
    fs::Metadata,
    io::{self, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nightgate_mirror::verdict::Alert;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    net::unix::pipe::Receiver,
    sync::mpsc,
};
use tracing::{debug, info, warn};

use super::{CHUNK, LONGEST, pass_on};

/// Time after which the file is looked at although the kernel has told of no change: some file systems tell of none
/// (inotify(7), "Limitations and caveats").
const LOOK: Duration = Duration::from_secs(1);
/// The same where its folder is not there, or cannot be watched.
const LOOK_UNWATCHED: Duration = Duration::from_millis(100);

/// Follows a file, also when another one takes its name.
pub(super) struct Follower {
    path: PathBuf,
    watch: Watch,
    source: Option<Source>,
}

impl Follower {
    /// Opens the file, if it is there. What is in it now is past; what a file holds that takes its place is read from
    /// its beginning.
    pub(super) async fn open(path: PathBuf) -> Self {
        let mut follower = Self { watch: Watch::start(&path), path, source: None };
        follower.source = follower.source(SeekFrom::End(0)).await;
        follower
    }

    /// Passes on what is written from now on, for ever.
    pub(super) async fn run(mut self, found: mpsc::Sender<Alert>) {
        loop {
            match self.source.take() {
                None => self.watch.changed().await,
                Some(source) => {
                    let read = source.read((&self.path, &self.watch), &found).await;
                    if let Err(error) = read {
                        let path = self.path.display();
                        warn!(%path, %error, "events cannot be read; the file is opened anew");
                        self.watch.changed().await;
                    }
                }
            }
            // Before the file is opened, so that no change is missed.
            self.watch = Watch::start(&self.path);
            self.source = self.source(SeekFrom::Start(0)).await;
        }
    }

    async fn source(&self, from: SeekFrom) -> Option<Source> {
        let path = self.path.display();
        match Source::open(&self.path, from).await {
            Ok(source) => {
                info!(%path, "alerts are read");
                Some(source)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                debug!(%path, "no file of events yet");
                None
            }
            Err(error) => {
                warn!(%path, %error, "events cannot be read; the file is tried again");
                None
            }
        }
    }
}

/// Tells of changes in the folder of a file.
///
/// Its events are read like those of a pipe, which is what the runtime has a safe type for.
struct Watch(Option<Receiver>);

impl Watch {
    fn start(path: &Path) -> Self {
        match Self::of_folder(path) {
            Ok(inotify) => Self(Some(inotify)),
            Err(error) => {
                debug!(path = %path.display(), %error, "changes are not told, the file is looked at now and then");
                Self(None)
            }
        }
    }

    fn of_folder(path: &Path) -> io::Result<Receiver> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let changes = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE;
        inotify.add_watch(folder.unwrap_or_else(|| Path::new(".")), changes)?;
        Receiver::from_owned_fd_unchecked(inotify.into())
    }

    /// Waits for a change since the last call, or until it is time to look without one.
    async fn changed(&self) {
        let Some(inotify) = &self.0 else { return tokio::time::sleep(LOOK_UNWATCHED).await };
        match tokio::time::timeout(LOOK, inotify.readable()).await {
            // What changed is seen in the file itself.
            Ok(Ok(())) => while inotify.try_read(&mut [0; 4_096]).is_ok_and(|length| length > 0) {},
            Ok(Err(_)) => tokio::time::sleep(LOOK_UNWATCHED).await,
            Err(_elapsed) => {}
        }
    }
}

/// The file that has the name, or had it.
struct Source {
    file: File,
    own: Metadata,
    position: u64,
}

/// What has become of a file that is read.
enum Fate {
    Same,
    /// Others have begun another one under its name.
    Replaced,
    /// It is shorter than what was read of it.
    Emptied,
}

impl Source {
    async fn open(path: &Path, from: SeekFrom) -> io::Result<Self> {
        let mut file = File::open(path).await?;
        let position = file.seek(from).await?;
        Ok(Self { own: file.metadata().await?, file, position })
    }

    /// Reads until the file is replaced or shortened.
    async fn read(
        mut self,
        (path, watch): (&Path, &Watch),
        found: &mpsc::Sender<Alert>,
    ) -> io::Result<()> {
        let (mut lines, mut chunk) = (Lines::default(), vec![0; CHUNK]);
        let mut is_replaced = false;
        loop {
            let length = self.file.read(&mut chunk).await?;
            if length > 0 {
                self.position += length as u64;
                lines.take(&chunk[..length], found).await;
                continue;
            }
            if is_replaced {
                return Ok(());
            }
            match self.fate(path).await {
                Fate::Same => watch.changed().await,
                // Its last lines may have come since it was read.
                Fate::Replaced => is_replaced = true,
                Fate::Emptied => return Ok(()),
            }
        }
    }

    /// A writer goes on with the old file after that was renamed, until it is told to open the new one: that counts
    /// when there is something in it.
    async fn fate(&self, path: &Path) -> Fate {
        match tokio::fs::metadata(path).await {
            Ok(now) if (now.dev(), now.ino()) != (self.own.dev(), self.own.ino()) => {
                if now.len() > 0 { Fate::Replaced } else { Fate::Same }
            }
            Ok(now) if now.len() < self.position => Fate::Emptied,
            Ok(_) | Err(_) => Fate::Same,
        }
    }
}

/// Puts lines together.
#[derive(Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// The line at hand is too long: its rest is passed over.
    is_skipping: bool,
}

impl Lines {
    /// Takes the next bytes, and passes the lines on that end in them.
    pub(super) async fn take(&mut self, mut bytes: &[u8], found: &mpsc::Sender<Alert>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.add(line);
            bytes = &rest[1..];
            if !std::mem::take(&mut self.is_skipping) {
                pass_on(&self.begun, found).await;
            }
            self.begun.clear();
        }
        self.add(bytes);
    }

    fn add(&mut self, part: &[u8]) {
        if self.begun.len() + part.len() > LONGEST {
            if !self.is_skipping {
                warn!(limit = LONGEST, "a line of events is too long; it is passed over");
            }
            (self.is_skipping, self.begun) = (true, Vec::new());
        }
        if !self.is_skipping {
            self.begun.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write as _,
    };

    use super::*;

    fn line(signature: u32) -> String {
        format!(
            "{{\"event_type\":\"alert\",\"src_ip\":\"10.1.0.2\",\"src_port\":4,\"dest_ip\":\"10.77.0.1\",\
             \"dest_port\":80,\"proto\":\"TCP\",\"alert\":{{\"signature_id\":{signature},\"severity\":1}}}}\n"
        )
    }

    async fn next(alerts: &mut mpsc::Receiver<Alert>) -> u32 {
        let alert = tokio::time::timeout(Duration::from_secs(20), alerts.recv()).await;
        alert.expect("an alert in time").expect("an alert").signature_id
    }

    #[tokio::test]
    async fn a_file_is_followed_over_rotation_and_truncation_and_its_past_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eve.json");
        fs::write(&path, line(1)).unwrap();
        let (found, mut alerts) = mpsc::channel(8);
        let follower = tokio::spawn(Follower::open(path.clone()).await.run(found));

        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        let (first, second) = (line(2), line(3));
        file.write_all(first.as_bytes()).unwrap();
        let (head, tail) = second.split_at(30);
        file.write_all(head.as_bytes()).unwrap();
        assert_eq!(next(&mut alerts).await, 2, "not what was there before");
        file.write_all(tail.as_bytes()).unwrap();
        assert_eq!(next(&mut alerts).await, 3, "a line in two parts");

        fs::rename(&path, folder.path().join("eve.json.1")).unwrap();
        file.write_all(line(4).as_bytes()).unwrap();
        assert_eq!(next(&mut alerts).await, 4, "the old file is read to its end");
        let mut new = File::create(&path).unwrap();
        file.write_all(line(5).as_bytes()).unwrap();
        assert_eq!(next(&mut alerts).await, 5, "also when the new one is there, and empty");
        new.write_all([line(6), line(7)].concat().as_bytes()).unwrap();
        assert_eq!(next(&mut alerts).await, 6, "the new one from its beginning");
        assert_eq!(next(&mut alerts).await, 7);
        // Shorter than what was read, whenever the follower looks.
        fs::write(&path, line(8)).unwrap();
        assert_eq!(next(&mut alerts).await, 8, "an emptied one too");
        follower.abort();
    }

    #[tokio::test]
    async fn a_line_without_end_is_passed_over_and_the_next_one_is_read() {
        let (found, mut alerts) = mpsc::channel(8);
        let mut lines = Lines::default();
        for _ in 0..3 {
            lines.take(&vec![b'x'; LONGEST / 2 + 1], &found).await;
            assert!(lines.begun.len() <= LONGEST);
        }
        lines.take(format!("\nnonsense alert\n{}", line(7)).as_bytes(), &found).await;
        assert_eq!(next(&mut alerts).await, 7);
    }
}
