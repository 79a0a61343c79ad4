//! What any other account of the machine can do to the agent, the proxy, services and policy.

use std::time::{Duration, Instant};

use tests::{http, wait};

use crate::attackers::{LOOKERS, STRANGER, is_held, wake};
use crate::service::learnt;
use crate::yard::Yard;
use crate::{Attacker, Attempt, Case, Verdict, short};

pub(crate) fn cases() -> Vec<Case> {
    let case = |means, what, attempt| Case {
        by: Attacker::LocalUser,
        means,
        what,
        attempt: Attempt::Host(attempt),
    };
    vec![
        case(
            "lock",
            "holds the agent's lock while the agent starts",
            agent_lock,
        ),
        case(
            "lock",
            "holds the proxy's lock while the proxy is away",
            proxy_lock,
        ),
        case(
            "lock",
            "holds the repository's lock while somebody pushes",
            policy_lock,
        ),
        case(
            "symlink",
            "a link in place of the repository's lock",
            |yard| {
                let path = yard
                    .fleet
                    .path("state.git/writ/lock.new")
                    .display()
                    .to_string();
                Verdict::of(yard.stranger(STRANGER, &["symlink", &yard.secret(), &path]))
            },
        ),
        case("symlink", "a link among the sockets", |yard| {
            let path = yard.at("run/writ/planted");
            Verdict::of(yard.stranger(STRANGER, &["symlink", &yard.secret(), &path]))
        }),
        case("hard link", "a second name for root's secret", |yard| {
            let to = format!("/tmp/writ-escape-{}", std::process::id());
            Verdict::of(yard.stranger(STRANGER, &["link", &yard.secret(), &to]))
        }),
        case("FIFO", "a pipe in place of the agent's socket", |yard| {
            let path = yard.at("run/writ/agent.sock.new");
            Verdict::of(yard.stranger(STRANGER, &["fifo", &path]))
        }),
        case("socket", "asks the agent", |yard| {
            connect(yard, "run/writ/agent.sock")
        }),
        case("socket", "gives the proxy orders", |yard| {
            connect(yard, "run/writ/proxy.sock")
        }),
        case("socket", "who may look at the agent decides", decides),
        case(
            "socket",
            "who may look at the agent keeps operators waiting",
            crowd,
        ),
        case("signal", "stops the agent", |yard| {
            signal(yard, Yard::agent)
        }),
        case("signal", "stops the proxy", |yard| {
            signal(yard, Yard::proxy)
        }),
        case("signal", "stops a service", |yard| {
            signal(yard, |yard| yard.process("victim").0)
        }),
        case("ptrace", "reads the agent's memory", |yard| {
            memory(yard, Yard::agent)
        }),
        case("ptrace", "reads a service's memory", |yard| {
            memory(yard, |yard| yard.process("victim").0)
        }),
        case(
            "/proc/PID/root",
            "reads root's secret by way of the agent",
            |yard| {
                reads(
                    yard,
                    &format!("/proc/{}/root{}", yard.agent(), yard.secret()),
                )
            },
        ),
        case("environment", "reads the agent's variables", |yard| {
            reads(yard, &format!("/proc/{}/environ", yard.agent()))
        }),
        case("inherited descriptor", "takes one of the agent's", |yard| {
            Verdict::of(yard.stranger(STRANGER, &["descriptor", &yard.agent().to_string()]))
        }),
        case("port", "listens where a service does", port),
        case("file", "reads a service's data", |yard| {
            reads(yard, &yard.of("victim", "data/secret"))
        }),
        case("file", "reads what the host has accepted", |yard| {
            let path = yard.at("var/lib/writ/agent/floor.json");
            Verdict::of(yard.stranger(STRANGER, &["read", &path]))
        }),
    ]
}

fn connect(yard: &Yard, socket: &str) -> Verdict {
    Verdict::of(yard.stranger(STRANGER, &["connect", &yard.at(socket)]))
}

fn reads(yard: &Yard, path: &str) -> Verdict {
    learnt(yard.stranger(STRANGER, &["read", path]))
}

fn memory(yard: &Yard, of: fn(&Yard) -> u32) -> Verdict {
    Verdict::of(yard.stranger(STRANGER, &["memory", &of(yard).to_string()]))
}

fn signal(yard: &Yard, to: fn(&Yard) -> u32) -> Verdict {
    let pid = to(yard);
    let verdict = Verdict::of(yard.stranger(STRANGER, &["signal", &pid.to_string()]));
    wake(pid);
    verdict
}

