//! Two applications with the SDK in place of the gateways: one dials for each connection that comes to it, the other
//! hosts and goes to the server. A router is between them; nothing is intercepted.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context as _, Result, bail};
use nightgate_lab::{BpfFileSystem, Namespace, Process, temporary_folder};
use nightgate_sdk::{Context, Identity, Stream};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream},
};

use super::{
    contender::Contender,
    nightgate::Setup,
    server::Server,
    topology::{PORT, Topology, address},
};

/// First word of the command line of such an application.
pub const APPLICATION: &str = "application";

/// The service between them.
const SERVICE: &str = "bench";
/// Bytes that are read at once, as a gateway reads them.
const BUFFER: usize = 64 * 1_024;

/// Starts controller, router and both applications. The time and memory of all but the controller counts.
pub(super) fn start(nightgate: &Path, topology: Topology) -> Result<Contender> {
    let folder = temporary_folder()?;
    let bpf = BpfFileSystem::mount(folder.path())?;
    let setup = Setup { nightgate, topology: &topology, folder: folder.path(), bpf: bpf.path() };
    let controller = setup.controller()?;
    let router = setup.router(1, 1)?;
    setup.operator(&format!("service create {SERVICE}"))?;
    let mut processes = Vec::new();
    for (namespace, name, does, kind, place) in [
        (&topology.gateway_b, "app-b", "host", "bind", address::SERVER),
        (&topology.gateway_a, "app-a", "dial", "dial", address::LAN_A),
    ] {
        let identity = setup.identity(name)?;
        setup.operator(&format!(
            "policy create {kind} {kind} --identity @{name} --service @{SERVICE}"
        ))?;
        let words = [APPLICATION, &identity, does, &format!("{place}:{PORT}")];
        processes.push(application(namespace, name, words, folder.path())?);
    }
    processes.push(router);
    let counted = processes.len();
    processes.push(controller);
    Ok(Contender {
        processes,
        gateways: counted,
        target: SocketAddr::new(address::LAN_A.parse()?, PORT),
        server: Server::start(&topology)?,
        topology,
        _bpf: Some(bpf),
        _folder: folder,
    })
}

fn application(
    namespace: &Namespace,
    name: &str,
    words: [&str; 4],
    folder: &Path,
) -> Result<Process> {
    let mut command = namespace.command(std::env::current_exe().context("find this program")?);
    command.args(words);
    Process::spawn(name, command, folder)
}

/// Is one of the two until it is killed: IDENTITY, then `dial` and where it listens, or `host` and where the server is.
///
/// # Errors
/// The identity is of no use, or the address is taken.
pub fn application_main(words: &[String]) -> Result<()> {
    let [identity, does, place] = words else { bail!("application IDENTITY dial|host ADDRESS") };
    let place: SocketAddr = place.parse()?;
    let (identity, does) = (Identity::load(identity)?, does.clone());
    let runtime = tokio::runtime::Runtime::new()?;
    // Not on the thread that waits for it, which hears of every event from another.
    let main = runtime.spawn(async move {
        let context = Context::load(&identity).await.context("join the overlay")?;
        match does.as_str() {
            "dial" => dial(context, place).await,
            _ => host(context, place).await,
        }
    });
    runtime.block_on(main)?
}

async fn dial(context: Context, listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        let context = context.clone();
        tokio::spawn(async move {
            let stream = context.dial(SERVICE).await?;
            carry(client, stream).await
        });
    }
}

async fn host(context: Context, server: SocketAddr) -> Result<()> {
    let mut listener = context.bind(SERVICE).await?;
    loop {
        let (stream, _) = listener.accept().await;
        tokio::spawn(async move { carry(TcpStream::connect(server).await?, stream).await });
    }
}

async fn carry(mut connection: TcpStream, mut stream: Stream) -> Result<()> {
    connection.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut connection, &mut stream, BUFFER, BUFFER).await?;
    Ok(())
}
