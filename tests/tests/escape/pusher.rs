//! What can be pushed without a key, or with one that may only move one pin: nothing that policy or hosts stumble over.

use state::git::Kind;
use tests::attack::commit::CommitText;

use crate::gate::{Gate, HUGE, LARGE};
use crate::{Attacker, Attempt, Case, Verdict};

pub(crate) fn cases() -> Vec<Case> {
    let case = |by| {
        move |means, what, attempt| Case {
            by,
            means,
            what,
            attempt: Attempt::Repository(attempt),
        }
    };
    let (keyless, narrow) = (case(Attacker::Keyless), case(Attacker::NarrowKey));
    vec![
        keyless(
            "history",
            "`trust` moves to the same files after a history that nobody can read",
            trust_history,
        ),
        keyless(
            "history",
            "`trust` moves to the same files after other headers than git's",
            trust_headers,
        ),
        keyless("large file", "an unsigned commit on `main`", unsigned),
        keyless("ref", "policy's own branches, and deletions", refs),
        keyless(
            "large file",
            "an approval that holds a large file",
            approval,
        ),
        keyless("symlink", "a link in `trust`", trust_symlink),
        narrow(
            "history",
            "merges a side that nobody signed, with a large file",
            merge,
        ),
        narrow(
            "history",
            "merges a side whose headers nobody can read",
            merge_headers,
        ),
        narrow("large file", "a pin in a file of 17 MiB", large_pin),
        narrow(
            "large file",
            "a file of 20 MiB among notes, which its key may change",
            notes,
        ),
        narrow("sparse file", "a file of zeros beside the pin", zeros),
        narrow("symlink", "a link in place of the pin", symlink),
        narrow("file", "a change of another file", other_file),
        narrow(
            "file",
            "a change of another field of the pin's file",
            other_field,
        ),
    ]
}

fn to_trust(gate: &Gate, parent: state::digest::ObjectId) -> Verdict {
    let tip = gate.forge.tip("trust");
    let same = CommitText::new(gate.forge.tree_of(&tip), &[tip, parent]).unsigned();
    let same = gate.forge.write(Kind::Commit, same.as_bytes());
    gate.goes_on(&[&format!("{same}:refs/heads/trust")])
}

fn trust_history(gate: &Gate) -> Verdict {
    let huge = gate.huge_commit(&gate.forge.tip("trust"));
    to_trust(gate, huge)
}

/// A commit that git takes and other readers do not: its author has no address.
fn odd_commit(gate: &Gate, parent: &str) -> state::digest::ObjectId {
    let tree = gate.forge.tree_of(&gate.forge.tip("trust"));
    let raw = format!(
        "tree {tree}\nparent {parent}\nauthor nobody\ncommitter nobody <> 1795000000 +0000\n\nOdd\n"
    );
    gate.forge.write(Kind::Commit, raw.as_bytes())
}

fn trust_headers(gate: &Gate) -> Verdict {
    let odd = odd_commit(gate, &gate.forge.tip("trust").to_string());
    to_trust(gate, odd)
}

fn unsigned(gate: &Gate) -> Verdict {
    let huge = gate.huge_commit(&gate.forge.tip("main"));
    gate.refuses(&[&format!("{huge}:refs/heads/main")])
}

fn refs(gate: &Gate) -> Verdict {
    let mut last = Verdict::Held(String::new());
    for refspec in [
        "main:refs/heads/admitted",
        "main:refs/heads/fresh",
        "main:refs/heads/other",
        "main:refs/tags/v1",
        ":refs/heads/trust",
        ":refs/heads/main",
        "+main~1:refs/heads/main",
    ] {
        last = gate.refuses(&[refspec]);
        if let Verdict::Succeeded(what) = last {
            return Verdict::Succeeded(format!("{refspec}: {what}"));
        }
    }
    last
}

fn approval(gate: &Gate) -> Verdict {
    let huge = gate.huge_commit(&gate.forge.tip("main"));
    gate.refuses(&[&format!("{huge}:refs/heads/approvals/dev/web/none")])
}

fn trust_symlink(gate: &Gate) -> Verdict {
    let tip = gate.forge.tip("trust");
    let target = gate.forge.blob("/etc/shadow");
    let mut entries = gate.forge.entries(&tip);
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let mut tree: Vec<(&str, &[u8], _)> = entries
        .iter()
        .map(|entry| (entry.mode.as_str(), entry.name.as_bytes(), entry.id))
        .collect();
    tree.push(("120000", b"link", target));
    let commit = CommitText::new(gate.forge.raw_tree(&tree), &[tip]).unsigned();
    let commit = gate.forge.write(Kind::Commit, commit.as_bytes());
    gate.refuses(&[&format!("{commit}:refs/heads/trust")])
}

/// Pushes a pin whose commit merges `side` too.
fn merged(gate: &Gate, side: state::digest::ObjectId) -> Verdict {
    let mut merge = gate.pin("");
    merge.parents.push(side);
    let merge = gate.signed_by_ci(&merge);
    gate.goes_on(&[&format!("{merge}:refs/heads/main")])
}

fn merge(gate: &Gate) -> Verdict {
    let side = gate.huge_commit(&gate.forge.tip("main"));
    merged(gate, side)
}

fn merge_headers(gate: &Gate) -> Verdict {
    let side = odd_commit(gate, &gate.forge.tip("main").to_string());
    merged(gate, side)
}

fn large_pin(gate: &Gate) -> Verdict {
    let more = format!("# {}\n", "x".repeat(HUGE));
    let pin = gate.signed_by_ci(&gate.pin(&more));
    gate.goes_on(&[&format!("{pin}:refs/heads/main")])
}

fn notes(_: &Gate) -> Verdict {
    let gate = Gate::with(&["--path", "notes/**"]);
    let commit = gate
        .forge
        .commit_with(&[("notes/large", &"x".repeat(LARGE))]);
    let commit = gate.signed_by_ci(&commit);
    gate.goes_on(&[&format!("{commit}:refs/heads/main")])
}

fn zeros(gate: &Gate) -> Verdict {
    let zeros = gate.forge.blob(vec![0; HUGE]);
    let tree = gate.forge.main_tree_with(&[("100644", b"zeros", zeros)]);
    let commit = CommitText::new(tree, &[gate.forge.tip("main")]);
    let commit = gate.signed_by_ci(&commit);
    gate.goes_on(&[&format!("{commit}:refs/heads/main")])
}

fn symlink(gate: &Gate) -> Verdict {
    let target = gate.forge.blob("/etc/shadow");
    let tree = gate.forge.main_tree_with(&[("120000", b"link", target)]);
    let commit = CommitText::new(tree, &[gate.forge.tip("main")]);
    let commit = gate.signed_by_ci(&commit);
    gate.refuses(&[&format!("{commit}:refs/heads/main")])
}

fn other_file(gate: &Gate) -> Verdict {
    let commit = gate
        .forge
        .commit_with(&[("environments/dev/environment.yaml", "hosts: [ none ]\n")]);
    let commit = gate.signed_by_ci(&commit);
    gate.refuses(&[&format!("{commit}:refs/heads/main")])
}

fn other_field(gate: &Gate) -> Verdict {
    let commit = gate.signed_by_ci(&gate.pin("run: { command: [ /bin/sh ] }\n"));
    gate.refuses(&[&format!("{commit}:refs/heads/main")])
}
