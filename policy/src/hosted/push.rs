//! What `git push --porcelain` says of a push, by the form that git promises to keep: one line a ref, its flag first.

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// All refs moved.
    Done,
    /// Somebody else moved a ref first: nothing moved.
    Lost(String),
    /// The remote does not let this account move a ref: nothing moved.
    Refused(String),
    /// The remote said nothing of it.
    Unknown,
}

/// What a server says of a ref that it could not move because it was moved meanwhile. Everything else is a decision.
const RACES: [&str; 6] = [
    "failed to update ref",
    "cannot lock ref",
    "incorrect old value",
    "reference already exists",
    "atomic transaction failed",
    "fetch first",
];

/// What it says of the others of an atomic push.
const ALONG: &str = "atomic push fail";

impl Pushed {
    /// Reads standard output of a push that ended with exit code 0, or did not.
    pub(super) fn parse(success: bool, output: &str) -> Self {
        if success {
            return Self::Done;
        }
        let (mut lost, mut along) = (None, None);
        for line in output.lines() {
            // `!`, `<from>:<to>` and `[kind] (reason)`, between tabs.
            let mut fields = line.split('\t');
            let (Some("!"), Some(refs), Some(summary)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let name = refs.rsplit_once(':').map_or(refs, |(_, to)| to);
            let why = format!("'{name}': {summary}");
            if summary.contains(ALONG) {
                along = Some(why);
            } else if summary.starts_with("[remote rejected]")
                && !RACES.iter().any(|race| summary.contains(race))
            {
                return Self::Refused(why);
            } else if summary.starts_with("[rejected]") || summary.starts_with("[remote rejected]")
            {
                lost = lost.or(Some(why));
            }
        }
        lost.or(along).map_or(Self::Unknown, Self::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Pushed {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| format!("{}\n", line.replace('|', "\t")))
            .collect();
        Pushed::parse(
            false,
            &format!("To file:///forge.git\n{}Done\n", lines.concat()),
        )
    }

    #[test]
    fn a_branch_that_moved_is_a_lost_race_wherever_that_is_noticed() {
        for reason in [
            "[rejected] (stale info)",
            "[rejected] (fetch first)",
            "[remote rejected] (failed to update ref)",
            "[remote rejected] (cannot lock ref 'refs/heads/fresh': is at 1 but expected 2)",
            "[remote rejected] (incorrect old value provided)",
            "[remote rejected] (atomic transaction failed)",
        ] {
            let pushed = parse(&[
                "!|1:refs/heads/admitted|[rejected] (atomic push failed)",
                &format!("!|2:refs/heads/fresh|{reason}"),
            ]);
            let why = format!("'refs/heads/fresh': {reason}");
            assert_eq!(pushed, Pushed::Lost(why));
        }
    }

    #[test]
    fn a_decision_of_the_remote_is_no_race_though_the_rest_fell_with_it() {
        let pushed = parse(&[
            "!|1:refs/heads/fresh|[remote rejected] (atomic push failure)",
            "!|2:refs/heads/admitted|[remote rejected] (protected branch hook declined)",
        ]);
        let why = "'refs/heads/admitted': [remote rejected] (protected branch hook declined)";
        assert_eq!(pushed, Pushed::Refused(why.to_owned()));
    }

    #[test]
    fn nothing_is_concluded_from_silence() {
        assert_eq!(parse(&[]), Pushed::Unknown);
        let failure = "!|1:refs/heads/fresh|[remote failure] (remote failed to report status)";
        assert_eq!(parse(&[failure]), Pushed::Unknown);
        assert_eq!(Pushed::parse(false, ""), Pushed::Unknown);
        assert_eq!(Pushed::parse(true, ""), Pushed::Done);
    }
}
