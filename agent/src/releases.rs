//! The releases of a service on disk: which there are, and which go.

use std::fs;
use std::path::Path;

use state::Refusal;
use state::digest::ReleaseId;

use crate::config::Limits;
use crate::deployment::record::Record;
use crate::disk;
use crate::layout::ServiceLayout;
use crate::meter::usage;

/// The releases on disk, oldest build first.
pub fn releases(layout: &ServiceLayout) -> Vec<(String, u32)> {
    let Ok(entries) = fs::read_dir(layout.releases()) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut releases: Vec<(String, u32)> = names
        .filter_map(|name| {
            let (id, number) = name.split_once('-')?;
            Some((id.to_owned(), number.parse().ok()?))
        })
        .filter(|(id, _)| id.len() == 12)
        .collect();
    releases.sort_by_key(|(_, number)| *number);
    releases
}

/// The newest build of `release` on disk.
pub fn find(layout: &ServiceLayout, release: &ReleaseId) -> Option<u32> {
    let newest = releases(layout).into_iter().rev();
    let mut same = newest.filter(|(id, _)| *id == release.short());
    same.next().map(|(_, number)| number)
}

/// Removes the oldest releases beyond `keep` and beyond what they may take together, never what the record names; and a
/// cache that takes too much. No build of the service may be under way.
pub fn collect(
    layout: &ServiceLayout,
    record: &Record,
    keep: u32,
    limits: &Limits,
) -> Result<(), Refusal> {
    let named = record.named();
    let is_named = |id: &str, number: u32| {
        let mut named = named.iter();
        named.any(|kept| kept.release.short() == id && kept.number == number)
    };
    let releases = releases(layout);
    let excess = releases.len().saturating_sub(keep as usize);
    let spare = releases
        .into_iter()
        .filter(|(id, number)| !is_named(id, *number));
    let spare: Vec<_> = spare
        .map(|(id, number)| layout.releases().join(format!("{id}-{number}")))
        .collect();
    let (beyond, spare) = spare.split_at(excess.min(spare.len()));
    beyond.iter().try_for_each(|path| remove(path))?;
    let most = limits.release_bytes.0;
    for path in spare {
        if usage(&layout.releases(), most) <= most {
            break;
        }
        remove(path)?;
    }
    let most = limits.cache_bytes.0;
    if usage(&layout.cache(), most) > most {
        // The next deployment makes the folder again.
        remove(&layout.cache())?;
    }
    Ok(())
}

/// Removes everything of a service but its data folder.
pub fn remove_all(layout: &ServiceLayout) -> Result<(), Refusal> {
    let entries =
        fs::read_dir(layout.path()).map_err(|error| disk::failed(layout.path(), &error))?;
    for entry in entries {
        let path = entry
            .map_err(|error| disk::failed(layout.path(), &error))?
            .path();
        // The record goes last: until then it says what is left to do.
        if path == layout.data() || path == layout.record() {
            continue;
        }
        remove(&path)?;
    }
    // Its number may become another's once the data is gone.
    layout.passing().into_iter().try_for_each(remove)?;
    remove(&layout.record())
}

fn remove(path: &Path) -> Result<(), Refusal> {
    crate::fs::remove(path).map_err(|error| disk::failed(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::record::Kept;
    use crate::layout::Layout;
    use state::digest::ObjectId;
    use state::name::ServiceName;
    use state::unit::Bytes;

    fn kept(byte: u8, number: u32) -> Kept {
        Kept {
            release: ReleaseId([byte; 32]),
            source: ObjectId([byte; 20]),
            number,
            extra: state::durable::Extra::default(),
        }
    }

    #[test]
    fn releases_beyond_keep_go_but_never_one_that_the_record_names() {
        let root = tempfile::tempdir().unwrap();
        let service: ServiceName = "web".parse().unwrap();
        let layout = Layout::new(root.path()).unwrap().service(&service);
        for number in 1..=6 {
            let folder = layout.release(&kept(1, 0).release, number).join("app");
            fs::create_dir_all(&folder).unwrap();
        }
        let mut record = Record::new(service);
        record.last_good = Some(kept(1, 1));
        collect(&layout, &record, 3, &Limits::default()).unwrap();
        let left: Vec<u32> = releases(&layout).into_iter().map(|(_, n)| n).collect();
        assert_eq!(left, [1, 5, 6]);
        assert_eq!(find(&layout, &kept(1, 0).release), Some(6));
        assert_eq!(find(&layout, &kept(2, 0).release), None);
    }

    #[test]
    fn releases_and_a_cache_beyond_their_bytes_go_but_never_one_that_the_record_names() {
        let root = tempfile::tempdir().unwrap();
        let service: ServiceName = "web".parse().unwrap();
        let layout = Layout::new(root.path()).unwrap().service(&service);
        layout.create(None).unwrap();
        for number in 1..=4 {
            let folder = layout.release(&kept(1, 0).release, number).join("app");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), vec![1; 1 << 20]).unwrap();
        }
        let cached = layout.cache().join("folders/target");
        fs::create_dir_all(&cached).unwrap();
        fs::write(cached.join("object"), vec![1; 1 << 20]).unwrap();
        let mut record = Record::new(service);
        record.last_good = Some(kept(1, 1));
        let collect = |releases: u64, cache: u64| {
            let limits = Limits {
                release_bytes: Bytes(releases),
                cache_bytes: Bytes(cache),
                ..Limits::default()
            };
            super::collect(&layout, &record, 10, &limits).unwrap();
            (releases_of(&layout), cached.exists())
        };
        assert_eq!(collect(16 << 20, 16 << 20), (vec![1, 2, 3, 4], true));
        assert_eq!(collect(5 << 19, 16 << 20), (vec![1, 4], true));
        assert_eq!(collect(1, 1), (vec![1], false));
    }

    fn releases_of(layout: &ServiceLayout) -> Vec<u32> {
        releases(layout).into_iter().map(|(_, n)| n).collect()
    }

    #[test]
    fn a_removed_service_leaves_its_data() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path()).unwrap();
        let layout = layout.service(&"web".parse().unwrap());
        layout.create(None).unwrap();
        fs::write(layout.data().join("kept"), "x").unwrap();
        fs::write(layout.record(), "{}").unwrap();
        remove_all(&layout).unwrap();
        assert!(layout.passing().into_iter().all(|folder| !folder.exists()));
        let left: Vec<_> = fs::read_dir(layout.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert!(layout.data().join("kept").exists());
    }
}
