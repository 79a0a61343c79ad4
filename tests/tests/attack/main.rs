//! Attacks on the whole: each must be refused with its code, harm nothing, and leave a fleet that goes on.
//!
//! Prints a line for each attack and the sum: `tests/run.sh attack`. Cases share [`Range`]s, one for each thread.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod author;
mod commit;
mod content;
mod freshness;
mod hooks;
mod host;
mod limits;
mod log;
mod network;
mod newcomer;
mod newer;
mod rules;
mod tree;
mod trust;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};
use state::Code;
use tests::attack::range::Range;

/// An attack: its name, and what carries it out and returns the code that refused it.
type Case = (&'static str, fn(&mut Range) -> Code);

/// All attacks.
const CASES: &[&[Case]] = &[
    log::CASES,
    freshness::CASES,
    trust::CASES,
    newcomer::CASES,
    commit::CASES,
    author::CASES,
    tree::CASES,
    content::CASES,
    rules::CASES,
    newer::CASES,
    network::CASES,
    host::CASES,
    hooks::CASES,
    limits::CASES,
];

/// How many ranges are attacked at once.
const THREADS: usize = 3;

/// What the cases share.
#[derive(Default)]
struct Shared {
    /// Ranges on which all is well.
    idle: Mutex<Vec<Range>>,
    /// What was refused, and how.
    refused: Mutex<Vec<(&'static str, Code)>>,
}

impl Shared {
    /// Carries out an attack; a range on which it did harm is not used again.
    fn run(&self, (name, attack): Case) {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut range = idle.unwrap_or_default();
        let code = attack(&mut range);
        tests::earn(code, name);
        self.refused.lock().unwrap().push((name, code));
        self.idle.lock().unwrap().push(range);
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let list = arguments.list;
    let shared = Arc::new(Shared::default());
    let trial = |case: &Case| {
        let (shared, case) = (Arc::clone(&shared), *case);
        Trial::test(case.0, move || {
            shared.run(case);
            Ok(())
        })
    };
    let cases = || CASES.iter().copied().flatten();
    let conclusion = libtest_mimic::run(&arguments, cases().map(trial).collect());
    if list {
        return ExitCode::SUCCESS;
    }
    // What was attacked still deploys.
    for range in shared.idle.lock().unwrap().iter_mut() {
        range.live_swap();
    }
    let refused = shared.refused.lock().unwrap();
    for (name, _) in cases() {
        if let Some((_, code)) = refused.iter().find(|(refused, _)| refused == name) {
            println!("{name}: {code}");
        }
    }
    let attacks = conclusion.num_passed + conclusion.num_failed;
    println!(
        "{attacks} attacks, {} refused, {} accepted",
        refused.len(),
        conclusion.num_failed
    );
    conclusion.exit_code()
}
