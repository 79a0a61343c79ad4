//! What a push may add to the branches that hosts follow, at most. The hook, policy and agents ask the same, of
//! everything that lies between the last admission and the next, so that what is admitted can be fetched by every host.
//!
//! History as a whole has no limit: it only grows. What a new host has to fetch is bounded by that host's `maxBytes`,
//! and shortened by an anchor.

use crate::tree::Limits;
use crate::unit::Bytes;
use crate::{Code, Refusal};

/// The most bytes of a file or of a tree object. Git takes an object into memory as a whole, and so do hosts.
pub const OBJECT: u64 = 16 << 20;

/// The most bytes of an object that hosts take. It is more than is admitted, so that what got in all the same, such as
/// while a hook was missing, does not keep hosts from fetching; and little enough that a bomb is not unpacked.
pub const FETCHED_OBJECT: u64 = 4 * OBJECT;

/// The most bytes of a commit, with its message and its signature.
pub const COMMIT: u64 = 256 << 10;

/// The most parents of a commit. Each tree is compared with those of all parents.
pub const PARENTS: usize = 16;

/// The most commits that one admission may add to `main`, sides that are merged included: each is read by every host.
pub const COMMITS: u64 = 10_000;

/// How many objects one admission may add for each file that the trust file's `limits` allow: the folders and commits
/// that lead to the files are objects too.
pub const OBJECTS_PER_FILE: u64 = 5;

/// The most components of a path.
pub const DEPTH: usize = 16;

/// How large a tree may be unless the trust file says otherwise, and before there is one.
pub const TREE: Limits = Limits {
    files: 20_000,
    bytes: Bytes(64 << 20),
};

/// What a host fetches at most from a remote unless its agent.yaml says otherwise (`maxBytes`), in bytes.
pub const HOST_BYTES: u64 = 256 << 20;

/// What was added so far, and what may be.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    commits: u64,
    files: u64,
    objects: u64,
    bytes: u64,
}

impl Budget {
    /// Nothing yet. `limits` are the trust file's: they hold for a tree, and for what one admission adds.
    pub fn new(limits: &Limits) -> Self {
        Self {
            limits: *limits,
            commits: 0,
            files: 0,
            objects: 0,
            bytes: 0,
        }
    }

    /// Counts a commit of so many bytes.
    ///
    /// # Errors
    /// `PUSH_TOO_BIG`.
    pub fn commit(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.commits += 1;
        within("bytes in a commit", bytes, COMMIT)?;
        within("new commits", self.commits, COMMITS)?;
        self.object(bytes)
    }

    /// Counts a tree object of so many bytes.
    ///
    /// # Errors
    /// `PUSH_TOO_BIG`.
    pub fn tree(&mut self, bytes: u64) -> Result<(), Refusal> {
        within("bytes in a folder's list", bytes, OBJECT)?;
        self.object(bytes)
    }

    /// Counts a file of so many bytes.
    ///
    /// # Errors
    /// `PUSH_TOO_BIG`.
    pub fn file(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.files += 1;
        within("bytes in a file", bytes, OBJECT)?;
        within("new files", self.files, self.limits.files)?;
        self.object(bytes)
    }

    fn object(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let most = self.limits.files.saturating_mul(OBJECTS_PER_FILE);
        within("new objects", self.objects, most)?;
        let Bytes(most) = self.limits.bytes;
        within("new bytes", self.bytes, most)
    }
}

/// Refuses more than `most` of something.
///
/// # Errors
/// `PUSH_TOO_BIG`.
pub fn within(what: &str, got: u64, most: u64) -> Result<(), Refusal> {
    if got <= most {
        return Ok(());
    }
    let detail = format!("{got} {what}, at most {most} are admitted");
    Err(Refusal::new(Code::PushTooBig, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(files: u64, bytes: u64) -> Budget {
        Budget::new(&Limits {
            files,
            bytes: Bytes(bytes),
        })
    }

    #[test]
    fn what_is_exactly_at_a_limit_passes_and_one_more_does_not() {
        let roomy = || budget(u64::MAX, u64::MAX);
        for (most, count) in [
            (OBJECT, Budget::file as fn(&mut Budget, u64) -> _),
            (OBJECT, Budget::tree),
            (COMMIT, Budget::commit),
        ] {
            assert_eq!(count(&mut roomy(), most), Ok(()));
            let refusal = count(&mut roomy(), most + 1).unwrap_err();
            assert_eq!(refusal.code, Code::PushTooBig, "{refusal}");
        }
        let mut files = budget(2, 10);
        assert_eq!((files.file(5), files.file(5)), (Ok(()), Ok(())));
        assert!(files.file(0).is_err());
        let mut bytes = budget(10, 10);
        assert_eq!((bytes.tree(5), bytes.file(5)), (Ok(()), Ok(())));
        assert!(bytes.commit(1).is_err());
        let mut objects = budget(1, 10);
        assert!((0..OBJECTS_PER_FILE).all(|_| objects.tree(0).is_ok()));
        assert!(objects.tree(0).is_err());
    }
}
