//! Attacks on the log of admissions, by whoever serves it and by thieves of the policy key.

use jiff::SignedDuration;
use state::Code;
use state::digest::{Domain, ReleaseId, Sha256Hash};
use state::sshsig::{self, Namespace};
use tests::attack::admission::{Draft, now};
use tests::attack::forge::Forge;
use tests::attack::range::Range;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("rollback: the log is cut by one", |range| {
        range.honest_pass();
        range.intake_refused(Code::LogRollback, cut)
    }),
    ("rollback: the log is served from its beginning", |range| {
        range.intake_refused(Code::LogRollback, Forge::begin_log)
    }),
    ("rollback: an older commit is admitted again", |range| {
        range.honest_pass();
        range.intake_refused(Code::NotDescendant, readmit_older)
    }),
    (
        "rollback: the tip is an older admission, admitted once more",
        |range| {
            range.honest_pass();
            range.intake_refused(Code::LogRollback, older_on_top)
        },
    ),
    ("fork: two manifests of one sequence", |range| {
        let before = kept(range);
        let code = range.intake_refused(Code::LogFork, |forge| {
            cut(forge);
            forge.admit_edited(|draft| draft.manifest.issued = later());
        });
        assert_eq!(kept(range), before + 1, "both sides are kept as evidence");
        code
    }),
    ("fork: a longer log with another past", |range| {
        range.intake_refused(Code::LogFork, |forge| {
            cut(forge);
            forge.admit_edited(|draft| draft.manifest.issued = later());
            evil_admission(forge, |_| {});
        })
    }),
    (
        "a false alarm: somebody else's manifest of an accepted sequence",
        |range| {
            quiet(range, Code::ManifestUnsigned, |forge| {
                cut(forge);
                forge.admit_edited(|draft| {
                    draft.manifest.issued = later();
                    draft.key = forge.key("stranger");
                });
            })
        },
    ),
    (
        "a false alarm: another fleet's manifest of an accepted sequence, same keys",
        |range| {
            quiet(range, Code::WrongDomain, |forge| {
                cut(forge);
                forge.admit_edited(|draft| draft.manifest.domain = Domain([7; 32]));
            })
        },
    ),
    (
        "a false alarm: the log without the admission that was accepted last",
        |range| {
            range.honest_pass();
            quiet(range, Code::LogRollback, |forge| {
                let next = forge.admit_edited(|_| {});
                let before = forge.parent(&forge.parent(&next));
                let parents = [before, forge.tip("main")];
                let skips = forge.commit_files(&forge.files(&next), &parents);
                forge.point("admitted", &skips);
            })
        },
    ),
    (
        "split view: freshness vouches for another manifest",
        |range| {
            range.intake_refused(Code::LogFork, |forge| {
                let mut link = forge.last().manifest.link();
                link.hash = Sha256Hash([7; 32]);
                forge.freshen(&link, |_| {});
            })
        },
    ),
    ("fast-forward: sequence 2^63", |range| {
        tampered(range, Code::SequenceGap, |draft| {
            draft.manifest.sequence = 1 << 63
        })
    }),
    ("sequence gap: one number is left out", |range| {
        tampered(range, Code::SequenceGap, |draft| {
            draft.manifest.sequence += 1
        })
    }),
    ("chain broken: the predecessor is another one", |range| {
        tampered(range, Code::ChainBroken, |draft| {
            draft.manifest.previous = Sha256Hash([7; 32]);
        })
    }),
    ("chain broken: the log begins anew within itself", |range| {
        tampered(range, Code::ChainBroken, |draft| {
            draft.manifest.previous = Sha256Hash::ZERO
        })
    }),
    ("time reversed: issued before its predecessor", |range| {
        tampered(range, Code::TimeReversed, |draft| {
            draft.manifest.issued -= SignedDuration::from_hours(1);
        })
    }),
    ("issued in the future, so that it stays fresh", |range| {
        tampered(range, Code::IssuedInFuture, |draft| {
            draft.manifest.issued += SignedDuration::from_hours(1);
        })
    }),
    (
        "replay in another domain: a manifest for another fleet, same keys",
        |range| {
            tampered(range, Code::WrongDomain, |draft| {
                draft.manifest.domain = Domain([7; 32])
            })
        },
    ),
    ("trust mismatch: an older trust version is named", |range| {
        tampered(range, Code::TrustMismatch, |draft| {
            draft.manifest.trust.version = 1;
        })
    }),
    (
        "trust mismatch: a trust version that nobody published",
        |range| {
            tampered(range, Code::TrustMismatch, |draft| {
                draft.manifest.trust.version += 1
            })
        },
    ),
    (
        "trust mismatch: another file of the same version",
        |range| {
            tampered(range, Code::TrustMismatch, |draft| {
                draft.manifest.trust.sha256 = Sha256Hash([7; 32]);
            })
        },
    ),
    (
        "key compromise below the threshold: the author's key signs a manifest",
        |range| signed_by(range, "author"),
    ),
    (
        "key compromise below the threshold: a root key signs a manifest",
        |range| signed_by(range, "root"),
    ),
    ("a stranger's key signs a manifest", |range| {
        signed_by(range, "stranger")
    }),
    (
        "the policy key's signature of another kind of statement on a manifest",
        |range| {
            range.intake_refused(Code::ManifestUnsigned, |forge| {
                evil_admission_with(forge, |_| {}, Namespace::Freshness);
            })
        },
    ),
    ("the signature of the manifest before", |range| {
        range.intake_refused(Code::ManifestUnsigned, |forge| {
            let old = forge.files(&forge.tip("admitted"))["manifest.sig"].to_vec();
            statement(forge, |text| text, Some(&old));
        })
    }),
    ("a weak key signs a manifest", |range| {
        range.intake_refused(Code::SignatureNoncanonical, |forge| {
            let armor = tests::attack::commit::weak_armor("manifest@writ");
            statement(forge, |text| text, Some(armor.as_bytes()));
        })
    }),
    ("a manifest's signature is spelled otherwise", |range| {
        range.intake_refused(Code::SignatureNoncanonical, |forge| {
            let draft = evil_draft(forge);
            let text = draft.manifest.print();
            let armor = sshsig::sign(&draft.key, Namespace::Manifest, text.as_bytes());
            let armor = armor.replace('\n', "\r\n");
            forge.append(draft, text.as_bytes(), armor.as_bytes());
        })
    }),
    ("a manifest is changed after it was signed", |range| {
        range.intake_refused(Code::ManifestUnsigned, |forge| {
            let draft = evil_draft(forge);
            let signed = draft.manifest.print();
            let armor = sshsig::sign(&draft.key, Namespace::Manifest, signed.as_bytes());
            let mut changed = draft.manifest.clone();
            changed.holds.clear();
            changed.issued = draft.manifest.issued + SignedDuration::from_secs(1);
            forge.append(draft, changed.print().as_bytes(), armor.as_bytes());
        })
    }),
    ("manifest malformed: CR LF", |range| {
        malformed(range, |text| text.replace('\n', "\r\n"))
    }),
    (
        "manifest malformed: a second spelling of the sequence",
        |range| malformed(range, |text| text.replace("sequence: ", "sequence: 0")),
    ),
    ("manifest malformed: lines in another order", |range| {
        malformed(range, |text| {
            let (title, rest) = text.split_once('\n').unwrap();
            let (domain, rest) = rest.split_once('\n').unwrap();
            let (sequence, rest) = rest.split_once('\n').unwrap();
            format!("{title}\n{sequence}\n{domain}\n{rest}")
        })
    }),
    (
        "manifest malformed: a version of the format before the first",
        |range| malformed(range, |text| text.replace("manifest v1", "manifest v0")),
    ),
    ("manifest malformed: something after the end", |range| {
        malformed(range, |text| text + "change: dev web - -> -\n")
    }),
    ("junk on admitted", |range| {
        range.intake_refused(Code::ManifestMalformed, |forge| {
            let (admitted, main) = (forge.tip("admitted"), forge.tip("main"));
            let junk = forge.commit_files(&forge.files(&main), &[admitted]);
            forge.point("admitted", &junk);
        })
    }),
    (
        "mix-and-match: the newest manifest over an older tree",
        |range| {
            range.honest_pass();
            range.intake_refused(Code::TreeMismatch, |forge| {
                let (tip, older) = (forge.tip("admitted"), forge.parent(&forge.tip("admitted")));
                let mut files = forge.files(&older);
                for name in state::admitted::STATEMENT {
                    files.insert(name.to_owned(), forge.files(&tip)[name].clone());
                }
                let mixed = forge.commit_files(&files, &[older, forge.last().parents[1]]);
                forge.point("admitted", &mixed);
            })
        },
    ),
    (
        "tree mismatch: a file that the manifest does not know",
        |range| {
            tampered(range, Code::TreeMismatch, |draft| {
                let web = draft.files["releases/dev/web.yaml"].clone();
                draft
                    .smuggled
                    .insert("releases/dev/backdoor.yaml".to_owned(), web);
            })
        },
    ),
    ("tree mismatch: another tree of the author's", |range| {
        tampered(range, Code::TreeMismatch, |draft| {
            draft.manifest.author_tree = draft.manifest.tree;
        })
    }),
    (
        "change mismatch: a release is exchanged and not told",
        |range| {
            tampered(range, Code::ChangeMismatch, |draft| {
                draft.manifest.changes.clear()
            })
        },
    ),
    ("change mismatch: a change is told and not made", |range| {
        tampered(range, Code::ChangeMismatch, |draft| {
            let mut told = draft.manifest.changes[0].clone();
            told.environment = "prod".parse().unwrap();
            told.to = Some(ReleaseId([7; 32]));
            draft.manifest.changes.push(told);
        })
    }),
    (
        "change mismatch: a change is told with another release",
        |range| {
            tampered(range, Code::ChangeMismatch, |draft| {
                draft.manifest.changes[0].to = Some(ReleaseId([7; 32]));
            })
        },
    ),
    (
        "change mismatch: an unchanged release is written anew",
        |range| {
            tampered(range, Code::ChangeMismatch, |draft| {
                let author = draft.manifest.author.clone();
                draft.edit_release("job", |job| job.origin = author);
            })
        },
    ),
    (
        "change mismatch: a file in no place of an admitted tree",
        |range| {
            tampered(range, Code::ChangeMismatch, |draft| {
                draft
                    .files
                    .insert("releases/dev/run.sh".to_owned(), b"#!/bin/sh\n"[..].into());
                draft.seal();
            })
        },
    ),
    (
        "origin mismatch: a release that another commit asked for",
        |range| {
            range.intake_refused(Code::OriginMismatch, |forge| {
                let main = forge.origin(&forge.tip("main"));
                evil_admission(forge, |draft| {
                    draft.edit_release("web", |web| web.origin = main)
                });
            })
        },
    ),
    (
        "origin mismatch: the admission is no child of its author's commit",
        |range| {
            range.intake_refused(Code::OriginMismatch, |forge| {
                let main = forge.tip("main");
                evil_admission(forge, |draft| draft.parents[1] = main);
            })
        },
    ),
    ("a commit of another history is admitted", |range| {
        range.intake_refused(Code::NotDescendant, |forge| {
            let mut commit = forge.evil_commit();
            commit.parents.clear();
            forge.push_main(commit.signed(&forge.key("author")));
            forge.admit_edited(|_| {});
        })
    }),
];

