//! What a service can do beyond its own folders: to root, to the agent, to other services.

use std::time::Duration;
use std::{fs, thread};

use crate::attackers::{STRANGER, ask, is_held, wake};
use crate::yard::{SECRET, SOON, Yard};
use crate::{Attacker, Attempt, Case, Verdict, short};

pub(crate) fn cases() -> Vec<Case> {
    let case = |means, what, attempt| Case {
        by: Attacker::Service,
        means,
        what,
        attempt: Attempt::Host(attempt),
    };
    vec![
        case(
            "FIFO",
            "a pipe in place of the stamps of its build hangs builds",
            fifo,
        ),
        case(
            "hard link",
            "a second name for another service's secret",
            hard_link,
        ),
        case(
            "hard link",
            "a second name for root's secret",
            hard_link_of_root,
        ),
        case("device", "the null device in its data folder", device),
        case("setuid", "runs a program that belongs to root", setuid),
        case(
            "hidden command",
            "has the agent's program run as root",
            hidden,
        ),
        case(
            "setuid",
            "leaves a program that runs as itself, for others",
            setuid_left,
        ),
        case(
            "/proc/PID/root",
            "reads another service's secret",
            proc_root,
        ),
        case(
            "/proc/PID/root",
            "reads root's secret by way of the agent",
            proc_root_of_agent,
        ),
        case("ptrace", "reads another service's memory", |yard| {
            memory(yard, |yard| yard.process("victim").0)
        }),
        case("ptrace", "reads its supervisor's memory", |yard| {
            memory(yard, |yard| yard.shim("mallory"))
        }),
        case("ptrace", "takes a descriptor of the agent", descriptor),
        case("signal", "stops another service", |yard| {
            signal(yard, |yard| yard.process("victim").0)
        }),
        case("signal", "stops another service's supervisor", |yard| {
            signal(yard, |yard| yard.shim("victim"))
        }),
        case("signal", "stops the agent", |yard| {
            signal(yard, Yard::agent)
        }),
        case("signal", "stops the proxy", |yard| {
            signal(yard, Yard::proxy)
        }),
        case(
            "lock",
            "holds the agent's lock while the agent starts",
            agent_lock,
        ),
        case(
            "lock",
            "holds the lock of another service's slot",
            slot_lock,
        ),
        case("socket", "asks the agent", |yard| {
            connect(yard, "run/writ/agent.sock")
        }),
        case("socket", "gives the proxy orders", |yard| {
            connect(yard, "run/writ/proxy.sock")
        }),
        case("port", "listens below 1024", |yard| {
            Verdict::of(yard.mallory(&["listen", "81"]))
        }),
        case("port", "listens where another service does", port),
        case(
            "inherited descriptor",
            "has files of the agent open",
            descriptors,
        ),
        case("environment", "sees the agent's variables", environment),
        case(
            "environment",
            "reads another service's variables",
            environment_of_victim,
        ),
        case(
            "environment",
            "reads its supervisor's variables",
            environment_of_shim,
        ),
        case("file", "reads another service's data", |yard| {
            reads(yard, &yard.of("victim", "data/secret"))
        }),
        case(
            "file",
            "reads another service's credentials",
            credentials_of_victim,
        ),
        case("file", "reads the host's credentials", |yard| {
            reads(yard, &yard.at("etc/writ/credentials/victim/token"))
        }),
        case("file", "reads another service's record", |yard| {
            Verdict::of(yard.mallory(&["read", &yard.of("victim", "record.json")]))
        }),
        case("file", "reads what its builds keep at home", home_of_builds),
        case("file", "reads the order of its supervisor", |yard| {
            Verdict::of(yard.mallory(&["read", &yard.of("victim", "slots/blue/order.json")]))
        }),
    ]
}

/// The verdict on an attempt to learn the secret.
pub(crate) fn learnt(tried: Result<String, String>) -> Verdict {
    match tried {
        Ok(text) if text.contains(SECRET) => Verdict::Succeeded("the secret was read".to_owned()),
        Ok(_) => Verdict::Held("nothing of it was there".to_owned()),
        Err(why) => Verdict::Held(short(&why)),
    }
}

fn reads(yard: &Yard, path: &str) -> Verdict {
    learnt(yard.mallory(&["read", path]))
}

fn fifo(yard: &mut Yard) -> Verdict {
    let path = yard.of("mallory", "cache/stamps.json");
    let _ = yard.mallory(&["remove", &path]);
    if let Err(why) = yard.mallory(&["fifo", &path]) {
        return Verdict::Held(short(&why));
    }
    let commit = yard.release(": > spoils\n");
    let hung = yard.outcome(&commit, Duration::from_secs(15));
    // Root reads what somebody writes: nothing.
    drop(fs::File::options().read(true).write(true).open(&path));
    let _ = yard.outcome(&commit, SOON);
    let _ = yard.mallory(&["remove", &path]);
    match hung {
        Ok(_) => Verdict::Held("the build went on".to_owned()),
        Err(why) => Verdict::Succeeded(format!("the build hung: {why}")),
    }
}

fn hard_link(yard: &mut Yard) -> Verdict {
    let (from, to) = (
        yard.of("victim", "data/secret"),
        yard.of("mallory", "data/twin"),
    );
    let tried = yard.mallory(&["link", &from, &to]);
    learnt(tried.and_then(|_| yard.mallory(&["read", &to])))
}

fn hard_link_of_root(yard: &mut Yard) -> Verdict {
    let canary = yard.canary().display().to_string();
    Verdict::of(yard.mallory(&["link", &canary, &yard.of("mallory", "data/roots")]))
}

fn device(yard: &mut Yard) -> Verdict {
    Verdict::of(yard.mallory(&["device", &yard.of("mallory", "data/null")]))
}

