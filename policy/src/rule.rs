//! The rules of admission, one a file. A rule looks at one change and what surrounds it, and knows no other rule.
//!
//! Rules are pure: they read no clock and no repository, so that everybody who replays the log gets the same verdicts.

pub mod duplicate;

pub mod approval;
pub mod cooldown;
pub mod hold;
pub mod rate;
pub mod removal;

use jiff::Timestamp;
use state::environment::Environment;
use state::manifest::Change;
use state::render::Rendered;
use state::{Code, Refusal};

use crate::change;
use crate::evidence::Evidence;
use crate::history::History;

/// One change and everything that a rule may look at to judge it.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The change to judge.
    pub change: &'a Change,
    /// All changes of the candidate.
    pub changes: &'a [Change],
    /// The rules in force: those admitted before, or the environment's own if it is new.
    pub rules: &'a Environment,
    /// What is admitted now.
    pub admitted: &'a Rendered,
    /// What the candidate asks for.
    pub wanted: &'a Rendered,
    /// What the candidate brings besides its content.
    pub evidence: &'a Evidence,
    /// When what was admitted, what this pass admitted before included.
    pub history: &'a History,
    /// The time of judgement, in whole seconds.
    pub now: Timestamp,
}

impl Case<'_> {
    /// The source repository that the change is built from; `None` for rules.
    pub fn source(&self) -> Option<&str> {
        change::source(self.change, self.admitted, self.wanted)
    }
}

/// What becomes of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be admitted now.
    Admit,
    /// It is judged again from what `main` holds then.
    Wait {
        /// The first second at which the rule no longer objects; `None` if that takes a person or another change.
        until: Option<Timestamp>,
        /// The rule's code and what it counted.
        why: Refusal,
    },
    /// It may not be admitted as it is.
    Refuse(Refusal),
}

impl Verdict {
    /// Waits until `until`, for the reason `code`.
    pub fn wait(until: Timestamp, code: Code, why: impl Into<String>) -> Self {
        let (until, why) = (Some(until), Refusal::new(code, why));
        Self::Wait { until, why }
    }

    /// Waits for a person or for another change, for the reason `code`.
    pub fn wait_for(code: Code, why: impl Into<String>) -> Self {
        let why = Refusal::new(code, why);
        Self::Wait { until: None, why }
    }

    /// Refuses with `code`.
    pub fn refuse(code: Code, why: impl Into<String>) -> Self {
        Self::Refuse(Refusal::new(code, why))
    }

    /// The stricter of two verdicts: a refusal before a wait, a wait without an end before
    /// one that ends, a longer one before a shorter; the first of equals.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if other.weight() > self.weight() {
            other
        } else {
            self
        }
    }

    fn weight(&self) -> (u8, Timestamp) {
        match self {
            Self::Admit => (0, Timestamp::MIN),
            Self::Wait { until, .. } => (1, until.unwrap_or(Timestamp::MAX)),
            Self::Refuse(_) => (2, Timestamp::MIN),
        }
    }

    /// Says whether the change may be admitted now.
    pub fn is_admit(&self) -> bool {
        matches!(self, Self::Admit)
    }
}
