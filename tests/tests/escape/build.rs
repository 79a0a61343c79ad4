//! What a build can do beyond its checkout, and what it can have the agent do with what it leaves behind.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::attackers::changed_hands;
use crate::service::runs_as;
use crate::yard::{SECRET, SOON, Yard};
use crate::{Attacker, Attempt, Case, Verdict, short};

/// More than a build may hold in memory that belongs to no process.
const MUCH: u64 = 512 << 20;

/// More folders in each other than a process may open files or hold frames on a thread's stack.
const DEEP: u64 = 30_000;

/// A size that a file only has in name.
const HOLLOW: u64 = 512 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let case = |means, what, attempt| Case {
        by: Attacker::Build,
        means,
        what,
        attempt: Attempt::Host(attempt),
    };
    vec![
        case(
            "symlink",
            "an output that leads to root's secret",
            symlink_output,
        ),
        case(
            "symlink",
            "a kept folder that leads to a folder of root's",
            symlink_kept,
        ),
        case(
            "hard link",
            "an output has a second name that a later build writes to",
            hard_link,
        ),
        case(
            "hard link",
            "a second name for a tool of the host",
            |yard| reported(yard, "hard-link"),
        ),
        case(
            "rename race",
            "an output becomes a link while root copies it",
            race,
        ),
        case(
            "depth",
            "leaves folders that are too deep to delete",
            nested,
        ),
        case("FIFO", "a pipe for an output hangs the agent", fifo),
        case("device", "a device for an output", |yard| {
            reported(yard, "device")
        }),
        case(
            "sparse file",
            "holes that take space when they are copied",
            sparse,
        ),
        case("memory", "fills /dev", |yard| fills(yard, "/dev/filling")),
        case("memory", "fills /dev/shm", |yard| {
            fills(yard, "/dev/shm/filling")
        }),
        case("memory", "fills /tmp", |yard| fills(yard, "/tmp/filling")),
        case("setuid", "an output that runs as its owner", setuid_output),
        case("setuid", "runs a program that belongs to root", |yard| {
            runs_as(&line(yard, "setuid"))
        }),
        case(
            "/proc/PID/root",
            "reads root's secret by way of process 1",
            |yard| reported(yard, "proc-root"),
        ),
        case("ptrace", "reads the agent's memory", |yard| {
            reported(yard, "memory")
        }),
        case("signal", "stops the agent", |yard| reported(yard, "signal")),
        case("signal", "leaves a process behind", left_behind),
        case("lock", "holds the agent's lock", |yard| {
            reported(yard, "lock")
        }),
        case("socket", "asks the agent", |yard| {
            reported(yard, "agent-socket")
        }),
        case("socket", "gives the proxy orders", |yard| {
            reported(yard, "proxy-socket")
        }),
        case("port", "calls a service on loopback", |yard| {
            reported(yard, "port")
        }),
        case(
            "inherited descriptor",
            "has files of the agent open",
            descriptors,
        ),
        case("environment", "sees the agent's variables", environment),
        case("file", "reads root's secret", |yard| {
            reported(yard, "secret")
        }),
        case("file", "writes to the host's /usr", |yard| {
            reported(yard, "usr")
        }),
    ]
}

/// Reports what came of an action in a line of the file `behaviour`.
const REPORT: &str = r#"r() { name=$1; shift; got=$(intruder "$@" 2>&1) && how=got || how=not
echo "$name $how" $got >> behaviour; }
"#;

/// What one build could do, in a line each: made once for all.
fn report(yard: &mut Yard) -> String {
    if let Some(report) = &yard.report {
        return report.clone();
    }
    let (agent, root, secret) = (
        yard.agent(),
        yard.host.root().display().to_string(),
        yard.secret(),
    );
    let helper = yard.helper();
    let (_, variables) = yard.process("victim");
    let port = variables
        .lines()
        .find_map(|line| line.strip_prefix("PORT="));
    let port = port.unwrap();
    let script = format!(
        "{REPORT}: > spoils\n\
         r hard-link link /usr/bin/env twin\n\
         r device device node\n\
         r setuid run {helper} account\n\
         r proc-root read /proc/1/root{secret}\n\
         r memory memory {agent}\n\
         r signal signal {agent}\n\
         r lock lock {root}/var/lib/writ/agent/agent.lock 0\n\
         r agent-socket connect {root}/run/writ/agent.sock\n\
         r proxy-socket connect {root}/run/writ/proxy.sock\n\
         r port call 127.0.0.1:{port}\n\
         r descriptors descriptors\n\
         r environment environment\n\
         r secret read {secret}\n\
         r usr write /usr/planted text\n"
    );
    let live = yard.deploy(&script, SOON).unwrap();
    let report = fs::read_to_string(yard.app(&live).join("behaviour")).unwrap();
    yard.report = Some(report.clone());
    report
}

