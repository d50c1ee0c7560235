//! What there is to say about rules.

use nightgate_config::{Line, RuleId, ZoneName};

/// Something odd.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// The rule it is about; `None` for a zone, or for the rules as a whole.
    pub rule: Option<Place>,
    /// The other rules that have to do with it, the first ones of many.
    pub others: Vec<Place>,
    /// Why it is odd.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

/// A rule and where it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The rule.
    pub rule: RuleId,
    /// Where it begins.
    pub line: Line,
}

/// What is odd.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// An earlier rule matches the same and does something else.
    Conflict,
    /// Earlier rules match everything it matches, and do something else.
    Shadowed,
    /// It can go and nothing changes.
    Redundant,
    /// No packet can match it.
    NeverMatches,
    /// It lets strangers reach everything.
    WideAccept,
    /// No rule names the zone.
    UnusedZone,
    /// It overlaps with an earlier rule that does something else, and neither is within the other.
    PartialConflict,
    /// It refuses what would be refused without it.
    LikeDefault,
    /// There are too many overlaps to compare all.
    CutShort,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Worth knowing; often meant so.
    Notice,
    /// Most likely a mistake.
    Warning,
}

/// Rules that are named in one finding at most.
pub(super) const LARGEST_LIST: usize = 5;

impl Kind {
    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Self::Conflict
            | Self::Shadowed
            | Self::Redundant
            | Self::NeverMatches
            | Self::WideAccept
            | Self::UnusedZone => Severity::Warning,
            Self::PartialConflict | Self::LikeDefault | Self::CutShort => Severity::Notice,
        }
    }

    /// The kebab-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Shadowed => "shadowed",
            Self::Redundant => "redundant",
            Self::NeverMatches => "never-matches",
            Self::WideAccept => "wide-accept",
            Self::UnusedZone => "unused-zone",
            Self::PartialConflict => "partial-conflict",
            Self::LikeDefault => "like-default",
            Self::CutShort => "cut-short",
        }
    }
}

impl Severity {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
        }
    }
}

impl Place {
    pub(super) fn new(rule: &RuleId, line: Line) -> Self {
        Self { rule: rule.clone(), line }
    }
}

impl Finding {
    pub(super) fn about(kind: Kind, rule: &Place, why: String, remedy: &str) -> Self {
        let others = Vec::new();
        Self { kind, rule: Some(rule.clone()), others, why, remedy: remedy.into() }
    }

    /// A rule that earlier ones match all packets of, with the same action.
    pub(super) fn repeated(rule: &Place, (others, count): (Vec<Place>, usize)) -> Self {
        let why = format!(
            "it decides no packet: all that it matches has been decided alike by {}",
            names(&others, count)
        );
        Self { others, ..Self::about(Kind::Redundant, rule, why, "remove it") }
    }

    /// A rule that earlier ones match all packets of, with another action.
    pub(super) fn shadowed(rule: &Place, (others, count): (Vec<Place>, usize)) -> Self {
        let why = format!(
            "it decides no packet: all that it matches has been decided by {}, with another action",
            names(&others, count)
        );
        let remedy = "move it before them, or remove it";
        Self { others, ..Self::about(Kind::Shadowed, rule, why, remedy) }
    }

    /// A rule that matches what an earlier one matches, and does something else.
    pub(super) fn conflict(rule: &Place, (others, count): (Vec<Place>, usize)) -> Self {
        let why = format!(
            "it decides no packet: {} matches the same and does something else",
            names(&others, count)
        );
        let remedy = "decide which of the two is meant and remove the other";
        Self { others, ..Self::about(Kind::Conflict, rule, why, remedy) }
    }

    /// A rule of address translation whose flows others translate, or leave as they are.
    pub(super) fn never_translates(rule: &Place, (others, count): (Vec<Place>, usize)) -> Self {
        let why = format!(
            "it translates no flow: all that it matches comes to {} before",
            names(&others, count)
        );
        let remedy = "move it before them, or remove it";
        Self { others, ..Self::about(Kind::Shadowed, rule, why, remedy) }
    }

    /// A rule whose packets later ones decide alike.
    pub(super) fn covered_later(rule: &Place, (others, count): (Vec<Place>, usize)) -> Self {
        let why = format!("without it {} decides its packets alike", names(&others, count));
        let remedy = "remove it, unless its count is wanted";
        Self { others, ..Self::about(Kind::Redundant, rule, why, remedy) }
    }

    /// A rule that refuses what the default refuses.
    pub(super) fn like_default(rule: &Place) -> Self {
        let why = "no later rule accepts any of it, so it would be refused without it".into();
        Self::about(Kind::LikeDefault, rule, why, "remove it, unless its count is wanted")
    }

    /// A rule that contradicts others in part.
    pub(super) fn partial(rule: &Place, (others, count): (Vec<Place>, usize)) -> Self {
        let why = format!(
            "{} decides a part of its packets otherwise, and matches others besides",
            names(&others, count)
        );
        let remedy = "make sure that the order is meant, or narrow one of them";
        Self { others, ..Self::about(Kind::PartialConflict, rule, why, remedy) }
    }

    /// A zone that no rule names.
    pub(super) fn unused_zone(zone: &ZoneName) -> Self {
        Self {
            kind: Kind::UnusedZone,
            rule: None,
            others: Vec::new(),
            why: format!("no rule names the zone {zone}: nothing passes in or out of it"),
            remedy: "add rules for it, or remove it so that its interfaces are left alone".into(),
        }
    }

    /// Too many rules overlap.
    pub(super) fn cut_short() -> Self {
        Self {
            kind: Kind::CutShort,
            rule: None,
            others: Vec::new(),
            why: "too many rules overlap to compare them all: what is listed is true, and there may be more"
                .into(),
            remedy: "check the rules in parts".into(),
        }
    }
}

fn names(places: &[Place], count: usize) -> String {
    let list: Vec<_> =
        places.iter().map(|place| format!("{} (line {})", place.rule, place.line)).collect();
    let more = count - places.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", list.join(", "))
}
