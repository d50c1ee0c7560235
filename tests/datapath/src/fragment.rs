//! Frames in fragments.

use std::ops::Range;

/// Length of an Ethernet header.
const ETHERNET: usize = 14;
/// Offset of what an IPv4 header without options precedes.
const V4_DATA: usize = ETHERNET + 20;
/// Offset of what an IPv6 header without extension headers precedes.
const V6_DATA: usize = ETHERNET + 40;
/// Number of the fragment header (IANA).
const FRAGMENT: u8 = 44;

/// Whether fragments follow one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Follows {
    /// It is the last.
    Nothing,
    /// It is not.
    More,
}

/// A frame in fragments with `size` bytes of data each, a multiple of 8. Its network header is bare.
pub fn fragments(frame: &[u8], identification: u16, size: usize) -> Vec<Vec<u8>> {
    let length = data(frame).len();
    let starts = (0..length).step_by(size);
    starts
        .map(|start| {
            let end = length.min(start + size);
            let follows = if end < length { Follows::More } else { Follows::Nothing };
            fragment(frame, identification, start..end, follows)
        })
        .collect()
}

/// The fragment of a frame that has this part of its data, in bytes behind its network header, which is bare.
pub fn fragment(
    frame: &[u8],
    identification: u16,
    range: Range<usize>,
    follows: Follows,
) -> Vec<u8> {
    fragment_at(frame, identification, range.start, &data(frame)[range], follows)
}

/// A fragment with a frame's network header that says that this data is at an offset in bytes.
pub fn fragment_at(
    frame: &[u8],
    identification: u16,
    offset: usize,
    data: &[u8],
    follows: Follows,
) -> Vec<u8> {
    let units = u16::try_from(offset / 8).expect("an offset in a packet");
    let more = u16::from(follows == Follows::More);
    if is_v4(frame) {
        let mut header = frame[..V4_DATA].to_vec();
        header[16..18].copy_from_slice(&length(20 + data.len()));
        header[18..20].copy_from_slice(&identification.to_be_bytes());
        header[20..22].copy_from_slice(&(more << 13 | units).to_be_bytes());
        header[24..26].fill(0);
        let sum = crate::checksum::sum(&header[ETHERNET..]);
        header[24..26].copy_from_slice(&sum);
        [&header, data].concat()
    } else {
        let mut header = frame[..V6_DATA].to_vec();
        let [high, low] = (units << 3 | more).to_be_bytes();
        let [id_high, id_low] = identification.to_be_bytes();
        let extension = [header[20], 0, high, low, 0, 0, id_high, id_low];
        header[20] = FRAGMENT;
        header[18..20].copy_from_slice(&length(extension.len() + data.len()));
        [&header, &extension[..], data].concat()
    }
}

fn data(frame: &[u8]) -> &[u8] {
    &frame[if is_v4(frame) { V4_DATA } else { V6_DATA }..]
}

fn is_v4(frame: &[u8]) -> bool {
    frame[ETHERNET] >> 4 == 4
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("a packet").to_be_bytes()
}
