//! Fragments of packets (RFC 791, RFC 8200 section 4.5).

use nightgate_abi::Reason;

/// What a packet is, or a fragment is of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fragment {
    /// Which part it is.
    pub part: Part,
    /// Which packet it is of, among those between two hosts; 16 bits in IPv4. 0 for a whole packet.
    pub identification: u32,
    /// Where its data begins in that of the packet, in bytes: a multiple of 8, at most 65,528.
    pub offset: u16,
    /// Bytes of that data that it has; 0 for a whole packet. `offset` and it make at most 65,535.
    pub length: u16,
}

/// Which part of a packet there is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Part {
    /// All of it, maybe behind an IPv6 fragment header all the same (RFC 6946).
    #[default]
    Whole = 0,
    /// Its beginning.
    First = 1,
    /// What has no header but that of the network layer.
    Later = 2,
}

/// What a header says about fragmentation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) identification: u32,
    /// Fragment offset, in units of 8 bytes.
    pub(crate) units: u16,
    pub(crate) more: More,
}

/// Whether there are fragments behind one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum More {
    None,
    Fragments,
}

/// The longest packet, in bytes behind the fixed header of IPv6, and with the header of IPv4.
const PACKET_MAX: usize = 65_535;

impl Fragment {
    /// A whole packet.
    pub const WHOLE: Self = Self { part: Part::Whole, identification: 0, offset: 0, length: 0 };
}

impl Header {
    /// The fragment with `length` bytes of data, behind `before` bytes that count towards the packet's length.
    ///
    /// # Errors
    /// No packet can be made of it.
    #[inline(always)]
    pub(crate) fn of(&self, before: usize, length: usize) -> Result<Fragment, Reason> {
        if self.units == 0 && self.more == More::None {
            return Ok(Fragment::WHOLE);
        }
        let offset = usize::from(self.units) * 8;
        let is_broken = self.more == More::Fragments && !length.is_multiple_of(8);
        if length == 0 || is_broken || before + offset + length > PACKET_MAX {
            return Err(Reason::FragmentLength);
        }
        let part = if self.units == 0 { Part::First } else { Part::Later };
        let (offset, length) = (low_word(offset), low_word(length));
        Ok(Fragment { part, identification: self.identification, offset, length })
    }
}

impl Part {
    /// Why a transport header is refused, if that is for a reason of its own in this part: a first fragment has to
    /// have all of it (RFC 1858 section 3, RFC 7112).
    #[inline(always)]
    pub(crate) fn refusal(self, reason: Reason) -> Reason {
        let is_cut_off = matches!(
            reason,
            Reason::TcpTruncated
                | Reason::TcpDataOffset
                | Reason::UdpTruncated
                | Reason::IcmpTruncated
        );
        if self == Self::First && is_cut_off { Reason::FragmentTiny } else { reason }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "at most PACKET_MAX")]
#[inline(always)]
const fn low_word(bytes: usize) -> u16 {
    bytes as u16
}
