//! Blocks of capture files (draft-ietf-opsawg-pcapng). All numbers are little-endian, as the section header says.

/// Link type of Ethernet frames (LINKTYPE_ETHERNET).
const ETHERNET: u16 = 1;

/// Block types.
mod block {
    pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const ENHANCED_PACKET: u32 = 6;
}

/// Codes of options.
mod option {
    pub(super) const END: u16 = 0;
    pub(super) const COMMENT: u16 = 1;
    /// Of a section: the application that wrote it.
    pub(super) const APPLICATION: u16 = 4;
    /// Of an interface.
    pub(super) const NAME: u16 = 2;
    /// Of an interface: the negative power of ten that timestamps are in.
    pub(super) const RESOLUTION: u16 = 9;
    /// Of a packet: how many were lost before it.
    pub(super) const DROPPED: u16 = 4;
}

/// A frame as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// Nanoseconds since 1970 in UTC.
    pub(crate) time: u64,
    /// Its bytes, from the Ethernet header on.
    pub(crate) frame: &'a [u8],
    /// Its length; more than there are bytes if it was cut.
    pub(crate) length: usize,
    /// Frames that were lost before it, since the one before.
    pub(crate) dropped: u64,
    /// What is known about it; empty for nothing.
    pub(crate) comment: &'a str,
}

/// What a file begins with: the section, and the interface that all its packets are of.
pub(crate) fn head(interface: &str) -> Vec<u8> {
    let mut section = Vec::new();
    // The byte-order magic, version 1.0, and a section of unknown length.
    section.extend(0x1a2b_3c4d_u32.to_le_bytes());
    section.extend([1_u16, 0].map(u16::to_le_bytes).concat());
    section.extend(u64::MAX.to_le_bytes());
    add_option(&mut section, option::APPLICATION, b"nightgate");
    add_option(&mut section, option::END, &[]);
    let mut description = Vec::new();
    description.extend([ETHERNET, 0].map(u16::to_le_bytes).concat());
    // No limit of the bytes of a packet.
    description.extend(0_u32.to_le_bytes());
    add_option(&mut description, option::NAME, interface.as_bytes());
    add_option(&mut description, option::RESOLUTION, &[9]);
    add_option(&mut description, option::END, &[]);
    [block(block::SECTION_HEADER, &section), block(block::INTERFACE, &description)].concat()
}

/// The block of a packet.
pub(crate) fn packet(packet: &Packet<'_>) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let [high, low] = [packet.time >> 32, packet.time & u64::from(u32::MAX)]
        .map(|half| u32::try_from(half).unwrap_or_default());
    let mut body = Vec::with_capacity(packet.frame.len() + packet.comment.len() + 64);
    // The first interface of the section.
    for number in [0, high, low, length(packet.frame.len()), length(packet.length)] {
        body.extend(number.to_le_bytes());
    }
    body.extend(packet.frame);
    pad(&mut body);
    if !packet.comment.is_empty() {
        add_option(&mut body, option::COMMENT, packet.comment.as_bytes());
    }
    if packet.dropped > 0 {
        add_option(&mut body, option::DROPPED, &packet.dropped.to_le_bytes());
    }
    if !packet.comment.is_empty() || packet.dropped > 0 {
        add_option(&mut body, option::END, &[]);
    }
    block(block::ENHANCED_PACKET, &body)
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 12).unwrap_or(u32::MAX).to_le_bytes();
    [&kind.to_le_bytes(), &length, body, &length].concat()
}

/// Adds an option; a value is cut at what one can hold.
fn add_option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    body.extend(code.to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend(&value[..length.into()]);
    pad(body);
}

/// Everything begins at a multiple of four bytes.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], offset: usize) -> u32 {
        u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
    }

    /// Types and bodies, by the lengths at both ends of each block.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let length = word(bytes, 4) as usize;
            assert_eq!((length % 4, word(bytes, length - 4) as usize), (0, length));
            found.push((word(bytes, 0), &bytes[8..length - 4]));
            bytes = &bytes[length..];
        }
        found
    }

    #[test]
    fn a_file_begins_with_its_section_and_interface() {
        let head = head("cap0");
        let blocks = blocks(&head);
        assert_eq!(blocks[0].0, 0x0a0d_0d0a);
        assert_eq!(word(blocks[0].1, 0), 0x1a2b_3c4d);
        assert_eq!((blocks[1].0, blocks[1].1[0], blocks.len()), (1, 1, 2));
        assert!(blocks[1].1.windows(8).any(|option| option == b"\x02\0\x04\0cap0"));
    }

    #[test]
    fn a_packet_has_its_time_bytes_comment_and_what_was_lost() {
        let time = 1_795_000_000_123_456_789;
        let frame: Vec<u8> = (0..61).collect();
        let bytes =
            packet(&Packet { time, frame: &frame, length: 99, dropped: 7, comment: "service=web" });
        let [(kind, body)] = blocks(&bytes)[..] else { panic!("one block") };
        assert_eq!(kind, 6);
        assert_eq!(u64::from(word(body, 4)) << 32 | u64::from(word(body, 8)), time);
        assert_eq!((word(body, 12), word(body, 16)), (61, 99));
        assert_eq!(&body[20..81], frame);
        let options = &body[84..];
        assert_eq!(&options[..16], b"\x01\0\x0b\0service=web\0");
        assert_eq!(&options[16..], b"\x04\0\x08\0\x07\0\0\0\0\0\0\0\0\0\0\0");
        let plain = Packet { time, frame: &frame, length: 61, dropped: 0, comment: "" };
        assert_eq!(packet(&plain).len(), 12 + 20 + 64);
    }
}
