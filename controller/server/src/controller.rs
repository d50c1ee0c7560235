//! A running controller.

use std::{
    fs::{File, TryLockError},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nightgate_model::event::ControllerChange;
use nightgate_pki::{Authority, Directory, Passphrase, PkiError};
use nightgate_store::{SqliteStore, StoreError};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Settings, SettingsError, clock,
    core::{Core, enable_when_due, keep_audit_short, keep_usage, publish_changes},
    events::{EventLog, write_events},
    listener::Listener,
    metrics,
    tls::{self, TlsError},
    trust::ClientTrust,
};

/// How long connections may take to end after [`Controller::stop`].
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A running controller. Dropping it stops it without waiting.
pub struct Controller {
    local_address: SocketAddr,
    events: Arc<EventLog>,
    stop: CancellationToken,
    tasks: TaskTracker,
    _lock: DirectoryLock,
}

/// Why a controller does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory was never initialized.
    #[error("{} is not a controller directory; run `nightgate controller init --dir {} --address HOST:PORT`", .0.display(), .0.display())]
    NotInitialized(PathBuf),
    /// Another process uses the directory.
    #[error("{} is in use by another controller process", .0.display())]
    InUse(PathBuf),
    /// The directory cannot be locked.
    #[error("lock {}: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The certificate authority cannot be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The metrics cannot be served.
    #[error(
        "serve metrics on {address}: {source}; --metrics-listen wants a free port of an address of this host"
    )]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// Why it failed.
        source: io::Error,
    },
    /// The metrics cannot be served at their socket.
    #[error(
        "serve metrics at {}: {source}; --metrics-socket wants a path in a folder that this user may write",
        path.display()
    )]
    MetricsSocket {
        /// The socket's path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why it failed.
        source: io::Error,
    },
}

impl Controller {
    /// Serves an initialized directory: listens when this returns.
    ///
    /// # Errors
    /// The directory is not initialized or used by another process, something in it cannot be used,
    /// or the address cannot be listened on.
    pub async fn start(dir: &Path) -> Result<Self, StartError> {
        let settings =
            Settings::load(dir)?.ok_or_else(|| StartError::NotInitialized(dir.to_owned()))?;
        let lock = DirectoryLock::acquire(dir)?;
        let (pki, hosts, now) = (pki_dir(dir)?, settings.hosts()?, clock::now());
        let mut authority = Authority::open(pki.clone(), &hosts, now)?;
        if settings.legacy_clients {
            authority.open_legacy_server(pki, &hosts, now)?;
        }
        let trust = ClientTrust::new(&authority.trust_anchors()).map_err(TlsError::from)?;
        let trust = Arc::new(trust);
        let tls = tls::server_config(&authority, Arc::clone(&trust))?;
        let store = SqliteStore::open(&database_file(dir))?;
        let core = Core::new(authority, trust, settings.address, Box::new(store))?;
        let core = Arc::new(core);
        let listen = |source| StartError::Listen { address: settings.listen, source };
        let socket = TcpListener::bind(settings.listen).await.map_err(listen)?;
        let local_address = socket.local_addr().map_err(listen)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(publish_changes(Arc::clone(&core), stop.clone()));
        tasks.spawn(enable_when_due(Arc::clone(&core), stop.clone()));
        tasks.spawn(keep_audit_short(Arc::clone(&core), settings.audit, stop.clone()));
        tasks.spawn(keep_usage(Arc::clone(&core), stop.clone()));
        let events = Arc::clone(&core.events);
        events.add_controller(ControllerChange::Started);
        let kept = (dir.join("events"), settings.events);
        tasks.spawn(write_events(Arc::clone(&events), kept, stop.clone()));
        if let Some(address) = settings.metrics {
            let served = metrics::serve_address(address, Arc::clone(&core), stop.clone()).await;
            tasks.spawn(served.map_err(|source| StartError::Metrics { address, source })?);
        }
        if let Some(path) = settings.metrics_socket {
            let served = metrics::serve_socket(&path, Arc::clone(&core), stop.clone());
            tasks.spawn(served.map_err(|source| StartError::MetricsSocket { path, source })?);
        }
        let listener = Listener { socket, tls, core, stop: stop.clone(), tasks: tasks.clone() };
        tasks.spawn(listener.run());
        tracing::info!(address = %local_address, "controller listens");
        Ok(Self { local_address, events, stop, tasks, _lock: lock })
    }

    /// Where it listens; the port is the one the system chose if the settings say 0.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Stops accepting, lets requests finish and closes all connections.
    pub async fn stop(self) {
        self.events.add_controller(ControllerChange::Stopped);
        self.events.close();
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.events.close();
        self.stop.cancel();
    }
}

/// The directory's certificates and keys, with the passphrase that the process was started with.
pub(crate) fn pki_dir(dir: &Path) -> Result<Directory, PkiError> {
    Ok(Directory::new(dir.join("pki"), Passphrase::from_environment()?))
}

/// The directory's database.
pub(crate) fn database_file(dir: &Path) -> PathBuf {
    dir.join("nightgate.db")
}

/// Keeps other processes from using a directory: the model is held in memory.
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    pub(crate) fn acquire(dir: &Path) -> Result<Self, StartError> {
        let path = dir.join("lock");
        let file = match File::create(&path) {
            Ok(file) => file,
            Err(source) => return Err(StartError::Lock { path, source }),
        };
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StartError::InUse(dir.into())),
            Err(TryLockError::Error(source)) => Err(StartError::Lock { path, source }),
        }
    }
}
