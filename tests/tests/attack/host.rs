//! Attacks on the host itself: its clock, its memory of what it accepted, and what lies in its mirror.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use state::Code;
use tests::attack::forge::Forge;
use tests::attack::range::Range;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("clock behind", clock_behind),
    ("clock ahead", clock_ahead),
    ("state directory deleted", state_deleted),
    ("state directory world-writable", state_open_to_all),
    ("floor damaged", floor_damaged),
    ("floor made writable by others", floor_open_to_all),
    ("refs/replace planted in the mirror", planted_replacement),
    ("grafts planted in the mirror", planted_graft),
    ("alternates planted in the mirror", planted_alternates),
    ("a shallow marker planted in the mirror", planted_shallow),
];

fn clock_behind(range: &mut Range) -> Code {
    let code = Code::ClockBehind;
    let told = |range: &mut Range| {
        range.host.start_with_clock("-1d");
        range.wait_for_refusal(code);
    };
    range.hardship_refused(code, told, |_| {})
}

fn clock_ahead(range: &mut Range) -> Code {
    let code = Code::Stale;
    let told = |range: &mut Range| {
        range.host.start_with_clock("+3d");
        range.wait_for_refusal(code);
    };
    range.hardship_refused(code, told, |_| {})
}

/// Asks the agent for a pass, which must be refused before anything is done.
#[track_caller]
fn no_pass(range: &Range, code: Code) {
    for command in ["once", "run"] {
        range.host.agent(&[command]).refused(code.as_str());
    }
}

fn state_deleted(range: &mut Range) -> Code {
    let code = Code::StateMissing;
    let (state, away) = (range.host.state(), range.fleet.path("away"));
    let back = (away.clone(), state.clone());
    range.hardship_refused(
        code,
        |range| {
            fs::rename(state, away).unwrap();
            no_pass(range, code);
        },
        |_| {
            let _ = fs::remove_dir_all(&back.1);
            fs::rename(back.0, back.1).unwrap();
        },
    )
}

/// Gives `path` the permissions of everybody; the agent must not believe what is in it.
fn open_to_all(range: &mut Range, path: PathBuf) -> Code {
    let code = Code::StateUnsafe;
    let before = fs::metadata(&path).unwrap().permissions();
    let again = path.clone();
    range.hardship_refused(
        code,
        |range| {
            fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
            no_pass(range, code);
        },
        |_| fs::set_permissions(again, before).unwrap(),
    )
}

fn state_open_to_all(range: &mut Range) -> Code {
    let state = range.host.state();
    open_to_all(range, state)
}

fn floor_open_to_all(range: &mut Range) -> Code {
    let floor = range.host.state().join("floor.json");
    open_to_all(range, floor)
}

fn floor_damaged(range: &mut Range) -> Code {
    let code = Code::StateUnsafe;
    let path = range.host.state().join("floor.json");
    let floor = fs::read(&path).unwrap();
    let again = path.clone();
    let half = floor[..floor.len() / 2].to_vec();
    range.hardship_refused(
        code,
        |range| {
            fs::write(path, half).unwrap();
            no_pass(range, code);
        },
        |_| fs::write(again, floor).unwrap(),
    )
}

/// A good commit that a stranger admitted, and the admission before it.
fn admitted_by_a_stranger(forge: &Forge) -> (String, String) {
    let before = forge.tip("admitted");
    forge.push_main(forge.evil_commit().signed(&forge.key("author")));
    let tip = forge.admit_edited(|draft| draft.key = forge.key("stranger"));
    (tip.to_string(), before.to_string())
}

fn planted_replacement(range: &mut Range) -> Code {
    let forge = range.forge();
    let (evil, honest) = admitted_by_a_stranger(&forge);
    // Whoever honours it takes the honest admission for the evil one's bytes, and finds them in order.
    let file = format!("refs/replace/{evil}");
    range.plant(&file, &format!("{honest}\n"));
    let code = served(range, &forge, Code::ManifestUnsigned);
    range.uprooted(&file);
    code
}

fn planted_graft(range: &mut Range) -> Code {
    let forge = range.forge();
    let honest = forge.tip("admitted");
    forge.push_main(forge.evil_commit().signed(&forge.key("author")));
    let main = forge.tip("main");
    let evil = forge.admit_edited(|draft| draft.parents = vec![main]);
    // Whoever honours it sees the admission follow the honest one.
    range.plant("info/grafts", &format!("{evil} {honest} {main}\n"));
    let code = served(range, &forge, Code::LogRollback);
    range.uprooted("info/grafts");
    code
}

fn planted_shallow(range: &mut Range) -> Code {
    let forge = range.forge();
    let (evil, honest) = admitted_by_a_stranger(&forge);
    // Whoever honours it takes the evil admission for the first of all.
    range.plant("shallow", &format!("{honest}\n{evil}\n"));
    let code = served(range, &forge, Code::ManifestUnsigned);
    range.uprooted("shallow");
    code
}

fn planted_alternates(range: &mut Range) -> Code {
    let before = range.witness();
    let forge = range.forge();
    let objects = forge.path.join("objects");
    range.plant(
        "objects/info/alternates",
        &format!("{}\n", objects.display()),
    );
    range.uprooted("objects/info/alternates");
    range.unharmed(&before);
    assert_eq!(&range.floor(), before.floor(), "the floor has moved");
    range.honest_pass();
    Code::RepositoryUnsupported
}

/// Serves what `forge` holds, which the agent must refuse with `code`.
#[track_caller]
fn served(range: &mut Range, forge: &Forge, code: Code) -> Code {
    let before = range.witness();
    range.serve(&forge.path);
    range.wait_for_refusal(code);
    range.unharmed(&before);
    assert_eq!(&range.floor(), before.floor(), "the floor has moved");
    range.serve_honestly();
    range.honest_pass();
    code
}
