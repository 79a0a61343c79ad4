//! The fleet's throw-away keys, by name: files that git and ssh-keygen sign with, and values that the forge signs with.

use std::path::{Path, PathBuf};

use state::file;
use state::key::{PublicKey, SigningKey};

/// A folder of private keys; some of them stolen.
#[derive(Clone, Debug)]
pub struct Keys(PathBuf);

impl Keys {
    /// The keys in `folder`.
    pub fn of(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The file of the private key `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The private key `name`.
    pub fn get(&self, name: &str) -> SigningKey {
        SigningKey::load(&self.path(name)).expect("a key of the fleet")
    }

    /// The public half of `name`.
    pub fn public(&self, name: &str) -> PublicKey {
        self.get(name).public().clone()
    }

    /// Makes the key `name`, in place of one that had the name.
    pub fn make(&self, name: &str) -> PublicKey {
        let key = SigningKey::generate();
        let path = self.path(name);
        save(&path, key.to_openssh().as_bytes(), 0o600);
        let public = format!("{} {name}\n", key.public());
        save(&path.with_extension("pub"), public.as_bytes(), 0o644);
        key.public().clone()
    }
}

fn save(path: &Path, bytes: &[u8], mode: u32) {
    file::write_atomic(path, bytes, mode).expect("a file of a key");
}
