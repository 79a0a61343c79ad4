//! Attacks on the chain of trust files.

use std::time::Duration;

use state::Code;
use state::key::SigningKey;
use state::sshsig::{self, Namespace};
use tests::attack::commit::weak_key;
use tests::attack::forge::Forge;
use tests::attack::keys::Keys;
use tests::attack::newcomer::Newcomer;
use tests::attack::range::Range;
use tests::attack::trust::{TrustText, author};
use tests::wait;

use crate::Case;

/// What signs a trust file as it should be.
const ROOT: &[&str] = &["root", "root2"];

pub(crate) const CASES: &[Case] = &[
    ("trust rollback: the newest version is hidden", |range| {
        range.intake_refused(Code::TrustRollback, hide_newest)
    }),
    ("trust fork: another file of an accepted version", |range| {
        let mut other = range.trust.clone();
        other.expires = "2041-01-01T00:00:00Z".to_owned();
        range.intake_refused(Code::TrustFork, |forge| {
            forge.publish_trust(&other, ROOT);
        })
    }),
    ("trust fork: a version that follows another one", |range| {
        served(range, Code::TrustFork, ROOT, |trust, _| {
            trust.prev = Some(state::digest::Sha256Hash([7; 32]));
        })
    }),
    ("trust version gap: a number is left out", |range| {
        range.intake_refused(Code::TrustVersion, |forge| {
            let trust = newest(forge).next();
            let signatures = trust.signatures(&forge.keys, ROOT);
            publish(forge, trust.version - 1, trust.text(), signatures);
        })
    }),
    ("trust of another fleet with the same keys", |range| {
        let mut other = range.trust.clone();
        (other.version, other.prev) = (1, None);
        range.intake_refused(Code::WrongDomain, |forge| {
            let text = other.text();
            let signatures = other.signatures(&forge.keys, ROOT);
            forge.keep_trust_files(|_| false);
            forge.publish_trust_files(&[("1.yaml".into(), text), ("1.sig".into(), signatures)]);
        })
    }),
    ("trust with a file missing", |range| {
        range.intake_refused(Code::TrustVersion, |forge| {
            forge.keep_trust_files(|name| !name.starts_with("1."));
        })
    }),
    (
        "key compromise below the threshold: one of two roots",
        |range| served(range, Code::TrustUnsigned, &["root"], |_, _| {}),
    ),
    ("one of two roots, pushed", |range| {
        pushed(range, Code::TrustUnsigned, &["root"], |_, _| {})
    }),
    ("the threshold met by one key that signs twice", |range| {
        served(range, Code::TrustUnsigned, &["root", "root"], |_, _| {})
    }),
    ("the threshold met by a root key and an author's", |range| {
        served(range, Code::TrustUnsigned, &["root", "author"], |_, _| {})
    }),
    ("the threshold met by a root key and policy's", |range| {
        served(range, Code::TrustUnsigned, &["root", "policy"], |_, _| {})
    }),
    ("root replaced by those who come", |range| {
        served(range, Code::TrustUnsigned, &["stranger"], take_over)
    }),
    (
        "root replaced by those who come, who take one root key along",
        |range| served(range, Code::TrustUnsigned, &["stranger", "root"], take_over),
    ),
    ("root replaced without those who come", |range| {
        served(range, Code::TrustUnsigned, ROOT, take_over)
    }),
    (
        "the threshold met by one key that is listed twice",
        |range| {
            served(range, Code::TrustRoleOverlap, ROOT, |trust, _| {
                trust.roots[1] = trust.roots[0].clone();
            })
        },
    ),
    ("one key listed twice, pushed", |range| {
        pushed(range, Code::TrustRoleOverlap, ROOT, |trust, _| {
            trust.roots.push(trust.roots[0].clone());
        })
    }),
    ("trust role overlap: policy's key is an author's", |range| {
        served(range, Code::TrustRoleOverlap, ROOT, |trust, _| {
            let key = trust.policy[0].parse().unwrap();
            trust.authors.push(author("robot", &key, ALL));
        })
    }),
    (
        "trust role overlap: an ended key is listed again",
        |range| {
            let key = range.keys.public("web-ci");
            range.intake_refused(Code::TrustRoleOverlap, |forge| {
                let mut trust = newest(forge);
                trust.end(&key, 1);
                forge.publish_trust(&trust, ROOT);
            })
        },
    ),
    ("trust signed as a commit", |range| {
        range.intake_refused(Code::TrustUnsigned, |forge| {
            let trust = newest(forge);
            let sign = |name: &&str| {
                sshsig::sign(&forge.key(name), Namespace::Git, trust.text().as_bytes())
            };
            let signatures = ROOT.iter().map(sign).collect();
            publish(forge, trust.version, trust.text(), signatures);
        })
    }),
    ("trust changed after it was signed", |range| {
        range.intake_refused(Code::TrustUnsigned, |forge| {
            let trust = newest(forge);
            let signatures = trust.signatures(&forge.keys, ROOT);
            publish(
                forge,
                trust.version,
                trust.text() + "# and one more thing\n",
                signatures,
            );
        })
    }),
    ("trust whose signatures are spelled otherwise", |range| {
        range.intake_refused(Code::SignatureNoncanonical, |forge| {
            let trust = newest(forge);
            let signatures = trust.signatures(&forge.keys, ROOT).replace('\n', "\r\n");
            publish(forge, trust.version, trust.text(), signatures);
        })
    }),
    ("trust without a file of signatures", |range| {
        range.intake_refused(Code::TrustUnsigned, |forge| {
            let trust = newest(forge);
            let name = format!("{}.yaml", trust.version);
            forge.publish_trust_files(&[(name, trust.text())]);
        })
    }),
    ("trust of an unknown format version", |range| {
        served(range, Code::TrustInvalid, ROOT, |trust, _| {
            trust.format = "trust/0".to_owned()
        })
    }),
    ("trust that lists a weak key", |range| {
        served(range, Code::TrustInvalid, ROOT, |trust, _| {
            trust.policy.push(weak_key())
        })
    }),
    ("trust with a threshold of 0", |range| {
        served(range, Code::TrustInvalid, ROOT, |trust, _| {
            trust.threshold = 0
        })
    }),
    ("trust with a threshold above its keys, pushed", |range| {
        pushed(range, Code::TrustInvalid, ROOT, |trust, _| {
            trust.threshold = 4
        })
    }),
    ("trust of a later format version", |range| {
        served(range, Code::TrustNewer, ROOT, |trust, _| {
            trust.format = "trust/2".to_owned()
        })
    }),
    ("trust of a later format version, pushed", |range| {
        pushed(range, Code::TrustNewer, ROOT, |trust, _| {
            trust.format = "trust/2".to_owned()
        })
    }),
    (
        "trust of a later format version that root did not sign",
        |range| {
            served(range, Code::TrustUnsigned, &["root"], |trust, _| {
                trust.format = "trust/2".to_owned()
            })
        },
    ),
    ("trust with an unknown field", |range| {
        served(range, Code::TrustNewer, ROOT, |trust, _| {
            trust.more += "colour: blue\n"
        })
    }),
    ("trust with an unknown field, pushed", |range| {
        pushed(range, Code::TrustNewer, ROOT, |trust, _| {
            trust.more += "colour: blue\n"
        })
    }),
    ("trust above 64 KiB", |range| {
        served(range, Code::TrustInvalid, ROOT, |trust, _| {
            trust.more = format!("# {}\n", "x".repeat(64 << 10));
        })
    }),
    ("trust that has expired is pushed", |range| {
        pushed(range, Code::TrustInvalid, ROOT, |trust, _| {
            trust.expires = "2026-01-01T00:00:00Z".to_owned();
        })
    }),
    ("trust expired", expired),
    ("old trust with a new log, for a new host", |range| {
        range.newcomer_refuses(Code::TrustMismatch, |forge| {
            forge.keep_trust_files(|name| name.starts_with("1."));
        })
    }),
    (
        "revocation withheld: a thief goes on under the trust that he knew",
        revoked,
    ),
    (
        "a revoked policy key, under the trust that revoked it",
        revoked_and_told,
    ),
    ("a revoked author's key", revoked_author),
];

