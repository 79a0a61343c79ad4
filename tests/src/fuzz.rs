//! What a fuzzer looks for. Each target reads any bytes as one kind of input and asserts what must hold of whatever is
//! accepted; it says whether that is so. `tests/fuzz` gives them to libFuzzer, and the tests run them over a small
//! corpus with the mutations of [`mutate`].

use state::approval::Approval;
use state::commit::{Commit, Links};
use state::digest::{ObjectId, PayloadHash, Sha256Hash};
use state::freshness::Freshness;
use state::manifest::Manifest;
use state::name::{EnvironmentName, ServiceName};
use state::release::{Origin, Release};
use state::render;
use state::sshsig::{self, Namespace, Signature};
use state::tree::{self, Files};
use state::trust::Trust;

/// A target by its name, which is also its corpus's.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All targets.
pub const TARGETS: [Target; 8] = [
    ("sshsig", sshsig),
    ("commit", commit),
    ("tree", tree),
    ("manifest", manifest),
    ("freshness", freshness),
    ("approval", approval),
    ("trust", trust),
    ("service", service),
];

/// An armored signature has one spelling, and two of them in a file are two.
pub fn sshsig(bytes: &[u8]) -> bool {
    let Ok(signature) = Signature::parse(bytes) else {
        return false;
    };
    let one = sshsig::split(bytes).expect("one signature is a file of signatures");
    assert_eq!(one.as_slice(), std::slice::from_ref(&signature));
    let twice = sshsig::split(&bytes.repeat(2)).expect("so are two");
    assert_eq!(twice, [signature.clone(), signature.clone()]);
    // Nothing in a corpus was signed for this.
    assert!(
        signature
            .verify(Namespace::Report, b"nobody signed this")
            .is_err()
    );
    let line = signature.key().to_string();
    assert_eq!(line.parse().as_ref(), Ok(signature.key()));
    true
}

/// A commit begins with what it points to, and is its payload and one `gpgsig` header, nothing else.
pub fn commit(bytes: &[u8]) -> bool {
    let Ok(commit) = Commit::parse(ObjectId([7; 20]), bytes) else {
        return false;
    };
    let links = Links::parse(bytes).expect("a commit has links");
    assert_eq!((links.tree, &links.parents), (commit.tree, &commit.parents));
    let mut head = format!("tree {}\n", commit.tree);
    for parent in &commit.parents {
        head += &format!("parent {parent}\n");
    }
    assert!(bytes.starts_with(head.as_bytes()));
    let payload = commit.payload();
    let header = bytes.len() - payload.len();
    let is_cut_at = |at: &usize| {
        let (before, after) = payload.split_at(*at);
        bytes[*at..].starts_with(b"gpgsig ") && bytes.starts_with(before) && bytes.ends_with(after)
    };
    assert!(header > 0 && (0..payload.len()).any(|at| is_cut_at(&at)));
    assert_eq!(
        commit.payload_hash(),
        PayloadHash(Sha256Hash::of(payload).0)
    );
    let _ = (commit.subject(), commit.trailers("Tree-SHA256").count());
    true
}

/// A tree object is its entries in their order, each with a name of its own.
pub fn tree(bytes: &[u8]) -> bool {
    let Ok(entries) = tree::parse(bytes) else {
        return false;
    };
    let mut printed = Vec::new();
    for entry in &entries {
        printed.extend_from_slice(format!("{} {}\0", entry.mode.as_str(), entry.name).as_bytes());
        printed.extend_from_slice(&entry.id.0);
    }
    assert_eq!(printed, bytes);
    let mut names: Vec<_> = entries
        .iter()
        .map(|entry| entry.name.to_lowercase())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), entries.len());
    true
}

/// Printing what was read gives the same bytes.
pub fn manifest(bytes: &[u8]) -> bool {
    Manifest::parse(bytes).is_ok_and(|manifest| {
        assert_eq!(manifest.print().as_bytes(), bytes);
        assert_eq!(manifest.hash(), Sha256Hash::of(bytes));
        true
    })
}

/// Printing what was read gives the same bytes.
pub fn freshness(bytes: &[u8]) -> bool {
    Freshness::parse(bytes).is_ok_and(|freshness| {
        assert_eq!(freshness.print().as_bytes(), bytes);
        true
    })
}

/// Printing what was read gives the same bytes.
pub fn approval(bytes: &[u8]) -> bool {
    Approval::parse(bytes).is_ok_and(|approval| {
        assert_eq!(approval.print().as_bytes(), bytes);
        true
    })
}

/// A trust file's roles can be filled, and what names it is the hash of its exact bytes.
pub fn trust(bytes: &[u8]) -> bool {
    let Ok(trust) = Trust::parse(bytes) else {
        return false;
    };
    assert_eq!(trust.reference().sha256, Sha256Hash::of(bytes));
    assert!((1..=trust.root.keys.len()).contains(&trust.root.threshold));
    assert!(!trust.policy.keys.is_empty());
    true
}

/// A base and an overlay, divided by a line `---`, render to a release that prints and reads as itself; and a printed
/// release has one spelling.
pub fn service(bytes: &[u8]) -> bool {
    let environment: EnvironmentName = "dev".parse().expect("a name");
    let service: ServiceName = "web".parse().expect("a name");
    if let Ok(release) = Release::from_yaml(environment.clone(), service.clone(), bytes) {
        assert_eq!(release.to_yaml().as_bytes(), bytes);
        return true;
    }
    const BREAK: &[u8] = b"\n---\n";
    let at = bytes
        .windows(BREAK.len())
        .position(|window| window == BREAK);
    let (base, overlay) = match at {
        Some(at) => (&bytes[..=at], &bytes[at + BREAK.len()..]),
        None => (bytes, &[][..]),
    };
    let file = |path: &str, bytes: &[u8]| (path.to_owned(), bytes.into());
    let files = Files::from([
        file(
            "repository.yaml",
            format!("format: 1\nname: a\ndomain: \"{}\"\n", "0".repeat(64)).as_bytes(),
        ),
        file("environments/dev/environment.yaml", b"hosts: any\n"),
        file("environments/dev/web.yaml", overlay),
        file("services/web/service.yaml", base),
    ]);
    let origin = Origin {
        commit: ObjectId([1; 20]),
        payload: PayloadHash([2; 32]),
    };
    let Ok(release) = render::one(&files, &environment, &service, &origin) else {
        return false;
    };
    let printed = release.to_yaml();
    let again = Release::from_yaml(environment, service, printed.as_bytes());
    assert_eq!(again.as_ref(), Ok(&release));
    assert_eq!(again.map(|again| again.id()), Ok(release.id()));
    true
}

/// Words that mean something somewhere.
const WORDS: [&[u8]; 14] = [
    b"\n",
    b" ",
    b"\0",
    b"\r\n",
    b"-",
    b": ",
    b"---\n",
    b"<<: *a\n",
    b"!!str ",
    b"gpgsig ",
    b"40000 ",
    b"\xff",
    b"99999999999999999999",
    b"\xef\xbb\xbf",
];

/// The mutation number `number` of `seed`, the same each time; `other` is another seed to take pieces from.
pub fn mutate(seed: &[u8], other: &[u8], number: u64) -> Vec<u8> {
    let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            2 => {
                let end = (at + 1 + random.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + random.below(80)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            4 => {
                let from = random.below(other.len() + 1);
                let end = (from + random.below(80)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// A generator of numbers that needs only to be quick and the same each time (xorshift).
struct Random(u64);

impl Random {
    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let end = end as u64;
        usize::try_from(self.0 % end).unwrap_or_default()
    }
}
