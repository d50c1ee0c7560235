//! Where a program runs.

/// The side of an interface.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Hook {
    /// The packet came in by the interface.
    Ingress = 0,
    /// The packet leaves by the interface.
    Egress = 1,
}

impl Hook {
    /// The side with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Ingress),
            1 => Some(Self::Egress),
            _ => None,
        }
    }

    /// Its number in keys and events.
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The word that operators see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}
