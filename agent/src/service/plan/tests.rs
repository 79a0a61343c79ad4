//! What is decided for one service, situation by situation.

use super::*;
use crate::deployment::phase::Event;
use crate::deployment::record::Failure;
use proptest::prelude::{prop_assert, proptest};
use state::digest::ObjectId;
use state::durable::Extra;
use state::service::{Bake, Strategy};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn kept(byte: u8) -> Kept {
    Kept {
        release: ReleaseId([byte; 32]),
        source: ObjectId([byte; 20]),
        number: byte.into(),
        extra: Extra::default(),
    }
}

fn wish(byte: u8) -> Option<Wish> {
    Some(Wish {
        release: ReleaseId([byte; 32]),
        state: DesiredState::Running,
    })
}

/// What is decided where no limit is met.
fn decide(wish: Option<Wish>, record: &Record, now: Timestamp) -> Action {
    super::decide(wish, record, &Limits::default(), now)
}

fn advance(record: &mut Record, events: &[Event]) {
    for event in events {
        if record.advance(*event, "boot", NOW).unwrap() == Phase::Starting {
            record.occupy(None, Strategy::Recreate(Bake::default()), NOW);
        }
    }
}

/// A record whose release 1 is live.
fn live() -> Record {
    let mut record = Record::new("web".parse().unwrap());
    record.begin(kept(1), "boot", NOW);
    let events = [
        Event::Kept,
        Event::Started,
        Event::AnsweredAlone,
        Event::Baked,
        Event::Remembered,
        Event::Drained,
    ];
    advance(&mut record, &events);
    record
}

fn failure(code: Code) -> Failure {
    Failure::new(Refusal::new(code, "x"), Phase::Ready)
}

#[test]
fn what_runs_is_kept_and_another_release_is_deployed() {
    assert_eq!(decide(wish(1), &live(), NOW), Action::Keep);
    let deploy = Action::Deploy {
        from: Some(kept(1).release),
        to: kept(2).release,
    };
    assert_eq!(decide(wish(2), &live(), NOW), deploy);
}

#[test]
fn a_service_that_is_not_mentioned_stays_as_it_is() {
    assert_eq!(decide(None, &live(), NOW), Action::Keep);
}

#[test]
fn a_failed_release_is_not_tried_again_until_another_is_admitted() {
    let mut record = live();
    record.hold_failed(kept(2).release, failure(Code::NotReady), NOW);
    assert!(
        matches!(decide(wish(2), &record, NOW), Action::Held(why) if why.code == Code::NotReady)
    );
    assert!(matches!(
        decide(wish(3), &record, NOW),
        Action::Deploy { .. }
    ));
}

#[test]
fn a_release_that_waits_for_the_host_is_tried_when_its_time_has_come() {
    let mut record = live();
    record.postpone(kept(2).release, failure(Code::DiskFull), NOW);
    let until = record.postponed.as_ref().unwrap().until;
    assert!(matches!(
        decide(wish(2), &record, NOW),
        Action::Waiting { .. }
    ));
    assert!(matches!(
        decide(wish(2), &record, until),
        Action::Deploy { .. }
    ));
}

#[test]
fn a_release_that_a_clock_ahead_put_off_is_tried_as_soon_as_the_clock_is_right() {
    let mut record = live();
    let ahead = NOW + jiff::SignedDuration::from_hours(10);
    record.postpone(kept(2).release, failure(Code::DiskFull), ahead);
    assert!(matches!(
        decide(wish(2), &record, NOW),
        Action::Deploy { .. }
    ));
}

#[test]
fn a_limit_delays_what_is_new_and_never_the_way_back() {
    let mut record = live();
    record.count(NOW);
    let until = NOW + jiff::SignedDuration::from_secs(5);
    assert!(matches!(
        decide(wish(2), &record, NOW),
        Action::Waiting { until: shown, why } if shown == until && why.code == Code::Cooldown
    ));
    assert!(matches!(
        decide(wish(2), &record, until),
        Action::Deploy { .. }
    ));
    record.manual = Some(ManualHold::RolledBack {
        since: NOW,
        from: kept(1).release,
        to: kept(9),
        extra: Extra::default(),
    });
    assert!(matches!(
        decide(wish(1), &record, NOW),
        Action::Return { .. }
    ));
    record.manual = None;
    record.previous_good = Some(kept(8));
    assert!(
        matches!(decide(wish(8), &record, NOW), Action::Deploy { .. }),
        "the pin went back"
    );
}

#[test]
fn a_newer_release_takes_the_place_of_one_that_has_no_requests_yet() {
    let mut record = live();
    record.begin(kept(2), "boot", NOW);
    assert_eq!(decide(wish(2), &record, NOW), Action::Continue);
    assert!(
        matches!(decide(wish(3), &record, NOW), Action::Abort(why) if why.code == Code::Superseded)
    );
    let events = [Event::Kept, Event::Started, Event::AnsweredAlone];
    advance(&mut record, &events);
    assert_eq!(decide(wish(3), &record, NOW), Action::Continue);
}

