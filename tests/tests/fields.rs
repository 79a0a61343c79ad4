//! Nothing is accepted and then ignored: each field of a file, and each argument of a command, has a test in which it
//! makes a difference. The fields come from the types and the arguments from clap, so a new one fails until it has a row.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use clap::CommandFactory as _;
use state::environment::{Environment, Repository};
use state::service::Service;
use state::trust::Terms;
use tests::{fields, page};

/// Name, and the test in which it makes a difference; or, after `-`, why it is for people's eyes alone.
type Rows = &'static [(&'static str, &'static str)];

/// Holds `rows` against `names`, and the tests that they name against those that there are.
#[track_caller]
fn each_has_its_row(what: &str, names: &BTreeSet<String>, rows: Rows) {
    let claims = page::claims();
    let listed: BTreeMap<_, _> = rows.iter().copied().collect();
    assert_eq!(listed.len(), rows.len(), "{what}: a row stands twice");
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !listed.contains_key(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "{what}: without a row: {missing:#?}");
    let gone: Vec<_> = listed
        .keys()
        .filter(|name| !names.contains(**name))
        .collect();
    assert!(gone.is_empty(), "{what}: there is no {gone:?}");
    let named = listed.values().filter(|test| !test.starts_with("- "));
    let unknown: Vec<_> = named.filter(|test| !claims.contains(**test)).collect();
    assert!(unknown.is_empty(), "{what}: no such tests: {unknown:#?}");
}

#[test]
fn every_field_makes_a_difference() {
    each_has_its_row("service.yaml", &fields::of::<Service>(), SERVICE);
    each_has_its_row(
        "environment.yaml",
        &fields::of::<Environment>(),
        ENVIRONMENT,
    );
    each_has_its_row("repository.yaml", &fields::of::<Repository>(), REPOSITORY);
    each_has_its_row("a trust file", &fields::of::<Terms>(), TRUST);
    each_has_its_row("agent.yaml", &fields::of::<agent::config::Config>(), AGENT);
    each_has_its_row(
        "policy.yaml",
        &fields::of::<policy::settings::Settings>(),
        POLICY,
    );
}

#[test]
fn every_argument_makes_a_difference() {
    each_has_its_row(
        "agent",
        &arguments(&agent::command::Cli::command()),
        AGENT_ARGUMENTS,
    );
    each_has_its_row(
        "policy",
        &arguments(&policy::command::Cli::command()),
        POLICY_ARGUMENTS,
    );
}

/// All arguments of a command and of its subcommands, as `enroll --token`; those of every command once.
fn arguments(command: &clap::Command) -> BTreeSet<String> {
    fn collect(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
        for argument in command.get_arguments() {
            let id = argument.get_id().as_str();
            if !["help", "version"].contains(&id) {
                let name = argument
                    .get_long()
                    .map_or(id.to_uppercase(), |long| format!("--{long}"));
                found.insert(format!("{path} {name}").trim_start().to_owned());
            }
        }
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            collect(sub, path.trim_start(), found);
        }
    }
    let mut found = BTreeSet::new();
    collect(command, "", &mut found);
    found
}

