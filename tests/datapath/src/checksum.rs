//! Frames with checksums.

/// Length of an Ethernet header.
const ETHERNET: usize = 14;

/// An untagged IPv4 frame without options or an IPv6 frame without extension headers, with all its checksums
/// computed.
pub fn summed(mut frame: Vec<u8>) -> Vec<u8> {
    let is_v4 = frame[ETHERNET] >> 4 == 4;
    let (protocol, message, addresses) = if is_v4 {
        frame[24..26].fill(0);
        let sum = sum(&frame[ETHERNET..34]);
        frame[24..26].copy_from_slice(&sum);
        (frame[23], 34, frame[26..34].to_vec())
    } else {
        (frame[20], 54, frame[22..54].to_vec())
    };
    let offset = match protocol {
        6 => message + 16,
        17 => message + 6,
        1 | 58 => message + 2,
        _ => return frame,
    };
    frame[offset..offset + 2].fill(0);
    let mut covered = frame[message..].to_vec();
    if protocol != 1 {
        let length = u32::try_from(covered.len()).expect("a short frame");
        covered.splice(0..0, [length, protocol.into()].map(u32::to_be_bytes).concat());
        covered.splice(0..0, addresses);
    }
    let sum = match sum(&covered) {
        [0, 0] if protocol == 17 => [0xff, 0xff],
        sum => sum,
    };
    frame[offset..offset + 2].copy_from_slice(&sum);
    frame
}

/// The Internet checksum (RFC 1071).
pub(crate) fn sum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u64::from(u16::from_be_bytes([*high, *low])),
        [high, ..] => u64::from(*high) << 8,
        [] => 0,
    });
    let mut total: u64 = words.sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    (!u16::try_from(total).expect("folded")).to_be_bytes()
}
