//! What the sender of a rejected packet is told.

/// How a rule that rejects answers.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// As fits the protocol: TCP is reset, a UDP port is unreachable, the rest is prohibited.
    Fitting = 0,
    /// A TCP reset (RFC 9293 section 3.10.7.1).
    Reset = 1,
    /// Port unreachable (RFC 792, RFC 4443 section 3.1).
    PortUnreachable = 2,
    /// Host, or in IPv6 address, unreachable.
    HostUnreachable = 3,
    /// Network unreachable; in IPv6 no route to the destination.
    NetworkUnreachable = 4,
    /// Communication administratively prohibited (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1).
    Prohibited = 5,
}

/// Bit that the [`crate::rule::action`]s of all refusals have.
const BIT: u8 = 8;

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 6] = [
        Self::Fitting,
        Self::Reset,
        Self::PortUnreachable,
        Self::HostUnreachable,
        Self::NetworkUnreachable,
        Self::Prohibited,
    ];

    /// Its [`crate::rule::action`].
    pub const fn action(self) -> u8 {
        BIT | self as u8
    }

    /// The refusal that an action is, if it is one.
    #[inline(always)]
    pub const fn from_action(action: u8) -> Option<Self> {
        match action {
            8 => Some(Self::Fitting),
            9 => Some(Self::Reset),
            10 => Some(Self::PortUnreachable),
            11 => Some(Self::HostUnreachable),
            12 => Some(Self::NetworkUnreachable),
            13 => Some(Self::Prohibited),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::action;

    #[test]
    fn refusals_survive_as_actions() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_action(refusal.action()), Some(refusal));
        }
        assert_eq!(Refusal::from_action(action::ACCEPT), None);
        assert_eq!(Refusal::from_action(action::DROP), None);
    }
}
