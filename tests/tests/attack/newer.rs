//! Attacks on who is older than what he is shown: each relies on a line, a field or a word being passed over because it is
//! not known. Whoever meets one asks for an upgrade, as far as the word reaches, and what runs goes on.

use state::Code;
use state::digest::Sha256Hash;
use state::manifest::TrustRef;
use state::sshsig::{self, Namespace};
use tests::attack::admission::Draft;
use tests::attack::forge::Forge;
use tests::attack::range::{Range, Witness};
use tests::attack::trust::author;
use tests::host::{hold_code, is_live};

use crate::Case;

/// Where the rules of `dev` stand.
const RULES: &str = "environments/dev/environment.yaml";

pub(crate) const CASES: &[Case] = &[
    (
        "newer manifest: a line that holds what it admits is passed over",
        |range| {
            range.intake_refused(Code::ManifestNewer, |forge| {
                admit_later(forge, "policy");
            })
        },
    ),
    (
        "newer manifest: a stranger has operators upgrade, or so he hopes",
        |range| {
            range.intake_refused(Code::ManifestUnsigned, |forge| {
                admit_later(forge, "stranger");
            })
        },
    ),
    (
        "newer manifest: an older policy server replaces it as junk",
        |range| {
            policy_refused(range, Code::ManifestNewer, |forge| {
                admit_later(forge, "policy");
            })
        },
    ),
    (
        "newer release: a field that restricts it is passed over",
        one_service_waits,
    ),
    (
        "newer release: one for other hosts makes a service leave",
        |range| {
            range.release_refused(Code::ReleaseNewer, |forge| {
                admit_evil(forge, |draft| {
                    draft.respell("web", |text| {
                        text.replace("role: web", "role: db") + "freeze: true\n"
                    });
                });
            })
        },
    ),
    (
        "newer release: an older policy server goes on without it",
        |range| {
            policy_refused(range, Code::ReleaseNewer, |forge| {
                admit_evil(forge, |draft| draft.respell("web", frozen));
            })
        },
    ),
    (
        "newer rules: a rule that forbids a release is passed over",
        |range| {
            environment_waits(range, |forge| {
                strict_rules(forge);
                let before = forge.admitted_files();
                admit_evil(forge, |draft| draft.keep("environment", &before));
            })
        },
    ),
    (
        "newer rules: they are taken back after they were passed over",
        |range| {
            environment_waits(range, |forge| {
                strict_rules(forge);
                let before = forge.admitted_files();
                admit_evil(forge, |draft| draft.keep("environment", &before));
                forge.admit_edited(|_| {});
            })
        },
    ),
    (
        "newer rules: an older policy server judges without them",
        |range| policy_refused(range, Code::RulesNewer, strict_rules),
    ),
    (
        "newer trust: a field that ends an author's rights is passed over",
        until,
    ),
    (
        "newer trust: a right that nobody knows is taken for one that counts",
        unknown_right,
    ),
];

/// Adds what only a later version knows.
fn frozen(text: String) -> String {
    text + "freeze: true\n"
}

/// An author commits the evil version of `web`, and a thief of the policy key admits it after `edit`.
fn admit_evil(forge: &Forge, edit: impl FnOnce(&mut Draft)) {
    forge.push_main(forge.evil_commit().signed(&forge.key("author")));
    forge.admit_edited(edit);
}

/// The evil version is admitted by a manifest of a later version, signed by the key `name`, with a line that this one
/// does not know.
fn admit_later(forge: &Forge, name: &str) {
    forge.push_main(forge.evil_commit().signed(&forge.key("author")));
    let draft = forge.draft();
    let text = draft.manifest.print();
    let text = text.replace("manifest v1", "manifest v2");
    let text = text.replace("issued: ", "freeze: dev web\nissued: ");
    let signature = sshsig::sign(&forge.key(name), Namespace::Manifest, text.as_bytes());
    forge.append(draft, text.as_bytes(), signature.as_bytes());
}

/// Rules with a field that only a later version knows are admitted.
fn strict_rules(forge: &Forge) {
    let rules = forge.commit_with(&[(RULES, "hosts: any\nmaxRemovals: 99\n")]);
    forge.push_main(rules.signed(&forge.key("author")));
    forge.admit_edited(|draft| draft.respell("environment", frozen));
}

/// Asserts that `web` runs on as it did.
#[track_caller]
fn web_runs_on(range: &Range, before: &Witness) {
    assert_eq!(&range.witness().answer, &before.answer, "what runs answers");
}

