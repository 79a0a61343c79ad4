//! Upgrades and downgrades in mid-deployment, with agent, shims and proxy of different versions side by side: from the
//! version before, and up and down between this one and one that does not exist yet (the feature `future`).
//!
//! Prints a line for each pair and the sum: `tests/run.sh upgrade`, which builds the programs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod journey;
mod site;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use libtest_mimic::{Arguments, Trial};

use journey::{Journey, Mix, Mode, Version};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let mixes = mixes();
    let (pairs, forgotten) = (mixes.len(), std::sync::Arc::new(Mutex::new(Vec::new())));
    let trials = mixes.into_iter().map(|mix| {
        let (name, forgotten) = (mix.to_string(), forgotten.clone());
        Trial::test(name, move || {
            let lost = Journey::new(mix).travel();
            forgotten.lock().unwrap().extend(lost.clone());
            if lost.is_empty() {
                return Ok(());
            }
            Err(lost.join("\n").into())
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let files = site::fixtures().len();
    let pairs = pairs - usize::try_from(conclusion.num_filtered_out).unwrap();
    let forgotten = forgotten.lock().unwrap().len();
    println!("{files} files, {pairs} pairs, {forgotten} forgotten");
    conclusion.exit_code()
}

/// Every mix of this version and the future one, and the version before, if it was built.
fn mixes() -> Vec<Mix> {
    use Version::{Future, Now, Previous};
    let mut mixes = Vec::new();
    for mode in [Mode::Fields, Mode::Formats] {
        for agent in [Now, Future] {
            for shim in [Now, Future] {
                for proxy in [Now, Future] {
                    mixes.push(Mix {
                        agent,
                        shim,
                        proxy,
                        mode,
                    });
                }
            }
        }
    }
    if Previous.program().is_file() {
        let mix = Mix {
            agent: Previous,
            shim: Previous,
            proxy: Previous,
            mode: Mode::Fields,
        };
        mixes.push(mix);
    } else {
        println!("skipped: the version before, which was not built");
    }
    mixes
}

impl Version {
    /// Its agent.
    fn program(self) -> PathBuf {
        let name = match self {
            Self::Previous => "agent-previous",
            Self::Now => "agent",
            Self::Future => "agent-future",
        };
        site::beside(name)
    }
}
