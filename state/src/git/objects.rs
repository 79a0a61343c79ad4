//! Objects: every read is hashed again, with collision detection, before a byte of it is used.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use gix::objs::{CommitRefIter, Exists as _, Find as _, Write as _};
use gix::odb::Header as _;
use sha1_checked::Digest as _;
use sha1_checked::Sha1;

use super::{Git, chain, unusable};
use crate::digest::ObjectId;
use crate::tree::Objects;
use crate::{Code, Refusal};

/// The largest commit whose parents are followed, in bytes: a source repository's history is not ours to bound tightly.
const MAX_COMMIT: u64 = 16 << 20;

/// What an object is. Tags are not read: nothing in Writ is named by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file's content.
    Blob,
    /// A folder.
    Tree,
    /// A commit.
    Commit,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blob => "blob",
            Self::Tree => "tree",
            Self::Commit => "commit",
        })
    }
}

impl From<Kind> for gix::object::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Blob => Self::Blob,
            Kind::Tree => Self::Tree,
            Kind::Commit => Self::Commit,
        }
    }
}

impl Objects for Git {
    fn object(&self, kind: Kind, id: &ObjectId, limit: u64) -> Result<Vec<u8>, Refusal> {
        let too_big = |size: u64| {
            let detail = format!("{kind} {id} has {size} bytes, at most {limit} are read");
            Refusal::new(Code::TreeTooBig, detail)
        };
        let other_kind =
            |found: &dyn fmt::Display| corrupt(id, format!("is a {found}, expected a {kind}"));
        let recent = self.recent.borrow_mut().get(id);
        if let Some((found, bytes)) = recent {
            return match bytes.len() as u64 {
                size if size > limit => Err(too_big(size)),
                _ if found != kind => Err(other_kind(&found)),
                _ => Ok(bytes.to_vec()),
            };
        }
        let name = gix::ObjectId::from(id.0);
        for store in self.stores() {
            let corrupt = |error: gix::Error| corrupt(id, chain(&error));
            let Some(header) = store.try_header(&name).map_err(corrupt)? else {
                continue;
            };
            // The size is believed only in order to refuse: the reader allocates no more than it says.
            let size = header.size();
            if size > limit {
                return Err(too_big(size));
            }
            let mut bytes = Vec::new();
            let found = store.try_find(&name, &mut bytes).map_err(corrupt)?;
            let Some(found) = found.map(|object| object.kind) else {
                continue;
            };
            let got = id_of(found, &bytes)?;
            if got != *id {
                return Err(self::corrupt(id, format!("its bytes hash to {got}")));
            }
            if found != kind.into() {
                return Err(other_kind(&found));
            }
            self.recent.borrow_mut().add(*id, kind, &bytes);
            return Ok(bytes);
        }
        Err(Refusal::new(Code::ObjectMissing, format!("{kind} {id}")))
    }
}

impl Git {
    /// Where objects are looked for, in this order.
    fn stores(&self) -> impl Iterator<Item = &gix::odb::Handle> {
        self.quarantine.iter().chain([&*self.repository.objects])
    }

    /// Says whether the object `id` is here, without reading it.
    pub fn contains(&self, id: &ObjectId) -> bool {
        let name = gix::ObjectId::from(id.0);
        self.stores().any(|store| store.exists(&name))
    }

    /// The size of the object `id` in bytes, as its header says: believed only in order to refuse.
    ///
    /// # Errors
    /// `OBJECT_MISSING`, `OBJECT_CORRUPT`.
    pub fn size(&self, id: &ObjectId) -> Result<u64, Refusal> {
        if let Some((_, bytes)) = self.recent.borrow_mut().get(id) {
            return Ok(bytes.len() as u64);
        }
        let name = gix::ObjectId::from(id.0);
        for store in self.stores() {
            let header = store.try_header(&name);
            if let Some(header) = header.map_err(|error| corrupt(id, chain(&error)))? {
                return Ok(header.size());
            }
        }
        Err(Refusal::new(Code::ObjectMissing, format!("object {id}")))
    }

    /// Writes an object unless it is there, and returns its id. It is durable once a [`Git::transaction`] has named it.
    pub fn write(&self, kind: Kind, bytes: &[u8]) -> Result<ObjectId, Refusal> {
        let id = id_of(kind.into(), bytes)?;
        if !self.contains(&id) {
            self.repository
                .objects
                .write_buf(kind.into(), bytes)
                .map_err(|error| unusable(self.path(), &error))?;
        }
        Ok(id)
    }

