//! Firewall model to rule set to kernel map image, with a reference classifier.
//!
//! [`compile()`] turns the rules of a [`nightgate_config::Gateway`] into a [`RuleSet`];
//! [`RuleSet::image`] lowers it to the [`MapImage`] that `datapath` writes into a bank, always the same
//! image for the same rules. [`classify()`] says what the rules mean, without the image: the kernel's
//! classifier has to agree with it.

mod classify;
mod compile;
mod forest;
mod image;

pub use classify::{Verdict, classify};
pub use compile::{CompileError, CompiledRule, RuleSet, compile};
pub use image::MapImage;
pub use nightgate_abi::ZoneId;
pub use nightgate_config::{Action, RuleId, ZoneName};
