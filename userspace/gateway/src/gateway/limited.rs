//! Identities and addresses that alerts have limited.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
    time::Duration,
};

use nightgate_config::FlowRate;
use nightgate_datapath::{
    Throttled,
    abi::{Rate, Throttle},
};
use nightgate_model::id::IdentityId;
use tracing::{error, info};

use super::live::clock;
use crate::{
    carried::{CarriedFlows, Ends},
    firewall::Firewall,
    report::QuarantineReport,
};

const SECOND: u64 = 1_000_000_000;

/// Who is limited. The kernel holds what it means for packets; this, which identity that is.
#[derive(Default)]
pub(super) struct Limited {
    identities: BTreeMap<IdentityId, Limit>,
}

struct Limit {
    /// Of the identity, for people.
    name: String,
    throttle: Throttle,
}

impl Limited {
    /// Limits the connections here of an identity that dials from elsewhere: together, those there are and those to come.
    pub(super) fn limit_identity(
        &mut self,
        (identity, name): (&IdentityId, &str),
        (rate, time): (FlowRate, Duration),
        (flows, firewall): (&CarriedFlows, &mut Firewall),
    ) -> Result<usize, String> {
        let throttle = throttle(rate, time, identity)?;
        let limit = Limit { name: name.to_owned(), throttle };
        self.identities.insert(identity.clone(), limit);
        let connections = flows.follow(identity);
        for ends in &connections {
            limit_connection(*ends, throttle, firewall)?;
        }
        Ok(connections.len())
    }

    /// Limits connections that have begun.
    pub(super) fn begun(&self, begun: Vec<(IdentityId, Ends)>, firewall: &mut Firewall) {
        for (identity, ends) in begun {
            let Some(limit) = self.identities.get(&identity) else { continue };
            if let Err(error) = limit_connection(ends, limit.throttle, firewall) {
                error!(%identity, error, "a connection is not limited");
            }
        }
    }

    /// Lets go what is over: limits whose time has come, and those of connections that have ended.
    pub(super) fn look(
        &mut self,
        flows: &CarriedFlows,
        firewall: &mut Firewall,
    ) -> Result<(), String> {
        let now = clock()?.now();
        self.identities.retain(|identity, limit| {
            let stays = now < limit.throttle.until;
            if !stays {
                flows.unfollow(identity);
                info!(%identity, "no longer limited, its time is over");
            }
            stays
        });
        let is_over = |(what, throttle): &(Throttled, Throttle)| match *what {
            Throttled::Address(_) => now >= throttle.until,
            Throttled::Flow(protocol, ends) => {
                now >= throttle.until || flows.find(protocol, ends).is_none()
            }
        };
        release(firewall, is_over).map(drop)
    }

    /// Ends the limit of an identity before its time; gives whether there was one.
    pub(super) fn release_identity(
        &mut self,
        name: &str,
        flows: &CarriedFlows,
        firewall: &mut Firewall,
    ) -> Result<bool, String> {
        let found = self.identities.iter().find(|(_, limit)| limit.name == name);
        let Some((identity, tag)) = found.map(|(id, limit)| (id.clone(), limit.throttle.tag))
        else {
            return Ok(false);
        };
        self.identities.remove(&identity);
        flows.unfollow(&identity);
        release(firewall, |(_, throttle)| throttle.tag == tag)?;
        Ok(true)
    }

    /// Who is limited.
    pub(super) fn reports(&self, firewall: &Firewall) -> Result<Vec<QuarantineReport>, String> {
        let now = clock()?.now();
        let report = |throttle: &Throttle| QuarantineReport {
            address: None,
            identity: None,
            rate: Some(text(throttle.rate)),
            left_ms: throttle.until.saturating_sub(now) / 1_000_000,
        };
        let identities = self.identities.values().map(|limit| QuarantineReport {
            identity: Some(limit.name.clone()),
            ..report(&limit.throttle)
        });
        let addresses =
            throttled(firewall)?.into_iter().filter_map(|(what, throttle)| match what {
                Throttled::Address(address) => {
                    Some(QuarantineReport { address: Some(address), ..report(&throttle) })
                }
                Throttled::Flow(..) => None,
            });
        Ok(identities.chain(addresses).collect())
    }
}

/// Limits all that comes from and goes to an address.
pub(super) fn limit_address(
    firewall: &mut Firewall,
    address: IpAddr,
    (rate, time): (FlowRate, Duration),
) -> Result<(), String> {
    let throttle = throttle(rate, time, &address)?;
    let limited = firewall.datapath.throttle(Throttled::Address(address), throttle);
    limited.map_err(|error| error.to_string())
}

/// Ends the limit of an address; gives whether it had one.
pub(super) fn release_address(firewall: &mut Firewall, address: IpAddr) -> Result<bool, String> {
    let released = firewall.datapath.release_throttle(Throttled::Address(address));
    released.map_err(|error| error.to_string())
}

fn limit_connection(
    (protocol, ends): Ends,
    throttle: Throttle,
    firewall: &mut Firewall,
) -> Result<(), String> {
    let limited = firewall.datapath.throttle(Throttled::Flow(protocol, ends), throttle);
    limited.map_err(|error| error.to_string())
}

fn throttled(firewall: &Firewall) -> Result<Vec<(Throttled, Throttle)>, String> {
    firewall.datapath.throttled().map_err(|error| error.to_string())
}

fn release(
    firewall: &mut Firewall,
    is_over: impl Fn(&(Throttled, Throttle)) -> bool,
) -> Result<usize, String> {
    let over: Vec<_> = throttled(firewall)?.into_iter().filter(is_over).collect();
    for (what, _) in &over {
        firewall.datapath.release_throttle(*what).map_err(|error| error.to_string())?;
    }
    Ok(over.len())
}

/// From now on, for a time; as many packets at once as may come in a second.
fn throttle(
    rate: FlowRate,
    time: Duration,
    who: &impl std::hash::Hash,
) -> Result<Throttle, String> {
    let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut tag = DefaultHasher::new();
    ("verdict", who).hash(&mut tag);
    Ok(Throttle {
        rate: kernel_rate(rate),
        until: clock()?.now().saturating_add(time),
        tag: tag.finish(),
    })
}

fn kernel_rate(rate: FlowRate) -> Rate {
    let burst = (rate.count / rate.seconds).max(1);
    Rate::new(rate.count, u64::from(rate.seconds) * SECOND, burst)
}

/// A rate as it is written.
fn text(rate: Rate) -> String {
    let written = [1, 60, 3_600].into_iter().find_map(|seconds| {
        let count = u32::try_from(u64::from(seconds) * SECOND / rate.interval.max(1)).ok()?;
        let found = FlowRate { count, seconds };
        (count > 0 && kernel_rate(found).interval == rate.interval).then(|| found.to_string())
    });
    written.unwrap_or_else(|| format!("1 in {} ns", rate.interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_as_it_was_written() {
        for written in ["1/s", "100/s", "90/min", "30/min", "7/h", "1000000/s"] {
            let rate = FlowRate::parse(written).unwrap();
            assert_eq!(text(kernel_rate(rate)), written);
        }
    }
}
