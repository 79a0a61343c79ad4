//! Attacks on a host that was enrolled a moment ago and knows nothing but its fleet's domain.

use state::Code;
use state::digest::Domain;
use state::git::Kind;
use tests::attack::commit::CommitText;
use tests::attack::forge::Forge;
use tests::attack::range::Range;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    (
        "arbitrary installation: a fleet of the attacker's own",
        |range| {
            range.newcomer_refuses(Code::WrongDomain, |forge| {
                let mut own = forge.trust.clone();
                (own.version, own.prev, own.threshold) = (1, None, 1);
                own.roots = vec![forge.keys.public("stranger").to_string()];
                let signatures = own.signatures(&forge.keys, &["stranger"]);
                forge.keep_trust_files(|_| false);
                forge.publish_trust_files(&[
                    ("1.yaml".to_owned(), own.text()),
                    ("1.sig".to_owned(), signatures),
                ]);
            })
        },
    ),
    (
        "arbitrary installation: a log of the attacker's own",
        |range| {
            unanchored(range).newcomer_refuses(Code::ManifestUnsigned, |forge| {
                own_log(
                    forge,
                    |commit| commit.signed(&forge.key("author")),
                    "stranger",
                );
            })
        },
    ),
    (
        "a new host is shown a log whose releases no author signed",
        |range| {
            unanchored(range).newcomer_refuses(Code::AuthorUnsigned, |forge| {
                own_log(forge, CommitText::unsigned, "policy");
            })
        },
    ),
    (
        "a new host is shown a log whose releases a stranger signed",
        |range| {
            unanchored(range).newcomer_refuses(Code::AuthorUnknown, |forge| {
                own_log(
                    forge,
                    |commit| commit.signed(&forge.key("stranger")),
                    "policy",
                );
            })
        },
    ),
    ("a new host is shown a log without a beginning", |range| {
        unanchored(range).newcomer_refuses(Code::ManifestMalformed, |forge| {
            let tip = forge.tip("admitted");
            let alone = forge.commit_files(&forge.files(&tip), &[]);
            forge.point("admitted", &alone);
        })
    }),
    (
        "a new host is shown the log without its first admission",
        |range| {
            unanchored(range).newcomer_refuses(Code::SequenceGap, |forge| {
                let tip = forge.tip("admitted");
                let files = forge.files(&tip);
                forge.begin_log();
                let second =
                    forge.commit_files(&files, &[forge.tip("admitted"), forge.tip("main")]);
                forge.point("admitted", &second);
            })
        },
    ),
    (
        "replay in another domain: a whole log of another fleet, same keys",
        |range| {
            unanchored(range).newcomer_refuses(Code::WrongDomain, |forge| {
                forge.begin_log();
                forge.admit_edited(|draft| draft.manifest.domain = Domain([7; 32]));
            })
        },
    ),
    (
        "wrong host: one that the environment does not list",
        |range| {
            rules(
                range,
                Code::HostUnknown,
                "hosts: [ { name: one, labels: { role: web } } ]\n",
            )
        },
    ),
    ("wrong environment: one that is not admitted", |range| {
        range.newcomer_refuses(Code::EnvironmentUnknown, |forge| {
            let mut files = forge.files(&forge.tip("main"));
            files.retain(|path, _| !path.starts_with("environments/dev/"));
            let commit = CommitText::new(forge.tree(&files), &[forge.tip("main")]);
            forge.push_main(commit.signed(&forge.key("author")));
            forge.admit_edited(|_| {});
        })
    }),
];

/// A range whose log counts from its beginning: where root has vouched for a later place, hosts begin there.
fn unanchored(range: &mut Range) -> &mut Range {
    if range.trust.more.contains("anchor:") {
        *range = Range::new();
    }
    range
}

/// A log that begins anew, with one admission of a `main` that has one commit.
fn own_log(forge: &Forge, form: impl FnOnce(&CommitText) -> String, policy: &str) {
    let commit = CommitText::new(forge.evil_commit().tree, &[]);
    let raw = form(&commit);
    let id = forge.write(Kind::Commit, raw.as_bytes());
    forge.point("main", &id);
    forge.begin_log();
    forge.admit_edited(|draft| draft.key = forge.key(policy));
}

/// Honest rules that have no place for a new host.
#[track_caller]
fn rules(range: &mut Range, code: Code, rules: &str) -> Code {
    range.newcomer_refuses(code, |forge| {
        let commit = forge.commit_with(&[("environments/dev/environment.yaml", rules)]);
        forge.push_main(commit.signed(&forge.key("author")));
        forge.admit_edited(|_| {});
    })
}
