//! Commits and statements, edited: what we still accept, stock tools accept too, and it is what was signed.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use state::commit::Commit;
use state::digest::ObjectId;
use state::freshness::Freshness;
use state::git::Kind;
use state::key::SigningKey;
use state::manifest::Manifest;
use state::sshsig::{self, Namespace};
use state::tree::Objects as _;
use state::trust::Trust;

use super::{allow, ask, git_accepts, runner};
use crate::support::{Fleet, at};

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
