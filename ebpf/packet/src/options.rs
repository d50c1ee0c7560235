//! Options of TCP segments (RFC 9293 section 3.1).

use crate::{Frame, PacketMeta, tcp};

/// A search for an option among those of a segment, one option by step.
#[derive(Clone, Copy, Debug)]
pub struct OptionSearch {
    kind: u8,
    /// Length that the option has to have, in bytes.
    length: u8,
    offset: usize,
    end: usize,
    found: Option<usize>,
}

/// Options of a header at most: one byte each.
pub const OPTIONS_MAX: u32 = 40;

/// What comes after a step of a search.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// There may be more.
    Goes,
    /// It is over.
    Over,
}

impl OptionSearch {
    /// A search for the maximum segment size (RFC 9293 section 3.7.1), whose value has two bytes.
    #[inline(always)]
    pub fn maximum_segment_size(meta: &PacketMeta) -> Self {
        Self::new(meta, 2, 4)
    }

    /// A search for the window scale (RFC 7323 section 2.2), whose value has one byte.
    #[inline(always)]
    pub fn window_scale(meta: &PacketMeta) -> Self {
        Self::new(meta, 3, 3)
    }

    #[inline(always)]
    fn new(meta: &PacketMeta, kind: u8, length: u8) -> Self {
        let start = usize::from(meta.transport);
        let end = start + usize::from(meta.segment.header_length);
        Self { kind, length, offset: start + tcp::HEADER, end, found: None }
    }

    /// Looks at the next option.
    #[inline(always)]
    pub fn step(&mut self, frame: &impl Frame) -> Step {
        const END: u8 = 0;
        const NO_OPERATION: u8 = 1;
        if self.offset >= self.end {
            return Step::Over;
        }
        // Behind an option of one byte at the frame's end nothing follows.
        let Some([kind, length]) = frame.read(self.offset) else {
            return Step::Over;
        };
        if kind == NO_OPERATION {
            self.offset += 1;
            return Step::Goes;
        }
        if kind == self.kind
            && length == self.length
            && self.offset + usize::from(length) <= self.end
        {
            self.found = Some(self.offset + 2);
        }
        if kind == END || length < 2 || self.found.is_some() {
            return Step::Over;
        }
        self.offset += usize::from(length);
        Step::Goes
    }

    /// Where the option's value is in the frame, if it was found.
    #[inline(always)]
    pub const fn found(&self) -> Option<usize> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Segment;

    fn search(options: &[u8], begin: fn(&PacketMeta) -> OptionSearch) -> Option<usize> {
        let frame = [&[0; tcp::HEADER][..], options].concat();
        let header_length = u8::try_from(frame.len()).unwrap();
        let end = (nightgate_abi::Address::from_v4([10, 0, 0, 1]), 1);
        let meta = PacketMeta {
            segment: Segment { header_length, ..Segment::default() },
            ..PacketMeta::between(6, end, end)
        };
        let mut search = begin(&meta);
        let _last = (0..OPTIONS_MAX).find(|_| search.step(&frame.as_slice()) == Step::Over);
        search.found().map(|offset| offset - tcp::HEADER)
    }

    #[test]
    fn an_option_is_found_wherever_it_is() {
        let scale = |options: &[u8]| search(options, OptionSearch::window_scale);
        assert_eq!(scale(&[3, 3, 7, 0]), Some(2));
        assert_eq!(scale(&[2, 4, 5, 180, 1, 3, 3, 255]), Some(7));
        assert_eq!(scale(&[[1; 37].as_slice(), &[3, 3, 2]].concat()), Some(39));
        let size = |options: &[u8]| search(options, OptionSearch::maximum_segment_size);
        assert_eq!(size(&[3, 3, 7, 2, 4, 5, 180]), Some(5));
        for without in [&[][..], &[0, 3, 3, 7], &[2, 4, 5, 180], &[3, 3], &[2, 0, 3, 3, 7, 0]] {
            assert_eq!(scale(without), None, "{without:?}");
        }
        for without in [&[2, 3, 5, 180][..], &[2, 4, 5], &[8, 40, 2, 4, 5, 180]] {
            assert_eq!(size(without), None, "{without:?}");
        }
    }
}