/// A minute from now, which two clocks may be apart.
fn later() -> jiff::Timestamp {
    now() + SignedDuration::from_mins(1)
}

/// Cuts the newest admission off, and says nothing about it.
fn cut(forge: &Forge) {
    forge.point("admitted", &forge.parent(&forge.tip("admitted")));
}

/// Admits what `main` was before.
fn readmit_older(forge: &Forge) {
    let older = forge.parent(&forge.tip("main"));
    forge.point("main", &older);
    forge.admit_edited(|_| {});
}

/// Puts the admission before the newest on top of it, bytes and signature as they are.
fn older_on_top(forge: &Forge) {
    let tip = forge.tip("admitted");
    let older = forge.files(&forge.parent(&tip));
    let again = forge.commit_files(&older, &[tip, forge.tip("main")]);
    forge.point("admitted", &again);
}

/// What a thief of the policy key would sign for the evil version of `web`, which an author committed.
fn evil_draft(forge: &Forge) -> Draft {
    forge.push_main(forge.evil_commit().signed(&forge.key("author")));
    forge.draft()
}

fn evil_admission(forge: &Forge, edit: impl FnOnce(&mut Draft)) {
    evil_admission_with(forge, edit, Namespace::Manifest);
}

fn evil_admission_with(forge: &Forge, edit: impl FnOnce(&mut Draft), namespace: Namespace) {
    let mut draft = evil_draft(forge);
    edit(&mut draft);
    draft.namespace = namespace;
    forge.admit(draft);
}

