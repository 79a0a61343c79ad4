//! Attacks on what an environment's rules demand, by a thief of the policy key who does not ask for it. The rules stand
//! in an admission before the one that breaks them.

use jiff::{SignedDuration, Timestamp};
use state::Code;
use state::admitted::evidence;
use state::approval::Approval;
use state::digest::{Domain, ObjectId, ReleaseId};
use state::git::Kind;
use state::manifest::{Change, Hold, Subject};
use state::sshsig::{self, Namespace};
use tests::attack::admission::{Draft, environment};
use tests::attack::commit::CommitText;
use tests::attack::forge::Forge;
use tests::attack::range::Range;

use crate::Case;

/// Where the rules of `dev` stand.
const RULES: &str = "environments/dev/environment.yaml";

/// Where the overlay of `web` stands.
const OVERLAY: &str = "environments/dev/web.yaml";

pub(crate) const CASES: &[Case] = &[
    ("no approval where one is required", |range| {
        refused(range, |_, _| {})
    }),
    ("an approval given by a co-author", |range| {
        refused(range, |forge, draft| {
            let approval = proper(forge, draft);
            attach(forge, draft, "author", &approval);
        })
    }),
    ("an approval by somebody without that right", |range| {
        refused(range, |forge, draft| {
            let approval = proper(forge, draft);
            attach(forge, draft, "no-rules", &approval);
        })
    }),
    ("an approval by a stranger in an approver's name", |range| {
        refused(range, |forge, draft| {
            let approval = proper(forge, draft);
            sign(
                forge,
                draft,
                ["dev-only", "stranger"],
                &approval,
                Namespace::Approval,
            );
        })
    }),
    ("an approval by policy's own key", |range| {
        refused(range, |forge, draft| {
            let approval = proper(forge, draft);
            sign(
                forge,
                draft,
                ["dev-only", "policy"],
                &approval,
                Namespace::Approval,
            );
        })
    }),
    ("an approval signed as a commit", |range| {
        refused(range, |forge, draft| {
            let approval = proper(forge, draft);
            sign(
                forge,
                draft,
                ["dev-only", "dev-only"],
                &approval,
                Namespace::Git,
            );
        })
    }),
    ("an approval of another release", |range| {
        approved(range, |approval| {
            approval.change.to = Some(ReleaseId([7; 32]))
        })
    }),
    ("an approval from another release on", |range| {
        approved(range, |approval| {
            approval.change.from = Some(ReleaseId([7; 32]))
        })
    }),
    ("an approval of another service", |range| {
        approved(range, |approval| {
            approval.change.subject = "job".parse().unwrap()
        })
    }),
    ("an approval for another environment", |range| {
        approved(range, |approval| {
            approval.change.environment = environment("prod")
        })
    }),
    ("an approval in another fleet", |range| {
        approved(range, |approval| approval.domain = Domain([7; 32]))
    }),
    ("an approval that has run out", |range| {
        approved(range, |approval| {
            approval.expires -= SignedDuration::from_hours(2)
        })
    }),
    ("an approval given since another admission", |range| {
        approved(range, |approval| approval.since += 1)
    }),
    ("two approvals by one person under two names", |range| {
        range.release_refused(Code::ApprovalMissing, |forge| {
            demand(forge, "approvals: 2");
            pin(forge, &forge.evil_overlay());
            forge.admit_edited(|draft| {
                let approval = proper(forge, draft);
                attach(forge, draft, "dev-only", &approval);
                sign(
                    forge,
                    draft,
                    ["somebody", "dev-only"],
                    &approval,
                    Namespace::Approval,
                );
            });
        })
    }),
    ("an approval replayed after a rollback", replayed),
    (
        "a commit without the trailer that the rules require",
        |range| {
            range.release_refused(Code::TrailerMissing, |forge| {
                demand(forge, "treeTrailer: required");
                pin(forge, &forge.evil_overlay());
                forge.admit_edited(|_| {});
            })
        },
    ),
    (
        "a hold dropped: an author holds, and the admission does not say so",
        |range| {
            range.release_refused(Code::HoldMissing, |forge| {
                pin(forge, &(forge.evil_overlay() + "hold: it leaks\n"));
                forge.admit_edited(|_| {});
            })
        },
    ),
    (
        "a hold dropped: a later admission does not carry it on",
        |range| {
            range.release_refused(Code::HoldMissing, |forge| {
                // What is held may be changed by its author; it is the hold that keeps hosts from it.
                pin(forge, &(overlay(forge) + "hold: it leaks\n"));
                forge.admit_edited(|draft| {
                    draft.manifest.holds = vec![Hold {
                        environment: environment("dev"),
                        subject: "web".parse().unwrap(),
                        reason: Hold::AUTHOR.to_owned(),
                    }];
                });
                pin(forge, &(forge.evil_overlay() + "hold: it leaks\n"));
                forge.admit_edited(|draft| draft.manifest.holds.clear());
            })
        },
    ),
    (
        "a hold lifted by an author without that right, pushed",
        |range| range.push_refused(Code::PathNotAllowed, lifted),
    ),
    (
        "a hold lifted by an author without that right, admitted",
        |range| range.admission_refused(Code::PathNotAllowed, lifted),
    ),
    (
        "a release admitted without the one that it needs",
        |range| range.release_refused(Code::NeedsUnmet, needy),
    ),
];

