//! The manifest: what policy signs for each admission. Printing what was read gives the same bytes.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::digest::{Domain, ReleaseId, Sha256Hash, TreeId};
use crate::floor::SKEW;
use crate::name::{EnvironmentName, InvalidName, ServiceName};
use crate::release::Origin;
use crate::statement::{Lines, print_time};
use crate::{Code, Refusal};

/// The first line of a manifest.
const TITLE: &str = "writ manifest v1";

/// The most bytes that a manifest may have.
pub const MAX_BYTES: usize = 1 << 20;

/// The most changes that a manifest may have; the rest follow in the next.
pub const MAX_CHANGES: usize = 1000;

/// What one admission says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The fleet.
    pub domain: Domain,
    /// Its place in the log; the first is 1.
    pub sequence: u64,
    /// The hash of the manifest before it; zeros at 1.
    pub previous: Sha256Hash,
    /// The trust file it was made under.
    pub trust: TrustRef,
    /// The commit of `main` it was made from.
    pub author: Origin,
    /// The SHA-256 id of that commit's tree.
    pub author_tree: TreeId,
    /// The SHA-256 id of the admitted tree without `manifest` and `manifest.sig`.
    pub tree: TreeId,
    /// What changed against the manifest before it, sorted.
    pub changes: Vec<Change>,
    /// All holds in force, sorted.
    pub holds: Vec<Hold>,
    /// When policy signed it, in whole seconds.
    pub issued: Timestamp,
}

/// A trust file by version and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustRef {
    /// Its version.
    pub version: u64,
    /// The hash of its bytes.
    pub sha256: Sha256Hash,
}

/// What can be admitted in an environment: a service, or the environment's rules. Ordered by its text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The rules, written `environment`.
    Rules,
    /// A service.
    Service(ServiceName),
}

impl Subject {
    /// How manifests and paths call it: the service's name, or `environment`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Rules => "environment",
            Self::Service(name) => name.as_str(),
        }
    }
}

impl Ord for Subject {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Subject {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Subject {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.parse() {
            Ok(name) => Ok(Self::Service(name)),
            Err(InvalidName::Reserved) => Ok(Self::Rules),
            Err(error) => Err(error),
        }
    }
}

/// One release that takes the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub environment: EnvironmentName,
    /// What.
    pub subject: Subject,
    /// The release admitted before; `None` if there was none.
    pub from: Option<ReleaseId>,
    /// The release admitted now; `None` if it left.
    pub to: Option<ReleaseId>,
}

/// A release that must not be deployed, although it is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Where.
    pub environment: EnvironmentName,
    /// What.
    pub subject: Subject,
    /// Why: `[A-Z][A-Z0-9_]{0,63}`.
    pub reason: String,
}

/// What the next manifest is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The sequence of the last manifest; 0 before the first.
    pub sequence: u64,
    /// Its hash; zeros before the first.
    pub hash: Sha256Hash,
    /// The trust version it named.
    pub trust: u64,
    /// When it was issued.
    pub issued: Timestamp,
}

impl Link {
    /// Before the first manifest.
    pub const START: Self = Self {
        sequence: 0,
        hash: Sha256Hash::ZERO,
        trust: 1,
        issued: Timestamp::UNIX_EPOCH,
    };
}