    /// The parents of the commit `id`, in its own order.
    pub fn parents(&self, id: &ObjectId) -> Result<Vec<ObjectId>, Refusal> {
        let bytes = self.object(Kind::Commit, id, MAX_COMMIT)?;
        let parents = CommitRefIter::from_bytes(&bytes, gix::hash::Kind::Sha1).parent_ids();
        parents.map(|parent| super::object_id(&parent)).collect()
    }

    /// The commit `tip` and all that it descends from, over all parents.
    ///
    /// # Errors
    /// Those of reading commits.
    pub fn ancestors(&self, tip: &ObjectId) -> Result<BTreeSet<ObjectId>, Refusal> {
        let mut seen = BTreeSet::from([*tip]);
        let mut queue = vec![*tip];
        while let Some(id) = queue.pop() {
            let parents = self.parents(&id)?.into_iter();
            queue.extend(parents.filter(|parent| seen.insert(*parent)));
        }
        Ok(seen)
    }

    /// A commit at or below `tips`, over all parents, that gix cannot read.
    pub(super) fn unreadable(&self, tips: &[ObjectId]) -> Result<Option<ObjectId>, Refusal> {
        let mut seen: BTreeSet<_> = tips.iter().copied().collect();
        let mut queue: Vec<_> = seen.iter().copied().collect();
        while let Some(id) = queue.pop() {
            // What is missing or no commit is not followed.
            let Ok(raw) = self.object(Kind::Commit, &id, MAX_COMMIT) else {
                continue;
            };
            let commit = || CommitRefIter::from_bytes(&raw, gix::hash::Kind::Sha1);
            if commit().committer().is_err() {
                return Ok(Some(id));
            }
            for parent in commit().parent_ids() {
                let parent = super::object_id(&parent)?;
                if seen.insert(parent) {
                    queue.push(parent);
                }
            }
        }
        Ok(None)
    }

    /// Says whether `ancestor` is `descendant` or reachable from it over any parents.
    pub fn is_ancestor(&self, ancestor: &ObjectId, descendant: &ObjectId) -> Result<bool, Refusal> {
        let mut seen = BTreeSet::from([*descendant]);
        let mut queue = VecDeque::from([*descendant]);
        while let Some(id) = queue.pop_front() {
            if id == *ancestor {
                return Ok(true);
            }
            let parents = self.parents(&id)?;
            queue.extend(parents.into_iter().filter(|parent| seen.insert(*parent)));
        }
        Ok(false)
    }

    /// The commits from `tip` along first parents, newest first: down to and without `until`, or down to a commit without parents.
    ///
    /// # Errors
    /// `NOT_DESCENDANT` if `until` is not met.
    pub fn first_parents(
        &self,
        tip: &ObjectId,
        until: Option<&ObjectId>,
    ) -> Result<Vec<ObjectId>, Refusal> {
        let mut commits = Vec::new();
        let mut next = Some(*tip);
        while let Some(id) = next.filter(|id| Some(id) != until) {
            next = self.parents(&id)?.first().copied();
            commits.push(id);
        }
        match (next, until) {
            (None, Some(until)) => {
                let detail =
                    format!("commit {tip} does not descend from {until} along first parents");
                Err(Refusal::new(Code::NotDescendant, detail))
            }
            _ => Ok(commits),
        }
    }
}

/// The id of an object.
///
/// # Errors
/// `SHA1_COLLISION`.
fn id_of(kind: gix::object::Kind, bytes: &[u8]) -> Result<ObjectId, Refusal> {
    let header = gix::objs::encode::loose_header(kind, bytes.len() as u64);
    sha1(&[&header, bytes])
}

/// The SHA-1 of `parts`, one after the other, unless they were made to collide with something else: the one hasher of
/// all objects.
///
/// # Errors
/// `SHA1_COLLISION`.
pub fn sha1(parts: &[&[u8]]) -> Result<ObjectId, Refusal> {
    let mut hasher = Sha1::new();
    for part in parts {
        hasher.update(part);
    }
    let digest = hasher.try_finalize();
    let id = ObjectId((*digest.hash()).into());
    if digest.has_collision() {
        return Err(Refusal::new(Code::Sha1Collision, format!("object {id}")));
    }
    Ok(id)
}

