//! Step 12: the approvals of a change, for the agent that checks them and for the policy that waits for them.

use jiff::Timestamp;

use crate::Refusal;
use crate::approval::{Asked, Signed, Standing};
use crate::digest::ObjectId;
use crate::git::Git;
use crate::manifest::Change;
use crate::tree::Files;
use crate::trust::Trust;

use super::admissions::{Admission, Admissions};
use super::chain::Chain;
use super::log::Entry;
use super::signers::signers;

/// As of which manifest approvals are judged.
pub(super) struct AsOf<'a> {
    /// The manifest; `None`: the one that is to be made.
    pub(super) admission: Option<&'a Admission>,
    /// The trust file that it names.
    pub(super) trust: &'a Trust,
    /// Its sequence.
    pub(super) sequence: u64,
    /// When it was issued.
    pub(super) issued: Timestamp,
}

/// What an approval of `change` has to say, and the commit of `main` that what it replaces came from.
fn asked<'a>(
    chain: &'a Chain,
    admissions: &mut Admissions<'_>,
    change: &'a Change,
    as_of: &AsOf<'a>,
) -> Result<(Asked<'a>, Option<ObjectId>), Refusal> {
    let last = admissions.last_change(&change.environment, &change.subject, as_of.admission)?;
    let last = last.as_ref().map(|last| &last.manifest);
    let asked = Asked {
        domain: *chain.domain(),
        change,
        since: last.map_or(0, |last| last.sequence),
        trust: as_of.trust,
        newest: chain.newest(),
        sequence: as_of.sequence,
        issued: as_of.issued,
    };
    let origin = last.map(|last| last.author.commit);
    Ok((asked, origin.filter(|_| change.from.is_some())))
}

/// How far the approvals of `change` are, which the commit `author` of `main` asks for, with what was handed in.
///
/// # Errors
/// `APPROVAL_MISSING` if it would take too long to find out who had a part in the change.
pub(super) fn standing(
    git: &Git,
    chain: &Chain,
    admissions: &mut Admissions<'_>,
    change: &Change,
    as_of: &AsOf<'_>,
    author: &ObjectId,
    signed: &[Signed],
) -> Result<Standing, Refusal> {
    let (asked, from) = asked(chain, admissions, change, as_of)?;
    let barred = signers(git, chain, change, from.as_ref(), author)?;
    Ok(asked.count(signed, barred))
}

/// The approvals that the manifest after a log will need.
pub struct Approvals<'a> {
    git: &'a Git,
    chain: &'a Chain,
    trust: &'a Trust,
    admissions: Admissions<'a>,
    sequence: u64,
}

impl<'a> Approvals<'a> {
    /// Those of the manifest `sequence` under `trust`, after the entry `last` with the admitted tree `tip`.
    pub(super) fn new(
        git: &'a Git,
        chain: &'a Chain,
        trust: &'a Trust,
        last: Option<&Entry>,
        tip: &'a Files,
        sequence: u64,
    ) -> Self {
        Self {
            git,
            chain,
            trust,
            admissions: Admissions::new(git, &[], last, tip),
            sequence,
        }
    }

    /// What an approval of `change` has to say to count at the time `now`.
    ///
    /// # Errors
    /// Those of reading the log.
    pub fn asked<'b>(
        &'b mut self,
        change: &'b Change,
        now: Timestamp,
    ) -> Result<Asked<'b>, Refusal> {
        let as_of = next(self.trust, self.sequence, now);
        Ok(asked(self.chain, &mut self.admissions, change, &as_of)?.0)
    }

    /// How far the approvals of `change` are at the time `now`, which the commit `author` of `main` asks for, with what
    /// was handed in.
    ///
    /// # Errors
    /// `APPROVAL_MISSING` if it would take too long to find out who had a part in the change.
    pub fn standing(
        &mut self,
        change: &Change,
        author: &ObjectId,
        signed: &[Signed],
        now: Timestamp,
    ) -> Result<Standing, Refusal> {
        let as_of = next(self.trust, self.sequence, now);
        let (git, chain) = (self.git, self.chain);
        standing(
            git,
            chain,
            &mut self.admissions,
            change,
            &as_of,
            author,
            signed,
        )
    }
}

fn next(trust: &Trust, sequence: u64, issued: Timestamp) -> AsOf<'_> {
    AsOf {
        admission: None,
        trust,
        sequence,
        issued,
    }
}