/// The evil version of `web` with a field that is not known is admitted beside another release of `job`: only the first
/// waits.
fn one_service_waits(range: &mut Range) -> Code {
    let before = range.witness();
    let forge = range.forge();
    let job = "environments/dev/job.yaml";
    let text = forge.files(&forge.tip("main"))[job].to_vec();
    let text = String::from_utf8(text).unwrap() + "keep: 3\n";
    let web = ("environments/dev/web.yaml", &*forge.evil_overlay());
    let commit = forge.commit_with(&[(job, &text), web]);
    forge.push_main(commit.signed(&forge.key("author")));
    let mut wanted = None;
    forge.admit_edited(|draft| {
        draft.respell("web", frozen);
        let mut changes = draft.manifest.changes.iter();
        let of_job = changes.find(|change| change.subject.as_str() == "job");
        wanted = of_job.and_then(|change| change.to);
    });
    let wanted = wanted.unwrap().to_string();
    range.serve(&forge.path);
    range.wait_for_hold(Code::ReleaseNewer);
    range
        .host
        .wait_for("another service goes on", "job", |job| {
            is_live(job) && job["running"]["release"] == wanted.as_str()
        });
    web_runs_on(range, &before);
    let why = range.host.agent(&["why", "web"]).all();
    for part in ["RELEASE_NEWER", "freeze", "upgrade"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    range.floor_not_back(&before);
    range.recover();
    Code::ReleaseNewer
}

/// Nothing of `dev` starts after what `attack` admits, nothing stops, and the host says why.
fn environment_waits(range: &mut Range, attack: impl FnOnce(&Forge)) -> Code {
    let before = range.witness();
    let forge = range.forge();
    attack(&forge);
    range.serve(&forge.path);
    range.wait_for_refusal(Code::RulesNewer);
    for service in ["web", "job"] {
        let held = |view: &serde_json::Value| hold_code(view) == Some("RULES_NEWER");
        range.host.wait_for("it waits", service, held);
    }
    range.unharmed(&before);
    let status = range.host.agent(&["status"]);
    assert_eq!(status.code, 1, "{status:?}");
    assert!(
        status.all().contains("RULES_NEWER") && status.all().contains("upgrade"),
        "{status:?}"
    );
    range.floor_not_back(&before);
    range.recover();
    Code::RulesNewer
}

/// A newer policy server has admitted something, in the honest repository, that this version does not know. The older one
/// must refuse to go on with `code`, for itself and for who pushes, and move nothing.
#[track_caller]
fn policy_refused(range: &mut Range, code: Code, attack: impl FnOnce(&Forge)) -> Code {
    // The host looks elsewhere: it would rightly remember what policy signed.
    let aside = range.forge();
    range.serve(&aside.path);
    let before = range.witness();
    let honest = range.open(&range.honest());
    let tips = ["main", "admitted", "fresh"].map(|branch| (branch, honest.tip(branch)));
    attack(&honest);
    let newer = range.refs();
    let admit = ["admit", "state.git", "--key", "keys/policy"];
    let refused = range.fleet.policy(&admit).refused(code.as_str());
    assert!(refused.all().contains("upgrade"), "{refused:?}");
    range
        .fleet
        .in_state(&["fetch", "-q", "origin", "main"])
        .ok();
    range
        .fleet
        .in_state(&["reset", "-q", "--hard", "FETCH_HEAD"])
        .ok();
    range.honest_push().refused(code.as_str());
    assert_eq!(range.refs(), newer, "no branch has moved");
    // The newer server never was, as far as the range's next attack is concerned.
    for (branch, tip) in tips {
        honest.point(branch, &tip);
    }
    range.fleet.in_state(&["fetch", "-q", "origin"]).ok();
    range
        .fleet
        .in_state(&["reset", "-q", "--hard", "origin/main"])
        .ok();
    range.unharmed(&before);
    range.serve_honestly();
    range.honest_pass();
    code
}

/// Root lists a stranger as an author until a day that is long over, in words that this version does not know; his commit
/// is admitted.
fn until(range: &mut Range) -> Code {
    let stranger = range.keys.public("stranger");
    range.intake_refused(Code::TrustNewer, |forge| {
        let mut trust = forge.trust.next();
        let scope =
            "environments: [ \"*\" ], paths: [ \"**\" ], may: [ author ], until: \"2020-01-01\"";
        trust.authors.push(author("visitor", &stranger, scope));
        forge.push_main(forge.evil_commit().signed(&forge.key("stranger")));
        forge.admit_edited(|draft| {
            draft.manifest.trust = TrustRef {
                version: trust.version,
                sha256: Sha256Hash::of(trust.text().as_bytes()),
            };
        });
        forge.publish_trust(&trust, &["root", "root2"]);
    })
}

/// Root gives somebody a right that this version does not know, which is no reason to wait; and he may do nothing.
fn unknown_right(range: &mut Range) -> Code {
    let visitor = range.keys.make("visitor");
    let mut trust = range.trust.next();
    let scope = "environments: [ \"*\" ], paths: [ \"**\" ], may: [ everything ]";
    trust.authors.push(author("visitor", &visitor, scope));
    range.publish(trust);
    range.honest_pass();
    let status = range.host.agent(&["status"]).ok().stdout;
    for part in ["everything", "grants nothing"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    let shown = range.fleet.policy(&["trust", "show", "state.git"]).ok();
    assert!(shown.stdout.contains("'everything'"), "{shown:?}");
    range.push_refused(Code::AuthorUnknown, |forge| {
        let evil = forge.evil_commit().signed(&forge.key("visitor"));
        forge.write(state::git::Kind::Commit, evil.as_bytes())
    });
    range.admission_refused(Code::AuthorUnknown, |forge| {
        let evil = forge.evil_commit().signed(&forge.key("visitor"));
        forge.write(state::git::Kind::Commit, evil.as_bytes())
    })
}
