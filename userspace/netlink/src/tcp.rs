//! What TCP tells of a connection.
#![expect(
    unsafe_code,
    reason = "getsockopt fills a structure that no safe wrapper knows; this is the only file that calls it"
)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

/// What a connection has sent since it stands. The counts turn over at 2^32.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TcpSegments {
    /// Segments, repeated ones and those without data included (`tcpi_segs_out` of linux/tcp.h, Linux 4.2).
    pub sent: u32,
    /// Segments that were sent again, for they or what was said of them had been lost (`tcpi_total_retrans`, Linux 2.6).
    pub repeated: u32,
}

/// Reads what a TCP connection has sent.
///
/// # Errors
/// It is no TCP socket.
pub fn tcp_segments(socket: impl AsFd) -> io::Result<TcpSegments> {
    // SAFETY: `tcp_info` is plain data for which all zeroes is a valid value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).unwrap_or_default();
    let socket = socket.as_fd().as_raw_fd();
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `info`, and `info` and `length` outlive the call.
    let result =
        unsafe { libc::getsockopt(socket, level, option, (&raw mut info).cast(), &raw mut length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpSegments { sent: info.tcpi_segs_out, repeated: info.tcpi_total_retrans })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream, UdpSocket},
    };

    use super::*;

    #[test]
    fn segments_of_a_connection_are_counted_and_others_have_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let before = tcp_segments(&client).unwrap();
        client.write_all(&[7; 100]).unwrap();
        server.read_exact(&mut [0; 100]).unwrap();
        let after = tcp_segments(&client).unwrap();
        assert!(after.sent > before.sent && after.repeated == 0, "{before:?} {after:?}");
        assert!(tcp_segments(UdpSocket::bind("127.0.0.1:0").unwrap()).is_err());
    }
}
