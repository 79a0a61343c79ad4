//! Compares what hosts have accepted with the repository's own log. Two manifests for one sequence mean that somebody
//! was shown another log than somebody else: a policy key signed both. Pure.

use std::collections::BTreeMap;

use state::digest::Sha256Hash;
use state::trust::Anchor;
use state::{Code, Refusal};

/// What somebody has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub who: String,
    /// The sequence of the newest admission that he accepted; 0 before the first.
    pub sequence: u64,
    /// The hash of its manifest.
    pub manifest: Sha256Hash,
}

/// The log to compare with.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Which repository.
    pub name: String,
    /// The hash of every manifest, by sequence.
    pub manifests: BTreeMap<u64, Sha256Hash>,
    /// Where root let it go on.
    pub anchor: Option<Anchor>,
    /// The code for a log that ends before what somebody accepted.
    pub behind: Code,
}

/// How what somebody accepted relates to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It is the log's end.
    Same,
    /// It is in the log; this many admissions followed.
    Behind(usize),
    /// It is on the side of the log that root has left; the host goes on at this sequence.
    LeftBehind(u64),
    /// It contradicts the log or another host, or the log lacks it.
    Refused(Refusal),
}

/// Relates each of `seen` to the log, and to each other where the log does not reach.
pub fn audit(reference: &Reference, seen: &[Seen]) -> Vec<Relation> {
    seen.iter()
        .map(|one| relate(reference, one, seen))
        .collect()
}

fn relate(reference: &Reference, one: &Seen, seen: &[Seen]) -> Relation {
    let Seen {
        who,
        sequence,
        manifest,
    } = one;
    let name = &reference.name;
    let refused = |code, detail: String| Relation::Refused(Refusal::new(code, detail));
    let ours = reference.manifests.get(sequence);
    let newer = reference.manifests.range(sequence + 1..).count();
    match ours {
        Some(ours) if ours == manifest && newer == 0 => Relation::Same,
        Some(ours) if ours == manifest => Relation::Behind(newer),
        Some(ours) => refused(
            Code::LogFork,
            format!("sequence {sequence}: {who} has {manifest}, {name} has {ours}"),
        ),
        None if *sequence == 0 => Relation::Behind(newer),
        None if newer > 0 => match &reference.anchor {
            Some(anchor) if (anchor.sequence..anchor.next).contains(sequence) => {
                Relation::LeftBehind(anchor.next)
            }
            _ => refused(
                Code::LogFork,
                format!("sequence {sequence}: {who} has {manifest}, {name} has no such admission"),
            ),
        },
        None => {
            let other = |other: &&Seen| other.sequence == *sequence && other.manifest != *manifest;
            if let Some(other) = seen.iter().find(other) {
                let (them, theirs) = (&other.who, &other.manifest);
                return refused(
                    Code::LogFork,
                    format!("sequence {sequence}: {who} has {manifest}, {them} has {theirs}"),
                );
            }
            let last = reference.manifests.keys().last().copied().unwrap_or(0);
            refused(
                reference.behind,
                format!("{who} has accepted {sequence} {manifest}, {name} ends at {last}"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::digest::PayloadHash;

    fn reference(anchor: Option<Anchor>, sequences: &[u64]) -> Reference {
        let hash = |sequence: &u64| {
            (
                *sequence,
                Sha256Hash([u8::try_from(*sequence).unwrap(); 32]),
            )
        };
        Reference {
            name: "acme.git".to_owned(),
            manifests: sequences.iter().map(hash).collect(),
            anchor,
            behind: Code::LogRollback,
        }
    }

    fn seen(who: &str, sequence: u64, byte: u8) -> Seen {
        Seen {
            who: who.to_owned(),
            sequence,
            manifest: Sha256Hash([byte; 32]),
        }
    }

    fn code(relation: &Relation) -> Option<Code> {
        match relation {
            Relation::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    #[test]
    fn a_host_that_is_behind_is_told_from_a_repository_that_is() {
        let log = reference(None, &[1, 2, 3]);
        let hosts = [
            seen("new", 0, 0),
            seen("slow", 1, 1),
            seen("good", 3, 3),
            seen("far", 4, 4),
        ];
        let relations = audit(&log, &hosts);
        let expected = [Relation::Behind(3), Relation::Behind(2), Relation::Same];
        assert_eq!(relations[..3], expected);
        assert_eq!(code(&relations[3]), Some(Code::LogRollback));
    }

    #[test]
    fn both_sides_of_a_split_view_are_named() {
        let log = reference(None, &[1, 2, 3]);
        let [relation] = &audit(&log, &[seen("web1", 3, 9)])[..] else {
            panic!("one relation");
        };
        let Relation::Refused(refusal) = relation else {
            panic!("{relation:?}");
        };
        assert_eq!(refusal.code, Code::LogFork);
        for side in ["web1 has 0909", "acme.git has 0303"] {
            assert!(refusal.detail.contains(side), "{refusal}");
        }
        let relations = audit(&log, &[seen("web1", 4, 4), seen("web2", 4, 5)]);
        assert!(relations.iter().all(|one| code(one) == Some(Code::LogFork)));
    }

    #[test]
    fn what_an_anchor_left_behind_is_no_fork_any_more() {
        let anchor = Anchor {
            sequence: 2,
            manifest: Sha256Hash([2; 32]),
            next: 10,
            main: PayloadHash([0; 32]),
        };
        let log = reference(Some(anchor), &[1, 2, 10]);
        let relations = audit(&log, &[seen("slow", 2, 2), seen("robbed", 3, 9)]);
        assert_eq!(relations, [Relation::Behind(1), Relation::LeftBehind(10)]);
        assert_eq!(
            code(&audit(&log, &[seen("x", 2, 9)])[0]),
            Some(Code::LogFork)
        );
    }
}
