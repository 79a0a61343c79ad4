//! Attempts to break out: of a service, of a build, of an account, of what a key may change. Each is carried out for real,
//! and what it did is looked at from outside; none may succeed.
//!
//! `tests/run.sh escape` prints a line for each and the sum. `--with DIR` runs the same against the programs in DIR.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attackers;
mod build;
mod gate;
mod local;
mod pusher;
mod race;
mod service;
mod yard;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};

use self::gate::Gate;
use self::yard::Yard;

/// Who attacks.
#[derive(Clone, Copy)]
enum Attacker {
    Service,
    Build,
    LocalUser,
    Keyless,
    NarrowKey,
}

impl fmt::Display for Attacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Attacker::Service => "service",
            Attacker::Build => "build",
            Attacker::LocalUser => "local user",
            Attacker::Keyless => "keyless pusher",
            Attacker::NarrowKey => "narrow pusher",
        })
    }
}

/// What came of an attempt, as seen from outside, and what stopped it.
enum Verdict {
    Held(String),
    Succeeded(String),
    /// It did not succeed, and says nothing: it was not carried out as it should be.
    Untried(String),
}

impl Verdict {
    /// The verdict on something that must not be possible at all.
    fn of(tried: Result<String, String>) -> Self {
        match tried {
            Ok(got) => Verdict::Succeeded(short(&got)),
            Err(why) => Verdict::Held(short(&why)),
        }
    }

    /// The verdict on an attempt that `why` did not stop, if `harm` was done.
    fn on(harm: bool, what: impl Into<String>, why: impl AsRef<str>) -> Self {
        match harm {
            true => Verdict::Succeeded(what.into()),
            false => Verdict::Held(short(why.as_ref())),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Held(by) => write!(f, "held ({by})"),
            Verdict::Succeeded(what) => write!(f, "SUCCEEDED: {what}"),
            Verdict::Untried(why) => write!(f, "NOT TRIED ENOUGH: {why}"),
        }
    }
}

/// The first line, and not all of a long one.
fn short(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty());
    line.unwrap_or_default().trim().chars().take(110).collect()
}

/// An attempt: by whom, by which means, at what.
struct Case {
    by: Attacker,
    means: &'static str,
    what: &'static str,
    attempt: Attempt,
}

/// On what it is carried out.
#[derive(Clone, Copy)]
enum Attempt {
    /// On one host, which all share.
    Host(fn(&mut Yard) -> Verdict),
    /// On a repository, which those share whose pushes are refused.
    Repository(fn(&Gate) -> Verdict),
}

impl Case {
    fn name(&self) -> String {
        format!("{:<14}  {:<20}  {}", self.by, self.means, self.what)
    }
}

#[derive(Default)]
struct Shared {
    yard: Mutex<Option<Yard>>,
    gate: Mutex<Option<Gate>>,
    verdicts: Mutex<Vec<(String, Verdict)>>,
}

impl Shared {
    fn run(&self, case: &Case) -> Result<(), Failed> {
        let verdict = match case.attempt {
            Attempt::Repository(attempt) => {
                let idle = self
                    .gate
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                let gate = idle.unwrap_or_else(Gate::new);
                let verdict = attempt(&gate);
                if !gate.has_changed() {
                    *self.gate.lock().unwrap() = Some(gate);
                }
                verdict
            }
            Attempt::Host(attempt) => {
                let mut yard = self.yard.lock().unwrap_or_else(PoisonError::into_inner);
                attempt(yard.get_or_insert_with(Yard::new))
            }
        };
        let result = match &verdict {
            Verdict::Held(_) => Ok(()),
            verdict => Err(verdict.to_string().into()),
        };
        self.verdicts.lock().unwrap().push((case.name(), verdict));
        result
    }
}

/// Attempts on the host and on repositories in turn, so that two threads seldom wait for the host.
fn cases() -> Vec<Case> {
    let mut host = [
        race::cases(),
        service::cases(),
        build::cases(),
        local::cases(),
    ]
    .into_iter()
    .flatten();
    let mut repositories = pusher::cases().into_iter();
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(host.by_ref().take(3));
        all.extend(repositories.next());
        if all.len() == before {
            return all;
        }
    }
}

fn main() -> ExitCode {
    let mut words: Vec<_> = std::env::args_os().collect();
    if let Some(at) = words.iter().position(|word| word == "--with") {
        let Some(folder) = words.get(at + 1).map(PathBuf::from) else {
            eprintln!("--with: expected the folder of `agent` and `policy`");
            return ExitCode::from(2);
        };
        tests::program::prefer(&folder);
        words.drain(at..at + 2);
    }
    let mut arguments = Arguments::from_iter(words);
    arguments.test_threads.get_or_insert(2);
    if !rustix::process::geteuid().is_root() && !arguments.list {
        println!("skipped: only root can run attackers under accounts of their own");
        return ExitCode::SUCCESS;
    }
    let list = arguments.list;
    let shared = Arc::new(Shared::default());
    let trials = cases().into_iter().map(|case| {
        let shared = Arc::clone(&shared);
        Trial::test(case.name(), move || shared.run(&case))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if list {
        return ExitCode::SUCCESS;
    }
    drop(
        shared
            .yard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(),
    );
    let mut verdicts = shared.verdicts.lock().unwrap();
    // By attacker, as the cases are written down.
    verdicts.sort_by_key(|(name, _)| name.split_once("  ").map(|(by, _)| by.to_owned()));
    println!();
    for (name, verdict) in verdicts.iter() {
        println!("{name}: {verdict}");
    }
    let count = |is: fn(&Verdict) -> bool| verdicts.iter().filter(|(_, it)| is(it)).count();
    let succeeded = count(|verdict| matches!(verdict, Verdict::Succeeded(_)));
    let untried = count(|verdict| matches!(verdict, Verdict::Untried(_)));
    let broken = conclusion.num_passed + conclusion.num_failed - verdicts.len() as u64;
    if broken > 0 {
        println!("{broken} attempts could not be carried out");
    }
    if untried > 0 {
        println!("{untried} attempts were not tried enough to say anything");
    }
    println!("{} attempts, {succeeded} succeeded", verdicts.len());
    conclusion.exit_code()
}
