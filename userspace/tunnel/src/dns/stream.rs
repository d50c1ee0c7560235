//! DNS over TCP: messages after their length, any number in each direction (RFC 7766).

use std::{io, net::SocketAddr, time::Duration};

use nightgate_gateway::dns::framing;
use socket2::SockRef;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedWriteHalf, ReadHalf, WriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::{PATIENCE, set_mark};

/// A connection without a query for so long is over; RFC 7766 section 6.2.3 wants it to be some seconds.
const IDLE: Duration = Duration::from_secs(30);
/// Answers that wait for the program to take them.
const ANSWERS: usize = 16;

/// Answers what `own` has an answer to; everything else is asked of the server that the program meant (by a connection
/// with this mark), whose
/// answers, several to one query if there are (zone transfers), come back as they are.
///
/// # Errors
/// The program or the server cannot be talked to.
pub(crate) async fn serve(
    stream: &mut TcpStream,
    server: (SocketAddr, Option<u32>),
    own: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (from_program, to_program) = stream.split();
    let (answers, waiting) = mpsc::channel(ANSWERS);
    let asking = ask(from_program, server, own, answers);
    tokio::try_join!(asking, tell(waiting, to_program)).map(drop)
}

/// Takes queries until there are no more.
async fn ask(
    mut program: ReadHalf<'_>,
    server: (SocketAddr, Option<u32>),
    own: impl Fn(&[u8]) -> Option<Vec<u8>>,
    answers: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let mut upstream: Option<OwnedWriteHalf> = None;
    let mut relays = JoinSet::new();
    while let Some(query) = timeout(IDLE, framing::read(&mut program)).await.unwrap_or(Ok(None))? {
        if let Some(answer) = own(&query) {
            answers.send(answer).await.map_err(|_gone| io::ErrorKind::BrokenPipe)?;
            continue;
        }
        // The server may have closed what it was asked over before.
        while relays.try_join_next().is_some() {
            upstream = None;
        }
        let asked = match &mut upstream {
            Some(asked) => asked,
            None => {
                let connected = timeout(PATIENCE, connect(server)).await??;
                let (mut from_server, to_server) = connected.into_split();
                let answers = answers.clone();
                relays.spawn(async move {
                    while let Ok(Some(answer)) = framing::read(&mut from_server).await {
                        if answers.send(answer).await.is_err() {
                            break;
                        }
                    }
                });
                upstream.insert(to_server)
            }
        };
        framing::write(asked, &query).await?;
    }
    // A program may send its last query, close its half, and wait.
    if let Some(mut asked) = upstream {
        asked.shutdown().await?;
        timeout(PATIENCE, relays.join_next()).await.map(drop)?;
    }
    Ok(())
}

async fn connect((server, mark): (SocketAddr, Option<u32>)) -> io::Result<TcpStream> {
    let socket = match server {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    set_mark(SockRef::from(&socket), mark)?;
    socket.connect(server).await
}

/// Gives the program its answers until there are no more.
async fn tell(mut answers: mpsc::Receiver<Vec<u8>>, mut program: WriteHalf<'_>) -> io::Result<()> {
    while let Some(answer) = answers.recv().await {
        timeout(IDLE, framing::write(&mut program, &answer)).await??;
    }
    program.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    async fn next(stream: &mut TcpStream) -> Option<Vec<u8>> {
        framing::read(stream).await.unwrap()
    }

    #[tokio::test]
    async fn own_names_are_answered_and_the_server_that_was_meant_is_asked_for_the_rest() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut asked = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let query = next(&mut stream).await.unwrap();
                // Two answers to one query, as in a zone transfer; then the server closes.
                for part in 1..=2_u8 {
                    framing::write(&mut stream, &[query[0], part]).await.unwrap();
                }
                asked.push(query);
            }
            asked
        });
        let (mut program, mut tunneler) = pair().await;
        let serving = tokio::spawn(async move {
            let own = |query: &[u8]| (query == b"own").then(|| b"mine".to_vec());
            serve(&mut tunneler, (address, None), own).await
        });
        for query in [b"foreign", b"further"] {
            framing::write(&mut program, query).await.unwrap();
            for part in 1..=2 {
                assert_eq!(next(&mut program).await.unwrap(), [query[0], part]);
            }
            framing::write(&mut program, b"own").await.unwrap();
            assert_eq!(next(&mut program).await.unwrap(), b"mine");
        }
        program.shutdown().await.unwrap();
        assert_eq!(next(&mut program).await, None);
        serving.await.unwrap().unwrap();
        assert_eq!(server.await.unwrap(), [b"foreign".to_vec(), b"further".to_vec()]);
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_ends_the_connection() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (mut program, mut tunneler) = pair().await;
        framing::write(&mut program, b"query").await.unwrap();
        assert!(serve(&mut tunneler, (closed, None), |_query| None).await.is_err());
    }
}
