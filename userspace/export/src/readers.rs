//! Capture files as streams over TCP (pcap-over-IP): whoever connects gets the head of a file and every packet from then
//! on.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use tracing::{debug, info};

use crate::pcapng::{Packet, packet};

/// Readers at one time; others are turned away.
const READERS: usize = 8;
/// Bytes that wait for a reader; it loses what is more.
const WAITING: usize = 8 << 20;

/// Those who read along. Nothing here waits for any of them.
#[derive(Debug)]
pub(crate) struct Readers {
    listener: TcpListener,
    head: Vec<u8>,
    readers: Vec<Reader>,
}

#[derive(Debug)]
struct Reader {
    stream: TcpStream,
    waiting: Vec<u8>,
    /// Packets it has lost since the last that it got.
    lost: u64,
}

impl Readers {
    /// Listens.
    ///
    /// # Errors
    /// The address cannot be used.
    pub(crate) fn open(address: SocketAddr, head: Vec<u8>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        info!(address = %listener.local_addr()?, "captured packets are served");
        Ok(Self { listener, head, readers: Vec::new() })
    }

    /// Takes a packet for everybody.
    pub(crate) fn add(&mut self, frame: &Packet<'_>) {
        for reader in &mut self.readers {
            let dropped = frame.dropped + reader.lost;
            let block = packet(&Packet { dropped, ..*frame });
            if reader.waiting.len() + block.len() > WAITING {
                reader.lost += 1 + frame.dropped;
            } else {
                reader.waiting.extend(block);
                reader.lost = 0;
            }
        }
    }

    /// Lets in who has come, and sends what waits as far as it is taken.
    pub(crate) fn serve(&mut self) {
        while let Ok((stream, from)) = self.listener.accept() {
            if self.readers.len() < READERS && stream.set_nonblocking(true).is_ok() {
                debug!(%from, "a reader of captured packets");
                self.readers.push(Reader { stream, waiting: self.head.clone(), lost: 0 });
            }
        }
        self.readers.retain_mut(|reader| reader.send().is_ok());
    }
}

impl Reader {
    fn send(&mut self) -> io::Result<()> {
        // Readers have nothing to say; what they say all the same is passed over.
        match self.stream.read(&mut [0; 256]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while !self.waiting.is_empty() {
            match self.stream.write(&self.waiting) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;
    use crate::pcapng::head;

    fn frame(bytes: &[u8]) -> Packet<'_> {
        Packet { time: 1, frame: bytes, length: bytes.len(), dropped: 0, comment: "c" }
    }

    fn readers() -> (Readers, SocketAddr) {
        let readers = Readers::open("127.0.0.1:0".parse().unwrap(), head("cap0")).unwrap();
        let address = readers.listener.local_addr().unwrap();
        (readers, address)
    }

    fn connect(readers: &mut Readers, address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let before = readers.readers.len();
        while readers.readers.len() == before {
            readers.serve();
            thread::sleep(Duration::from_millis(1));
        }
        stream
    }

    #[test]
    fn a_reader_gets_the_head_and_the_packets_from_then_on() {
        let (mut readers, address) = readers();
        readers.add(&frame(b"before"));
        let mut stream = connect(&mut readers, address);
        readers.add(&frame(b"after"));
        readers.serve();
        let expected = [head("cap0"), packet(&frame(b"after"))].concat();
        let mut found = vec![0; expected.len()];
        stream.read_exact(&mut found).unwrap();
        assert_eq!(found, expected);
        drop(stream);
        while !readers.readers.is_empty() {
            readers.serve();
        }
    }

    #[test]
    fn a_reader_that_does_not_read_loses_packets_and_is_told_how_many() {
        let (mut readers, address) = readers();
        let mut stream = connect(&mut readers, address);
        let large = vec![7; 60_000];
        while readers.readers[0].lost < 5 {
            readers.add(&frame(&large));
            readers.serve();
        }
        assert!(readers.readers[0].waiting.len() <= WAITING);
        let lost = readers.readers[0].lost;
        let mut found = Vec::new();
        while !readers.readers[0].waiting.is_empty() {
            let mut chunk = vec![0; 1 << 20];
            let length = stream.read(&mut chunk).unwrap();
            found.extend(&chunk[..length]);
            readers.serve();
        }
        readers.add(&frame(b"last"));
        readers.serve();
        let last = packet(&Packet { dropped: lost, ..frame(b"last") });
        while !found.ends_with(&last) {
            let mut chunk = vec![0; 1 << 20];
            let length = stream.read(&mut chunk).unwrap();
            assert!(length > 0, "closed");
            found.extend(&chunk[..length]);
        }
    }

    #[test]
    fn there_are_so_many_readers_and_no_more() {
        let (mut readers, address) = readers();
        let _streams: Vec<TcpStream> =
            (0..READERS).map(|_| connect(&mut readers, address)).collect();
        let mut late = TcpStream::connect(address).unwrap();
        late.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let is_closed = |stream: &mut TcpStream| matches!(stream.read(&mut [0; 8]), Ok(0));
        while !is_closed(&mut late) {
            readers.serve();
        }
        assert_eq!(readers.readers.len(), READERS);
    }
}
