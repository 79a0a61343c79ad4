//! What a service can put in the way of root while root works on its folders. A race that was lost says something only if
//! it was run often.

use std::path::Path;
use std::{fs, slice, thread};

use tests::host::hold_code;
use tests::wait;

use crate::attackers::{ask, changed_hands};
use crate::yard::{SOON, Yard};
use crate::{Attacker, Attempt, Case, Verdict};

pub(crate) fn cases() -> Vec<Case> {
    let case = |means, what, attempt| Case {
        by: Attacker::Service,
        means,
        what,
        attempt: Attempt::Host(attempt),
    };
    vec![
        case(
            "rename race",
            "the folder of its credentials becomes a link while root fills it",
            credentials,
        ),
        case(
            "symlink",
            "the stamps of its build lead to a file of root's",
            stamps,
        ),
        case(
            "rename race",
            "a folder of the checkout becomes a link while root gives it away",
            checkout,
        ),
        case(
            "rename race",
            "its data folder becomes a link while root starts it",
            data_folder,
        ),
    ]
}

/// How often a race must have been tried before it counts as held.
const ENOUGH: u64 = 1000;

/// The verdict on a race that changed nothing of root's.
fn lost(said: Result<String, String>) -> Verdict {
    match said {
        Ok(said) => match said.split_once(" tries").map(|(tries, _)| tries.parse()) {
            Some(Ok(ENOUGH..)) => Verdict::Held(said),
            _ => Verdict::Untried(said),
        },
        Err(why) => Verdict::Untried(format!("its slot was retired meanwhile: {why}")),
    }
}

/// Has the attacker's service race during `work`: every word but the file whose appearance ends it.
fn racing<T>(
    yard: &mut Yard,
    how: &str,
    target: &Path,
    paths: &[String],
    work: impl FnOnce(&mut Yard) -> T,
) -> Result<String, String> {
    let (port, stop) = (yard.port(), yard.stop_file());
    let mut words = vec![how.to_owned(), target.display().to_string()];
    words.push(stop.display().to_string());
    words.extend_from_slice(paths);
    let racing = thread::spawn(move || {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        ask(port, &words)
    });
    work(yard);
    fs::write(stop, "").unwrap();
    racing.join().unwrap()
}

/// Deploys the attacker's service.
fn deploy(yard: &mut Yard) {
    let _ = yard.deploy(": > spoils\n", SOON);
}

/// The folders of the credentials of both slots, as the service itself knows them.
fn slots_credentials(variables: &str) -> [String; 2] {
    let name = "CREDENTIALS_DIRECTORY=";
    let folder = variables.lines().find_map(|line| line.strip_prefix(name));
    let folder = folder.unwrap_or_default();
    let (above, slot) = folder.rsplit_once('/').unwrap_or_default();
    ["blue", "green"].map(|other| {
        let slot = slot.replace("blue", other).replace("green", other);
        format!("{above}/{slot}")
    })
}

fn credentials(yard: &mut Yard) -> Verdict {
    let canary = yard.canary_folder();
    let mut said = Err("nothing".to_owned());
    for _ in 0..3 {
        let (_, variables) = yard.process("mallory");
        let [blue, green] = slots_credentials(&variables);
        let own = variables.contains(&format!("CREDENTIALS_DIRECTORY={blue}"));
        let other = if own { green } else { blue };
        said = racing(yard, "swap", &canary, &[other], deploy);
        if changed_hands(&canary) {
            return Verdict::Succeeded(format!("a folder of root's changed hands, {said:?}"));
        }
    }
    lost(said)
}

fn stamps(yard: &mut Yard) -> Verdict {
    let canary = yard.canary();
    let path = yard.of("mallory", "cache/stamps.json");
    let said = racing(yard, "plant", &canary, slice::from_ref(&path), deploy);
    let _ = yard.mallory(&["remove", &path]);
    if fs::read_to_string(&canary).unwrap() != "root's" {
        return Verdict::Succeeded("a file of root's was overwritten".to_owned());
    }
    lost(said)
}

fn checkout(yard: &mut Yard) -> Verdict {
    let canary = yard.canary_folder();
    // It fails, so that the same release can be built again: its id and the number of its build are known.
    let refused = yard.deploy("exit 1\n", SOON).unwrap_err();
    assert!(refused.starts_with("BUILD_FAILED"), "{refused}");
    let mut said = Err("nothing".to_owned());
    for _ in 0..4 {
        let status = yard.host.service("mallory");
        let wanted = status["desired"].as_str().unwrap()[..12].to_owned();
        let last = yard.deployments();
        let folder = |number| format!("releases/.tmp-{wanted}-{number}/source/big");
        let folders: Vec<_> = (last..last + 3)
            .map(|number| yard.of("mallory", &folder(number)))
            .collect();
        said = racing(yard, "swap", &canary, &folders, |yard| {
            yard.host.agent(&["retry", "mallory"]);
            wait::until("it was built again, and failed", SOON, || {
                let now = yard.host.service("mallory");
                let failed = hold_code(&now).is_some() && now["deployment"].is_null();
                (failed && yard.deployments() > last).then_some(())
            });
        });
        if changed_hands(&canary) {
            return Verdict::Succeeded(format!("files of root's changed hands, {said:?}"));
        }
    }
    lost(said)
}

fn data_folder(yard: &mut Yard) -> Verdict {
    let canary = yard.canary_folder();
    let data = yard.of("mallory", "data");
    let said = racing(yard, "swap", &canary, &[data], deploy);
    if changed_hands(&canary) {
        return Verdict::Succeeded("a folder of root's changed hands".to_owned());
    }
    lost(said)
}
