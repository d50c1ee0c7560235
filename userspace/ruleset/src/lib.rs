//! Firewall model to rule set to kernel map image, with a reference classifier.
//!
//! [`compile()`] turns the rules of a [`nightgate_config::Gateway`] into a [`RuleSet`];
//! [`RuleSet::image`] lowers it to the [`MapImage`] that `datapath` writes into a bank, always the same
//! image for the same rules. [`classify()`] says what the rules mean, without the image: the kernel's
//! classifier has to agree with it. [`explain()`] says why, for one packet, and [`lint()`] what is odd about the
//! rules.

mod bounds;
mod classify;
mod compile;
mod describe;
mod entry;
mod explain;
mod forest;
mod guard;
mod image;
mod intercept;
mod intersection;
mod learn;
mod limit;
mod lint;
mod members;
mod mirror;
mod mss;
mod nat;
mod overlap;
mod region;

pub use classify::{Verdict, classify, counting_rule};
pub use compile::{CompileError, CompiledRule, RuleSet, compile};
pub use describe::{Description, DescriptionError};
pub use entry::Entry;
pub use explain::{Explanation, Mismatch, Outcome, PassedOver, explain, without_rules};
pub use guard::GuardImage;
pub use image::MapImage;
pub use intercept::{Destination, InterceptImage, Network, TooManyDestinations};
pub use learn::{Observed, Proposal, propose};
pub use lint::{Finding, Kind as FindingKind, Place, Severity, lint};
pub use members::Members;
pub use mirror::CompiledMirror;
pub use nat::{CompiledNat, Translation};
pub use nightgate_abi::ZoneId;
pub use nightgate_config::{Action, FlowTables, Line, RuleId, ZoneName};
