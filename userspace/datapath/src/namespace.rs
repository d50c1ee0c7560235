//! Telling network namespaces apart as kernel programs do.
#![expect(unsafe_code, reason = "no safe wrapper knows SO_NETNS_COOKIE; this is its only use")]

use std::{io, net::UdpSocket, os::fd::AsRawFd as _};

use nix::libc::{SO_NETNS_COOKIE, SOL_SOCKET, getsockopt, socklen_t};

use crate::error::DatapathError;

/// Number of the calling thread's network namespace, which no other has until the host is restarted: what
/// `bpf_get_netns_cookie` gives (Linux 5.14).
pub(crate) fn cookie() -> Result<u64, DatapathError> {
    read().map_err(|source| DatapathError::Namespace { source })
}

fn read() -> io::Result<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_no_ipv4| UdpSocket::bind("[::1]:0"))?;
    let mut cookie = 0_u64;
    let mut length = socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the whole call; the buffer is a number of the length that is given, and
    // the option writes no more (sock_getsockopt in net/core/sock.c).
    let failed = unsafe {
        let value = (&raw mut cookie).cast();
        getsockopt(socket.as_raw_fd(), SOL_SOCKET, SO_NETNS_COOKIE, value, &raw mut length)
    };
    if failed == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
