//! Numbers of connections to servers of hosted services: what the kernel is told of them stands under the number that
//! the mark of their packets has.

use std::collections::{BTreeMap, BTreeSet};

use nightgate_abi::{
    Intercept,
    intercept::{HOSTED_ELSEWHERE, HOSTED_MARK, hosted_mark},
};
use nightgate_model::id::ServiceId;

use crate::intercept::ServiceTag;

/// A service, and the name of who dials: `None` for all of whom nothing in particular is said.
type Key = (ServiceId, Option<String>);

/// Connections to servers of hosted services that the kernel can tell apart.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HostedTable(BTreeMap<Key, HostedFlows>);

/// Connections that have one number.
#[derive(Clone, Debug, Eq, PartialEq)]
struct HostedFlows {
    number: u16,
    /// What they are of.
    service: HostedName,
}

/// A hosted service by its name, and its number in the kernel's tables.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostedName {
    /// Its name.
    pub name: String,
    /// Its number.
    pub tag: ServiceTag,
}

/// Which connections have which number, from one model to the next. A number that is given up is free for a while
/// before others get it.
#[derive(Clone, Debug, Default)]
pub struct HostedNumbers {
    numbers: BTreeMap<Key, u16>,
    last: u16,
}

impl HostedTable {
    /// The packet mark of a gateway's connections of a service that somebody of this name dials; `None` if the kernel is told
    /// nothing of them.
    pub fn mark(&self, service: &ServiceId, dialer: &str) -> Option<u32> {
        self.number(service, dialer).map(|number| hosted_mark(HOSTED_MARK, number))
    }

    /// The number of such connections.
    pub fn number(&self, service: &ServiceId, dialer: &str) -> Option<u16> {
        let of = |dialer| self.0.get(&(service.clone(), dialer));
        of(Some(dialer.to_owned())).or_else(|| of(None)).map(|flows| flows.number)
    }

    /// Numbers and names of the services.
    pub fn services(&self) -> impl Iterator<Item = (u32, &str)> {
        let services = self.0.values().map(|flows| &flows.service);
        services.map(|service| (service.tag.number(), service.name.as_str()))
    }

    /// The name of a service with this tag.
    pub(crate) fn name_of(&self, tag: u32) -> Option<&str> {
        self.services().find(|(number, _)| *number == tag).map(|(_, name)| name)
    }

    /// What the kernel is told, by number. `claim` is that of a mirror session to what somebody dials of a service.
    pub fn image(&self, claim: impl Fn(&str, Option<&str>) -> u16) -> BTreeMap<u16, Intercept> {
        let entry = |((_, dialer), HostedFlows { number, service }): (&Key, &HostedFlows)| {
            let claim = claim(&service.name, dialer.as_deref());
            (*number, Intercept::new(service.tag.number(), claim))
        };
        self.0.iter().map(entry).collect()
    }
}

impl HostedNumbers {
    /// The table of these services, in which those of the dialers can be told from others of whom `differs` says that
    /// something else holds for what they dial of a service, both by name. A number lasts as long as its service is
    /// hosted: connections may have it. What there are no numbers for is not in the table: there are 65,534.
    pub fn table(
        &mut self,
        services: &BTreeMap<ServiceId, HostedName>,
        dialers: &BTreeSet<String>,
        differs: impl Fn(&str, &str) -> bool,
    ) -> HostedTable {
        self.numbers.retain(|(service, _), _| services.contains_key(service));
        let mut taken: BTreeSet<u16> = self.numbers.values().copied().collect();
        for (id, service) in services {
            let named = dialers.iter().filter(|dialer| differs(&service.name, dialer));
            for dialer in [None].into_iter().chain(named.cloned().map(Some)) {
                let key = (id.clone(), dialer);
                if !self.numbers.contains_key(&key)
                    && let Some(number) = next(self.last, &taken)
                {
                    self.last = number;
                    taken.insert(number);
                    self.numbers.insert(key, number);
                }
            }
        }
        let flows = self.numbers.iter().filter_map(|(key, number)| {
            let service = services.get(&key.0)?.clone();
            Some((key.clone(), HostedFlows { number: *number, service }))
        });
        HostedTable(flows.collect())
    }
}

/// The next free number after one, from 1 on again at the end.
fn next(last: u16, taken: &BTreeSet<u16>) -> Option<u16> {
    let after = last.saturating_add(1)..HOSTED_ELSEWHERE;
    after.chain(1..=last).find(|number| !taken.contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(names: &[&str]) -> BTreeMap<ServiceId, HostedName> {
        let service = |(name, tag): (&&str, u32)| {
            let tag = ServiceTag::new(tag.try_into().unwrap());
            (ServiceId::new(*name), HostedName { name: (*name).to_owned(), tag })
        };
        names.iter().zip(1..).map(service).collect()
    }

    fn mark(table: &HostedTable, service: &str, dialer: &str) -> Option<u32> {
        table.mark(&ServiceId::new(service), dialer)
    }

    #[test]
    fn who_is_to_be_told_from_others_has_a_number_of_its_own() {
        let mut numbers = HostedNumbers::default();
        let (services, dialers) = (services(&["db", "web"]), ["laptop".to_owned()].into());
        let table = numbers.table(&services, &dialers, |service, _| service == "web");
        assert_eq!(mark(&table, "web", "guest"), mark(&table, "web", "anybody"));
        assert_eq!(mark(&table, "db", "guest"), mark(&table, "db", "laptop"));
        let marks = [("db", "guest"), ("web", "guest"), ("web", "laptop")];
        let marks = marks.map(|(service, dialer)| mark(&table, service, dialer));
        let distinct: BTreeSet<_> = marks.into_iter().flatten().collect();
        assert_eq!(distinct.len(), 3, "{marks:x?}");
        assert_eq!(mark(&table, "mail", "laptop"), None);
        let claim = |service: &str, dialer: Option<&str>| match (service, dialer) {
            ("web", Some("laptop")) => 7,
            _ => 0,
        };
        let image = table.image(claim);
        let claimed = image.values().filter(|it| it.mirror_session == 7).collect::<Vec<_>>();
        assert!(image.len() == 3 && claimed.len() == 1 && claimed[0].service == 2, "{image:?}");
        assert_eq!((table.name_of(2), table.name_of(3)), (Some("web"), None));
        // Its connections go on when nothing is said of it any more.
        assert_eq!(numbers.table(&services, &BTreeSet::new(), |_, _| false), table);
    }

    #[test]
    fn numbers_stay_and_those_given_up_wait() {
        let mut numbers = HostedNumbers::default();
        let mut table =
            |names: &[&str]| numbers.table(&services(names), &BTreeSet::new(), |_, _| false);
        let [first, second, third] =
            [&["a", "b", "c"][..], &["a", "c"], &["a", "c", "d"]].map(&mut table);
        for service in ["a", "c"] {
            assert_eq!(mark(&first, service, "x"), mark(&second, service, "x"));
        }
        assert_ne!(mark(&third, "d", "x"), mark(&first, "b", "x"));
        let all: BTreeSet<u16> = (1..HOSTED_ELSEWHERE).collect();
        assert_eq!(next(9, &all), None);
        let but_one = all.iter().copied().filter(|number| *number != 3).collect();
        assert_eq!(next(9, &but_one), Some(3));
    }
}
