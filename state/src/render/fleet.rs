//! What must hold among the files of a tree: rules that are kept, addresses that do not collide, needs that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::environment::{Environment, Hosts};
use crate::name::ServiceName;
use crate::release::Release;
use crate::service::{DesiredState, Place};
use crate::unit::Period;
use crate::yaml::Fault;

use super::check::Faults;

/// Checks the rules of one environment.
pub(super) fn rules(rules: &Environment) -> Result<(), Fault> {
    let mut faults = Faults::default();
    faults.time("cooldown", rules.cooldown, Period(0));
    if let Hosts::Listed(hosts) = &rules.hosts {
        let names = hosts.iter().map(|host| &host.name);
        faults.distinct("hosts", names, "two hosts have the same name");
    }
    faults.0.into_iter().next().map_or(Ok(()), Err)
}

/// Finds a rule of a later version that this one would pass over in silence, while its author relies on it.
pub(super) fn later(rules: &Value) -> Option<Fault> {
    if rules.get("after").is_some() {
        let message =
            "this version of Writ does not hold a release back until another environment has it";
        return Some(Fault::new("after", message));
    }
    let hosts = rules.get("hosts")?.as_array()?;
    let at = hosts.iter().position(|host| host.get("key").is_some())?;
    let message = "hosts of this version of Writ sign no reports";
    Some(Fault::new(format!("hosts[{at}].key"), message))
}

/// Finds services of one environment that would listen on the same address of the same host; returns each pair once,
/// as the later one and what is wrong with it.
pub(super) fn collisions<'a>(
    rules: &Environment,
    releases: impl IntoIterator<Item = &'a Release>,
) -> Vec<(&'a Release, Fault)> {
    let mut ports: BTreeMap<u16, Vec<(&Release, SocketAddr)>> = BTreeMap::new();
    let mut found = Vec::new();
    for release in releases {
        let Some(listen) = listens(release) else {
            continue;
        };
        let others = ports.entry(listen.port()).or_default();
        let other = others
            .iter()
            .find(|(other, _)| collide(rules, other, release));
        if let Some((other, listen)) = other {
            let message = format!(
                "'{}' listens on {listen} too; keep them apart by `place`",
                other.service
            );
            found.push((release, Fault::new("traffic.listen", message)));
        }
        others.push((release, listen));
    }
    found
}

/// The address on which clients reach a service; `None` if it has none, or leaves its hosts.
pub fn listens(release: &Release) -> Option<SocketAddr> {
    let traffic = release.spec.traffic.as_ref()?;
    (release.spec.state != DesiredState::Absent).then_some(traffic.listen)
}

/// Says whether two services of an environment with these rules would listen on the same address of the same host.
pub fn collide(rules: &Environment, a: &Release, b: &Release) -> bool {
    let (Some(one), Some(other)) = (listens(a), listens(b)) else {
        return false;
    };
    one.port() == other.port()
        && overlap(one.ip(), other.ip())
        && meet(rules, &a.spec.place, &b.spec.place)
}

/// Finds services that need themselves, or one that is not in their environment; an absent one needs nothing.
pub(super) fn needs(releases: &[Release]) -> Vec<(&Release, Fault)> {
    let present = |release: &&Release| release.spec.state != DesiredState::Absent;
    let names: BTreeSet<&ServiceName> = releases
        .iter()
        .filter(present)
        .map(|release| &release.service)
        .collect();
    let mut found = Vec::new();
    for release in releases.iter().filter(present) {
        for needed in &release.spec.needs {
            let message = if *needed == release.service {
                "the service itself".to_owned()
            } else if names.contains(needed) {
                continue;
            } else {
                let environment = &release.environment;
                format!("there is no service '{needed}' in '{environment}', or it is absent")
            };
            found.push((release, Fault::new("needs", message)));
        }
    }
    found
}

/// Says whether two sockets of the same port would collide: an unspecified address takes all, and `::` takes IPv4 as well.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let takes = |a: IpAddr, b: IpAddr| a.is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a == b || takes(a, b) || takes(b, a)
}

/// Says whether one host could run both. Where any host may come, only two values of one label keep services apart.
fn meet(rules: &Environment, a: &Place, b: &Place) -> bool {
    match &rules.hosts {
        Hosts::Listed(hosts) => hosts
            .iter()
            .any(|host| a.takes(&host.labels) && b.takes(&host.labels)),
        Hosts::Any => a
            .labels
            .iter()
            .all(|(key, value)| b.labels.get(key).is_none_or(|other| other == value)),
    }
}
