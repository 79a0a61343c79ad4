//! Attacks by authors: outside their scope, past each other, and on the history of `main`.

use std::time::Duration;

use state::Code;
use state::digest::ObjectId;
use state::git::Kind;
use tests::attack::commit::CommitText;
use tests::attack::forge::Forge;
use tests::attack::range::Range;
use tests::wait;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("an author outside its paths, pushed", |range| {
        range.push_refused(Code::PathNotAllowed, outside_paths)
    }),
    ("an author outside its paths, admitted", |range| {
        range.admission_refused(Code::PathNotAllowed, outside_paths)
    }),
    ("an author outside its environments, pushed", |range| {
        range.push_refused(Code::PathNotAllowed, outside_environments)
    }),
    ("an author outside its environments, admitted", |range| {
        range.admission_refused(Code::PathNotAllowed, outside_environments)
    }),
    ("an author outside its fields, pushed", |range| {
        range.push_refused(Code::PathNotAllowed, outside_fields)
    }),
    ("an author outside its fields, admitted", |range| {
        range.admission_refused(Code::PathNotAllowed, outside_fields)
    }),
    (
        "a dev-scoped key edits a base that prod uses, pushed",
        |range| range.push_refused(Code::PathNotAllowed, base),
    ),
    (
        "a dev-scoped key edits a base that prod uses, admitted",
        |range| range.admission_refused(Code::PathNotAllowed, base),
    ),
    (
        "rules changed by an author without that right, pushed",
        |range| range.push_refused(Code::RulesNotAllowed, rules),
    ),
    (
        "rules changed by an author without that right, admitted",
        |range| range.admission_refused(Code::RulesNotAllowed, rules),
    ),
    (
        "the fleet's identity changed by an author without that right",
        |range| {
            range.push_refused(Code::RulesNotAllowed, |forge| {
                let text = repository(forge) + "# ours now\n";
                by(forge, "no-rules", &[("repository.yaml", &text)])
            })
        },
    ),
    ("a service hidden by removing its files, pushed", |range| {
        range.push_refused(Code::RemovalRefused, |forge| {
            let mut files = forge.files(&forge.tip("main"));
            files.retain(|path, _| !path.contains("web"));
            let commit = CommitText::new(forge.tree(&files), &[forge.tip("main")]);
            signed(forge, &commit, "author")
        })
    }),
    (
        "a commit that loosens its own environment's rules and deploys",
        loosen_and_deploy,
    ),
    ("an unsigned commit under a signed tip, pushed", |range| {
        range.push_refused(Code::ParentUnsigned, under_signed)
    }),
    ("an unsigned commit under a signed tip, admitted", |range| {
        range.admission_refused(Code::ParentUnsigned, under_signed)
    }),
    (
        "a stranger's commit under a signed tip, admitted",
        |range| {
            range.admission_refused(Code::AuthorUnknown, |forge| {
                let under = signed(forge, &forge.evil_commit(), "stranger");
                on_top(forge, &under, &[under])
            })
        },
    ),
    (
        "a merge of an unsigned side by whom that side is not allowed, pushed",
        |range| range.push_refused(Code::PathNotAllowed, merge_beyond_scope),
    ),
    (
        "a merge of an unsigned side by whom that side is not allowed, admitted",
        |range| range.admission_refused(Code::PathNotAllowed, merge_beyond_scope),
    ),
    ("an unsigned merge of a signed side", |range| {
        range.push_refused(Code::AuthorUnsigned, |forge| {
            let side = signed(forge, &forge.evil_commit(), "author");
            let merge = CommitText::new(forge.tree_of(&side), &[forge.tip("main"), side]);
            forge.write(Kind::Commit, merge.unsigned().as_bytes())
        })
    }),
    (
        "a merged side that blinds hosts: its headers cannot be read, pushed",
        |range| range.push_refused(Code::CommitMalformed, blinding_side),
    ),
    ("a merge onto another first parent, pushed", |range| {
        range.push_refused(Code::RefRefused, merge_onto)
    }),
    ("a merge onto another first parent, admitted", |range| {
        range.intake_refused(Code::NotDescendant, |forge| admit(forge, merge_onto))
    }),
    ("a force-pushed main, pushed", |range| {
        range.honest_pass();
        range.push_refused(Code::RefRefused, rewritten)
    }),
    ("a force-pushed main, admitted", |range| {
        range.honest_pass();
        range.intake_refused(Code::NotDescendant, |forge| admit(forge, rewritten))
    }),
    ("a parentless commit on main, pushed", |range| {
        range.push_refused(Code::RefRefused, parentless)
    }),
    ("a parentless commit on main, admitted", |range| {
        range.intake_refused(Code::NotDescendant, |forge| admit(forge, parentless))
    }),
    ("the same author's key in two fleets, pushed", |range| {
        range.push_refused(Code::WrongDomain, other_fleet)
    }),
    ("the same author's key in two fleets, admitted", |range| {
        range.admission_refused(Code::WrongDomain, other_fleet)
    }),
];

/// A commit on `main` with these edits, signed by the key `name`.
fn by(forge: &Forge, name: &str, edits: &[(&str, &str)]) -> ObjectId {
    signed(forge, &forge.commit_with(edits), name)
}

fn signed(forge: &Forge, commit: &CommitText, name: &str) -> ObjectId {
    forge.write(Kind::Commit, commit.signed(&forge.key(name)).as_bytes())
}

/// A commit by an author with these parents and the tree of `commit`.
fn on_top(forge: &Forge, commit: &ObjectId, parents: &[ObjectId]) -> ObjectId {
    signed(
        forge,
        &CommitText::new(forge.tree_of(commit), parents),
        "author",
    )
}

