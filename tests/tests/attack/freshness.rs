//! Attacks on the word that an admission is the newest.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use state::digest::Domain;
use state::sshsig::{self, Namespace};
use state::{Code, freshness::Freshness};
use tests::attack::forge::Forge;
use tests::attack::range::Range;
use tests::wait;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("indefinite freeze: an old state is served for ever", freeze),
    (
        "withheld: freshness knows of an admission that is not shown",
        |range| {
            range.intake_refused(Code::LogWithheld, |forge| {
                let link = forge.last().manifest.link();
                forge.freshen(&link, |statement| statement.sequence += 1);
            })
        },
    ),
    ("freshness malformed: CR LF", |range| {
        malformed(range, |text| text.replace('\n', "\r\n"))
    }),
    (
        "freshness malformed: a second spelling of a time",
        |range| malformed(range, |text| text.replacen("Z\n", ".0Z\n", 1)),
    ),
    ("freshness malformed: a file is missing", |range| {
        range.intake_refused(Code::FreshnessMalformed, |forge| {
            let mut files = forge.files(&forge.tip("fresh"));
            files.remove("freshness.sig");
            forge.point("fresh", &forge.commit_files(&files, &[]));
        })
    }),
    ("freshness signed by the author's key", |range| {
        signed(range, "author", Namespace::Freshness)
    }),
    ("freshness signed by a root key", |range| {
        signed(range, "root", Namespace::Freshness)
    }),
    ("freshness signed as a manifest", |range| {
        signed(range, "policy", Namespace::Manifest)
    }),
    ("freshness for longer than trust allows", |range| {
        tampered(range, Code::FreshnessMismatch, |statement| {
            statement.expires += SignedDuration::from_hours(24);
        })
    }),
    ("freshness that ended before it began", |range| {
        tampered(range, Code::FreshnessMismatch, |statement| {
            statement.expires = statement.issued - SignedDuration::from_hours(1);
        })
    }),
    ("freshness from the future", |range| {
        tampered(range, Code::IssuedInFuture, |statement| {
            statement.issued += SignedDuration::from_hours(1);
            statement.expires += SignedDuration::from_hours(1);
        })
    }),
    ("freshness of another fleet with the same keys", |range| {
        tampered(range, Code::WrongDomain, |statement| {
            statement.domain = Domain([7; 32])
        })
    }),
];

/// The honest tip with a statement that `edit` has changed before policy's key signed it.
#[track_caller]
fn tampered(range: &mut Range, code: Code, edit: fn(&mut Freshness)) -> Code {
    range.intake_refused(code, |forge| {
        forge.freshen(&forge.last().manifest.link(), edit)
    })
}

/// The honest tip with a statement that is spelled otherwise, signed as it then is.
#[track_caller]
fn malformed(range: &mut Range, edit: fn(String) -> String) -> Code {
    range.intake_refused(Code::FreshnessMalformed, |forge| {
        let text = edit(statement(forge));
        let armor = sshsig::sign(&forge.key("policy"), Namespace::Freshness, text.as_bytes());
        forge.publish_freshness(text.as_bytes(), armor.as_bytes());
    })
}

/// The honest statement with a signature that does not count.
#[track_caller]
fn signed(range: &mut Range, name: &str, namespace: Namespace) -> Code {
    range.intake_refused(Code::FreshnessUnsigned, |forge| {
        // Another time than the honest one's, so that it is another statement.
        forge.freshen(&forge.last().manifest.link(), |_| {});
        let text = statement(forge);
        let armor = sshsig::sign(&forge.key(name), namespace, text.as_bytes());
        forge.publish_freshness(text.as_bytes(), armor.as_bytes());
    })
}

fn statement(forge: &Forge) -> String {
    let bytes = forge.files(&forge.tip("fresh"))["freshness"].to_vec();
    String::from_utf8(bytes).unwrap()
}

/// A mirror stands still, and what it shows is found too late: its last word has run out. The release that nobody can
/// call the newest does not start, what runs goes on, and the next honest word starts it.
fn freeze(range: &mut Range) -> Code {
    let before = range.witness();
    // The host looks elsewhere while word and trust change.
    let aside = range.forge();
    range.serve(&aside.path);
    let (calm, mut short) = (range.trust.max_freshness.clone(), range.trust.next());
    short.max_freshness = "3s".to_owned();
    range.publish(short);
    let answer = range.release();
    let frozen = range.forge();
    let end = frozen.last().manifest.issued + SignedDuration::from_secs(3);
    wait::until("the last word runs out", Duration::from_secs(10), || {
        (Timestamp::now() > end).then_some(())
    });
    range.serve(&frozen.path);
    range.wait_for_refusal(Code::Stale);
    range.unharmed(&before);
    let mut long = range.trust.next();
    long.max_freshness = calm;
    range.publish(long);
    range.honest_push().ok();
    range.serve_honestly();
    range.wait_for_answer(&answer);
    range.honest_pass();
    Code::Stale
}
