//! Applications in namespaces of their own that send each other what both can compute.

use std::{path::Path, sync::LazyLock, time::Duration};

use nightgate_lab::{Mesh, Namespace};
use nightgate_sdk::{Context, Identity, Listener, Stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    task::JoinSet,
    time::{sleep, timeout},
};

const SERVICE: &str = "bulk";
/// Bytes that are compared at once.
const BLOCK: usize = 64 * 1_024;
/// First byte of a circuit: what the dialer wants.
const UPLOAD: u8 = b'u';
const DOWNLOAD: u8 = b'd';
const GREETING: u8 = b'g';
/// How long the applications try to find each other, and all transfers of a test may take.
const PATIENCE: Duration = Duration::from_secs(60);
const DIAL_TIME: Duration = Duration::from_secs(15);
const TRANSFER_TIME: Duration = Duration::from_secs(300);
/// And so much longer for every MiB of them, at 8 MiB/s.
const MEBIBYTE_TIME: Duration = Duration::from_millis(125);

/// So many bytes in one direction; even circuits upload, odd ones download.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    circuit: u64,
    blocks: u64,
}

impl Transfer {
    pub(crate) fn new(circuit: u64, mebibytes: u64) -> Self {
        Self { circuit, blocks: mebibytes * (1 << 20) / BLOCK as u64 }
    }

    fn wish(self) -> u8 {
        if self.circuit.is_multiple_of(2) { UPLOAD } else { DOWNLOAD }
    }

    /// No two blocks of all circuits are alike: what is lost, doubled or out of order shows.
    fn block(self, number: u64) -> Vec<u8> {
        static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| PERIOD.repeat(BLOCK / PERIOD.len() + 2));
        let begin = usize::try_from(number).unwrap() % PERIOD.len();
        let mut block = NOISE[begin..begin + BLOCK].to_vec();
        block[..8].copy_from_slice(&self.circuit.to_be_bytes());
        block[8..16].copy_from_slice(&number.to_be_bytes());
        block
    }

    async fn send(self, stream: &mut Stream) -> std::io::Result<()> {
        for number in 0..self.blocks {
            stream.write_all(&self.block(number)).await?;
        }
        stream.shutdown().await
    }

    /// Compares every byte, and that nothing follows.
    async fn receive(self, stream: &mut Stream) -> std::io::Result<()> {
        let mut block = vec![0; BLOCK];
        for number in 0..self.blocks {
            stream.read_exact(&mut block).await.map_err(|error| {
                let circuit = self.circuit;
                std::io::Error::other(format!("circuit {circuit}, block {number}: {error}"))
            })?;
            assert!(block == self.block(number), "circuit {}, block {number}", self.circuit);
        }
        assert_eq!(stream.read(&mut block).await?, 0, "circuit {}: too much", self.circuit);
        Ok(())
    }
}

/// A period that no block's length is a multiple of.
const PERIOD: [u8; 251] = {
    let mut noise = [0; 251];
    let mut state = 1_u32;
    let mut at = 0;
    while at < noise.len() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise[at] = (state >> 24) as u8;
        at += 1;
    }
    noise
};

/// A dialer and a host, each in its namespace.
pub(crate) struct Applications {
    dialer: Context,
    dialers: Runtime,
    _hosts: Runtime,
}

impl Applications {
    /// Enrolls both, hosts the service and waits until it can be dialed.
    pub(crate) fn join(mesh: &Mesh) -> Self {
        let (host, dialer) = (mesh.join("host").unwrap(), mesh.join("dialer").unwrap());
        for command in [
            format!("service create {SERVICE}"),
            format!("policy create host bind --identity @host --service @{SERVICE}"),
            format!("policy create dial dial --identity @dialer --service @{SERVICE}"),
            "edge-router-policy delete all-identities-all-routers".to_owned(),
            "edge-router-policy create first --identity @dialer --router @r1".to_owned(),
            "edge-router-policy create last --identity @host --router @r5".to_owned(),
        ] {
            mesh.operator(&command).unwrap();
        }
        let (hosts, dialers) = (runtime(mesh.hosts()), runtime(mesh.dialers()));
        let host = load(&hosts, &host);
        let listener = run(&hosts, bind(host));
        hosts.spawn(serve(listener));
        let applications = Self { dialer: load(&dialers, &dialer), dialers, _hosts: hosts };
        let found =
            nightgate_lab::until("dialed service", PATIENCE, || Ok(applications.try_hold()));
        found.unwrap_or_else(|error| panic!("{error}\n{}", mesh.log_tails(20)));
        applications
    }

