//! One pack in place of many: each fetch adds one, and every reader opens all of them.
//!
//! All objects are kept as they are, also what no ref leads to any more and what no step of verification would read: an
//! odd one must not keep a mirror from being packed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use gix::parallel::InOrderIter;
use gix::progress::Discard;
use gix_pack::data::output::{self, bytes::FromEntriesIter, count, entry};
use gix_pack::{Bundle, bundle};

use super::fetch::is_pack;
use super::{Git, unusable};
use crate::Refusal;

/// How many packs a mirror gathers before they become one.
pub const PACKS: usize = 50;

/// How many packs lie in the mirror at `path`.
pub fn packs(path: &Path) -> usize {
    names(&path.join("objects/pack")).map_or(0, |names| names.len())
}

/// The names of the packs in a folder, without their extension.
fn names(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(stem) = stem.filter(|stem| is_pack(stem))
            && path.extension().is_some_and(|extension| extension == "idx")
        {
            names.insert(stem.to_owned());
        }
    }
    Ok(names)
}

impl Git {
    /// Writes all packs of a mirror as one, and removes them once that is on disk. Readers may go on meanwhile; a fetch
    /// may not be under way.
    ///
    /// # Errors
    /// `REPOSITORY_UNUSABLE`; all packs are still there then.
    pub fn repack(&self) -> Result<(), Refusal> {
        let folder = self.path().join("objects/pack");
        let at = |error: io::Error| unusable(&folder, &error);
        self.sweep()?;
        let old = names(&folder).map_err(at)?;
        let new = self
            .write_pack(&folder)
            .map_err(|error| unusable(&folder, &*error))?;
        // Of the fetches before it and of this one.
        self.sweep()?;
        for name in ["idx", "pack"].map(|extension| format!("{new}.{extension}")) {
            File::open(folder.join(name))
                .and_then(|file| file.sync_all())
                .map_err(at)?;
        }
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .map_err(at)?;
        remove(&folder, |stem| {
            stem == "multi-pack-index" || stem != new && old.contains(stem)
        })
        .map_err(at)
    }

    /// Writes a pack of all objects that lie in packs, with its index, into `folder`; gives its name.
    fn write_pack(&self, folder: &Path) -> Result<String, Box<dyn std::error::Error>> {
        let mut objects = (*self.repository.objects).clone();
        objects.prevent_pack_unload();
        let never = AtomicBool::new(false);
        let ids = objects.iter()?;
        let ids: Vec<gix::ObjectId> = ids.collect::<Result<_, _>>()?;
        let (counts, _) = count::objects(
            objects.clone(),
            Box::new(ids.into_iter().map(Ok)),
            &Discard,
            &never,
            count::objects::Options {
                input_object_expansion: count::objects::ObjectExpansion::AsIs,
                ..Default::default()
            },
        )?;
        let length = u32::try_from(counts.len())?;
        let entries = entry::iter_from_counts(
            counts,
            objects,
            Box::new(Discard),
            entry::iter_from_counts::Options::default(),
        )?;
        let mut file = BufWriter::new(tempfile::tempfile_in(folder)?);
        let version = gix_pack::data::Version::V2;
        let entries = InOrderIter::from(entries);
        let written: FromEntriesIter<_, _> = output::bytes::FromEntriesIter::new(
            entries,
            &mut file,
            length,
            version,
            gix::hash::Kind::Sha1,
        );
        for bytes in written {
            bytes?;
        }
        let mut file = file.into_inner()?;
        file.seek(SeekFrom::Start(0))?;
        let bundle = Bundle::write_to_directory(
            &mut BufReader::new(file),
            Some(folder),
            &mut Discard,
            &never,
            None::<gix::odb::Handle>,
            gix::hash::Kind::Sha1,
            bundle::write::Options::default(),
        )?;
        // What could not be read is left out without an error.
        if bundle.index.num_objects != length {
            let got = bundle.index.num_objects;
            return Err(format!("{got} objects in the new pack, expected {length}").into());
        }
        let name = bundle.data_path.as_deref().and_then(Path::file_stem);
        let name = name.and_then(|name| name.to_str());
        Ok(name.ok_or("the new pack has no name")?.to_owned())
    }
}

