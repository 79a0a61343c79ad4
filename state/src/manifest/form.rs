//! The exact form of a manifest: ASCII, one order, one spelling of each value.

use super::{Change, Hold, Manifest, TrustRef};
use crate::digest::Sha256Hash;
use crate::release::Origin;
use crate::statement::{Lines, later_title, print_id, print_time};
use crate::{Code, Refusal};

/// The first line of a manifest: the lowest version that can say what the manifest says, so that old hosts follow as
/// long as they can. There is one version yet.
const TITLE: &str = "writ manifest v1";

/// The most bytes that a manifest may have.
pub const MAX_BYTES: usize = 1 << 20;

/// The most changes that a manifest may have; the rest follow in the next.
pub const MAX_CHANGES: usize = 1000;

impl Manifest {
    /// Reads a manifest in its exact form.
    ///
    /// # Errors
    /// `MANIFEST_NEWER` for the title of a later version, whatever follows it; `MANIFEST_MALFORMED`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if let Some(title) = later_title(bytes, TITLE) {
            let detail = format!("it is a '{title}', this program knows '{TITLE}'");
            return Err(Refusal::new(Code::ManifestNewer, detail));
        }
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
            let (from, to) = (print_id(change.from), print_id(change.to));
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
}

impl Change {
    fn read(lines: &Lines<'_>, value: &str) -> Result<Self, String> {
        let [environment, subject, from, arrow, to] = lines.split(value)?;
        let (from, to) = (lines.parse_id(from)?, lines.parse_id(to)?);
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
}

impl Hold {
    fn read(lines: &Lines<'_>, value: &str) -> Result<Self, String> {
        let [environment, subject, reason] = lines.split(value)?;
        if !Hold::is_reason(reason) {
            return Err(lines.wrong("expected a reason code such as HELD"));
        }
        Ok(Self {
            environment: lines.parse(environment)?,
            subject: lines.parse(subject)?,
            reason: reason.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::example::manifest;

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
            (good.replace("v1", "v0"), "another version"),
            (good.replace("v1", "v02"), "a second spelling of a version"),
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
    fn a_later_version_is_newer_whatever_it_says() {
        let good = manifest().print();
        let long = format!("{}{}", good.replace("v1", "v7"), "x".repeat(MAX_BYTES));
        for newer in [&good.replace("v1", "v2"), "writ manifest v2", &long] {
            assert_eq!(code(newer), Some(Code::ManifestNewer));
        }
        let unknown_line = good.replace("issued", "freeze: prod\nissued");
        assert_eq!(code(&unknown_line), Some(Code::ManifestMalformed));
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
