//! What types alone cannot say about a service: which values make sense, and which of them together.

use std::collections::BTreeSet;

use crate::service::{Build, Check, Health, Run, Service, Source, Step, Strategy};
use crate::unit::Period;
use crate::yaml::Fault;

/// Variables that the agent sets itself.
const RESERVED: &[&str] = &[
    "PORT",
    "SOCKET",
    "SLOT",
    "WRIT_SLOT",
    "RELEASE_ID",
    "ENVIRONMENT",
    "STATE_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
];

/// The longest time that anything may be given: a year. Deadlines computed from it cannot overflow.
const LONGEST: Period = Period(365 * 24 * 60 * 60 * 1000);
/// The shortest time between two questions of a probe, and for one answer.
const SHORTEST: Period = Period(10);

/// Says all that is wrong with a service.
pub(super) fn service(service: &Service) -> Vec<Fault> {
    let mut faults = Faults::default();
    source(&service.source, &mut faults);
    build(&service.build, &mut faults);
    steps("test.steps", &service.test.steps, &mut faults);
    faults.time("test.timeout", service.test.timeout, SHORTEST);
    run(&service.run, &service.build, &mut faults);
    health(&service.health, &mut faults);
    if let Some(traffic) = &service.traffic {
        faults.unless(
            traffic.listen.port() > 0,
            "traffic.listen",
            "port 0 names no address",
        );
        faults.time("traffic.drain", traffic.drain, Period(0));
    }
    faults.unless(
        service.traffic.is_some() || !matches!(service.strategy(), Strategy::BlueGreen(_)),
        "strategy",
        "`blueGreen` needs `traffic`; without it write `recreate`",
    );
    faults.time("strategy", service.strategy().bake(), Period(0));
    faults.unless(service.keep > 0, "keep", "expected at least 1");
    faults.0
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    pub(super) fn unless(&mut self, fine: bool, field: &str, message: &str) {
        if !fine {
            self.0.push(Fault::new(field, message));
        }
    }

    pub(super) fn time(&mut self, field: &str, time: Period, shortest: Period) {
        if time < shortest || time > LONGEST {
            let message = format!("{time}, expected {shortest} to {LONGEST}");
            self.0.push(Fault::new(field, message));
        }
    }

    /// Refuses an item that was seen before.
    pub(super) fn distinct<T: Ord>(
        &mut self,
        field: &str,
        items: impl IntoIterator<Item = T>,
        message: &str,
    ) {
        let mut seen = BTreeSet::new();
        let fine = items.into_iter().all(|item| seen.insert(item));
        self.unless(fine, field, message);
    }
}

fn source(source: &Source, faults: &mut Faults) {
    if let Err(message) = repository(&source.repository) {
        faults.0.push(Fault::new("source.repository", message));
    }
    let name = format!("refs/heads/{}", source.branch);
    let safe = !source.branch.starts_with('-')
        && gix::validate::reference::name(name.as_str().into()).is_ok();
    faults.unless(
        safe,
        "source.branch",
        "not the name of a branch, such as `main`",
    );
}

/// Checks where a source comes from. What git would take for an option, a command, a relative path or a password is refused.
fn repository(url: &str) -> Result<(), &'static str> {
    if url.chars().any(char::is_control) {
        return Err("a control character");
    }
    let (rest, user_allowed) = match url.split_once("://") {
        Some(("https", rest)) => (rest, false),
        Some(("ssh", rest)) => (rest, true),
        Some(("file", rest)) if rest.starts_with('/') => return Ok(()),
        None if url.starts_with('/') => return Ok(()),
        _ => return Err("expected `https://…`, `ssh://…`, `file:///…` or an absolute path"),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (user, host),
        None => ("", authority),
    };
    if user.contains(':') || !(user.is_empty() || user_allowed) {
        return Err(
            "credentials do not belong in a state repository; write them in the hosts' agent.yaml",
        );
    }
    if url.contains(['?', '#', ' ', '\\']) {
        return Err("a query, a fragment, a blank or a backslash");
    }
    let plain = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
    if !plain(host) || !(user.is_empty() || plain(user)) || path.is_empty() {
        return Err("expected a host and a path");
    }
    Ok(())
}

