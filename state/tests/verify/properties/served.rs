//! Branches of any time and any maker, served in any order, and a crash at every write of the floor.

use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use state::digest::{ObjectId, Sha256Hash};
use state::floor::Floor;
use state::key::SigningKey;
use state::verify::{self, Tips};
use state::{Code, Refusal};

use super::{allow, ask, git_accepts, runner};
use crate::support::{Fleet, at, identity};

/// Says whether `ssh-keygen -Y verify` accepts the manifest at an entry of the log as policy's.
fn ssh_keygen_accepts(fleet: &Fleet, entry: &ObjectId) -> bool {
    let show = |name: &str| ask(fleet, "git", &["show", &format!("{entry}:{name}")], b"").unwrap();
    std::fs::write(fleet.path("sig"), show("manifest.sig") + "\n").unwrap();
    let (allowed, signature) = (fleet.path("allowed"), fleet.path("sig"));
    let args = [
        "-Y",
        "verify",
        "-n",
        "manifest@writ",
        "-I",
        "policy",
        "-f",
        allowed.to_str().unwrap(),
        "-s",
        signature.to_str().unwrap(),
    ];
    let manifest = show("manifest") + "\n";
    ask(fleet, "ssh-keygen", &args, manifest.as_bytes()).is_some()
}

/// Everything that was ever published, and some that never should have been.
struct World {
    fleet: Fleet,
    trust: Vec<ObjectId>,
    admitted: Vec<ObjectId>,
    fresh: Vec<ObjectId>,
    /// The honest tips at the end.
    newest: Tips,
    /// The manifests that ssh-keygen says policy signed, and the commits that git says authors signed.
    by_policy: BTreeSet<Sha256Hash>,
    by_authors: BTreeSet<ObjectId>,
}

