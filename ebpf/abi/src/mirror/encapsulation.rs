//! How copies are wrapped for their sensor.

/// What a copy is put into.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Encapsulation {
    /// VXLAN (RFC 7348).
    Vxlan,
    /// GENEVE (RFC 8926) with an option that says what is known of the packet.
    Geneve,
    /// ERSPAN type II: GRE with a sequence number, and a header with the session (draft-foschiano-erspan-03).
    Erspan,
    /// Transparent Ethernet bridging over GRE (RFC 2784, RFC 1701) with a key (RFC 2890).
    Gre,
    /// Nothing: the frame leaves by an interface as it is.
    Local,
}

impl Encapsulation {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Vxlan, Self::Geneve, Self::Erspan, Self::Gre, Self::Local];

    /// Its number in [`super::MirrorSensor::encapsulation`].
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The encapsulation with a number; that of any other is VXLAN.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Geneve,
            2 => Self::Erspan,
            3 => Self::Gre,
            4 => Self::Local,
            _ => Self::Vxlan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back() {
        for (number, encapsulation) in (0..).zip(Encapsulation::ALL) {
            assert_eq!(encapsulation.number(), number);
            assert_eq!(Encapsulation::from_number(number), encapsulation);
        }
    }
}