fn build(build: &Build, faults: &mut Faults) {
    steps("build.fetch", &build.fetch, faults);
    steps("build.steps", &build.steps, faults);
    faults.time("build.timeout", build.timeout, SHORTEST);
    for (field, paths) in [
        ("build.output", &build.output),
        ("build.cache", &build.cache),
    ] {
        for path in paths {
            faults.unless(is_inside(path), field, INSIDE);
        }
    }
    faults.distinct(
        "build.output",
        build.output.iter().map(|path| last(path)),
        "two outputs have the same last component; each lands in `app/` under it",
    );
    faults.distinct("build.cache", &build.cache, "a folder is named twice");
    let limits = &build.limits;
    for (field, limit) in [
        ("build.limits.memory", limits.memory.0),
        ("build.limits.tasks", limits.tasks.into()),
        ("build.limits.disk", limits.disk.0),
        ("build.limits.output", limits.output.0),
        ("build.limits.log", limits.log.0),
    ] {
        faults.unless(limit > 0, field, POSITIVE);
    }
}

fn steps(field: &str, steps: &[Step], faults: &mut Faults) {
    for step in steps {
        faults.unless(is_command(&step.run), field, COMMAND);
    }
}

const POSITIVE: &str = "expected more than 0";

const COMMAND: &str = "expected a program, and its arguments if it has any";

fn is_command(command: &[String]) -> bool {
    command.first().is_some_and(|program| !program.is_empty())
}

const INSIDE: &str = "expected a relative path of plain components, without `.`, `..` or `//`";

/// Says whether a path leads nowhere but down.
fn is_inside(path: &str) -> bool {
    path.split('/')
        .all(|part| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control))
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn run(run: &Run, build: &Build, faults: &mut Faults) {
    match &run.static_files {
        None => faults.unless(
            is_command(&run.command),
            "run.command",
            "expected exactly one of `command: [program, …]` and `static: folder`",
        ),
        Some(folder) => {
            faults.unless(
                run.command.is_empty(),
                "run",
                "both `command` and `static`; expected one of them",
            );
            faults.unless(is_inside(folder), "run.static", INSIDE);
            let top = folder.split('/').next();
            let kept = build.output.iter().any(|path| Some(last(path)) == top);
            faults.unless(
                kept,
                "run.static",
                "lies beneath none of `build.output`, so no release holds it",
            );
        }
    }
    for name in run.environment.keys() {
        let field = format!("run.environment.{name}");
        faults.unless(
            is_variable(name),
            &field,
            "expected a name of letters of ASCII, digits and '_' that begins with no digit",
        );
        faults.unless(
            !RESERVED.contains(&name.as_str()),
            &field,
            "the agent sets this variable",
        );
    }
    faults.distinct(
        "run.credentials",
        &run.credentials,
        "a credential is named twice",
    );
    faults.time("run.stop.within", run.stop.within, Period(0));
    let limits = &run.limits;
    faults.unless(
        limits.memory.is_none_or(|memory| memory.0 > 0),
        "run.limits.memory",
        POSITIVE,
    );
    faults.unless(
        limits.cpu.is_none_or(|cpu| cpu.0 > 0),
        "run.limits.cpu",
        POSITIVE,
    );
    faults.unless(limits.tasks != Some(0), "run.limits.tasks", POSITIVE);
}

/// Says whether a shell could name the variable too (POSIX, XBD 3.231).
fn is_variable(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().all(fine) && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn health(health: &Health, faults: &mut Faults) {
    if let Some(startup) = &health.startup {
        check("health.startup", &startup.check, faults);
        faults.time("health.startup.within", startup.within, SHORTEST);
    }
    let successes = health.ready.as_ref().map(|ready| ready.successes);
    faults.unless(
        successes != Some(0),
        "health.ready.successes",
        "expected at least 1",
    );
    for (field, probe) in [
        (
            "health.ready",
            health.ready.as_ref().map(|ready| &ready.probe),
        ),
        ("health.live", health.live.as_ref()),
    ] {
        let Some(probe) = probe else { continue };
        check(field, &probe.check, faults);
        faults.time(&format!("{field}.every"), probe.every, SHORTEST);
        faults.time(&format!("{field}.timeout"), probe.timeout, SHORTEST);
        faults.unless(
            probe.failures > 0,
            &format!("{field}.failures"),
            "expected at least 1",
        );
    }
    if let Some(identity) = &health.identity {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let fine = !identity.header.is_empty() && identity.header.bytes().all(token);
        faults.unless(
            fine,
            "health.identity.header",
            "not the name of an HTTP header",
        );
    }
}

fn check(field: &str, check: &Check, faults: &mut Faults) {
    match check {
        Check::Http(path) => {
            let fine =
                path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
            faults.unless(
                fine,
                &format!("{field}.http"),
                "expected a path such as `/health`, percent-encoded",
            );
        }
        Check::Tcp => {}
        Check::Exec(command) => {
            faults.unless(is_command(command), &format!("{field}.exec"), COMMAND);
        }
    }
}