impl World {
    fn new() -> Self {
        let mut fleet = Fleet::new();
        let (mut trust, mut admitted, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
        let mut authors = vec![fleet.main()];
        let mut note = |fleet: &Fleet| {
            let tips = fleet.tips();
            trust.push(tips.trust);
            admitted.push(tips.admitted);
            fresh.push(tips.fresh);
        };
        fleet.admit();
        note(&fleet);
        for version in 2..=5 {
            if version == 4 {
                fleet.publish_second_trust("");
            }
            fleet.pin("web", version);
            authors.push(fleet.commit("alice", "a new version"));
            fleet.admit();
            note(&fleet);
        }
        for minutes in [20, 40] {
            fleet.freshen(&fleet.last(), at(minutes));
            note(&fleet);
        }
        let newest = fleet.tips();
        let git = fleet.git();
        let honest = verify::Entry::read(&git, &newest.admitted).unwrap();
        // Somebody else signs as policy; then policy admits what no author signed.
        let thief = SigningKey::generate();
        let policy = std::mem::replace(&mut fleet.policy, thief);
        fleet.pin("web", 6);
        authors.push(fleet.commit("alice", "stolen"));
        fleet.admit();
        note(&fleet);
        fleet.policy = policy;
        fleet.fork_from(&newest.admitted, &honest.manifest);
        fleet.pin("web", 7);
        authors.push(fleet.commit_unsigned());
        fleet.admit();
        note(&fleet);

        allow(&fleet);
        let entries = admitted
            .iter()
            .filter(|entry| ssh_keygen_accepts(&fleet, entry));
        let hash = |entry| verify::Entry::read(&git, entry).unwrap().manifest.hash();
        let by_policy = entries.map(hash).collect::<BTreeSet<_>>();
        let signed = authors.iter().filter(|commit| git_accepts(&fleet, commit));
        let by_authors = signed.copied().collect::<BTreeSet<_>>();
        // Each of the two kinds of attack is there: one entry without policy's signature, one commit without an author's.
        assert_eq!((by_policy.len(), authors.len() - by_authors.len()), (6, 1));
        Self {
            fleet,
            trust,
            admitted,
            fresh,
            newest,
            by_policy,
            by_authors,
        }
    }
}

fn floor_of(fleet: &Fleet) -> Floor {
    let identity = identity();
    Floor::enrolled(fleet.domain, identity.environment, identity.host)
}

/// What never goes back.
fn heights(floor: &Floor) -> (u64, u64, jiff::Timestamp) {
    (floor.trust.version, floor.sequence, floor.time)
}

fn is_above(after: &Floor, before: &Floor) -> bool {
    let (after, before) = (heights(after), heights(before));
    after.0 >= before.0 && after.1 >= before.1 && after.2 >= before.2
}

#[test]
fn whatever_is_served_in_any_order_the_floor_never_falls_and_nothing_runs_without_both_signatures()
{
    let world = World::new();
    let git = world.fleet.git();
    let pick = any::<prop::sample::Index>;
    let served = prop::collection::vec((pick(), pick(), pick(), 0_i64..90), 1..7);
    let activated = Cell::new(0);
    let result = runner(48).run(&served, |served| {
        let mut floor = floor_of(&world.fleet);
        for (trust, admitted, fresh, minutes) in served {
            let tips = Tips {
                trust: *trust.get(&world.trust),
                admitted: *admitted.get(&world.admitted),
                fresh: *fresh.get(&world.fresh),
            };
            let before = floor.clone();
            let mut durable = before.clone();
            let mut fell = false;
            let taken = verify::intake(&git, &tips, &mut floor, at(minutes), &mut |floor| {
                fell |= !is_above(floor, &durable);
                durable = floor.clone();
                Ok(())
            });
            prop_assert!(is_above(&floor, &before) && !fell, "{before:?} {floor:?}");
            let Ok(intake) = taken else { continue };
            prop_assert_eq!(&durable, &floor, "accepted and not durable");
            prop_assert!(world.by_policy.contains(&intake.manifest().hash()));
            prop_assert_eq!(intake.manifest().sequence, floor.sequence);
            let releases = verify::releases(&git, &intake, &identity(), &|_, _, _| false);
            for release in releases
                .into_iter()
                .flatten()
                .filter_map(|(_, one)| one.ok())
            {
                prop_assert!(world.by_authors.contains(&release.origin.commit));
                activated.set(activated.get() + 1);
            }
        }
        // What policy and an author key have signed has the last word: where no other history was accepted, the honest
        // tips pass.
        if floor.sequence <= 5 {
            let honest = verify::intake(&git, &world.newest, &mut floor, at(60), &mut |_| Ok(()));
            prop_assert!(honest.is_ok(), "{:?}", honest.err());
            prop_assert_eq!(heights(&floor), (2, 5, at(40)));
        }
        Ok(())
    });
    result.unwrap();
    let activated = activated.get();
    assert!(
        activated > 20,
        "{activated} activations: the test sees nothing"
    );
}

#[test]
fn a_crash_at_every_write_of_the_floor_skips_nothing_and_accepts_nothing_unverified() {
    let world = World::new();
    let git = world.fleet.git();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("floor.json");
    let stolen = Tips {
        admitted: world.admitted[world.admitted.len() - 2],
        ..world.newest
    };
    let entry = |commit: &ObjectId| verify::Entry::read(&git, commit).unwrap();
    let mut honest = vec![entry(&world.newest.admitted)];
    while let Some(before) = honest[0].previous(&git).unwrap() {
        honest.insert(0, before);
    }
    let mut crashes = 0;
    for tips in [world.newest, stolen] {
        let run = |floor: &mut Floor, persist: &mut dyn FnMut(&Floor) -> Result<(), Refusal>| {
            let taken = verify::intake(&git, &tips, floor, at(60), persist);
            taken
                .map(|intake| intake.manifest().sequence)
                .map_err(|refusal| refusal.code)
        };
        let mut whole = floor_of(&world.fleet);
        let expected = run(&mut whole, &mut |_| Ok(()));
        // Each write is the last one; the disk has it or has it not.
        for (crash, is_written) in (0..).flat_map(|crash| [(crash, false), (crash, true)]) {
            floor_of(&world.fleet).save(&file).unwrap();
            let mut writes = 0;
            let taken = run(&mut Floor::load(&file).unwrap(), &mut |floor| {
                writes += 1;
                if writes <= crash || is_written {
                    floor.save(&file)?;
                }
                match writes > crash {
                    true => Err(Refusal::new(Code::DiskFull, "the host died")),
                    false => Ok(()),
                }
            });
            if writes <= crash {
                assert_eq!(taken, expected);
                break;
            }
            assert_eq!(taken, Err(Code::DiskFull), "write {crash}: it went on");
            crashes += 1;
            let mut floor = Floor::load(&file).unwrap();
            let at_floor = match usize::try_from(floor.sequence).unwrap() {
                0 => Sha256Hash::ZERO,
                sequence => honest[sequence - 1].manifest.hash(),
            };
            assert_eq!(
                floor.manifest, at_floor,
                "write {crash}: above what was verified"
            );
            assert!(is_above(&whole, &floor));
            assert_eq!(run(&mut floor, &mut |floor| floor.save(&file)), expected);
            assert_eq!(floor, whole, "write {crash}");
            assert_eq!(Floor::load(&file).unwrap(), whole, "write {crash}");
        }
    }
    assert!(crashes >= 8, "{crashes} writes");
}
