//! `policy replay FROM..TO`: judges past admissions again and says whether the verdicts are the same.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use jiff::Timestamp;
use state::Code;
use state::manifest::Hold;

use super::Exit;
use crate::hold::Edit;
use crate::log;
use crate::output::{self, Colour, Paint};
use crate::replay::{Replayed, replay};
use crate::repository::Repository;

/// Judge past admissions again, by the trust, rules and history in force then; stop at the first that differs.
///
/// Timing rules are policy's word alone: this is how anybody with a clone checks it. What authors hold is compared with
/// their commit. What policy itself holds or lifts (`policy hold`) follows from no rule: it is shown as its word.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The admissions, both ends included: `12..40`, `12..`, `..40`, `..` or `12`.
    #[arg(default_value = "..")]
    range: Range,
    /// The bare repository, or a clone of it.
    #[arg(long, value_name = "REPO", default_value = ".")]
    repository: PathBuf,
}

/// `FROM..TO`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: u64,
    to: u64,
}

impl FromStr for Range {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str, open: u64| match text {
            "" => Ok(open),
            some => some.parse(),
        };
        Ok(Self {
            from: number(from, 0)?,
            to: number(to, u64::MAX)?,
        })
    }
}

pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<Exit> {
    let repository = Repository::open(&args.repository)?;
    let log = log::read(&repository, Timestamp::now())?;
    let paint = Paint::of(&std::io::stdout());
    let Range { from, to } = args.range;
    let mut exit = Exit::Done;
    replay(
        &repository.git,
        &log,
        |sequence| (from..=to).contains(&sequence),
        |replayed| {
            let same = replayed.agrees();
            print(&replayed, same, paint);
            if !same {
                exit = Exit::Refused;
            }
            same
        },
    )?;
    Ok(exit)
}

fn print(replayed: &Replayed, same: bool, paint: Paint) {
    let Replayed {
        manifest,
        judged,
        held,
        edits,
        ..
    } = replayed;
    let (word, colour) = match same {
        true => ("same   ", Colour::Green),
        false => ("differs", Colour::Red),
    };
    let word = paint.paint(colour, word);
    let count = manifest.changes.len();
    outln!(
        "{:>5}  {}  {word}  {count} admitted of {}",
        manifest.sequence,
        manifest.issued,
        judged.len()
    );
    for edit in edits {
        let ((environment, subject), what) = match edit {
            Edit::Hold(hold) => (hold.place(), format!("held: {}", hold.reason)),
            Edit::Lift((environment, subject)) => {
                ((environment, subject), "no longer held".to_owned())
            }
        };
        outln!("       {environment}  {subject}  by policy's own word {what}");
    }
    if !same {
        outln!("policy admitted:");
        out!("{}", output::admission(manifest, paint));
        outln!("the verdicts are:");
        out!("{}", output::verdicts(judged, paint));
    }
    let differ = |holds: &[Hold], others: &[Hold], what: &str| {
        for hold in holds.iter().filter(|hold| !others.contains(hold)) {
            let (environment, subject) = hold.place();
            let code = Code::HoldMissing;
            outln!("{code}: {environment} {subject} is held by its author {what}");
        }
    };
    differ(held, &manifest.holds, "and not in the manifest");
    differ(
        &manifest.holds,
        held,
        "in the manifest and not in his commit",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_may_be_open_at_either_end() {
        let range = |text: &str| text.parse::<Range>().map(|range| (range.from, range.to));
        assert_eq!(range("3..5"), Ok((3, 5)));
        assert_eq!(range("3.."), Ok((3, u64::MAX)));
        assert_eq!(range("..5"), Ok((0, 5)));
        assert_eq!(range(".."), Ok((0, u64::MAX)));
        assert_eq!(range("4"), Ok((4, 4)));
        assert!(range("a..b").is_err());
    }
}