    /// An open circuit that carries nothing, if it can be made now.
    pub(crate) fn try_hold(&self) -> Option<Stream> {
        let context = self.dialer.clone();
        let greeted = async move {
            let mut stream = context.dial(SERVICE).await.ok()?;
            stream.write_all(&[GREETING]).await.ok()?;
            stream.read_exact(&mut [0]).await.ok()?;
            Some(stream)
        };
        run(&self.dialers, async { timeout(DIAL_TIME, greeted).await.ok().flatten() })
    }

    /// Carries all of them at once, and compares what arrives.
    pub(crate) fn transfer(&self, transfers: &[Transfer]) {
        self.begin(transfers).finish(self);
    }

    /// Begins them.
    pub(crate) fn begin(&self, transfers: &[Transfer]) -> Running {
        let mut running = JoinSet::new();
        for &transfer in transfers {
            let task = carry(self.dialer.clone(), transfer);
            running.spawn_on(task, self.dialers.handle());
        }
        let blocks: u64 = transfers.iter().map(|transfer| transfer.blocks).sum();
        let mebibytes = u32::try_from((blocks * BLOCK as u64) >> 20).unwrap();
        Running { running, time: TRANSFER_TIME + MEBIBYTE_TIME * mebibytes }
    }
}

/// Transfers under way.
pub(crate) struct Running {
    running: JoinSet<()>,
    /// How long they may take.
    time: Duration,
}

impl Running {
    /// Waits for all of them; fails when one of them does.
    pub(crate) fn finish(self, applications: &Applications) {
        let Self { mut running, time } = self;
        run(&applications.dialers, async move {
            let all = async {
                while let Some(ended) = running.join_next().await {
                    ended.unwrap();
                }
            };
            timeout(time, all).await.expect("all transfers in time");
        });
    }
}

async fn carry(context: Context, transfer: Transfer) {
    let mut stream = context.dial(SERVICE).await.unwrap();
    stream.write_all(&[transfer.wish()]).await.unwrap();
    stream.write_u64(transfer.circuit).await.unwrap();
    stream.write_u64(transfer.blocks).await.unwrap();
    if transfer.wish() == DOWNLOAD {
        transfer.receive(&mut stream).await.unwrap();
    } else {
        transfer.send(&mut stream).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), UPLOAD, "the host's word that all is there");
    }
}

async fn serve(mut listener: Listener) {
    loop {
        let (stream, _) = listener.accept().await;
        // A dialer that has gone is none of the host's business; the dialer's side fails the test.
        tokio::spawn(async move { drop(answer(stream).await) });
    }
}

async fn answer(mut stream: Stream) -> std::io::Result<()> {
    let wish = stream.read_u8().await?;
    if wish == GREETING {
        stream.write_all(&[GREETING]).await?;
        return stream.read(&mut [0]).await.map(drop);
    }
    let transfer = Transfer { circuit: stream.read_u64().await?, blocks: stream.read_u64().await? };
    if wish == DOWNLOAD {
        return transfer.send(&mut stream).await;
    }
    transfer.receive(&mut stream).await?;
    stream.write_all(&[UPLOAD]).await?;
    stream.shutdown().await
}

async fn bind(host: Context) -> Listener {
    let mut last = None;
    let bound = async {
        loop {
            match host.bind(SERVICE).await {
                Ok(listener) => return listener,
                Err(not_yet) => last = Some(not_yet),
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let bound = timeout(PATIENCE, bound).await;
    bound.unwrap_or_else(|_late| panic!("no bound service: {last:?}"))
}

fn load(runtime: &Runtime, identity: &Path) -> Context {
    let identity = Identity::load(identity).unwrap();
    run(runtime, async move { Context::load(&identity).await.unwrap() })
}

/// Its threads are inside the namespace, so what they open is.
fn runtime(namespace: &Namespace) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all();
    namespace.enter(|| builder.build().unwrap()).unwrap()
}

/// Runs something on the runtime's own threads.
fn run<T: Send + 'static>(runtime: &Runtime, task: impl Future<Output = T> + Send + 'static) -> T {
    runtime.block_on(runtime.spawn(task)).unwrap()
}