fn port(yard: &mut Yard) -> Verdict {
    let (_, variables) = yard.process("victim");
    let port = variables
        .lines()
        .find_map(|line| line.strip_prefix("PORT="));
    Verdict::of(yard.stranger(STRANGER, &["listen", port.unwrap()]))
}

fn agent_lock(yard: &mut Yard) -> Verdict {
    let path = yard.at("var/lib/writ/agent/agent.lock");
    yard.host.kill();
    let holding = yard.stranger_goes_on(STRANGER, &["lock", &path, "60"]);
    yard.start();
    let answers = yard.agent_answers();
    let verdict = match &holding {
        Ok(_) => Verdict::on(
            !answers,
            "no agent started within 10 s",
            "it started all the same",
        ),
        Err(why) => Verdict::Held(short(why)),
    };
    drop(holding);
    if !answers {
        yard.host.kill();
        yard.start();
        assert!(yard.agent_answers(), "{}", yard.host.log());
    }
    verdict
}

fn proxy_lock(yard: &mut Yard) -> Verdict {
    let proxy = yard.proxy();
    let path = yard.at("run/writ/proxy.lock");
    // It waits for the proxy's own end.
    let mut holding = None;
    std::thread::scope(|scope| {
        let trying = scope.spawn(|| yard.stranger_goes_on(STRANGER, &["lock", &path, "60"]));
        wait::until(
            "the stranger waits, or has failed",
            Duration::from_secs(5),
            || {
                let waits =
                    std::fs::read_to_string("/proc/locks").is_ok_and(|locks| locks.contains("->"));
                (waits || trying.is_finished()).then_some(())
            },
        );
        kill(proxy);
        holding = Some(trying.join().unwrap());
    });
    let deadline = Instant::now() + Duration::from_secs(15);
    let mut serves = false;
    while !serves && Instant::now() < deadline {
        serves = http::get(yard.port(), "/").is_some();
        std::thread::sleep(Duration::from_millis(50));
    }
    let verdict = match holding.unwrap() {
        Ok(_going) => Verdict::on(
            !serves,
            "no proxy started within 15 s",
            "it started all the same",
        ),
        Err(why) => Verdict::Held(short(&why)),
    };
    wait::until("the proxy is back", Duration::from_secs(30), || {
        http::get(yard.port(), "/")
    });
    verdict
}

fn policy_lock(yard: &mut Yard) -> Verdict {
    let path = yard.fleet.path("state.git/writ/lock").display().to_string();
    let held = Duration::from_secs(12);
    let going = yard.stranger_goes_on(STRANGER, &["lock", &path, &held.as_secs().to_string()]);
    let going = match going {
        Ok(going) => going,
        Err(why) => return Verdict::Held(short(&why)),
    };
    assert!(is_held(&path, || false));
    let begun = Instant::now();
    let commit = yard.release(": > spoils\n");
    let took = begun.elapsed();
    drop(going);
    let _ = yard.outcome(&commit, crate::yard::SOON);
    let what = format!("a push hung for {} s", took.as_secs());
    Verdict::on(
        took > held - Duration::from_secs(2),
        what,
        "the push went on",
    )
}

fn decides(yard: &mut Yard) -> Verdict {
    let said = yard.host.agent_as(STRANGER, LOOKERS, &["hold", "victim"]);
    if said.code == 0 {
        yard.host.agent(&["resume", "victim"]).ok();
        return Verdict::Succeeded(short(&said.stdout));
    }
    Verdict::Held(short(&said.all()))
}

fn crowd(yard: &mut Yard) -> Verdict {
    let socket = yard.at("run/writ/agent.sock");
    let going = match yard.stranger_goes_on(LOOKERS, &["crowd", &socket, "1000", "60"]) {
        Ok(going) => going,
        Err(why) => return Verdict::Held(short(&why)),
    };
    let begun = Instant::now();
    let said = yard.host.agent(&["history", "-n", "1"]);
    let took = begun.elapsed();
    drop(going);
    assert!(yard.agent_answers(), "{}", yard.host.log());
    let harm = said.code != 0 || took > Duration::from_secs(5);
    Verdict::on(
        harm,
        format!("an operator waited {took:?}: {}", short(&said.all())),
        "the operator was answered",
    )
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
