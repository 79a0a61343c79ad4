//! A log that is verified from a checkpoint ends as it does when all of it is: for any log, and from anything that was
//! ever a checkpoint of it.

use std::cell::Cell;

use jiff::Timestamp;
use proptest::prelude::*;
use state::digest::TreeId;
use state::key::SigningKey;
use state::manifest::{Hold, Subject};
use state::verify::{self, Chain, Checkpoint, Entry, Log};

use super::runner;
use crate::support::{Draft, Fleet, at};

/// One thing that happens to a repository.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody pins and policy admits.
    Admit { signer: &'static str, held: bool },
    /// `admitted` shows something that does not verify.
    Junk(Junk),
    /// An author's commit that nobody signed is admitted.
    Unsigned,
    /// `admitted` goes back to an entry of before.
    Rewind(prop::sample::Index),
    /// Root publishes the second trust file; there is one only.
    Trust(Trust, prop::sample::Index),
}

#[derive(Clone, Copy, Debug)]
enum Junk {
    /// The manifest names another tree.
    Tree,
    /// Somebody else signs as policy.
    Thief,
    /// The sequence leaves one out.
    Gap,
}

#[derive(Clone, Copy, Debug)]
enum Trust {
    Plain,
    /// The key of CI ends at an entry.
    EndCi,
    /// The key of policy ends at an entry, another one goes on.
    Rotate,
    /// Root vouches for an entry; the log goes on from there.
    Anchor,
}

impl Step {
    fn any() -> impl Strategy<Value = Self> {
        let pick = any::<prop::sample::Index>;
        let signer = prop::sample::select(vec!["alice", "ci"]);
        let junk = prop::sample::select(vec![Junk::Tree, Junk::Thief, Junk::Gap]);
        let trust = vec![Trust::Plain, Trust::EndCi, Trust::Rotate, Trust::Anchor];
        prop_oneof![
            8 => (signer, any::<bool>()).prop_map(|(signer, held)| Self::Admit { signer, held }),
            2 => junk.prop_map(Self::Junk),
            1 => Just(Self::Unsigned),
            3 => pick().prop_map(Self::Rewind),
            3 => (prop::sample::select(trust), pick()).prop_map(|(kind, at)| Self::Trust(kind, at)),
        ]
    }
}

/// A repository to which things happen.
struct World {
    fleet: Fleet,
    /// What was admitted in good faith, on whatever it lay.
    entries: Vec<Entry>,
    /// The sequence that root wants next, if the newest trust file says so.
    next: Option<u64>,
    has_second_trust: bool,
    pins: u8,
}

impl World {
    fn new() -> Self {
        let mut fleet = Fleet::new();
        fleet.admit();
        let mut world = Self {
            fleet,
            entries: Vec::new(),
            next: None,
            has_second_trust: false,
            pins: 1,
        };
        world.note();
        world
    }

    fn note(&mut self) {
        let git = self.fleet.git();
        let entry = Entry::read(&git, &self.fleet.tips().admitted);
        self.entries.push(entry.unwrap());
    }

    /// Commits a pin that was not there before.
    fn pin(&mut self, signer: &str) {
        self.pins += 1;
        self.fleet.pin("web", self.pins);
        self.fleet.commit(signer, "a new version");
    }