#[test]
fn an_operator_goes_back_during_a_bake_and_nobody_else_does() {
    let mut record = live();
    record.begin(kept(2), "boot", NOW);
    let events = [
        Event::Kept,
        Event::Started,
        Event::Answered,
        Event::Shifted,
        Event::Flipped,
    ];
    advance(&mut record, &events);
    assert_eq!(decide(wish(3), &record, NOW), Action::Continue);
    record.manual = Some(ManualHold::RolledBack {
        since: NOW,
        from: kept(2).release,
        to: kept(1),
        extra: Extra::default(),
    });
    assert!(
        matches!(decide(wish(2), &record, NOW), Action::Abort(why) if why.code == Code::Superseded)
    );
}

#[test]
fn before_the_first_word_nothing_new_begins_and_no_requests_move() {
    let mut record = live();
    assert!(decide(wish(2), &record, NOW).needs_word(&record));
    record.begin(kept(2), "boot", NOW);
    let mut waits = Vec::new();
    for event in [Event::Fetched, Event::Built, Event::Tested, Event::Stored] {
        waits.push(Action::Continue.needs_word(&record));
        advance(&mut record, &[event]);
    }
    assert_eq!(waits, [false; 4], "a build harms nobody");
    for event in [Event::Started, Event::Answered] {
        assert!(Action::Continue.needs_word(&record));
        assert!(reason_to_give_up(wish(2), &record).is_none());
        assert!(reason_to_give_up(None, &record).is_some());
        advance(&mut record, &[event]);
    }
    assert!(!Action::Continue.needs_word(&record), "they have moved");
    assert!(reason_to_give_up(None, &record).is_none());
}

#[test]
fn going_back_waits_for_nobodys_word() {
    let mut record = live();
    record.manual = Some(ManualHold::RolledBack {
        since: NOW,
        from: kept(1).release,
        to: kept(9),
        extra: Extra::default(),
    });
    assert!(!decide(wish(1), &record, NOW).needs_word(&record));
    record.begin(kept(9), "boot", NOW);
    advance(&mut record, &[Event::Kept]);
    assert!(!Action::Continue.needs_word(&record));
    assert!(reason_to_give_up(None, &record).is_none());
}

#[test]
fn a_rollback_lasts_until_another_release_is_admitted() {
    let mut record = live();
    record.manual = Some(ManualHold::RolledBack {
        since: NOW,
        from: kept(1).release,
        to: kept(9),
        extra: Extra::default(),
    });
    let back = Action::Return {
        from: Some(kept(1).release),
        to: kept(9),
    };
    assert_eq!(decide(wish(1), &record, NOW), back);
    assert!(matches!(
        decide(wish(2), &record, NOW),
        Action::Deploy { .. }
    ));
}

#[test]
fn a_rollback_needs_no_fresh_word_from_the_state_repository() {
    let mut record = live();
    record.desired = Some(kept(1).release);
    assert_eq!(decide(None, &record, NOW), Action::Keep);
    record.manual = Some(ManualHold::RolledBack {
        since: NOW,
        from: kept(1).release,
        to: kept(9),
        extra: Extra::default(),
    });
    assert!(matches!(decide(None, &record, NOW), Action::Return { .. }));
}

#[test]
fn a_frozen_service_takes_nothing_new_but_leaves_when_told() {
    let mut record = live();
    record.manual = Some(ManualHold::Frozen {
        since: NOW,
        extra: Extra::default(),
    });
    assert_eq!(decide(wish(1), &record, NOW), Action::Keep);
    assert!(matches!(decide(wish(2), &record, NOW), Action::Held(_)));
    let state = DesiredState::Absent;
    let release = kept(2).release;
    assert_eq!(
        decide(Some(Wish { release, state }), &record, NOW),
        Action::Remove
    );
}

#[test]
fn a_stopped_service_is_stopped_once() {
    let state = DesiredState::Stopped;
    let release = kept(2).release;
    let stopped = Some(Wish { release, state });
    let mut record = live();
    assert_eq!(decide(stopped, &record, NOW), Action::Stop);
    record.slots.clear();
    assert_eq!(decide(stopped, &record, NOW), Action::Keep);
}

proptest! {
    #[test]
    fn a_release_that_failed_is_never_deployed_whatever_else_is_recorded(
        frozen: bool, postponed: bool, deploying in 0..4usize
    ) {
        let mut record = live();
        record.hold_failed(kept(2).release, failure(Code::Unhealthy), NOW);
        if frozen {
            record.manual = Some(ManualHold::Frozen {
        since: NOW,
        extra: Extra::default(),
    });
        }
        if postponed {
            record.postpone(kept(3).release, failure(Code::DiskFull), NOW);
        }
        if deploying > 0 {
            record.begin(kept(3), "boot", NOW);
            let events = [Event::Fetched, Event::Built, Event::Tested];
            advance(&mut record, &events[..deploying - 1]);
        }
        let action = decide(wish(2), &record, NOW);
        let deploys = matches!(action, Action::Deploy { .. } | Action::Return { .. });
        prop_assert!(!deploys);
    }
}
