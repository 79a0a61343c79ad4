//! Duplicate: what has the id of what is admitted already is no change, so asking twice deploys once.

use state::digest::ReleaseId;

/// Says whether replacing `from` by `to` would change nothing.
pub fn is_duplicate(from: Option<ReleaseId>, to: Option<ReleaseId>) -> bool {
    from == to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_id_is_a_duplicate() {
        let (one, two) = (Some(ReleaseId([1; 32])), Some(ReleaseId([2; 32])));
        assert!(is_duplicate(one, one));
        assert!(!is_duplicate(one, two));
        assert!(!is_duplicate(None, one));
        assert!(!is_duplicate(one, None));
    }
}