/// The scope of an author who may do everything.
const ALL: &str = "environments: [ \"*\" ], paths: [ \"**\" ], may: [ author ]";

/// The version after the newest one, as an honest root would write it.
fn newest(forge: &Forge) -> TrustText {
    forge.trust.next()
}

fn publish(forge: &Forge, version: u64, text: String, signatures: String) {
    forge.publish_trust_files(&[
        (format!("{version}.yaml"), text),
        (format!("{version}.sig"), signatures),
    ]);
}

/// Root's next file after `edit`, signed by `signers`, is served.
#[track_caller]
fn served(range: &mut Range, code: Code, signers: &[&str], edit: Edit) -> Code {
    range.intake_refused(code, |forge| edited(forge, signers, edit))
}

/// The same, pushed to the honest repository.
#[track_caller]
fn pushed(range: &mut Range, code: Code, signers: &[&str], edit: Edit) -> Code {
    range.trust_refused(code, |forge| edited(forge, signers, edit))
}

/// What an attacker does to a trust file.
type Edit = fn(&mut TrustText, &Keys);

fn edited(forge: &Forge, signers: &[&str], edit: Edit) {
    let mut trust = newest(forge);
    edit(&mut trust, &forge.keys);
    forge.publish_trust(&trust, signers);
}

fn hide_newest(forge: &Forge) {
    let hidden = format!("{}.", forge.trust.version);
    forge.keep_trust_files(|name| !name.starts_with(&hidden));
}