impl Manifest {
    /// Reads a manifest in its exact form.
    ///
    /// # Errors
    /// `MANIFEST_MALFORMED`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let malformed =
            |why: &str| Refusal::new(Code::ManifestMalformed, format!("manifest: {why}"));
        if bytes.len() > MAX_BYTES {
            return Err(malformed("it is too long"));
        }
        let manifest = Self::read(bytes).map_err(|why| malformed(&why))?;
        if manifest.print().as_bytes() != bytes {
            return Err(malformed("a value is not in its one spelling"));
        }
        Ok(manifest)
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut lines = Lines::new(bytes, TITLE)?;
        let domain = lines.value("domain")?;
        let sequence = lines.value("sequence")?;
        let previous = lines.value("previous")?;
        let [version, sha256] = lines.words("trust")?;
        let trust = TrustRef {
            version: lines.parse(version)?,
            sha256: lines.parse(sha256)?,
        };
        let [commit, payload, author_tree] = lines.words("author")?;
        let author = Origin {
            commit: lines.parse(commit)?,
            payload: lines.parse(payload)?,
        };
        let author_tree = lines.parse(author_tree)?;
        let tree = lines.value("tree")?;
        let mut changes: Vec<Change> = Vec::new();
        while let Some(value) = lines.optional("change") {
            let change = Change::read(&lines, value)?;
            if changes
                .last()
                .is_some_and(|last| last.place() >= change.place())
            {
                return Err(lines.wrong("the changes are not sorted"));
            }
            changes.push(change);
        }
        if changes.len() > MAX_CHANGES {
            return Err(format!(
                "it has {} changes, at most {MAX_CHANGES}",
                changes.len()
            ));
        }
        let mut holds: Vec<Hold> = Vec::new();
        while let Some(value) = lines.optional("hold") {
            let hold = Hold::read(&lines, value)?;
            if holds
                .last()
                .is_some_and(|last| last.place() >= hold.place())
            {
                return Err(lines.wrong("the holds are not sorted"));
            }
            holds.push(hold);
        }
        let issued = lines.value("issued")?;
        lines.end()?;
        Ok(Self {
            domain,
            sequence,
            previous,
            trust,
            author,
            author_tree,
            tree,
            changes,
            holds,
            issued,
        })
    }

    /// The bytes that are signed.
    pub fn print(&self) -> String {
        let Origin { commit, payload } = &self.author;
        let TrustRef { version, sha256 } = &self.trust;
        let mut text = format!(
            "{TITLE}\ndomain: {}\nsequence: {}\nprevious: {}\ntrust: {version} {sha256}\nauthor: {commit} {payload} {}\ntree: {}\n",
            self.domain, self.sequence, self.previous, self.author_tree, self.tree,
        );
        for change in &self.changes {
            let id = |id: Option<ReleaseId>| id.map_or("-".to_owned(), |id| id.to_string());
            let (from, to) = (id(change.from), id(change.to));
            let Change {
                environment,
                subject,
                ..
            } = change;
            text.push_str(&format!("change: {environment} {subject} {from} -> {to}\n"));
        }
        for Hold {
            environment,
            subject,
            reason,
        } in &self.holds
        {
            text.push_str(&format!("hold: {environment} {subject} {reason}\n"));
        }
        text.push_str(&format!("issued: {}\n", print_time(self.issued)));
        text
    }

    /// The hash of the printed bytes: what the next manifest names as `previous`.
    pub fn hash(&self) -> Sha256Hash {
        Sha256Hash::of(self.print().as_bytes())
    }

    /// What the next manifest is checked against.
    pub fn link(&self) -> Link {
        Link {
            sequence: self.sequence,
            hash: self.hash(),
            trust: self.trust.version,
            issued: self.issued,
        }
    }

    /// Checks what the manifest alone shows: its fleet, its place in the chain and its time.
    ///
    /// # Errors
    /// `WRONG_DOMAIN`, `SEQUENCE_GAP`, `CHAIN_BROKEN`, `TRUST_MISMATCH` (older than the predecessor's),
    /// `TIME_REVERSED`, `ISSUED_IN_FUTURE`.
    pub fn check_follows(
        &self,
        domain: &Domain,
        previous: &Link,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let refuse = |code, what: &str, got: &dyn fmt::Display, expected: &dyn fmt::Display| {
            let detail = format!(
                "manifest {}: {what} {got}, expected {expected}",
                self.sequence
            );
            Err(Refusal::new(code, detail))
        };
        let next = previous.sequence.saturating_add(1);
        if self.domain != *domain {
            return refuse(Code::WrongDomain, "domain", &self.domain, domain);
        }
        if self.sequence != next {
            return refuse(Code::SequenceGap, "sequence", &self.sequence, &next);
        }
        if self.previous != previous.hash {
            return refuse(
                Code::ChainBroken,
                "previous",
                &self.previous,
                &previous.hash,
            );
        }
        if self.trust.version < previous.trust {
            let least = format!("at least {}", previous.trust);
            return refuse(Code::TrustMismatch, "trust", &self.trust.version, &least);
        }
        if self.issued < previous.issued {
            let least = format!("no earlier than {}", previous.issued);
            return refuse(Code::TimeReversed, "issued", &self.issued, &least);
        }
        if self.issued.duration_since(now) > SKEW {
            let most = format!("no later than {now} and 5 minutes");
            return refuse(Code::IssuedInFuture, "issued", &self.issued, &most);
        }
        Ok(())
    }
}

impl Change {
    fn read(lines: &Lines<'_>, value: &str) -> Result<Self, String> {
        let [environment, subject, from, arrow, to] = lines.split(value)?;
        let id = |word| match word {
            "-" => Ok(None),
            id => lines.parse(id).map(Some),
        };
        let (from, to): (Option<ReleaseId>, Option<ReleaseId>) = (id(from)?, id(to)?);
        if arrow != "->" || from == to {
            return Err(lines.wrong("expected two different releases around '->'"));
        }
        Ok(Self {
            environment: lines.parse(environment)?,
            subject: lines.parse(subject)?,
            from,
            to,
        })
    }

