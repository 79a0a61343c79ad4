//! What must hold whatever is served, in whatever order, and wherever a crash falls. Stock git and ssh-keygen are asked
//! who signed what; we may be stricter than they are, never laxer.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use state::commit::Commit;
use state::digest::{ObjectId, Sha256Hash};
use state::floor::Floor;
use state::freshness::Freshness;
use state::git::Kind;
use state::key::SigningKey;
use state::manifest::Manifest;
use state::sshsig::{self, Namespace};
use state::tree::Objects as _;
use state::trust::Trust;
use state::verify::{self, Tips};
use state::{Code, Refusal};

use super::support::{Fleet, at, identity};

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    })
}

/// Runs a program in the fleet's folder; its output if it succeeds.
fn ask(fleet: &Fleet, program: &str, args: &[&str], input: &[u8]) -> Option<String> {
    let file = fleet.path("input");
    std::fs::write(&file, input).unwrap();
    let done = Command::new(program)
        .args(args)
        .current_dir(fleet.path("state"))
        .env("HOME", fleet.path(""))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    done.status.success().then_some(text)
}

/// Lists who may sign as stock tools want it: alice and the CI key commits, policy manifests.
fn allow(fleet: &Fleet) {
    let mut text = format!("policy {}\n", fleet.policy.public());
    for name in ["alice", "ci"] {
        let line = std::fs::read_to_string(fleet.path(&format!("{name}.pub"))).unwrap();
        text += &format!("{name} {line}");
    }
    std::fs::write(fleet.path("allowed"), text).unwrap();
}

/// Says whether `git verify-commit` accepts a commit.
fn git_accepts(fleet: &Fleet, commit: &ObjectId) -> bool {
    let option = format!(
        "gpg.ssh.allowedSignersFile={}",
        fleet.path("allowed").display()
    );
    let args = ["-c", &option, "verify-commit", &commit.to_string()];
    ask(fleet, "git", &args, b"").is_some()
}

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