    /// Admits what `main` shows now, after `edit`.
    fn admit(&mut self, edit: impl FnOnce(&mut Draft)) {
        let next = self.next.take();
        // Sequences jump at an anchor, times do not.
        let issued = at(self.pins.into());
        self.fleet.admit_edited(|draft| {
            draft.manifest.sequence = next.unwrap_or(draft.manifest.sequence);
            draft.manifest.issued = issued;
            edit(draft);
        });
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Admit { signer, held } => {
                self.pin(signer);
                let hold = Hold {
                    environment: "prod".parse().unwrap(),
                    subject: Subject::Service("web".parse().unwrap()),
                    reason: "BAD_BUILD".to_owned(),
                };
                self.admit(|draft| draft.manifest.holds.extend(held.then_some(hold)));
                self.note();
            }
            Step::Junk(junk) => {
                self.pin("alice");
                let (last, thief) = (self.next, SigningKey::generate());
                match junk {
                    Junk::Tree => self.admit(|draft| draft.manifest.tree = TreeId([0; 32])),
                    Junk::Gap => self.admit(|draft| draft.manifest.sequence += 1),
                    Junk::Thief => {
                        let policy = std::mem::replace(&mut self.fleet.policy, thief);
                        self.admit(|_| {});
                        self.fleet.policy = policy;
                    }
                }
                self.next = last;
            }
            Step::Unsigned => {
                self.pins += 1;
                self.fleet.pin("web", self.pins);
                self.fleet.commit_unsigned();
                self.admit(|_| {});
            }
            Step::Rewind(to) => {
                let entry = to.get(&self.entries);
                self.fleet.fork_from(&entry.commit, &entry.manifest);
            }
            Step::Trust(..) if self.has_second_trust => {}
            Step::Trust(kind, to) => {
                let entry = to.get(&self.entries).clone();
                let (sequence, hash) = (entry.manifest.sequence, entry.manifest.hash());
                match kind {
                    Trust::Plain => self.fleet.publish_second_trust(""),
                    Trust::EndCi => self.fleet.end_ci(sequence),
                    Trust::Rotate => self.fleet.rotate_policy(sequence),
                    Trust::Anchor => {
                        let main = entry.manifest.author.payload;
                        self.fleet.publish_second_trust(&format!(
                            "anchor: {{ sequence: {sequence}, manifest: \"sha256:{hash}\", next: 1000, \
                             main: \"sha256:{main}\" }}\n"
                        ));
                        self.fleet.fork_from(&entry.commit, &entry.manifest);
                        self.next = Some(1000);
                    }
                }
                self.has_second_trust = true;
            }
        }
    }

    fn verify(&self, now: Timestamp, known: Option<&Checkpoint>) -> Result<Log, state::Refusal> {
        let (git, tips) = (self.fleet.git(), self.fleet.tips());
        let chain = Chain::read(&git, &tips.trust, &self.fleet.domain)?;
        verify::log_since(&git, chain, Some(&tips.admitted), now, known)
    }
}

/// All that a log tells, but for where its verification began.
fn told(log: &Result<Log, state::Refusal>) -> Result<String, &state::Refusal> {
    let log = log.as_ref()?;
    let holds = log.last().map(|entry| &entry.manifest.holds);
    Ok(format!(
        "{:?}",
        (
            (log.last(), holds, log.link(), log.admitted()),
            (log.junk(), log.is_at_anchor(), log.checkpoint()),
        )
    ))
}

#[test]
fn whatever_happens_to_a_log_a_checkpoint_of_it_leads_to_the_end_that_the_full_walk_has() {
    let steps = prop::collection::vec((Step::any(), prop::sample::select(vec![2, 60])), 1..9);
    let shortened = Cell::new(0);
    let result = runner(6).run(&steps, |steps| {
        let mut world = World::new();
        let mut checkpoints: Vec<Checkpoint> = Vec::new();
        for (step, minutes) in steps {
            world.take(&step);
            let whole = world.verify(at(minutes), None);
            let expected = told(&whole);
            for known in &checkpoints {
                let since = world.verify(at(minutes), Some(known));
                prop_assert_eq!(told(&since), expected.clone(), "after {:?}", &step);
                let began = since.is_ok_and(|log| log.began_at().is_some());
                shortened.set(shortened.get() + u32::from(began));
            }
            let newest = whole.ok().and_then(|log| log.checkpoint());
            checkpoints.extend(newest.filter(|newest| !checkpoints.contains(newest)));
        }
        Ok(())
    });
    result.unwrap();
    let shortened = shortened.get();
    assert!(
        shortened > 3,
        "{shortened} shorter walks: the test sees nothing"
    );
}
