//! Commits of `main`, byte by byte: as git would write them, until a test changes what it likes.

use base64::Engine as _;
use state::digest::ObjectId;
use state::key::SigningKey;
use state::sshsig::{self, Namespace};

/// The headers and the message of a commit.
#[derive(Clone, Debug)]
pub struct CommitText {
    /// Its tree.
    pub tree: ObjectId,
    /// Its parents.
    pub parents: Vec<ObjectId>,
    /// `name <address> seconds +zone`, of author and committer.
    pub person: String,
    /// Further header lines before the signature.
    pub extra: String,
    /// The message.
    pub message: String,
}

impl CommitText {
    /// A commit of `tree` on `parents`, in perfect form.
    pub fn new(tree: ObjectId, parents: &[ObjectId]) -> Self {
        Self {
            tree,
            parents: parents.to_vec(),
            person: "mallory <mallory@example.org> 1795000000 +0000".to_owned(),
            extra: String::new(),
            message: "Improve things\n".to_owned(),
        }
    }

    fn head(&self) -> String {
        let mut head = format!("tree {}\n", self.tree);
        for parent in &self.parents {
            head += &format!("parent {parent}\n");
        }
        let Self { person, extra, .. } = self;
        head + &format!("author {person}\ncommitter {person}\n{extra}")
    }

    /// The bytes that a signature covers; those of the whole commit if nobody signs it.
    pub fn unsigned(&self) -> String {
        format!("{}\n{}", self.head(), self.message)
    }

    /// The commit, signed as `git commit -S` signs.
    pub fn signed(&self, key: &SigningKey) -> String {
        self.signed_as(key, Namespace::Git)
    }

    /// The commit, with a signature for statements of `namespace`.
    pub fn signed_as(&self, key: &SigningKey, namespace: Namespace) -> String {
        self.with_armor(&sshsig::sign(key, namespace, self.unsigned().as_bytes()))
    }

    /// The commit, with `armor` for a signature.
    pub fn with_armor(&self, armor: &str) -> String {
        let armor = armor.trim_end().replace('\n', "\n ");
        format!("{}gpgsig {armor}\n\n{}", self.head(), self.message)
    }
}

/// An armored signature by the key for which everybody can sign: the neutral point of the curve. Any check that is not
/// strict accepts it for every message.
pub fn weak_armor(namespace: &str) -> String {
    let neutral = [&[1][..], &[0; 31]].concat();
    let signature = [&neutral[..], &[0; 32]].concat();
    let blob = [
        b"SSHSIG".to_vec(),
        1_u32.to_be_bytes().to_vec(),
        string(&weak_blob()),
        string(namespace.as_bytes()),
        string(b""),
        string(b"sha512"),
        string(&[string(b"ssh-ed25519"), string(&signature)].concat()),
    ]
    .concat();
    let text = base64::engine::general_purpose::STANDARD.encode(blob);
    let mut armor = "-----BEGIN SSH SIGNATURE-----\n".to_owned();
    for line in text.as_bytes().chunks(70) {
        armor += &format!("{}\n", String::from_utf8_lossy(line));
    }
    armor + "-----END SSH SIGNATURE-----\n"
}

/// That key as an OpenSSH public key line.
pub fn weak_key() -> String {
    let blob = base64::engine::general_purpose::STANDARD.encode(weak_blob());
    format!("ssh-ed25519 {blob}")
}

fn weak_blob() -> Vec<u8> {
    let neutral = [&[1][..], &[0; 31]].concat();
    [string(b"ssh-ed25519"), string(&neutral)].concat()
}

/// A string as SSH writes it: its length, then its bytes.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a short string");
    [&length.to_be_bytes(), bytes].concat()
}