fn setuid(yard: &mut Yard) -> Verdict {
    runs_as(&yard.mallory(&["run", &yard.helper(), "account"]))
}

/// The verdict on a program of root's that says as which account and group it was run.
pub(crate) fn runs_as(said: &Result<String, String>) -> Verdict {
    match said.as_ref().map(|said| said.trim()) {
        Ok(said) => {
            let harm = said.split(' ').any(|number| number == "0");
            Verdict::on(
                harm,
                format!("it ran as {said}"),
                format!("it ran as {said}"),
            )
        }
        Err(why) => Verdict::Untried(short(why)),
    }
}

/// What starts the commands of builds, below an agent that is root.
fn hidden(yard: &mut Yard) -> Verdict {
    let (agent, intruder) = (yard.program(), yard.intruder());
    let mut words = vec!["run", &agent, "step", "--file-size", "1000000"];
    words.extend(["--uid", "0", "--gid", "0", "--", &intruder, "account"]);
    match yard.mallory(&words) {
        Err(why) => Verdict::Held(short(&why)),
        said => runs_as(&said),
    }
}

fn home_of_builds(yard: &mut Yard) -> Verdict {
    let script = format!(": > spoils; echo {SECRET} > $HOME/secret\n");
    if let Err(why) = yard.deploy(&script, SOON) {
        return Verdict::Untried(short(&why));
    }
    reads(yard, &yard.of("mallory", "cache/home/secret"))
}

fn setuid_left(yard: &mut Yard) -> Verdict {
    let program = yard.intruder();
    let left = yard.of("mallory", "data/left");
    if let Err(why) = yard.mallory(&["setuid", &program, &left]) {
        return Verdict::Held(short(&why));
    }
    let own = yard.of("mallory", "data/own");
    let _ = yard.mallory(&["write", &own, SECRET]);
    learnt(yard.stranger(STRANGER, &["run", &left, "read", &own]))
}

fn proc_root(yard: &mut Yard) -> Verdict {
    let (pid, _) = yard.process("victim");
    reads(
        yard,
        &format!("/proc/{pid}/root{}", yard.of("victim", "data/secret")),
    )
}

fn proc_root_of_agent(yard: &mut Yard) -> Verdict {
    reads(
        yard,
        &format!("/proc/{}/root{}", yard.agent(), yard.secret()),
    )
}

fn memory(yard: &Yard, of: fn(&Yard) -> u32) -> Verdict {
    Verdict::of(yard.mallory(&["memory", &of(yard).to_string()]))
}

fn descriptor(yard: &mut Yard) -> Verdict {
    Verdict::of(yard.mallory(&["descriptor", &yard.agent().to_string()]))
}

fn signal(yard: &Yard, to: fn(&Yard) -> u32) -> Verdict {
    let pid = to(yard);
    let verdict = Verdict::of(yard.mallory(&["signal", &pid.to_string()]));
    wake(pid);
    verdict
}

fn agent_lock(yard: &mut Yard) -> Verdict {
    let path = yard.at("var/lib/writ/agent/agent.lock");
    yard.host.kill();
    let port = yard.port();
    let words = [path.clone(), "14".to_owned()];
    let holding = thread::spawn(move || ask(port, &["lock", &words[0], &words[1]]));
    let held = is_held(&path, || holding.is_finished());
    yard.start();
    let answers = yard.agent_answers();
    let said = holding.join().unwrap().unwrap_or_else(|why| why);
    if !answers {
        yard.host.kill();
        yard.start();
        assert!(yard.agent_answers(), "{}", yard.host.log());
    }
    Verdict::on(held && !answers, "no agent started within 10 s", said)
}

fn slot_lock(yard: &mut Yard) -> Verdict {
    Verdict::of(yard.mallory(&["lock", &yard.of("victim", "slots/blue/lock"), "0"]))
}

fn connect(yard: &Yard, socket: &str) -> Verdict {
    Verdict::of(yard.mallory(&["connect", &yard.at(socket)]))
}

fn port(yard: &mut Yard) -> Verdict {
    let (_, variables) = yard.process("victim");
    let port = variables
        .lines()
        .find_map(|line| line.strip_prefix("PORT="));
    Verdict::of(yard.mallory(&["listen", port.unwrap()]))
}

fn descriptors(yard: &mut Yard) -> Verdict {
    let said = yard.mallory(&["descriptors"]).unwrap();
    let is_foreign = |line: &&str| {
        let target = line.split(' ').nth(1).unwrap_or_default();
        let root = yard.host.root().display().to_string();
        target.starts_with(&root) || target.starts_with("anon_inode")
    };
    let foreign = said.lines().find(is_foreign);
    Verdict::on(
        foreign.is_some(),
        foreign.unwrap_or_default(),
        "none but its streams and its own",
    )
}

fn environment(yard: &mut Yard) -> Verdict {
    let said = yard.mallory(&["environment"]).unwrap();
    Verdict::on(
        said.contains(SECRET),
        "a variable of the agent",
        "not among them",
    )
}

fn environment_of_victim(yard: &mut Yard) -> Verdict {
    let (pid, _) = yard.process("victim");
    Verdict::of(yard.mallory(&["read", &format!("/proc/{pid}/environ")]))
}

fn environment_of_shim(yard: &mut Yard) -> Verdict {
    let pid = yard.shim("mallory");
    Verdict::of(yard.mallory(&["read", &format!("/proc/{pid}/environ")]))
}

fn credentials_of_victim(yard: &mut Yard) -> Verdict {
    let (_, variables) = yard.process("victim");
    let name = "CREDENTIALS_DIRECTORY=";
    let folder = variables.lines().find_map(|line| line.strip_prefix(name));
    reads(yard, &format!("{}/token", folder.unwrap()))
}