/// What becomes of the raw bytes of a commit.
#[derive(Clone, Debug)]
enum Edit {
    Flip(prop::sample::Index, u8),
    Duplicate(prop::sample::Index),
    Remove(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Insert(prop::sample::Index, &'static str),
}

impl Edit {
    fn any() -> impl Strategy<Value = Self> {
        let pick = any::<prop::sample::Index>;
        prop_oneof![
            (pick(), 1_u8..).prop_map(|(at, bits)| Self::Flip(at, bits)),
            pick().prop_map(Self::Duplicate),
            pick().prop_map(Self::Remove),
            (pick(), pick()).prop_map(|(a, b)| Self::Swap(a, b)),
            (
                pick(),
                prop::sample::select(vec![
                    "gpgsig-extra x\n",
                    "encoding UTF-8\n",
                    " \n",
                    "\n",
                    "HG:extra a\n",
                    "mergetag x\n"
                ])
            )
                .prop_map(|(at, line)| Self::Insert(at, line)),
        ]
    }

    fn apply(&self, raw: &[u8]) -> Vec<u8> {
        let mut lines: Vec<&[u8]> = raw.split_inclusive(|byte| *byte == b'\n').collect();
        let count = lines.len();
        match self {
            Self::Flip(at, bits) => {
                let mut flipped = raw.to_vec();
                flipped[at.index(raw.len())] ^= bits;
                return flipped;
            }
            Self::Duplicate(at) => {
                let at = at.index(count);
                lines.insert(at, lines[at]);
            }
            Self::Remove(at) => drop(lines.remove(at.index(count))),
            Self::Swap(a, b) => lines.swap(a.index(count), b.index(count)),
            Self::Insert(at, line) => lines.insert(at.index(count), line.as_bytes()),
        }
        lines.concat()
    }
}

#[test]
fn what_we_accept_of_a_commit_git_accepts_and_resolves_to_the_same_tree() {
    let fleet = Fleet::new();
    allow(&fleet);
    let (git, trust) = (fleet.git(), fleet.newest_trust());
    let tree = fleet.git_as("alice", &["rev-parse", "main^{tree}"]);
    let first = fleet.main().to_string();
    let accept = |id: ObjectId| {
        let raw = git.object(Kind::Commit, &id, 1 << 20).unwrap();
        let commit = Commit::parse(id, &raw).ok()?;
        trust.verify_commit(&commit).ok()?;
        Some(commit)
    };
    let check = |id: ObjectId| -> Result<bool, TestCaseError> {
        let Some(commit) = accept(id) else {
            return Ok(false);
        };
        prop_assert!(git_accepts(&fleet, &id), "git refuses {id}");
        let resolved = ask(
            &fleet,
            "git",
            &["rev-parse", &format!("{id}^{{tree}}")],
            b"",
        );
        prop_assert_eq!(resolved, Some(commit.tree.to_string()));
        let parents = ask(&fleet, "git", &["rev-parse", &format!("{id}^@")], b"").unwrap();
        let ours: Vec<String> = commit.parents.iter().map(ToString::to_string).collect();
        prop_assert_eq!(parents.lines().collect::<Vec<_>>(), ours);
        Ok(true)
    };
    let cases = (
        "[A-Za-zåß][ A-Za-zåß.-]{0,20}[a-z]",
        prop::collection::vec("[ -~é]{0,30}", 0..5),
        0_usize..3,
        any::<bool>(),
        prop::collection::vec(Edit::any(), 0..24),
    );
    let result = runner(24).run(&cases, |(name, message, parents, encoded, edits)| {
        let (name, message) = (format!("user.name={name}"), message.join("\n") + "x\n");
        let mut args = vec!["-c", &name];
        if encoded {
            args.extend(["-c", "i18n.commitEncoding=ISO-8859-1"]);
        }
        args.extend(["commit-tree", "-S", "-m", &message, &tree]);
        let other = fleet.git_as("alice", &["commit-tree", "-S", "-m", "other", &tree]);
        for parent in [&first, &other].into_iter().take(parents) {
            args.extend(["-p", parent]);
        }
        let id: ObjectId = fleet.git_as("alice", &args).parse().unwrap();
        prop_assert!(check(id)?, "what alice signed with git is refused");
        let raw = git.object(Kind::Commit, &id, 1 << 20).unwrap();
        for edit in edits {
            let edited = edit.apply(&raw);
            let accepted = check(git.write(Kind::Commit, &edited).unwrap())?;
            prop_assert!(!accepted || edited == raw, "a second commit by {edit:?}");
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_statement_with_any_byte_changed_is_refused() {
    let fleet = Fleet::with_admissions(1);
    let git = fleet.git();
    let trust = fleet.newest_trust();
    let tips = fleet.tips();
    let show = |commit: &ObjectId, name: &str| {
        let path = format!("{commit}:{name}");
        let args = ["cat-file", "blob", &path];
        ask(&fleet, "git", &args, b"").unwrap() + "\n"
    };
    let pairs =
        |commit: &ObjectId, names: [&str; 2]| names.map(|name| show(commit, name).into_bytes());
    let manifest = pairs(&tips.admitted, ["manifest", "manifest.sig"]);
    let freshness = pairs(&tips.fresh, ["freshness", "freshness.sig"]);
    let root = pairs(&tips.trust, ["1.yaml", "1.sig"]);
    let approval = state::approval::Approval {
        domain: fleet.domain,
        change: Manifest::parse(&manifest[0]).unwrap().changes[0].clone(),
        since: 1,
        expires: at(60),
    };
    let text = approval.print().into_bytes();
    let alice = SigningKey::load(&fleet.path("alice")).unwrap();
    let signature = sshsig::sign(&alice, Namespace::Approval, &text);
    let approval = [text, signature.into_bytes()];
    drop(git);

    type Accepts<'a> = &'a dyn Fn(&[u8], &[u8]) -> bool;
    let by_policy: Accepts<'_> = &|bytes, signature| {
        trust.verify_manifest(bytes, signature).is_ok() && Manifest::parse(bytes).is_ok()
    };
    let fresh: Accepts<'_> = &|bytes, signature| {
        trust.verify_freshness(bytes, signature).is_ok() && Freshness::parse(bytes).is_ok()
    };
    let by_root: Accepts<'_> =
        &|bytes, signatures| Trust::first(bytes, signatures, &fleet.domain).is_ok();
    let by_alice: Accepts<'_> = &|bytes, signature| {
        sshsig::Signature::parse(signature).is_ok_and(|signature| {
            signature.key() == alice.public()
                && signature.verify(Namespace::Approval, bytes).is_ok()
                && state::approval::Approval::parse(bytes).is_ok()
        })
    };
    for (name, [bytes, signature], accepts) in [
        ("manifest", manifest, by_policy),
        ("freshness", freshness, fresh),
        ("trust", root, by_root),
        ("approval", approval, by_alice),
    ] {
        assert!(accepts(&bytes, &signature), "{name}");
        let flipped = |bytes: &[u8], at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1 << (at % 8);
            bytes
        };
        for at in 0..bytes.len() {
            assert!(
                !accepts(&flipped(&bytes, at), &signature),
                "{name}: byte {at}"
            );
        }
        for at in 0..signature.len() {
            let changed = flipped(&signature, at);
            assert!(
                !accepts(&bytes, &changed),
                "{name}: byte {at} of the signature"
            );
        }
    }
}
