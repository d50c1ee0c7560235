//! Reading whole hash maps, many entries with each system call (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6).
#![expect(unsafe_code, reason = "the system call that reads many entries has no wrapper in aya")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use aya::{Pod, maps::MapError, sys::SyscallError};
use nix::libc;

/// Entries read at a time. A bucket, which is read as a whole, has a handful.
const ENTRIES: u32 = 1_024;

/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd` (linux/bpf.h).
const LOOKUP_BATCH: libc::c_long = 24;

/// The part of `union bpf_attr` (linux/bpf.h) that this call reads and writes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    /// Address of what the call before wrote to `out_batch`; 0 for the first.
    in_batch: u64,
    /// Address of where the next one goes on: 4 bytes for hash maps.
    out_batch: u64,
    keys: u64,
    values: u64,
    /// Room for entries, then how many there are.
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

const _: () = assert!(size_of::<Attributes>() == 56);

/// Calls a function for each entry of a hash map. Entries that come and go meanwhile may be missing.
///
/// # Safety
/// The map is a hash map, LRU or not, whose keys and values have the sizes of `K` and `V`.
pub(crate) unsafe fn each<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    mut function: impl FnMut(&K, &V),
) -> Result<(), MapError> {
    let mut keys = Box::<[K]>::new_uninit_slice(ENTRIES as usize);
    let mut values = Box::<[V]>::new_uninit_slice(ENTRIES as usize);
    let (mut position, mut next) = (0_u32, 0_u32);
    let mut begun = 0;
    loop {
        let mut attributes = Attributes {
            in_batch: begun,
            out_batch: (&raw mut next).expose_provenance() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: ENTRIES,
            map_fd: map.as_raw_fd().cast_unsigned(),
            ..Attributes::default()
        };
        // SAFETY: the attributes are those of the call, all of its addresses are of memory that is there. It writes at
        // most `count` keys and values, whose sizes are the caller's promise, and 4 bytes to `out_batch`.
        let result = unsafe {
            let size = size_of::<Attributes>();
            libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut attributes, size)
        };
        let error = (result < 0).then(io::Error::last_os_error);
        let is_last = error.as_ref().and_then(io::Error::raw_os_error) == Some(libc::ENOENT);
        if let Some(io_error) = error.filter(|_| !is_last) {
            return Err(SyscallError { call: "bpf_map_lookup_batch", io_error }.into());
        }
        let found = attributes.count.min(ENTRIES) as usize;
        for (key, value) in keys[..found].iter().zip(&values[..found]) {
            // SAFETY: the call has written the first `count` of them, and any bytes are a value of either type.
            let (key, value) = unsafe { (key.assume_init_ref(), value.assume_init_ref()) };
            function(key, value);
        }
        if is_last {
            return Ok(());
        }
        position.clone_from(&next);
        begun = (&raw const position).expose_provenance() as u64;
    }
}
