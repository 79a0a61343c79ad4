//! Attacks on what hosts can fetch: brought by sides that are merged, and by moves of `trust`.

use state::Code;
use state::digest::ObjectId;
use state::git::Kind;
use state::limit;
use tests::attack::commit::CommitText;
use tests::attack::forge::Forge;
use tests::attack::range::Range;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    (
        "a CI key merges an unsigned side with a file of 17 MiB, pushed",
        |range| range.push_refused(Code::PushTooBig, large_side),
    ),
    (
        "a CI key merges an unsigned side with a file of 17 MiB, admitted",
        |range| range.admission_refused(Code::PushTooBig, large_side),
    ),
    (
        "a large file hides below a second parent of the side, pushed",
        |range| range.push_refused(Code::PushTooBig, hidden_side),
    ),
    (
        "a large file hides below a second parent of the side, admitted",
        |range| range.admission_refused(Code::PushTooBig, hidden_side),
    ),
    (
        "a CI key merges an unsigned side beyond its scope, pushed",
        |range| range.push_refused(Code::ParentUnsigned, foreign_side),
    ),
    (
        "a CI key merges an unsigned side beyond its scope, admitted",
        |range| range.admission_refused(Code::ParentUnsigned, foreign_side),
    ),
    (
        "a side with a file that no host fetches, admitted",
        |range| {
            range.intake_refused(Code::FetchFailed, |forge| {
                let side = unfetchable(forge);
                forge.point("main", &merge(forge, &side));
                forge.admit_edited(|_| {});
            })
        },
    ),
    ("trust: the same files again, pushed", |range| {
        trust_pushed(range, |_, tip| vec![*tip])
    }),
    (
        "trust: the same files with another history, pushed",
        |range| trust_pushed(range, |_, _| Vec::new()),
    ),
    ("trust: the same files over a large side, pushed", |range| {
        trust_pushed(range, |forge, tip| {
            vec![*tip, side(forge, limit::OBJECT + 1, &[])]
        })
    }),
    (
        "trust is moved past the hook to a history that no host fetches",
        trust_moved,
    ),
];

/// An unsigned commit with a file of so many bytes.
fn side(forge: &Forge, bytes: u64, parents: &[ObjectId]) -> ObjectId {
    let blob = forge.blob(vec![b'x'; usize::try_from(bytes).unwrap()]);
    let tree = forge.raw_tree(&[("100644", b"large", blob)]);
    unsigned(forge, tree, parents)
}

fn unsigned(forge: &Forge, tree: ObjectId, parents: &[ObjectId]) -> ObjectId {
    let commit = CommitText::new(tree, parents);
    forge.write(Kind::Commit, commit.unsigned().as_bytes())
}

/// A file of more bytes than any host takes.
fn unfetchable(forge: &Forge) -> ObjectId {
    side(forge, limit::FETCHED_OBJECT + 1, &[])
}

/// CI pins the evil version of `web`, which it may, and merges `side`.
fn merge(forge: &Forge, side: &ObjectId) -> ObjectId {
    let mut commit = forge.evil_commit();
    commit.parents.push(*side);
    forge.write(Kind::Commit, commit.signed(&forge.key("web-ci")).as_bytes())
}

fn large_side(forge: &Forge) -> ObjectId {
    let side = side(forge, 17 << 20, &[]);
    merge(forge, &side)
}

fn hidden_side(forge: &Forge) -> ObjectId {
    let large = side(forge, limit::OBJECT + 1, &[]);
    let main = forge.tip("main");
    let tree = forge.tree_of(&main);
    let small = unsigned(forge, tree, &[main, large]);
    merge(forge, &small)
}

/// A side that is small, and touches what is not CI's.
fn foreign_side(forge: &Forge) -> ObjectId {
    let side = side(forge, 1, &[]);
    merge(forge, &side)
}

/// The same files on `trust`, in a commit with the parents that `parents` makes of the tip.
#[track_caller]
fn trust_pushed(range: &mut Range, parents: fn(&Forge, &ObjectId) -> Vec<ObjectId>) -> Code {
    let forge = range.clone_of_author();
    let tip = forge.tip("trust");
    let commit = forge.commit_files(&forge.files(&tip), &parents(&forge, &tip));
    range.push_of_refused(Code::RefRefused, &[&format!("{commit}:refs/heads/trust")])
}

/// Whoever has no key and may write to the repository moves `trust`: releases still go live, and it is said.
fn trust_moved(range: &mut Range) -> Code {
    let before = range.witness();
    let honest = range.open(&range.honest());
    let good = honest.tip("trust");
    let odd = honest.commit_files(&honest.files(&good), &[unfetchable(&honest)]);
    honest.point("trust", &odd);
    range.wait_for_refusal(Code::FetchFailed);
    range.unharmed(&before);
    range.live_swap();
    range.wait_for_refusal(Code::FetchFailed);
    let admit = ["admit", "state.git", "--key", "keys/policy"];
    let refused = range.fleet.policy(&admit).refused("REF_REFUSED");
    let back = format!("--force-with-lease=refs/heads/trust:{odd} origin {good}:refs/heads/trust");
    assert!(refused.stderr.contains(&back), "{refused:?}");
    let lease = format!("--force-with-lease=refs/heads/trust:{odd}");
    let to = format!("{good}:refs/heads/trust");
    range
        .fleet
        .in_state(&["push", "-q", &lease, "origin", &to])
        .ok();
    // It would look again within minutes.
    range.host.kill();
    range.host.start();
    range.honest_pass();
    Code::FetchFailed
}
