//! How much a new host has to fetch. History only grows, and each host bounds what it fetches by its own `maxBytes`: who
//! carries on the fleet is told before new hosts are refused.

use std::fs;
use std::path::Path;

use state::limit::HOST_BYTES;
use state::unit::Bytes;

/// The part of [`HOST_BYTES`] from which on it is told, in percent.
const TOLD_FROM: u64 = 80;

/// What people are to know about the repository at `git`, if new hosts will soon refuse it.
pub fn warning(git: &Path) -> Option<String> {
    warning_of(bytes(git))
}

fn warning_of(bytes: u64) -> Option<String> {
    let is_told = bytes >= HOST_BYTES / 100 * TOLD_FROM;
    is_told.then(|| {
        // Rounded down: it is an estimate.
        let (bytes, most) = (Bytes(bytes >> 20 << 20), Bytes(HOST_BYTES));
        format!(
            "a new host has to fetch about {bytes}, and by default refuses more than {most} (FETCH_TOO_BIG): raise `maxBytes` \
             in its agent.yaml when it is enrolled, or pack the repository (`git gc`)"
        )
    })
}

/// The bytes of all objects and packs. What nothing leads to any more counts too until git throws it away.
fn bytes(git: &Path) -> u64 {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries(&git.join("objects"));
    let files = folders.flat_map(|folder| entries(&folder.path()));
    let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_from_four_fifths_of_what_a_host_fetches() {
        let from = HOST_BYTES / 100 * TOLD_FROM;
        assert_eq!(warning_of(from - 1), None);
        let said = warning_of(from).unwrap();
        assert!(said.contains("204MiB") && said.contains("256MiB"), "{said}");
    }
}
