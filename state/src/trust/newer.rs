//! What a trust file says that this version does not know is never passed over, but for rights, which grant nothing.

use super::example::{code, keys, roles, text};
use super::{Right, Trust};
use crate::Code;

/// A trust file with every place that can hold a field.
fn whole() -> String {
    let [root, policy, author] = keys();
    let more = "anchor: { sequence: 1, next: 2, manifest: \"sha256:<0>\", main: \"sha256:<0>\" }\n\
                limits: { files: 20000, bytes: 64MiB }\nfresh: { keys: [] }\n\
                ended: [ { key: \"SHA256:<A>\", lastSequence: 1, reason: x } ]\n";
    let more = more
        .replace("<0>", &"0".repeat(64))
        .replace("<A>", &"A".repeat(43));
    text(1, 1, &[&root], &(roles(&policy, &author) + &more))
}

#[test]
fn what_is_not_known_is_newer_wherever_it_stands() {
    let text = whole();
    assert_eq!(code(Trust::parse(text.as_bytes())), None);
    for (newer, why) in [
        (text.replace("trust/1", "trust/2"), "a later format"),
        ("writ: trust/2\nkeyring: []\n".to_owned(), "nothing known"),
        (format!("{text}quorum: 2\n"), "a field of the file"),
        (
            text.replace("threshold: 1", "threshold: 1, weight: 2"),
            "root",
        ),
        (text.replace("24h }", "24h, quorum: 2 }"), "policy"),
        (
            text.replace("{ keys: [] }", "{ keys: [], for: x }"),
            "fresh",
        ),
        (
            text.replace("name: alice,", "name: alice, until: x,"),
            "an author",
        ),
        (
            text.replace("reason: x", "reason: x, but: y"),
            "an ended key",
        ),
        (
            text.replace("next: 2,", "next: 2, unless: x,"),
            "the anchor",
        ),
        (
            text.replace("files: 20000", "files: 20000, depth: 2"),
            "the limits",
        ),
    ] {
        assert_ne!(newer, text, "{why}");
        assert_eq!(
            code(Trust::parse(newer.as_bytes())),
            Some(Code::TrustNewer),
            "{why}"
        );
    }
}

#[test]
fn a_right_that_is_not_known_grants_nothing_and_is_told() {
    let text = whole();
    let later = text.replace("[ author ]", "[ promote, Author, \"*\", attest, override ]");
    let trust = Trust::parse(later.as_bytes()).unwrap();
    let all = [Right::Author, Right::Approve, Right::Rules, Right::Hold];
    let may = &trust.authors[0].may;
    assert!(!all.into_iter().any(|right| may.contains(right)));
    let told = trust.unknown_rights();
    assert_eq!(told.len(), 5);
    assert!(
        told[4].starts_with("trust 1: 'alice' may 'promote'"),
        "{told:?}"
    );
    assert!(
        Trust::parse(text.as_bytes())
            .unwrap()
            .unknown_rights()
            .is_empty()
    );
}