const SERVICE: Rows = &[
    (
        "build.cache",
        "what is kept comes back and a file is new exactly if it changed",
    ),
    (
        "build.fetch[].run",
        "a build sees neither network nor the hosts files",
    ),
    (
        "build.network",
        "a build sees neither network nor the hosts files",
    ),
    (
        "build.limits.disk",
        "a build that takes too much is held with the limit that it passed",
    ),
    (
        "build.limits.log",
        "the log of a build is cut where its service says",
    ),
    (
        "build.limits.memory",
        "a build that takes too much is held with the limit that it passed",
    ),
    (
        "build.limits.output",
        "a build that takes too much is held with the limit that it passed",
    ),
    (
        "build.limits.tasks",
        "a build that takes too much is held with the limit that it passed",
    ),
    (
        "build.output",
        "a release holds its outputs its logs and nothing else",
    ),
    ("build.steps[].run", "a build that fails is held"),
    (
        "build.timeout",
        "a build that hangs is ended with its children",
    ),
    (
        "health.identity.header",
        "the answer of another release is found out by its header",
    ),
    (
        "health.live.every",
        "each number of a repeated probe counts",
    ),
    ("health.live.exec", "each number of a repeated probe counts"),
    (
        "health.live.failures",
        "each number of a repeated probe counts",
    ),
    (
        "health.live.http",
        "a service that grows ill during bake is rolled back",
    ),
    ("health.live.tcp", "each number of a repeated probe counts"),
    (
        "health.live.timeout",
        "each number of a repeated probe counts",
    ),
    (
        "health.ready.every",
        "each number of the first probes counts",
    ),
    (
        "health.ready.exec",
        "each number of the first probes counts",
    ),
    (
        "health.ready.failures",
        "each number of a repeated probe counts",
    ),
    (
        "health.ready.http",
        "a service that never gets ready is rolled back",
    ),
    (
        "health.ready.successes",
        "each number of the first probes counts",
    ),
    (
        "health.ready.tcp",
        "an overlay changes kinds by naming them",
    ),
    (
        "health.ready.timeout",
        "each number of the first probes counts",
    ),
    (
        "health.startup.exec",
        "each number of the first probes counts",
    ),
    (
        "health.startup.http",
        "a service that exits at once is rolled back",
    ),
    (
        "health.startup.tcp",
        "a slot that is well passes every probe",
    ),
    (
        "health.startup.within",
        "each number of the first probes counts",
    ),
    (
        "keep",
        "releases beyond keep go but never one that the record names",
    ),
    ("needs", "a service goes live with what it needs"),
    ("place.labels", "a service goes where its labels are"),
    ("run.command", "what a slot gets is what its release says"),
    (
        "run.credentials",
        "what a slot gets is what its release says",
    ),
    (
        "run.environment",
        "what a slot gets is what its release says",
    ),
    ("run.limits.cpu", "limits that must hold are refused"),
    (
        "run.limits.enforce",
        "limits that must be enforced and cannot be fail the deployment",
    ),
    ("run.limits.memory", "limits that must hold are refused"),
    ("run.limits.tasks", "limits that must hold are refused"),
    ("run.listen", "what a slot gets is what its release says"),
    ("run.static", "what a slot gets is what its release says"),
    (
        "run.stop.signal",
        "a slot is asked to end as its release says",
    ),
    (
        "run.stop.within",
        "what a slot gets is what its release says",
    ),
    (
        "source.branch",
        "a commit that is not on the branch is refused whoever serves it",
    ),
    ("source.commit", "a second release takes the other slot"),
    (
        "source.repository",
        "a source that is out of reach is tried again",
    ),
    (
        "state",
        "a stopped service stops and an absent one leaves only its data",
    ),
    (
        "strategy.blueGreen.bake",
        "a bake that a clock ahead began is as long as any other",
    ),
    (
        "strategy.recreate.bake",
        "a worker is recreated and brought back when the new one dies",
    ),
    ("test.steps[].run", "tests that fail are held"),
    ("test.timeout", "tests that hang are ended"),
    (
        "traffic.drain",
        "a rollback during a bake lets the requests in flight finish",
    ),
    ("traffic.driver", "values that make no sense are refused"),
    (
        "traffic.listen",
        "what a slot gets is what its release says",
    ),
    ("traffic.trust", "the chain of a trusted peer goes on"),
];

const ENVIRONMENT: Rows = &[
    (
        "approvals",
        "a change needs as many persons as its environment says",
    ),
    ("cooldown", "a change during the cooldown waits to its end"),
    ("defaults", "a release is defaults below base below overlay"),
    (
        "hosts[].labels",
        "a listed host has the labels of the list and not its own",
    ),
    (
        "hosts[].name",
        "a host that is not listed and an environment that is not admitted get nothing",
    ),
    ("maxRemovals", "more removals than allowed are all refused"),
    (
        "onCooldown",
        "on cooldown refuse refuses and says until when",
    ),
    (
        "rate.perHour",
        "what a wider bound admitted delays by one period at most",
    ),
    (
        "rate.perMinute",
        "a burst of the bound passes and the next waits for its share",
    ),
    (
        "rate.source.perHour",
        "services of one source share its rate in one pass and across passes",
    ),
    (
        "rate.source.perMinute",
        "services of one source share its rate in one pass and across passes",
    ),
    (
        "treeTrailer",
        "a release without the required trailer is refused and with it is not",
    ),
];

const REPOSITORY: Rows = &[
    ("domain", "a tree of another fleet is refused"),
    ("format", "all that is wrong with a tree is told by file"),
    ("name", "- what people call the fleet"),
];

