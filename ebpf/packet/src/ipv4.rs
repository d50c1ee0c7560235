//! IPv4 (RFC 791).

use nightgate_abi::{Address, Family, Reason};

use crate::{
    Frame, Packet,
    ethernet::Header,
    fragment::{self, More},
    martian, protocol,
    transport::{self, Network},
};

/// Header without options.
const HEADER: usize = 20;
/// More-fragments bit, beside the fragment offset.
const MORE_FRAGMENTS: u16 = 0x2000;
/// Fragment offset, in units of 8 bytes.
const FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(crate) fn parse<F: Frame>(frame: &F, ethernet: &Header) -> Result<Packet, Reason> {
    let offset = ethernet.end;
    let header: [u8; HEADER] = frame.read(offset).ok_or(Reason::Ipv4Truncated)?;
    let [
        version_ihl,
        service,
        len_0,
        len_1,
        id_0,
        id_1,
        frag_0,
        frag_1,
        _,
        protocol,
        _,
        _,
        addresses @ ..,
    ] = header;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    if version_ihl >> 4 != 4 {
        return Err(Reason::Ipv4Version);
    }
    let header_length = usize::from(version_ihl & 0xf) * 4;
    let total_length = usize::from(u16::from_be_bytes([len_0, len_1]));
    if header_length < HEADER || offset + header_length > frame.length() {
        return Err(Reason::Ipv4HeaderLength);
    }
    if total_length < header_length || offset + total_length > frame.length() {
        return Err(Reason::Ipv4TotalLength);
    }
    let fragmentation = u16::from_be_bytes([frag_0, frag_1]);
    let is_last = fragmentation & MORE_FRAGMENTS == 0;
    let fragment = fragment::Header {
        identification: u16::from_be_bytes([id_0, id_1]).into(),
        units: fragmentation & FRAGMENT_OFFSET,
        more: if is_last { More::None } else { More::Fragments },
    };
    let length = total_length - header_length;
    let fragment = fragment.of(header_length, length)?;
    let (source, destination) = ([s0, s1, s2, s3], [d0, d1, d2, d3]);
    if F::IS_ON_WIRE {
        martian::check_v4(source, destination)?;
    }
    if protocol == protocol::ICMPV6 {
        return Err(Reason::IcmpFamily);
    }
    let network = Network {
        source: Address::from_v4(source),
        destination: Address::from_v4(destination),
        family: Family::V4,
        protocol,
        offset,
        dscp: service >> 2,
        source_mac: ethernet.source_mac,
        length,
        fragment,
    };
    transport::parse(frame, offset + header_length, &network).map(Packet::Ip)
}