/// What the build got, or why not.
fn line(yard: &mut Yard, name: &str) -> Result<String, String> {
    let report = report(yard);
    let line = report
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let (how, said) = line.unwrap().split_once(' ').unwrap_or_default();
    match how {
        "got" => Ok(said.to_owned()),
        _ => Err(said.to_owned()),
    }
}

fn reported(yard: &mut Yard, name: &str) -> Verdict {
    Verdict::of(line(yard, name))
}

fn descriptors(yard: &mut Yard) -> Verdict {
    let said = line(yard, "descriptors").unwrap();
    let root = yard.host.root().display().to_string();
    Verdict::on(said.contains(&root), said, "none but its streams")
}

fn environment(yard: &mut Yard) -> Verdict {
    let said = line(yard, "environment").unwrap();
    Verdict::on(
        said.contains(SECRET),
        "a variable of the agent",
        "not among them",
    )
}

/// The verdict on a build that brought no release: with a code it was refused, else it was only late.
fn refused(why: &str) -> Verdict {
    let code = why.split_once(": ").map_or("", |(code, _)| code);
    let is_code = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    match !code.is_empty() && code.bytes().all(is_code) {
        true => Verdict::Held(short(why)),
        false => Verdict::Untried(short(why)),
    }
}

/// Builds by `script`, and returns the release's output `spoils`; or why there is none.
fn spoils(yard: &mut Yard, script: &str) -> Result<PathBuf, String> {
    let live = yard.deploy(script, SOON)?;
    Ok(yard.app(&live).join("spoils"))
}

fn symlink_output(yard: &mut Yard) -> Verdict {
    let secret = yard.secret();
    let taken = match spoils(yard, &format!("ln -s {secret} spoils\n")) {
        Ok(taken) => taken,
        Err(why) => return refused(&why),
    };
    let copied = taken.symlink_metadata().unwrap().is_file();
    let read = yard.mallory(&["read", "spoils"]);
    let harm = copied || read.as_ref().is_ok_and(|text| text.contains(SECRET));
    Verdict::on(
        harm,
        "the secret is part of the release",
        read.unwrap_or_else(|why| why),
    )
}

fn symlink_kept(yard: &mut Yard) -> Verdict {
    let canary = yard.canary_folder();
    let script = format!(": > spoils; rm -rf kept; ln -s {} kept\n", canary.display());
    let planted = yard.deploy(&script, SOON);
    let _ = yard.deploy(": > spoils; mkdir -p kept; : > kept/new\n", SOON);
    let harm = changed_hands(&canary) || canary.join("new").exists();
    let why = planted.map_or_else(|why| why, |_| "links are not kept".to_owned());
    Verdict::on(harm, "a folder of root's changed", why)
}

fn hard_link(yard: &mut Yard) -> Verdict {
    let first = ": > spoils; mkdir -p kept; rm -f kept/twin; ln spoils kept/twin\n";
    let taken = match spoils(yard, first) {
        Ok(taken) => taken,
        Err(why) => return refused(&why),
    };
    let _ = yard.deploy("echo altered > kept/twin; : > spoils\n", SOON);
    let harm = fs::read_to_string(taken).is_ok_and(|text| !text.is_empty());
    Verdict::on(harm, "a release was altered", "the output is a copy")
}

fn race(yard: &mut Yard) -> Verdict {
    let secret = PathBuf::from(yard.secret());
    let folder = secret.parent().unwrap().display();
    let script = format!(
        "mkdir spoils; : > spoils/secret; : > behaviour\n\
         setsid intruder flip {folder} spoils > behaviour 2>&1 &\n\
         until grep -q tries behaviour; do sleep 0.01; done\n"
    );
    for _ in 0..4 {
        match spoils(yard, &script) {
            Ok(taken) => {
                let said = fs::read_to_string(taken.join("secret")).unwrap_or_default();
                if said.contains(SECRET) {
                    return Verdict::Succeeded("the secret is part of the release".to_owned());
                }
            }
            // It was a link when the build ended.
            Err(why) if why.starts_with("OUTPUT_MISSING") => {}
            Err(why) => return Verdict::Untried(short(&why)),
        }
    }
    let what = "it lives on";
    let why = "1000 tries and more in each of 4 builds, and it ended with each";
    Verdict::on(lives("intruder\0flip\0"), what, why)
}