const TRUST: Rows = &[
    (
        "anchor.main",
        "a thief of both keys is left behind with what he wrote",
    ),
    (
        "anchor.manifest",
        "a log goes on where root anchors it whatever a thief has signed",
    ),
    (
        "anchor.next",
        "a log goes on where root anchors it whatever a thief has signed",
    ),
    (
        "anchor.sequence",
        "a log goes on where root anchors it whatever a thief has signed",
    ),
    (
        "authors[].environments",
        "files of an environment need it and all other files need all",
    ),
    (
        "authors[].fields",
        "a key narrowed to fields changes those fields of overlays only",
    ),
    (
        "authors[].key",
        "a commit counts only if a listed author signed it",
    ),
    (
        "authors[].may",
        "a path must match and rules need their right",
    ),
    (
        "authors[].name",
        "who may not approve there and who has a part in the change do not count",
    ),
    (
        "authors[].paths",
        "a path must match and rules need their right",
    ),
    (
        "ended[].key",
        "a key that ended counts up to its last sequence",
    ),
    (
        "ended[].lastSequence",
        "a key that ended counts up to its last sequence",
    ),
    (
        "ended[].reason",
        "- why a key ended, for whoever reads the file",
    ),
    (
        "expires",
        "an expired trust is refused after it was remembered",
    ),
    (
        "fresh.keys",
        "statements count only if their role signed them",
    ),
    (
        "limits.bytes",
        "a tree with too many files or bytes is refused",
    ),
    (
        "limits.files",
        "a tree with too many files or bytes is refused",
    ),
    ("name", "- what people call the fleet"),
    ("policy.keys", "a manifest by a stranger is unsigned"),
    (
        "policy.maxFreshness",
        "the tip is fresh for a day and longer with a statement",
    ),
    ("prev", "a version that follows another is a fork"),
    (
        "root.keys",
        "a version without the root threshold is unsigned",
    ),
    (
        "root.threshold",
        "a version without the root threshold is unsigned",
    ),
    (
        "version",
        "the next file needs both thresholds its number and its predecessor",
    ),
    ("writ", "what makes no sense is invalid"),
];

const AGENT: Rows = &[
    ("builds", "a build that waits for another one says so"),
    ("domain", "a first version of another fleet is refused"),
    (
        "environment",
        "a host of no environment or that is not listed runs nothing",
    ),
    (
        "host",
        "a host of no environment or that is not listed runs nothing",
    ),
    ("labels", "a service goes where its labels are"),
    (
        "limits.cacheBytes",
        "releases and a cache beyond their bytes go but never one that the record names",
    ),
    (
        "limits.cooldown",
        "a cooldown outlives the agent and delays no repair",
    ),
    (
        "limits.diskFloor",
        "a disk below its floor waits before anything is fetched",
    ),
    (
        "limits.perHour",
        "a flood of valid releases waits and going back does not",
    ),
    (
        "limits.releaseBytes",
        "releases and a cache beyond their bytes go but never one that the record names",
    ),
    (
        "poll",
        "the wait is jittered by a tenth and grows to a bound",
    ),
    ("ports", "a release for which no port is left is held off"),
    (
        "proxy",
        "a host without the proxy that it was promised starts nothing that needs it",
    ),
    (
        "remotes[].ca",
        "a private repository is read over https with token and ca",
    ),
    (
        "remotes[].deadline",
        "a remote that hangs delays nothing and is named",
    ),
    ("remotes[].maxBytes", "more bytes than allowed are not read"),
    (
        "remotes[].token",
        "a private repository is read over https with token and ca",
    ),
    ("remotes[].url", "several remotes are told apart"),
    ("runner", "settings that are wrong or not known are refused"),
    (
        "sandbox.environment",
        "a build gets the variables of the hosts settings",
    ),
    (
        "sandbox.kind",
        "a build that hangs is killed with its children",
    ),
    (
        "sandbox.tools",
        "a host whose sandbox does not start builds nothing",
    ),
    (
        "sources[].ca",
        "the longest prefix gives a source its credentials",
    ),
    (
        "sources[].prefix",
        "the longest prefix gives a source its credentials",
    ),
    (
        "sources[].token",
        "the longest prefix gives a source its credentials",
    ),
    (
        "users",
        "services and builds have accounts of their own and no way to each other",
    ),
];

const POLICY: Rows = &[
    (
        "deadline",
        "a remote that is away slow or sends too much is refused and nothing is lost",
    ),
    ("key", "without its key policy admits nothing"),
    (
        "maxBytes",
        "a remote that is away slow or sends too much is refused and nothing is lost",
    ),
    ("poll", "a mirror is made by its settings alone"),
    ("remote", "a mirror is made by its settings alone"),
];

