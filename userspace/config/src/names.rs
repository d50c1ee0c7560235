//! Names: one newtype for each kind.

use std::fmt;

use crate::{
    decode::{self, Malformed},
    node::Node,
    reader::Reader,
};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $check:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(String);

        impl $name {
            /// The name's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name with this text, if the text is a name.
            pub fn new(text: &str) -> Option<Self> {
                Self::check(text).ok()
            }

            pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Self> {
                decode::checked(reader, node, Self::check)
            }

            pub(crate) fn check(text: &str) -> Result<Self, Malformed> {
                $check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// Names a group of routers that link to each other.
    LinkGroup, word;
    /// Names a zone.
    ZoneName, word;
    /// Names a rule, in counters and explanations, across changes of the rule set.
    RuleId, word;
    /// Names a set of addresses or ports.
    SetName, word;
    /// Names a mirror sensor.
    SensorName, word;
    /// Names a mirror session.
    SessionName, word;
    /// Names a network interface.
    InterfaceName, interface;
}

impl ZoneName {
    /// The gateway itself.
    pub fn local() -> Self {
        Self("local".into())
    }

    /// Destinations that intercepts cover.
    pub fn overlay() -> Self {
        Self("overlay".into())
    }

    /// Whether the name is reserved.
    pub fn is_reserved(&self) -> bool {
        *self == Self::local() || *self == Self::overlay()
    }
}

/// Longest name.
const WORD_MAX: usize = 32;
/// Longest interface name: IFNAMSIZ less the terminating zero (linux/if.h).
const INTERFACE_MAX: usize = 15;

fn word(text: &str) -> Result<(), Malformed> {
    let is_word = text.len() <= WORD_MAX
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    if is_word {
        Ok(())
    } else {
        Err(Malformed::new(
            "a name of up to 32 lower-case letters, digits, - and _, starting with a letter",
            "choose such a name",
        ))
    }
}

fn interface(text: &str) -> Result<(), Malformed> {
    let is_interface = (1..=INTERFACE_MAX).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b));
    if is_interface {
        Ok(())
    } else {
        Err(Malformed::new(
            "an interface name of 1 to 15 printable characters without / : %",
            "write the name that `ip link` shows",
        ))
    }
}
