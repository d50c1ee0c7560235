#![expect(
    unsafe_code,
    reason = "ethtool's ioctl takes pointers; this is the only file that calls it"
)]

use std::{io, os::fd::AsRawFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `SIOCETHTOOL` of linux/sockios.h.
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// Runs one ethtool command that takes or returns a 32-bit value, on an interface of the calling
/// thread's network namespace. Returns the value the kernel left there.
pub(crate) fn ethtool(interface: &str, command: u32, data: u32) -> io::Result<u32> {
    if interface.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut value = EthtoolValue { command, data };
    // SAFETY: `ifreq` is plain data for which all zeroes is a valid value (an empty name).
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the name is terminated (shorter than IFNAMSIZ, rest zero), `ifru_data` points to an
    // `ethtool_value` that outlives the call, and the commands of `offload` read or write no more.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data)
}