    /// What the changes of a manifest are sorted by; each place stands once.
    pub fn place(&self) -> (&EnvironmentName, &Subject) {
        (&self.environment, &self.subject)
    }
}

impl Hold {
    fn read(lines: &Lines<'_>, value: &str) -> Result<Self, String> {
        let [environment, subject, reason] = lines.split(value)?;
        let tail = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let head = reason.starts_with(|first: char| first.is_ascii_uppercase());
        if !head || !reason.bytes().all(tail) || reason.len() > 64 {
            return Err(lines.wrong("expected a reason code such as HELD"));
        }
        Ok(Self {
            environment: lines.parse(environment)?,
            subject: lines.parse(subject)?,
            reason: reason.to_owned(),
        })
    }

    /// What the holds of a manifest are sorted by; each place stands once.
    pub fn place(&self) -> (&EnvironmentName, &Subject) {
        (&self.environment, &self.subject)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::{ObjectId, PayloadHash};

    fn now() -> Timestamp {
        "2026-11-20T23:50:00Z".parse().unwrap()
    }

    fn manifest() -> Manifest {
        let change = |environment: &str, subject: &str, from: Option<u8>, to: Option<u8>| Change {
            environment: environment.parse().unwrap(),
            subject: subject.parse().unwrap(),
            from: from.map(|byte| ReleaseId([byte; 32])),
            to: to.map(|byte| ReleaseId([byte; 32])),
        };
        Manifest {
            domain: Domain([1; 32]),
            sequence: 42,
            previous: Sha256Hash([2; 32]),
            trust: TrustRef {
                version: 7,
                sha256: Sha256Hash([3; 32]),
            },
            author: Origin {
                commit: ObjectId([4; 20]),
                payload: PayloadHash([5; 32]),
            },
            author_tree: TreeId([6; 32]),
            tree: TreeId([7; 32]),
            changes: vec![
                change("dev", "environment", None, Some(8)),
                change("dev", "web", Some(9), Some(10)),
                change("prod", "api", Some(11), None),
            ],
            holds: vec![Hold {
                environment: "prod".parse().unwrap(),
                subject: "web".parse().unwrap(),
                reason: "BAD_BUILD".to_owned(),
            }],
            issued: now(),
        }
    }

    fn code(text: &str) -> Option<Code> {
        Manifest::parse(text.as_bytes())
            .err()
            .map(|refusal| refusal.code)
    }

    #[test]
    fn a_manifest_has_the_form_of_the_specification() {
        insta::assert_snapshot!(manifest().print(), @r"
        writ manifest v1
        domain: 0101010101010101010101010101010101010101010101010101010101010101
        sequence: 42
        previous: 0202020202020202020202020202020202020202020202020202020202020202
        trust: 7 0303030303030303030303030303030303030303030303030303030303030303
        author: 0404040404040404040404040404040404040404 0505050505050505050505050505050505050505050505050505050505050505 0606060606060606060606060606060606060606060606060606060606060606
        tree: 0707070707070707070707070707070707070707070707070707070707070707
        change: dev environment - -> 0808080808080808080808080808080808080808080808080808080808080808
        change: dev web 0909090909090909090909090909090909090909090909090909090909090909 -> 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a
        change: prod api 0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b -> -
        hold: prod web BAD_BUILD
        issued: 2026-11-20T23:50:00Z
        ");
    }

    #[test]
    fn anything_but_the_exact_form_is_refused() {
        let good = manifest().print();
        assert_eq!(code(&good), None);
        let dev = good.lines().nth(7).unwrap();
        let web = good.lines().nth(8).unwrap();
        for (bad, why) in [
            (good.replace("v1", "v2"), "another version"),
            (good.replace("42", "+42"), "a sign"),
            (good.replace("42", "042"), "a leading zero"),
            (good.replace("42", "99999999999999999999"), "too large"),
            (good.replace("domain: 01", "domain: 0A"), "upper case"),
            (good.replace('\n', "\r\n"), "CRLF"),
            (good.replace(": 42", ":  42"), "a space"),
            (good.replace("sequence", "seq"), "another key"),
            (format!("{good}\n"), "an empty line"),
            (format!("\u{feff}{good}"), "a byte order mark"),
            (good.trim_end().to_owned(), "no final newline"),
            (
                good.replace(&format!("{dev}\n"), &format!("{dev}\n{dev}\n")),
                "a change twice",
            ),
            (
                good.replace(&format!("{dev}\n{web}\n"), &format!("{web}\n{dev}\n")),
                "unsorted",
            ),
            (good.replace(" -> ", " => "), "another arrow"),
            (
                good.replace(&"09".repeat(32), &"0a".repeat(32)),
                "a change to the same",
            ),
            (
                good.replace("BAD_BUILD", "bad build"),
                "a reason of two words",
            ),
            (good.replace("BAD_BUILD", "bad"), "a reason in lower case"),
            (good.replace("dev web", "dev Web"), "no name"),
            (good.replace("00Z", "00.5Z"), "half a second"),
            (good.replace("Z\n", "+00:00\n"), "another zone"),
        ] {
            assert_ne!(bad, good, "{why}");
            assert_eq!(code(&bad), Some(Code::ManifestMalformed), "{why}");
        }
    }

    #[test]
    fn too_many_changes_or_bytes_are_refused() {
        let mut large = manifest();
        let name = |index: usize| format!("s{index:04}").parse().unwrap();
        let change = |index| Change {
            subject: name(index),
            ..large.changes[1].clone()
        };
        large.changes = (0..MAX_CHANGES).map(change).collect();
        assert_eq!(code(&large.print()), None);
        large.changes.push(Change {
            subject: name(MAX_CHANGES),
            ..large.changes[0].clone()
        });
        assert_eq!(code(&large.print()), Some(Code::ManifestMalformed));
        let mut long = manifest();
        let hold = |index| Hold {
            subject: name(index),
            ..long.holds[0].clone()
        };
        long.holds = (0..40_000).map(hold).collect();
        assert_eq!(code(&long.print()), Some(Code::ManifestMalformed));
    }

    #[test]
    fn a_manifest_follows_its_predecessor_only() {
        let manifest = manifest();
        let previous = Link {
            sequence: 41,
            hash: Sha256Hash([2; 32]),
            trust: 7,
            issued: now(),
        };
        let code = |domain: u8, previous: Link, now: &str| {
            let result =
                manifest.check_follows(&Domain([domain; 32]), &previous, now.parse().unwrap());
            result.err().map(|refusal| refusal.code)
        };
        let at = "2026-11-20T23:45:00Z";
        assert_eq!(code(1, previous, at), None);
        assert_eq!(code(2, previous, at), Some(Code::WrongDomain));
        assert_eq!(
            code(
                1,
                Link {
                    sequence: 40,
                    ..previous
                },
                at
            ),
            Some(Code::SequenceGap)
        );
        assert_eq!(
            code(
                1,
                Link {
                    sequence: 42,
                    ..previous
                },
                at
            ),
            Some(Code::SequenceGap)
        );
        assert_eq!(
            code(
                1,
                Link {
                    hash: Sha256Hash::ZERO,
                    ..previous
                },
                at
            ),
            Some(Code::ChainBroken)
        );
        assert_eq!(
            code(
                1,
                Link {
                    trust: 8,
                    ..previous
                },
                at
            ),
            Some(Code::TrustMismatch)
        );
        let later = "2026-11-20T23:50:01Z".parse().unwrap();
        assert_eq!(
            code(
                1,
                Link {
                    issued: later,
                    ..previous
                },
                at
            ),
            Some(Code::TimeReversed)
        );
        assert_eq!(
            code(1, previous, "2026-11-20T23:44:59Z"),
            Some(Code::IssuedInFuture)
        );
        assert_eq!(manifest.link().sequence, 42);
    }

    proptest! {
        #[test]
        fn what_was_read_prints_as_the_same_bytes(
            edits in prop::collection::vec((0_usize..1200, any::<u8>(), any::<bool>()), 0..4),
        ) {
            let mut bytes = manifest().print().into_bytes();
            for (at, byte, insert) in edits {
                let at = at % bytes.len();
                if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
            }
            if let Ok(manifest) = Manifest::parse(&bytes) {
                prop_assert_eq!(manifest.print().into_bytes(), bytes);
            }
        }

        #[test]
        fn what_was_printed_reads_as_the_same_manifest(
            sequence: u64, hash: [u8; 32], services in prop::collection::btree_set("[a-z][a-z0-9-]{0,39}", 0..9),
            seconds in -62_135_596_800_i64..253_402_207_200,
        ) {
            let mut expected = manifest();
            expected.sequence = sequence;
            expected.previous = Sha256Hash(hash);
            let change = |name: &String| Change { subject: name.parse().unwrap(), ..expected.changes[0].clone() };
            expected.changes = services.iter().map(change).collect();
            expected.issued = Timestamp::from_second(seconds).unwrap();
            prop_assert_eq!(Manifest::parse(expected.print().as_bytes()), Ok(expected));
        }
    }
}
