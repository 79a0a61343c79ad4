//! Attacks on the log of admissions, by whoever serves it and by thieves of the policy key.

use state::Code;
use tests::attack::range::Range;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("rollback: the log is cut by one", cut_by_one),
    ("fast-forward: sequence 2^63", fast_forward),
    (
        "render mismatch: the admitted release is altered",
        render_mismatch,
    ),
    ("unsigned commit pushed to main", unsigned_push),
];

fn cut_by_one(range: &mut Range) -> Code {
    range.honest_pass();
    range.intake_refused(Code::LogRollback, |forge| {
        let tip = forge.tip("admitted");
        forge.point("admitted", &forge.parent(&tip));
    })
}

fn fast_forward(range: &mut Range) -> Code {
    range.intake_refused(Code::SequenceGap, |forge| {
        forge.push_main(forge.evil_commit().signed(&forge.key("author")));
        forge.admit_edited(|draft| draft.manifest.sequence = 1 << 63);
    })
}

fn render_mismatch(range: &mut Range) -> Code {
    range.release_refused(Code::RenderMismatch, |forge| {
        let keep = forge.files(&forge.tip("main"))["services/web/service.yaml"].to_vec();
        let keep = String::from_utf8(keep).unwrap() + "keep: 4\n";
        let commit = forge.commit_with(&[("services/web/service.yaml", &keep)]);
        forge.push_main(commit.signed(&forge.key("author")));
        forge.admit_edited(|draft| {
            draft.edit_web(|release| release.spec.source.commit = forge.evil.parse().unwrap());
        });
    })
}

fn unsigned_push(range: &mut Range) -> Code {
    range.push_refused(Code::AuthorUnsigned, |forge| {
        let raw = forge.evil_commit().unsigned();
        forge.write(state::git::Kind::Commit, raw.as_bytes())
    })
}
