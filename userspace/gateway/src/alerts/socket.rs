//! A socket that sensors write events to.

use std::{io, path::Path, sync::Arc};

use nightgate_mirror::verdict::Alert;
use nightgate_telemetry::open_socket;
use tokio::{
    io::AsyncReadExt as _,
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tracing::warn;

use super::{AlertsError, CHUNK, follow::Lines};

/// Sensors that are connected at one time; others wait.
const SENSORS: usize = 16;

/// Rights of the socket: who runs the gateway, and its group, which sensors may be in.
const RIGHTS: u32 = 0o660;

/// Opens the socket. One that an earlier process has left is replaced; any other file, and the socket of another
/// process, stays.
pub(super) fn open(path: &Path) -> Result<UnixListener, AlertsError> {
    let failed = |source| AlertsError::Socket { path: path.to_owned(), source };
    open_socket(path, RIGHTS).and_then(UnixListener::from_std).map_err(failed)
}

/// Reads what sensors write, for ever.
pub(super) async fn serve(listener: UnixListener, found: mpsc::Sender<Alert>) {
    let places = Arc::new(Semaphore::new(SENSORS));
    let mut sensors = JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        while sensors.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let found = found.clone();
                sensors.spawn(async move {
                    if let Err(error) = read(stream, &found).await {
                        warn!(%error, "a sensor's events cannot be read any further");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a sensor could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn read(mut stream: UnixStream, found: &mpsc::Sender<Alert>) -> io::Result<()> {
    let (mut lines, mut chunk) = (Lines::default(), vec![0; CHUNK]);
    loop {
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        lines.take(&chunk[..length], found).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn sensors_write_to_a_socket_that_is_taken_over_from_an_earlier_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.sock");
        drop(open(&path).unwrap());
        let (found, mut alerts) = mpsc::channel(8);
        let server = tokio::spawn(serve(open(&path).unwrap(), found));
        let mut sensor = UnixStream::connect(&path).await.unwrap();
        let line = "{\"event_type\":\"alert\",\"src_ip\":\"fd01::2\",\"dest_ip\":\"fd77::1\",\
            \"proto\":\"IPv6-ICMP\",\"alert\":{\"signature_id\":9}}\n";
        sensor.write_all(line.as_bytes()).await.unwrap();
        let alert = tokio::time::timeout(Duration::from_secs(20), alerts.recv()).await;
        assert_eq!(alert.unwrap().unwrap().signature_id, 9);
        assert!(open(&path).is_err(), "another process listens");
        server.abort();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(open(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