/// A stranger makes himself root.
fn take_over(trust: &mut TrustText, keys: &Keys) {
    trust.threshold = 1;
    trust.roots = vec![keys.public("stranger").to_string()];
}

/// Root forgets to renew: nothing new is believed until it does.
fn expired(range: &mut Range) -> Code {
    let before = range.witness();
    let mut old = range.trust.next();
    old.expires = "2026-01-01T00:00:00Z".to_owned();
    let forge = range.forge();
    forge.publish_trust(&old, ROOT);
    range.serve(&forge.path);
    range.wait_for_refusal(Code::TrustExpired);
    range.unharmed(&before);
    range.clone_of_author().publish_trust(&old, ROOT);
    let mut renewed = old.next();
    renewed.expires.clone_from(&range.trust.expires);
    range.publish(renewed);
    range.serve_honestly();
    range.honest_pass();
    Code::TrustExpired
}

/// Root ends the policy key after the newest admission, which still counts; the host has heard of it.
fn revoke(range: &mut Range) -> SigningKey {
    let stolen = range.keys.get("policy");
    let aside = range.forge();
    range.serve(&aside.path);
    let mut trust = range.trust.next();
    trust.end(stolen.public(), range.honest_sequence());
    trust.policy = vec![range.keys.make("policy").to_string()];
    range.publish(trust);
    range.serve_honestly();
    wait::until("the host has heard", Duration::from_secs(30), || {
        // What a pass under this trust file writes last.
        let floor = range.floor();
        (floor["rules"]["trust"]["version"] == range.trust.version).then_some(())
    });
    stolen
}

/// The thief goes on and names the trust file before the one that ended his key.
fn revoked(range: &mut Range) -> Code {
    let stolen = revoke(range);
    range.intake_refused(Code::KeyEnded, |forge| {
        forge.push_main(forge.evil_commit().signed(&forge.key("author")));
        let named = forge.last().manifest.trust;
        forge.admit_edited(|draft| (draft.key, draft.manifest.trust) = (stolen, named));
    })
}

/// The thief goes on and names the trust file that ended his key.
fn revoked_and_told(range: &mut Range) -> Code {
    let stolen = revoke(range);
    range.intake_refused(Code::ManifestUnsigned, |forge| {
        forge.push_main(forge.evil_commit().signed(&forge.key("author")));
        forge.admit_edited(|draft| draft.key = stolen);
    })
}

/// What CI signed counts for a new host if its key was ended right after, and not if it was ended right before.
fn revoked_author(range: &mut Range) -> Code {
    let answer = range.release_as("web-ci");
    range.wait_for_answer(&answer);
    let last = range.honest_sequence();
    range.honest_pass();
    let ended = |range: &mut Range, last: u64| {
        let forge = range.forge();
        let mut trust = newest(&forge);
        trust.authors.retain(|line| !line.contains("web-ci"));
        trust.end(&forge.keys.public("web-ci"), last);
        forge.publish_trust(&trust, ROOT);
        Newcomer::new(range, &forge)
    };
    ended(range, last).accepts();
    ended(range, last - 1).refuses(Code::KeyEnded);
    range.honest_pass();
    Code::KeyEnded
}