/// An author adds a rule to those of `dev`, and it is admitted.
fn demand(forge: &Forge, rule: &str) {
    let rules = forge.commit_with(&[(RULES, &format!("hosts: any\n{rule}\n"))]);
    forge.push_main(rules.signed(&forge.key("author")));
    forge.admit_edited(|_| {});
}

/// The overlay of `web` as it is.
fn overlay(forge: &Forge) -> String {
    let bytes = forge.files(&forge.tip("main"))[OVERLAY].to_vec();
    String::from_utf8(bytes).unwrap()
}

/// An author writes the overlay of `web`.
fn pin(forge: &Forge, overlay: &str) {
    let commit = forge.commit_with(&[(OVERLAY, overlay)]);
    forge.push_main(commit.signed(&forge.key("author")));
}

/// The evil version is admitted where one approval is required, with what `attack` adds to the admission.
#[track_caller]
fn refused(range: &mut Range, attack: impl FnOnce(&Forge, &mut Draft)) -> Code {
    range.release_refused(Code::ApprovalMissing, |forge| {
        demand(forge, "approvals: 1");
        pin(forge, &forge.evil_overlay());
        forge.admit_edited(|draft| attack(forge, draft));
    })
}

/// The same with an approval by one who may approve, of something else.
#[track_caller]
fn approved(range: &mut Range, edit: fn(&mut Approval)) -> Code {
    refused(range, |forge, draft| {
        let mut approval = proper(forge, draft);
        edit(&mut approval);
        attach(forge, draft, "dev-only", &approval);
    })
}

/// What would approve the change of `web` that the draft admits.
fn proper(forge: &Forge, draft: &Draft) -> Approval {
    let is_web =
        |change: &&Change| (change.environment.as_str(), change.subject.as_str()) == ("dev", "web");
    let change = draft.manifest.changes.iter().find(is_web).unwrap();
    let mut entry = forge.last();
    while !entry.manifest.changes.iter().any(|change| is_web(&change)) {
        entry = entry.previous(&forge.git).unwrap().unwrap();
    }
    let hour = Timestamp::now() + SignedDuration::from_hours(1);
    Approval {
        domain: forge.domain,
        change: change.clone(),
        since: entry.manifest.sequence,
        expires: Timestamp::from_second(hour.as_second()).unwrap(),
    }
}

/// Puts an approval, signed by the person `name`, beside what it approves.
fn attach(forge: &Forge, draft: &mut Draft, name: &str, approval: &Approval) {
    sign(forge, draft, [name, name], approval, Namespace::Approval);
}

/// Puts an approval in the name of somebody, signed by a key, beside what it approves.
fn sign(
    forge: &Forge,
    draft: &mut Draft,
    [name, key]: [&str; 2],
    approval: &Approval,
    namespace: Namespace,
) {
    let text = approval.print();
    let armor = sshsig::sign(&forge.key(key), namespace, text.as_bytes());
    let path = evidence(&environment("dev"), &"web".parse().unwrap()) + name;
    let files = &mut draft.files;
    files.insert(format!("{path}.sig"), armor.into_bytes().into());
    files.insert(path, text.into_bytes().into());
    draft.seal();
}

/// What was properly approved goes live, and so does the way back; the first approval is good for nothing then.
fn replayed(range: &mut Range) -> Code {
    let (before, good) = (range.witness(), range.answer());
    let forge = range.forge();
    let overlay = overlay(&forge);
    demand(&forge, "approvals: 1");
    let admit = |overlay: &str, used: Option<Approval>| {
        pin(&forge, overlay);
        let mut draft = forge.draft();
        let used = used.unwrap_or_else(|| proper(&forge, &draft));
        attach(&forge, &mut draft, "dev-only", &used);
        forge.admit(draft);
        used
    };
    let used = admit(&forge.evil_overlay(), None);
    range.serve(&forge.path);
    range.wait_for_answer("evil");
    admit(&overlay, None);
    range.wait_for_answer(&good);
    admit(&forge.evil_overlay(), Some(used));
    range.wait_for_hold(Code::ApprovalMissing);
    assert_eq!(range.answer(), good);
    range.floor_not_back(&before);
    range.recover();
    Code::ApprovalMissing
}

/// One author holds `web`; another, who may not, lifts that and pins the evil version.
fn lifted(forge: &Forge) -> ObjectId {
    let hold = forge.commit_with(&[(OVERLAY, &(overlay(forge) + "hold: it leaks\n"))]);
    let hold = forge.write(Kind::Commit, hold.signed(&forge.key("author")).as_bytes());
    let evil = forge.evil_commit().tree;
    let lift = CommitText::new(evil, &[hold]).signed(&forge.key("no-rules"));
    forge.write(Kind::Commit, lift.as_bytes())
}

/// `web` comes to need `job` in the commit that changes both; only `web` is admitted.
fn needy(forge: &Forge) {
    let job = "environments/dev/job.yaml";
    let needed = forge.files(&forge.tip("main"))[job].to_vec();
    let needed = String::from_utf8(needed).unwrap() + "keep: 4\n";
    let overlay = forge.evil_overlay() + "needs: [ job ]\n";
    let commit = forge.commit_with(&[(job, &needed), (OVERLAY, &overlay)]);
    forge.push_main(commit.signed(&forge.key("author")));
    let (path, before) = ("releases/dev/job.yaml", forge.admitted_files());
    forge.admit_edited(|draft| {
        draft.files.insert(path.to_owned(), before[path].clone());
        let web = |subject: &Subject| subject.as_str() == "web";
        draft.manifest.changes.retain(|change| web(&change.subject));
        draft.seal();
    });
}
