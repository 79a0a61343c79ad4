//! `approvals` and `treeTrailer`: what persons must have signed besides the commit.

use super::{Case, Verdict};
use state::Code;

/// Waits until enough persons approved the change; nothing but they can end that.
pub fn judge(case: &Case<'_>) -> Verdict {
    let required = case.rules.approvals;
    if required == 0 {
        return Verdict::Admit;
    }
    let place = (case.change.environment.clone(), case.change.subject.clone());
    let checked = match case.evidence.approvals.get(&place) {
        Some(collected) => match &collected.standing {
            Ok(standing) => standing.check(required),
            Err(refusal) => Err(refusal.clone()),
        },
        // Nobody can approve what is not committed.
        None => {
            return Verdict::wait_for(Code::ApprovalMissing, format!("0 of {required} approvals"));
        }
    };
    match checked {
        Ok(()) => Verdict::Admit,
        Err(refusal) => Verdict::wait_for(refusal.code, refusal.detail),
    }
}

/// Refuses what originates in a commit without the trailer that the environment requires.
pub fn judge_trailer(case: &Case<'_>) -> Verdict {
    let required = case.rules.tree_trailer == state::commit::TreeTrailer::Required;
    match &case.evidence.trailer {
        Some(refusal) if required && case.change.to.is_some() => Verdict::Refuse(refusal.clone()),
        _ => Verdict::Admit,
    }
}