/// Removes the files in `folder` whose names without extension are `wanted`.
fn remove(folder: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .is_some_and(&wanted)
        {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Kind;
    use crate::git::fetch::{Fetcher, Request};
    use crate::tree::Objects as _;
    use std::process::Command;
    use std::time::Duration;

    fn git(folder: &Path, args: &[&str]) -> String {
        let done = Command::new("git")
            .current_dir(folder)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
            .args(args)
            .output()
            .unwrap();
        assert!(done.status.success(), "git {args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// A remote of one branch, and the mirror of it.
    fn fetched(folder: &Path, times: usize) -> Git {
        let remote = folder.join("remote");
        fs::create_dir_all(&remote).unwrap();
        git(&remote, &["init", "-q", "-b", "main"]);
        let main = || "refs/heads/main".to_owned();
        let request = Request {
            url: remote.display().to_string(),
            token: None,
            ca: None,
            refs: vec![(main(), main())],
            wanted: None,
            into: folder.join("mirror.git"),
            max_bytes: 1 << 20,
            deadline: Duration::from_secs(60),
        };
        // Of a size that git makes deltas of.
        let mut text = (0..200).map(|n| format!("line {n}\n")).collect::<String>();
        for time in 0..times {
            text += &format!("change {time}\n");
            fs::write(remote.join("file"), &text).unwrap();
            git(&remote, &["add", "."]);
            git(&remote, &["commit", "-q", "-m", "Change"]);
            Fetcher::default().fetch(&request).unwrap();
        }
        Git::open(&request.into).unwrap()
    }

    #[test]
    fn many_packs_become_one_that_git_finds_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = fetched(folder.path(), 7);
        assert_eq!(packs(mirror.path()), 7);
        let all = [
            "cat-file",
            "--batch-check",
            "--batch-all-objects",
            "--unordered",
        ];
        let sorted = |mirror: &Git| {
            let listed = git(mirror.path(), &all);
            let lines: BTreeSet<String> = listed.lines().map(str::to_owned).collect();
            lines
        };
        let before = sorted(&mirror);
        // Opened before, and reads what it has not read yet after.
        let reader = Git::open(mirror.path()).unwrap();
        let tip = reader.resolve("refs/heads/main").unwrap().unwrap();
        mirror.repack().unwrap();
        assert_eq!(packs(mirror.path()), 1);
        git(mirror.path(), &["fsck", "--strict", "--full"]);
        assert_eq!(sorted(&mirror), before);
        reader.object(Kind::Commit, &tip, 1000).unwrap();
        let left = fs::read_dir(mirror.path().join("objects/pack")).unwrap();
        assert_eq!(left.count(), 2, "the pack and its index");
        // Once more, with nothing to do.
        mirror.repack().unwrap();
        assert_eq!(sorted(&mirror), before);
    }

    #[test]
    fn a_damaged_pack_leaves_all_packs_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = fetched(folder.path(), 3);
        let packs_folder = mirror.path().join("objects/pack");
        let name = names(&packs_folder).unwrap().pop_first().unwrap();
        let pack = packs_folder.join(format!("{name}.pack"));
        let mut bytes = fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::remove_file(&pack).unwrap();
        fs::write(&pack, &bytes).unwrap();
        let mirror = Git::open(mirror.path()).unwrap();
        assert!(mirror.repack().is_err());
        assert_eq!(packs(mirror.path()), 3);
    }

    #[test]
    fn a_mirror_holds_no_sample_hooks() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = Git::init_bare(&folder.path().join("mirror.git")).unwrap();
        assert!(!mirror.path().join("hooks").exists());
    }
}
