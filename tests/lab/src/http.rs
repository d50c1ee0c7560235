//! A web server inside a namespace.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use nix::sys::socket;

use crate::namespace::Namespace;

/// Answers every request with one page. Stopped when dropped.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Listens on an address of the namespace; every answer's body is `page`.
    ///
    /// # Errors
    /// The address is not there or in use.
    pub fn start(namespace: &Namespace, address: SocketAddr, page: &str) -> Result<Self> {
        let listener = namespace
            .enter(|| TcpListener::bind(address))?
            .with_context(|| format!("listen on {address} in {}", namespace.name()))?;
        let accepting = listener.try_clone()?;
        let page: Arc<str> = page.into();
        let thread = thread::spawn(move || {
            // Ends when the owner shuts the listener down.
            while let Ok((connection, _)) = accepting.accept() {
                let page = Arc::clone(&page);
                thread::spawn(move || answer(connection, &page));
            }
        });
        Ok(Self { listener, thread: Some(thread) })
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // On Linux this makes a waiting accept(2) return.
        socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A client that goes away early is its own problem.
fn answer(mut connection: TcpStream, page: &str) {
    let head = BufReader::new(&connection).lines().map_while(Result::ok);
    if head.take_while(|line| !line.is_empty()).count() == 0 {
        return;
    }
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    if connection.write_all(response.as_bytes()).is_ok() {
        connection.shutdown(Shutdown::Write).ok();
    }
}
