//! Objects that were read lately, and hashed then: one log entry repeats most of what the one before it names.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use super::Kind;
use crate::digest::ObjectId;

/// The largest object that is kept, in bytes.
const MAX_OBJECT: usize = 64 << 10;

/// The most bytes of a generation; there are two.
const MAX_BYTES: usize = 1 << 20;

/// What an entry of the maps takes besides the object's bytes, roughly.
const OVERHEAD: usize = 100;

/// A bounded memory of objects that forgets what was not asked for while it filled up once more.
#[derive(Default)]
pub(super) struct Recent {
    young: HashMap<ObjectId, (Kind, Arc<[u8]>)>,
    old: HashMap<ObjectId, (Kind, Arc<[u8]>)>,
    bytes: usize,
}

impl Recent {
    /// An object that was read lately.
    pub(super) fn get(&mut self, id: &ObjectId) -> Option<(Kind, Arc<[u8]>)> {
        if let Some((kind, bytes)) = self.young.get(id) {
            return Some((*kind, Arc::clone(bytes)));
        }
        let (kind, bytes) = self.old.remove(id)?;
        self.keep(*id, kind, Arc::clone(&bytes));
        Some((kind, bytes))
    }

    /// Remembers an object whose bytes were found to hash to its id.
    pub(super) fn add(&mut self, id: ObjectId, kind: Kind, bytes: &[u8]) {
        if bytes.len() <= MAX_OBJECT {
            self.keep(id, kind, bytes.into());
        }
    }

    fn keep(&mut self, id: ObjectId, kind: Kind, bytes: Arc<[u8]>) {
        let more = bytes.len() + OVERHEAD;
        if self.bytes + more > MAX_BYTES {
            self.old = mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += more;
        self.young.insert(id, (kind, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ObjectId {
        let mut id = [0; 20];
        id[..4].copy_from_slice(&number.to_be_bytes());
        ObjectId(id)
    }

    #[test]
    fn what_is_asked_for_is_kept_and_the_rest_is_forgotten() {
        let mut recent = Recent::default();
        for number in 0..10_000 {
            recent.add(id(number), Kind::Blob, &number.to_be_bytes().repeat(100));
            assert!(recent.get(&id(0)).is_some(), "{number}");
            assert!(recent.bytes <= MAX_BYTES);
        }
        let (kind, bytes) = recent.get(&id(0)).unwrap();
        assert_eq!((kind, &bytes[..]), (Kind::Blob, &[0; 400][..]));
        assert!(recent.get(&id(1)).is_none());
        assert!(recent.young.len() + recent.old.len() < 5_000);
    }

    #[test]
    fn a_large_object_is_not_kept() {
        let mut recent = Recent::default();
        recent.add(id(1), Kind::Blob, &[0; MAX_OBJECT + 1]);
        assert!(recent.get(&id(1)).is_none());
    }
}