fn fifo(yard: &mut Yard) -> Verdict {
    match yard.deploy("mkfifo spoils\n", SOON) {
        Ok(_) => Verdict::Succeeded("the pipe is part of the release".to_owned()),
        Err(why) if why.contains(&format!("{SOON:?}")) => Verdict::Succeeded(why),
        Err(why) => refused(&why),
    }
}

fn sparse(yard: &mut Yard) -> Verdict {
    match spoils(yard, &format!("intruder sparse spoils {HOLLOW}\n")) {
        Ok(taken) => {
            let taken = taken.metadata().unwrap().blocks() * 512;
            let what = format!("{} MiB of zeros were written", taken >> 20);
            Verdict::on(taken > HOLLOW / 8, what, "holes stayed holes")
        }
        Err(why) => refused(&why),
    }
}

fn fills(yard: &mut Yard, path: &str) -> Verdict {
    let script = format!("{REPORT}: > spoils\nr fill fill {path} {MUCH}\nrm -f {path}\n");
    let live = match yard.deploy(&script, SOON) {
        Ok(live) => live,
        Err(why) => return refused(&why),
    };
    let said = fs::read_to_string(yard.app(&live).join("behaviour")).unwrap();
    let said = said.lines().find_map(|line| line.strip_prefix("fill "));
    match said.and_then(|said| said.split_once(' ')) {
        Some(("got", what)) => Verdict::on(what.ends_with("of memory"), what, what),
        Some((_, why)) => Verdict::Held(short(why)),
        None => Verdict::Untried("it said nothing".to_owned()),
    }
}

fn setuid_output(yard: &mut Yard) -> Verdict {
    match spoils(yard, "cp /usr/bin/env spoils; chmod 6755 spoils\n") {
        Ok(taken) => {
            let mode = taken.metadata().unwrap().mode() & 0o7777;
            Verdict::on(
                mode & 0o6000 != 0,
                format!("mode {mode:o}"),
                format!("mode {mode:o}"),
            )
        }
        Err(why) => refused(&why),
    }
}

fn left_behind(yard: &mut Yard) -> Verdict {
    let seconds = "4321";
    let script = format!(": > spoils; (setsid sleep {seconds} > /dev/null 2>&1 &)\n");
    if let Err(why) = yard.deploy(&script, SOON) {
        return refused(&why);
    }
    let left = lives(&format!("sleep\0{seconds}\0"));
    Verdict::on(left, "it lives on", "it ended with the build")
}

/// Says whether a process lives whose command line begins so.
fn lives(line: &str) -> bool {
    let begins = |entry: fs::DirEntry| {
        let all = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        all.starts_with(line.as_bytes())
    };
    fs::read_dir("/proc").unwrap().flatten().any(begins)
}

/// Leaves folders so deep in each other that none of their names can be told to the kernel in one piece.
fn nested(yard: &mut Yard) -> Verdict {
    let agent = yard.agent();
    let outcome = yard.deploy(&format!(": > spoils; intruder nest nested {DEEP}\n"), SOON);
    if !yard.agent_answers() || yard.agent() != agent {
        yard.host.kill();
        // What is left would end it again.
        remove(&yard.of("mallory", "releases"), ".tmp-");
        yard.start();
        assert!(yard.agent_answers(), "{}", yard.host.log());
        return Verdict::Succeeded("the agent died".to_owned());
    }
    let after = yard.deploy(": > spoils\n", SOON);
    let why = outcome.map_or_else(|why| why, |_| "it was built".to_owned());
    let what = format!("no build after it: {:?}", after.as_ref().err());
    Verdict::on(after.is_err(), what, why)
}

/// Deletes what begins so in a folder, however deep.
fn remove(folder: &str, begins: &str) {
    let script = format!("rm -rf {folder}/{begins}*");
    let done = std::process::Command::new("sh")
        .args(["-c", &script])
        .status();
    assert!(done.unwrap().success());
}