/// An admission of the evil version that `edit` has made inconsistent, signed with the policy key.
#[track_caller]
fn tampered(range: &mut Range, code: Code, edit: fn(&mut Draft)) -> Code {
    range.intake_refused(code, |forge| evil_admission(forge, edit))
}

/// How many contradictions the host has kept evidence of.
fn kept(range: &Range) -> usize {
    let folder = range.host.state().join("evidence");
    std::fs::read_dir(folder).into_iter().flatten().count()
}

/// An attack that is no proof against policy: the host keeps no evidence of it.
#[track_caller]
fn quiet(range: &mut Range, code: Code, attack: impl FnOnce(&Forge)) -> Code {
    let before = kept(range);
    range.intake_refused(code, attack);
    assert_eq!(kept(range), before, "nothing is kept as evidence");
    code
}

/// An evil admission with the key of somebody who may sign no manifest.
#[track_caller]
fn signed_by(range: &mut Range, name: &str) -> Code {
    range.intake_refused(Code::ManifestUnsigned, |forge| {
        evil_admission(forge, |draft| draft.key = forge.key(name));
    })
}

/// A manifest whose text `edit` spells otherwise, signed as it then is.
#[track_caller]
fn malformed(range: &mut Range, edit: fn(String) -> String) -> Code {
    range.intake_refused(Code::ManifestMalformed, |forge| {
        statement(forge, edit, None)
    })
}

/// Appends an admission of the evil version with an edited text, signed as it then is, or with `signature`.
fn statement(forge: &Forge, edit: fn(String) -> String, signature: Option<&[u8]>) {
    let draft = evil_draft(forge);
    let text = edit(draft.manifest.print());
    let signed = sshsig::sign(&draft.key, Namespace::Manifest, text.as_bytes());
    forge.append(
        draft,
        text.as_bytes(),
        signature.unwrap_or(signed.as_bytes()),
    );
}
