//! What a new trust file does to the log of admissions: an ended key takes what it signed later with it.

use jiff::Timestamp;
use state::digest::ObjectId;
use state::verify::{self, Chain};
use state::{Code, Refusal};

use crate::branch::Branch;
use crate::repository::{Place, Repository};

/// How the log goes on under a new trust file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It counts up to its end, this sequence.
    Kept(u64),
    /// It counts up to the anchor's sequence and goes on with the other.
    Anchored(u64, u64),
}

/// The tip of the log of `repository`; `None` only where it is served and nothing was admitted yet.
///
/// # Errors
/// `REF_MISSING` in a clone that did not fetch the log: nothing may be concluded from that.
pub fn tip(repository: &Repository) -> Result<Option<ObjectId>, Refusal> {
    match repository.place {
        Place::Served => repository.tip(Branch::Admitted),
        Place::Clone => repository.require(Branch::Admitted).map(Some),
    }
}

/// Says what becomes of the log of `repository` under the newest trust file of `chain`.
///
/// # Errors
/// Those of [`tip`]; `KEY_ENDED` if the log would no longer count up to its end, and no anchor says where it goes on: policy would stop,
/// and no new host would accept it; `MANIFEST_NEWER` if the log goes on in a form that is not known here. What else is
/// wrong with the log is not the new file's fault.
pub fn effect(repository: &Repository, chain: &Chain, now: Timestamp) -> Result<Effect, Refusal> {
    let Some(tip) = tip(repository)? else {
        return Ok(Effect::Kept(0));
    };
    let next = chain.newest();
    let breaks = |refusal: &Refusal, last: u64| {
        let detail = format!(
            "trust {}: the log would count up to {last} only: {}; end the key later, or give an anchor",
            next.version, refusal.detail
        );
        Refusal::new(Code::KeyEnded, detail)
    };
    let log = match verify::log(&repository.git, chain.clone(), Some(&tip), now) {
        Ok(log) => log,
        Err(refusal) if refusal.code == Code::KeyEnded => {
            let last = next.anchor.as_ref().map_or(0, |anchor| anchor.sequence);
            return Err(breaks(&refusal, last));
        }
        Err(refusal) => return Err(refusal),
    };
    let last = log.last().map_or(0, |entry| entry.manifest.sequence);
    if log.is_at_anchor() {
        return Ok(Effect::Anchored(
            last,
            log.link().sequence.saturating_add(1),
        ));
    }
    match log.junk() {
        Some(refusal) if refusal.code == Code::KeyEnded => Err(breaks(refusal, last)),
        // Nobody can tell here what the new file does to the rest.
        Some(refusal) if refusal.code.is_newer() => Err(refusal.clone()),
        _ => Ok(Effect::Kept(last)),
    }
}
