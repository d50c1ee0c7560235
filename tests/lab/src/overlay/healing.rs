//! A router dies, and a transfer over it goes on.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    access,
    configuration::{self, FILE_NAME, FILE_SERVICE, GATEWAY_A, GATEWAY_B, ROUTER, ROUTER_2},
    deployment::{Deployment, PATIENCE},
    scenes::resolve,
    starting::{enroll_one, start_router},
};
use crate::wait::until;

/// What is sent, in blocks.
const BLOCKS: u32 = 1_024;
const BLOCK: usize = 64 * 1_024;
/// Pause between blocks, so that the transfer lasts.
const PAUSE: Duration = Duration::from_millis(3);
/// Blocks that have arrived when the router is killed.
const KILL_AFTER: u32 = BLOCKS / 4;

/// Kills the router on the path of a transfer; every byte of it arrives.
pub(super) fn heal(deployment: &mut Deployment) -> Result<String> {
    prepare(deployment)?;
    let listener = serve(deployment)?;
    let sender = thread::spawn(move || send(&listener));
    let name = SocketAddr::new(resolve(deployment, FILE_NAME)?, 80);
    let connect = || TcpStream::connect_timeout(&name, PATIENCE);
    let mut stream = deployment.topology.client.enter(connect)??;
    stream.set_read_timeout(Some(PATIENCE))?;

    receive(&mut stream, 0..KILL_AFTER)?;
    let before = path(deployment)?;
    let [_, killed, _] = before.as_slice() else { bail!("a path over {before:?}") };
    let killed = killed.clone();
    deployment.kill(&killed)?;
    let silence = receive(&mut stream, KILL_AFTER..BLOCKS)?;
    let after = path(deployment)?;
    ensure!(!after.contains(&killed), "the path is still {after:?}");
    ensure!(stream.read(&mut [0])? == 0, "more arrived than was sent");
    match sender.join() {
        Ok(sent) => sent?,
        Err(_panic) => bail!("the sender failed"),
    }
    deployment.start_router("router", &killed)?;
    Ok(format!(
        "{} MB compared; {killed} killed on the way, {} ms without a byte\nbefore  {}\nafter   {}",
        u64::from(BLOCKS) * BLOCK as u64 / 1_000_000,
        silence.as_millis(),
        before.join(" - "),
        after.join(" - "),
    ))
}

/// A second router, and a service whose server sends a lot.
fn prepare(deployment: &mut Deployment) -> Result<()> {
    let at = configuration::router_2_address(deployment.family);
    let place = format!("--advertise {at}");
    enroll_one(deployment, ROUTER_2, ("router create", ""), ("router enroll", &place))?;
    start_router(deployment, ROUTER_2, "router", configuration::router_2)?;
    let server = configuration::file_server(deployment.family);
    for command in [
        format!("service create {FILE_SERVICE} --intercept {FILE_NAME}:80 --host {server}"),
        format!(
            "policy create {FILE_SERVICE}-bind bind --identity @{GATEWAY_B} --service @{FILE_SERVICE}"
        ),
        format!(
            "policy create {FILE_SERVICE}-dial dial --identity #clients --service @{FILE_SERVICE}"
        ),
    ] {
        deployment.operator(&command)?;
    }
    for gateway in [GATEWAY_A, GATEWAY_B] {
        for router in [ROUTER, ROUTER_2] {
            deployment.wait_for_answer(gateway, "links", router)?;
        }
    }
    until("hosted service of files", PATIENCE, || {
        let answer =
            deployment.ask_operator(&format!("explain dial {GATEWAY_A} {FILE_SERVICE}"))?;
        Ok((answer.contains(GATEWAY_B) && resolve(deployment, FILE_NAME).is_ok()).then_some(()))
    })
}

fn serve(deployment: &Deployment) -> Result<TcpListener> {
    let at: SocketAddr = configuration::file_server(deployment.family).parse()?;
    Ok(deployment.topology.server.enter(|| TcpListener::bind(at))??)
}

fn send(listener: &TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    for number in 0..BLOCKS {
        stream.write_all(&block(number))?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Compares blocks as they come; gives the longest wait for one.
fn receive(stream: &mut TcpStream, numbers: std::ops::Range<u32>) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    let mut received = vec![0; BLOCK];
    for number in numbers {
        let began = Instant::now();
        stream.read_exact(&mut received).with_context(|| format!("block {number}"))?;
        longest = longest.max(began.elapsed());
        ensure!(received == block(number), "block {number} is not what was sent");
    }
    Ok(longest)
}

/// No two blocks are alike.
fn block(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(BLOCK / size_of::<u32>())
}

/// The names of the routers on the transfer's path.
fn path(deployment: &Deployment) -> Result<Vec<String>> {
    let path = access::path(deployment, FILE_SERVICE)?;
    path.with_context(|| format!("no circuit to {FILE_SERVICE}"))
}