const AGENT_ARGUMENTS: Rows = &[
    ("--config", "the other file is read where it is named"),
    (
        "--root",
        "a host is enrolled once and where its sockets fit",
    ),
    (
        "apply --lift",
        "a glass broken without an agent is done when the command ends and can be lifted",
    ),
    (
        "apply --reason",
        "a broken glass starts one stale admission until policy is heard again",
    ),
    (
        "apply --stale",
        "a broken glass starts one stale admission until policy is heard again",
    ),
    ("completions SHELL", "- the shell whose words are printed"),
    (
        "enroll --ca",
        "a private repository is read over https with token and ca",
    ),
    (
        "enroll --domain",
        "a first version of another fleet is refused",
    ),
    (
        "enroll --environment",
        "a host of no environment or that is not listed runs nothing",
    ),
    (
        "enroll --host",
        "a host of no environment or that is not listed runs nothing",
    ),
    (
        "enroll --label",
        "what enroll is told stands in the settings",
    ),
    (
        "enroll --poll",
        "what enroll is told stands in the settings",
    ),
    (
        "enroll --ports",
        "a release for which no port is left is held off",
    ),
    (
        "enroll --repository",
        "what enroll is told stands in the settings",
    ),
    (
        "enroll --sandbox",
        "what enroll is told stands in the settings",
    ),
    (
        "enroll --token",
        "a private repository is read over https with token and ca",
    ),
    (
        "enroll --tools",
        "what enroll is told stands in the settings",
    ),
    (
        "history --json",
        "what a command is asked for is what it shows",
    ),
    (
        "history --limit",
        "what a command is asked for is what it shows",
    ),
    (
        "history SERVICE",
        "what a command is asked for is what it shows",
    ),
    (
        "hold SERVICE",
        "a held service keeps what runs until it is resumed",
    ),
    ("logs --build", "a build that fails is held"),
    (
        "logs --follow",
        "a log is followed from slot to slot until ctrl c",
    ),
    (
        "logs --lines",
        "what a command is asked for is what it shows",
    ),
    (
        "logs --slot",
        "what a command is asked for is what it shows",
    ),
    ("logs --tests", "tests that fail are held"),
    (
        "logs SERVICE",
        "what a command is asked for is what it shows",
    ),
    (
        "plan SERVICE",
        "what a command is asked for is what it shows",
    ),
    (
        "proxy --detach",
        "a killed proxy is started again and serves what its tables say",
    ),
    ("repack MIRROR", "fifty packs of a mirror become one"),
    (
        "resume SERVICE",
        "a held service keeps what runs until it is resumed",
    ),
    (
        "retry SERVICE",
        "a flood of valid releases waits and going back does not",
    ),
    (
        "rollback --to",
        "a rollback brings the last good release back until another is admitted",
    ),
    (
        "rollback SERVICE",
        "a rollback brings the last good release back until another is admitted",
    ),
    (
        "step --file-size",
        "a build that takes too much is held with the limit that it passed",
    ),
    (
        "step --gid",
        "services and builds have accounts of their own and no way to each other",
    ),
    (
        "step --uid",
        "services and builds have accounts of their own and no way to each other",
    ),
    ("step COMMAND", "a build that fails is held"),
    (
        "enroll --users",
        "services and builds have accounts of their own and no way to each other",
    ),
    (
        "checkout --bytes",
        "a source with a submodule or too many bytes is refused",
    ),
    (
        "checkout --entries",
        "a source with a submodule or too many bytes is refused",
    ),
    (
        "checkout COMMIT",
        "a source that is not what it seems is held",
    ),
    (
        "checkout FOLDER",
        "a source that is not what it seems is held",
    ),
    (
        "checkout MIRROR",
        "a source that is not what it seems is held",
    ),
    (
        "shim SLOT",
        "the same attempt is taken over and another replaces it",
    ),
    (
        "static FOLDER",
        "a static site serves its folder and nothing else",
    ),
    ("status --json", "several remotes are told apart"),
    (
        "why SERVICE",
        "a hold that came while the agent was down is seen before requests move",
    ),
];