/// A thief of the policy key admits what `commit` makes.
fn admit(forge: &Forge, commit: fn(&Forge) -> ObjectId) {
    let commit = commit(forge);
    forge.point("main", &commit);
    forge.admit_edited(|_| {});
}

fn text(forge: &Forge, path: &str) -> String {
    String::from_utf8(forge.files(&forge.tip("main"))[path].to_vec()).unwrap()
}

fn repository(forge: &Forge) -> String {
    text(forge, "repository.yaml")
}

fn outside_paths(forge: &Forge) -> ObjectId {
    let job = text(forge, "environments/dev/job.yaml") + "keep: 4\n";
    let web = forge.evil_overlay();
    by(
        forge,
        "web-ci",
        &[
            ("environments/dev/web.yaml", &web),
            ("environments/dev/job.yaml", &job),
        ],
    )
}

fn outside_environments(forge: &Forge) -> ObjectId {
    let web = forge.evil_overlay();
    by(
        forge,
        "dev-only",
        &[
            ("environments/dev/web.yaml", &web),
            ("environments/prod/web.yaml", &web),
        ],
    )
}

fn outside_fields(forge: &Forge) -> ObjectId {
    let web = forge.evil_overlay() + "run: { environment: { MODE: evil } }\n";
    by(forge, "web-ci", &[("environments/dev/web.yaml", &web)])
}

fn base(forge: &Forge) -> ObjectId {
    let path = "services/web/service.yaml";
    let base = text(forge, path) + "keep: 4\n";
    by(forge, "dev-only", &[(path, &base)])
}

fn rules(forge: &Forge) -> ObjectId {
    let path = "environments/dev/environment.yaml";
    let rules = text(forge, path).replace("maxRemovals: ", "maxRemovals: 9");
    by(
        forge,
        "no-rules",
        &[
            (path, &rules),
            ("environments/dev/web.yaml", &forge.evil_overlay()),
        ],
    )
}

fn under_signed(forge: &Forge) -> ObjectId {
    let under = forge.write(Kind::Commit, forge.evil_commit().unsigned().as_bytes());
    on_top(forge, &under, &[under])
}

/// The side changes what only an author for all environments may change; whoever merges it is scoped to `dev`.
fn merge_beyond_scope(forge: &Forge) -> ObjectId {
    let path = "services/web/service.yaml";
    let base = text(forge, path) + "keep: 4\n";
    let side = forge.commit_with(&[(path, &base)]);
    let side = forge.write(Kind::Commit, side.unsigned().as_bytes());
    let merge = CommitText::new(forge.tree_of(&side), &[forge.tip("main"), side]);
    signed(forge, &merge, "dev-only")
}

/// An author merges, without any change, a commit that git follows and the agents' git client does not.
fn blinding_side(forge: &Forge) -> ObjectId {
    let side = forge.evil_commit().unsigned();
    let mut lines: Vec<_> = side.lines().collect();
    let author = lines.iter().position(|line| line.starts_with("author "));
    lines.swap(author.unwrap(), author.unwrap() + 1);
    let side = forge.write(Kind::Commit, (lines.join("\n") + "\n").as_bytes());
    let main = forge.tip("main");
    on_top(forge, &main, &[main, side])
}

/// What was admitted becomes the merged side of a history of the attacker's own.
fn merge_onto(forge: &Forge) -> ObjectId {
    let own = CommitText::new(forge.evil_commit().tree, &[]);
    let own = forge.write(Kind::Commit, own.unsigned().as_bytes());
    on_top(forge, &own, &[own, forge.tip("main")])
}

/// The newest commit of `main` is replaced by another, as `git commit --amend` and a forced push do.
fn rewritten(forge: &Forge) -> ObjectId {
    let evil = forge.evil_commit();
    let commit = CommitText::new(evil.tree, &[forge.parent(&forge.tip("main"))]);
    signed(forge, &commit, "author")
}

fn parentless(forge: &Forge) -> ObjectId {
    signed(
        forge,
        &CommitText::new(forge.evil_commit().tree, &[]),
        "author",
    )
}

/// A commit that the author made for a fleet that was founded as a copy of this one.
fn other_fleet(forge: &Forge) -> ObjectId {
    let other = repository(forge).replace(&forge.domain.to_string(), &"7".repeat(64));
    by(
        forge,
        "author",
        &[
            ("repository.yaml", &other),
            ("environments/dev/web.yaml", &forge.evil_overlay()),
        ],
    )
}

/// The rules before the commit judge it, and they have `dev` rest after a change.
fn loosen_and_deploy(range: &mut Range) -> Code {
    let rules = "environments/dev/environment.yaml";
    let strict = "hosts: any\ncooldown: 20s\nonCooldown: refuse\n";
    range.live_swap();
    range.fleet.write(rules, strict);
    range.fleet.commit("Rest after a change").ok();
    range.fleet.push().ok();
    let before = range.refs();
    let (main, code) = (range.clone_of_author(), Code::Cooldown);
    let commit = by(
        &main,
        "author",
        &[
            (rules, "hosts: any\n"),
            ("environments/dev/web.yaml", &main.evil_overlay()),
        ],
    );
    let push = ["push", "-q", "origin", &format!("{commit}:refs/heads/main")];
    let refused = range.fleet.in_state(&push).refused(code.as_str()).all();
    let web = |line: &&str| line.contains("refuse dev  web");
    let web = refused.lines().find(web).unwrap_or_default();
    assert!(web.contains(code.as_str()), "{refused}");
    assert_eq!(range.refs(), before, "no branch has moved");
    range.fleet.reset();
    range.fleet.write(rules, "hosts: any\n");
    range.fleet.commit("Rest no more").ok();
    wait::until("the rest is over", Duration::from_secs(60), || {
        (range.fleet.push().code == 0).then_some(())
    });
    range.honest_pass();
    code
}