/// Says that the object `id` is not what its id promises.
fn corrupt(id: &ObjectId, why: impl fmt::Display) -> Refusal {
    Refusal::new(Code::ObjectCorrupt, format!("object {id}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn object_file(repository: &Path, id: ObjectId) -> std::path::PathBuf {
        let name = id.to_string();
        repository.join("objects").join(&name[..2]).join(&name[2..])
    }

    #[test]
    fn an_object_reads_back_as_what_was_written_and_as_no_other_kind() {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::init_bare(folder.path()).unwrap();
        let id = git.write(Kind::Blob, b"hello\n").unwrap();
        assert_eq!(id.to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(git.write(Kind::Blob, b"hello\n").unwrap(), id);
        assert_eq!(git.object(Kind::Blob, &id, 8000).unwrap(), b"hello\n");
        let other = git.object(Kind::Tree, &id, 8000).unwrap_err();
        assert_eq!(other.code, Code::ObjectCorrupt);
        let missing = git
            .object(Kind::Blob, &ObjectId([7; 20]), 8000)
            .unwrap_err();
        assert_eq!(missing.code, Code::ObjectMissing);
    }

    #[test]
    fn bytes_that_were_made_to_collide_have_no_id() {
        // The first of two messages with one SHA-1 ("SHA-1 is a shambles", Leurent and Peyrin, 2020).
        let message = include_bytes!("../../tests/vectors/fail_sha1_collision.bin");
        assert_eq!(sha1(&[message]).unwrap_err().code, Code::Sha1Collision);
        assert_eq!(
            sha1(&[&message[..300], &message[300..]]).unwrap_err().code,
            Code::Sha1Collision
        );
        assert!(sha1(&[&message[1..]]).is_ok());
        // The beginning of the first of two PDF files with one SHA-1 ("The first collision for full SHA-1", Stevens,
        // Bursztein, Karpman, Albertini and Markov, 2017), whose colliding blocks follow 192 bytes that both share.
        let message = include_bytes!("../../tests/vectors/fail_sha1_shattered.bin");
        let whole = [&message[..], b"whatever follows"].concat();
        assert_eq!(sha1(&[&whole]).unwrap_err().code, Code::Sha1Collision);
        assert!(sha1(&[&message[..192]]).is_ok());
    }

    #[test]
    fn an_object_with_the_bytes_of_another_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::init_bare(folder.path()).unwrap();
        let good = git.write(Kind::Blob, b"good").unwrap();
        let evil = git.write(Kind::Blob, b"evil").unwrap();
        let file = object_file(folder.path(), good);
        fs::remove_file(&file).unwrap();
        fs::copy(object_file(folder.path(), evil), &file).unwrap();
        let refusal = git.object(Kind::Blob, &good, 8000).unwrap_err();
        assert_eq!(refusal.code, Code::ObjectCorrupt);
        assert!(refusal.detail.contains(&evil.to_string()), "{refusal}");
    }

    #[test]
    fn a_torn_object_is_corrupt_and_not_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::init_bare(folder.path()).unwrap();
        let id = git.write(Kind::Blob, &[b'x'; 4000]).unwrap();
        let file = object_file(folder.path(), id);
        let bytes = fs::read(&file).unwrap();
        for length in 0..bytes.len() {
            fs::remove_file(&file).unwrap();
            fs::write(&file, &bytes[..length]).unwrap();
            match git.object(Kind::Blob, &id, 8000) {
                Ok(whole) => assert_eq!(whole, [b'x'; 4000]), // only zlib's checksum was cut off
                Err(refusal) => assert_eq!(refusal.code, Code::ObjectCorrupt, "{length}"),
            }
        }
    }

    #[test]
    fn an_object_over_the_limit_is_refused_by_its_header() {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::init_bare(folder.path()).unwrap();
        // A loose object of 40 bytes that announces 8 EiB: one stored block of zlib.
        let header = b"blob 9223372036854775807\0";
        let length = u16::try_from(header.len()).unwrap();
        let block = [
            &[1][..],
            &length.to_le_bytes(),
            &(!length).to_le_bytes(),
            header,
        ]
        .concat();
        let id = ObjectId([0xab; 20]);
        let file = object_file(folder.path(), id);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, [&[0x78, 0x01][..], &block].concat()).unwrap();
        let refusal = git.object(Kind::Blob, &id, 8000).unwrap_err();
        assert_eq!(refusal.code, Code::TreeTooBig, "{refusal}");
    }

    #[test]
    fn a_quarantined_object_is_found_beside_the_repository_s_own() {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::init_bare(&folder.path().join("r.git")).unwrap();
        let push = Git::init_bare(&folder.path().join("push.git")).unwrap();
        let own = git.write(Kind::Blob, b"own").unwrap();
        let pushed = push.write(Kind::Blob, b"pushed").unwrap();
        assert!(!git.contains(&pushed));
        let hook = Git::open_quarantined(git.path(), &push.path().join("objects")).unwrap();
        assert_eq!(hook.object(Kind::Blob, &pushed, 8000).unwrap(), b"pushed");
        assert_eq!(hook.object(Kind::Blob, &own, 8000).unwrap(), b"own");
    }
}