const POLICY_ARGUMENTS: Rows = &[
    ("admit --key", "without its key policy admits nothing"),
    (
        "admit --remote",
        "a mirror is made once and serves every command",
    ),
    (
        "admit REPOSITORY",
        "without a repository that is fit for it policy admits nothing",
    ),
    (
        "approve --expires",
        "an approval that expired does not count",
    ),
    (
        "approve --key",
        "a key in an agent approves by its public file",
    ),
    ("approve --print", "approvals run as written"),
    (
        "approve PLACE",
        "a change goes live when two persons besides its author approved it",
    ),
    (
        "audit --repository",
        "an audit names both sides of a split view and who is behind",
    ),
    (
        "audit SEEN",
        "an audit names both sides of a split view and who is behind",
    ),
    (
        "check REV",
        "check of a commit authenticates it before it is pushed",
    ),
    ("completions SHELL", "- the shell whose words are printed"),
    (
        "diff --environment",
        "diff shows rendered lines of what is not admitted and between revisions",
    ),
    (
        "diff RANGE",
        "diff shows rendered lines of what is not admitted and between revisions",
    ),
    (
        "hold --key",
        "policy holds a service across admissions until it lifts the hold",
    ),
    (
        "hold --lift",
        "policy holds a service across admissions until it lifts the hold",
    ),
    (
        "hold --reason",
        "policy holds a service across admissions until it lifts the hold",
    ),
    (
        "hold --repository",
        "policy holds a service across admissions until it lifts the hold",
    ),
    ("hold PLACE", "policy holds the rules of an environment"),
    (
        "hook install --key",
        "without the key the hook wakes the daemon instead",
    ),
    (
        "hook install REPOSITORY",
        "a foreign hook is not overwritten and our own is renewed",
    ),
    (
        "hook post-receive REPOSITORY",
        "a signed push is admitted and stock ssh keygen verifies both statements",
    ),
    (
        "hook pre-receive REPOSITORY",
        "a signed push is admitted and stock ssh keygen verifies both statements",
    ),
    (
        "init --demo-keys",
        "the printed steps bring a scaffold into service",
    ),
    ("init --from", "init writes into nothing that exists"),
    ("init --keys", "init writes into nothing that exists"),
    (
        "init --name",
        "the printed steps bring a scaffold into service",
    ),
    ("init DIR", "init writes into nothing that exists"),
    ("keygen PATH", "without its key policy admits nothing"),
    (
        "log --json",
        "the log says what when and on whose authority",
    ),
    (
        "log REPOSITORY",
        "the log says what when and on whose authority",
    ),
    (
        "pending REPOSITORY",
        "a change goes live when two persons besides its author approved it",
    ),
    (
        "release --commit",
        "a release changes the pin only and asking twice does nothing",
    ),
    (
        "release --environment",
        "a release changes the pin only and asking twice does nothing",
    ),
    (
        "release --push",
        "a release that the remote refuses is taken back",
    ),
    (
        "release SERVICE",
        "a release changes the pin only and asking twice does nothing",
    ),
    (
        "replay --repository",
        "a replay names the first admission that the rules did not allow",
    ),
    ("replay RANGE", "a range may be open at either end"),
    (
        "run --key",
        "without the key the hook wakes the daemon instead",
    ),
    (
        "run --remote",
        "a mirror is made once and serves every command",
    ),
    (
        "run REPOSITORY",
        "the daemon admits what waited and what hooks without a key let in",
    ),
    (
        "trust check --log",
        "a key that vanishes or ends too early is told before anybody signs",
    ),
    (
        "trust check --previous",
        "a root key is replaced by both thresholds and check says who is missing",
    ),
    (
        "trust check --signatures",
        "a root key is replaced by both thresholds and check says who is missing",
    ),
    (
        "trust check FILE",
        "a root key is replaced by both thresholds and check says who is missing",
    ),
    (
        "trust propose --add-author",
        "an author is added with his scope and pushes within it",
    ),
    (
        "trust propose --anchor",
        "every edit says what was asked for in either spelling",
    ),
    (
        "trust propose --end",
        "every edit says what was asked for in either spelling",
    ),
    (
        "trust propose --environment",
        "an author is added with his scope and pushes within it",
    ),
    (
        "trust propose --expires",
        "every edit says what was asked for in either spelling",
    ),
    (
        "trust propose --field",
        "an author is added with his scope and pushes within it",
    ),
    (
        "trust propose --last-sequence",
        "a key that vanishes or ends too early is told before anybody signs",
    ),
    (
        "trust propose --may",
        "an author is added with his scope and pushes within it",
    ),
    (
        "trust propose --next",
        "a thief of both keys is left behind with what he wrote",
    ),
    ("trust propose --output", "the ceremonies run as written"),
    (
        "trust propose --path",
        "an author is added with his scope and pushes within it",
    ),
    (
        "trust propose --reason",
        "- why a key ended, for whoever reads the file",
    ),
    (
        "trust propose --replace",
        "a root key is replaced by both thresholds and check says who is missing",
    ),
    (
        "trust propose REPOSITORY",
        "a root key is replaced by both thresholds and check says who is missing",
    ),
    ("trust show REPOSITORY", "the ceremonies run as written"),
    (
        "trust sign --key",
        "only a root key signs and only what is in form",
    ),
    ("trust sign --previous", "the ceremonies run as written"),
    ("trust sign --signatures", "the ceremonies run as written"),
    (
        "trust sign FILE",
        "only a root key signs and only what is in form",
    ),
];
