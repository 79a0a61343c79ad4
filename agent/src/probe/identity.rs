//! Who listens at a slot's address, as the kernel says: a process of the slot, or somebody who got there first.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use procfs::net::{TcpState, tcp, tcp6};
use procfs::process::{FDTarget, Process, all_processes};
use rustix::net::sockopt::socket_peercred;

use crate::fs;
use crate::runner::process::descendants;
use crate::traffic::table::Address;

/// Says why not all that listens at `address` belongs to a process below `supervisor`.
pub(super) async fn check(address: &Address, supervisor: u32) -> Result<(), String> {
    match address {
        Address::Tcp(address) => tcp_listeners(*address, supervisor),
        Address::Unix(path) => unix_listener(path, supervisor).await,
    }
}

/// Every socket that may be given a connection to `address` must be held by a process of the slot: with SO_REUSEPORT
/// there can be several.
fn tcp_listeners(address: SocketAddr, supervisor: u32) -> Result<(), String> {
    let sockets = listening(address);
    if sockets.is_empty() {
        return Err(format!("nobody listens at {address}"));
    }
    let slot = descendants(supervisor)
        .into_iter()
        .filter_map(|process| Process::new(process.pid.cast_signed()).ok());
    let own: HashSet<u64> = slot.flat_map(|process| sockets_of(&process)).collect();
    match sockets.difference(&own).next() {
        None => Ok(()),
        Some(foreign) => Err(format!(
            "{address} is listened at by {}, which is not the slot's",
            holder(*foreign)
        )),
    }
}

/// Says who listens at `address`, if anybody does. Looks at every process of the host: blocks.
pub(crate) fn listener(address: SocketAddr) -> Option<String> {
    let socket = listening(address).into_iter().next()?;
    Some(format!("{address} is listened at by {}", holder(socket)))
}

/// The inodes of the sockets that may be given a connection to `address`.
fn listening(address: SocketAddr) -> HashSet<u64> {
    let entries = tcp().into_iter().chain(tcp6()).flatten();
    let listens = entries
        .filter(|entry| entry.state == TcpState::Listen && reaches(address, entry.local_address));
    listens.map(|entry| entry.inode).collect()
}

/// Says whether a listener bound to `bound` is asked by who connects to `address`.
fn reaches(address: SocketAddr, bound: SocketAddr) -> bool {
    let same = |ip: IpAddr| {
        ip == address.ip() || (ip.is_unspecified() && (ip.is_ipv6() || address.is_ipv4()))
    };
    bound.port() == address.port() && same(bound.ip().to_canonical())
}

/// The inodes of the sockets that a process holds.
fn sockets_of(process: &Process) -> Vec<u64> {
    let descriptors = process.fd().into_iter().flatten().flatten();
    let inode = |target| match target {
        FDTarget::Socket(inode) => Some(inode),
        _ => None,
    };
    descriptors
        .filter_map(|descriptor| inode(descriptor.target))
        .collect()
}

/// Names the process that holds a socket, as far as it can be seen.
fn holder(socket: u64) -> String {
    let mut all = all_processes().into_iter().flatten().flatten();
    let holder = all.find(|process| sockets_of(process).contains(&socket));
    let named = holder.and_then(|process| Some((process.pid, process.stat().ok()?.comm)));
    named.map_or("a process of another user".into(), |(pid, name)| {
        format!("process {pid} ({name})")
    })
}

/// The kernel keeps who called listen(2) for a unix socket.
async fn unix_listener(path: &Path, supervisor: u32) -> Result<(), String> {
    let shown = path.display();
    let stream = fs::connect(path)
        .await
        .map_err(|error| format!("unix:{shown}: {error}"))?;
    let credentials = socket_peercred(&stream).map_err(|error| format!("unix:{shown}: {error}"))?;
    let pid = credentials.pid.as_raw_nonzero().get().cast_unsigned();
    if descendants(supervisor)
        .iter()
        .any(|process| process.pid == pid)
    {
        Ok(())
    } else {
        Err(format!(
            "unix:{shown} is listened at by process {pid}, which is not the slot's"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_listener_is_asked_too_and_another_port_is_not() {
        let address = "127.0.0.1:20000".parse().unwrap();
        for (bound, reached) in [
            ("127.0.0.1:20000", true),
            ("0.0.0.0:20000", true),
            ("[::]:20000", true),
            ("[::ffff:127.0.0.1]:20000", true),
            ("127.0.0.2:20000", false),
            ("[::1]:20000", false),
            ("127.0.0.1:20001", false),
        ] {
            assert_eq!(reaches(address, bound.parse().unwrap()), reached, "{bound}");
        }
    }
}
