//! Rules of address translation that translate nothing.

use nightgate_config::Gateway;

use super::{Finding, Place, World, sense};
use crate::{
    compile::{CompiledRule, RuleSet},
    nat::Translation,
};

/// Finds the rules of both lists that no flow comes to.
pub(super) fn findings(gateway: &Gateway, rules: &RuleSet) -> Vec<Finding> {
    let nat = &gateway.nat;
    // In the order in which they are looked at.
    let first = || nat.one_to_one.iter().map(|rule| Place::new(&rule.id, rule.line));
    let destination = nat.destination.iter().map(|rule| Place::new(&rule.id, rule.line));
    let source = nat.source.iter().map(|rule| Place::new(&rule.id, rule.line));
    let mut findings = of_list(&rules.nat().destination, first().chain(destination).collect());
    findings.extend(of_list(&rules.nat().source, first().chain(source).collect()));
    findings
}

fn of_list(translations: &[Translation], places: Vec<Place>) -> Vec<Finding> {
    let rules: Vec<CompiledRule> =
        translations.iter().map(|translation| translation.matching.clone()).collect();
    let world = World::new(&rules, places);
    let finding = |rule| {
        sense::never_matches(&world, rule).or_else(|| {
            let (by, _) = world.covering(rule)?;
            Some(Finding::never_translates(&world.places[rule], world.list(by)))
        })
    };
    (0..rules.len()).filter_map(finding).collect()
}
