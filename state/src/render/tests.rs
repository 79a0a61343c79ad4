//! Trees and what they render to, or why not.

use std::time::Duration;

use super::*;
use crate::digest::{ObjectId, PayloadHash};
use crate::service::{Check, Strategy};

pub(crate) const PIN: &str = "source: { commit: \"0123456789abcdef0123456789abcdef01234567\" }\n";

const WEB: &str = "\
source: { repository: https://git.example.org/web.git, branch: main }
build:
  steps: [ { run: [cargo, build] } ]
  output: [ target/release/web, public ]
run: { command: [ ./web ], environment: { RUST_LOG: info } }
health: { ready: { http: /ready, successes: 2 } }
traffic: { listen: \"0.0.0.0:8080\" }
";

pub(crate) fn origin() -> Origin {
    Origin {
        commit: ObjectId([1; 20]),
        payload: PayloadHash([2; 32]),
    }
}

/// A tree of one service in one environment, with `changes` (a path and its new text, or nothing) made to it.
fn tree(changes: &[(&str, &str)]) -> Files {
    let repository = format!("format: 1\nname: acme\ndomain: {}\n", "ab".repeat(32));
    let mut files: BTreeMap<String, String> = BTreeMap::from([
        ("repository.yaml".into(), repository),
        ("README.md".into(), "not ours".into()),
        ("services/web/service.yaml".into(), WEB.into()),
        (
            "environments/prod/environment.yaml".into(),
            "hosts: any\n".into(),
        ),
        ("environments/prod/web.yaml".into(), PIN.into()),
    ]);
    for (path, text) in changes {
        if text.is_empty() {
            files.remove(*path);
        } else {
            files.insert((*path).into(), (*text).into());
        }
    }
    let files = files.into_iter();
    files
        .map(|(path, text)| (path, text.into_bytes().into()))
        .collect()
}

fn overlaid(overlay: &str) -> Result<Release, Refusal> {
    let files = tree(&[("environments/prod/web.yaml", overlay)]);
    one(
        &files,
        &"prod".parse().unwrap(),
        &"web".parse().unwrap(),
        &origin(),
    )
}

/// The base with one more document of fields laid over it by the overlay, expected to be refused.
#[track_caller]
fn refused(fields: &str) -> String {
    let refusal = overlaid(&format!("{PIN}{fields}\n")).expect_err(fields);
    assert_eq!(refusal.code, Code::ConfigInvalid, "{refusal}");
    refusal.detail
}

#[track_caller]
fn all_refused(changes: &[(&str, &str)]) -> Vec<String> {
    let refusals = all(&tree(changes), &origin()).expect_err("this should be refused");
    refusals
        .into_iter()
        .map(|refusal| refusal.to_string())
        .collect()
}

#[test]
fn a_release_is_defaults_below_base_below_overlay() {
    let files = tree(&[
        (
            "environments/prod/environment.yaml",
            "hosts: any\ndefaults: { keep: 9, run: { environment: { TZ: UTC, RUST_LOG: warn } } }\n",
        ),
        (
            "environments/prod/web.yaml",
            &format!("{PIN}run: {{ environment: {{ LEVEL: \"3\" }} }}\ntraffic: {{ drain: 5s }}\n"),
        ),
    ]);
    let rendered = all(&files, &origin()).unwrap();
    let spec = &rendered.releases.values().next().unwrap().spec;
    let environment: Vec<_> = spec
        .run
        .environment
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(environment, ["LEVEL=3", "RUST_LOG=info", "TZ=UTC"]);
    assert_eq!(spec.keep, 9);
    assert_eq!(spec.traffic.as_ref().unwrap().drain.to_string(), "5s");
    assert!(matches!(spec.strategy(), Strategy::BlueGreen(_)));
    let ready = spec.health.ready.as_ref().unwrap();
    assert_eq!(
        (
            ready.successes,
            ready.failures,
            ready.every.to_string().as_str()
        ),
        (2, 3, "1s")
    );
}

#[test]
fn one_release_renders_alone_as_it_does_among_all() {
    let files = tree(&[]);
    let rendered = all(&files, &origin()).unwrap();
    for ((environment, service), release) in &rendered.releases {
        assert_eq!(
            &one(&files, environment, service, &origin()).unwrap(),
            release
        );
    }
    for (environment, each) in &rendered.rules {
        assert_eq!(&rules(&files, environment, &origin()).unwrap(), each);
    }
    assert_eq!((rendered.releases.len(), rendered.rules.len()), (1, 1));
}

#[test]
fn an_overlay_changes_kinds_by_naming_them() {
    let release = overlaid(&format!(
        "{PIN}strategy: {{ recreate: {{}} }}\nrun: {{ static: public }}\nhealth: {{ ready: {{ tcp: true }} }}\n"
    ))
    .unwrap();
    assert!(matches!(release.spec.strategy(), Strategy::Recreate(_)));
    assert_eq!(release.spec.run.static_files.as_deref(), Some("public"));
    assert!(release.spec.run.command.is_empty());
    let ready = release.spec.health.ready.unwrap();
    assert_eq!((ready.check, ready.successes), (Check::Tcp, 2));
}

#[test]
fn null_in_an_overlay_makes_a_worker_of_a_web_service() {
    let release = overlaid(&format!("{PIN}traffic: null\n")).unwrap();
    assert_eq!(release.spec.traffic, None);
    assert!(matches!(release.spec.strategy(), Strategy::Recreate(_)));
    assert!(
        refused("traffic: { drian: null }")
            .contains("traffic.drian: null, but there is nothing to remove")
    );
}

#[test]
fn nothing_floats() {
    for overlay in [
        "keep: 3\n",
        "source: { branch: main }\n",
        "source: { commit: 0123456789abcdef0123456789abcdef01234567 }\n",
    ] {
        assert_eq!(
            overlaid(overlay).unwrap_err().code,
            Code::PinInvalid,
            "{overlay}"
        );
    }
    let pinned = format!("{}{PIN}", WEB.replace("source:", "# source:"));
    let defaults = "hosts: any\ndefaults: { source: { commit: \"0123456789abcdef0123456789abcdef01234567\" } }\n";
    for change in [
        ("services/web/service.yaml", pinned.as_str()),
        ("environments/prod/environment.yaml", defaults),
    ] {
        let lines = all_refused(&[change]);
        let expected = format!("PIN_INVALID: {}", change.0);
        assert!(
            lines[0].starts_with(&expected) && lines.len() == 1,
            "{lines:?}"
        );
    }
}

#[test]
fn a_refusal_names_the_file_that_wrote_the_field() {
    let base = WEB.replace("RUST_LOG", "rust_log");
    assert_eq!(
        all_refused(&[
            ("services/web/service.yaml", &base),
            (
                "environments/prod/web.yaml",
                &format!("{PIN}health: {{ ready: {{ every: 0s }} }}\n")
            ),
            (
                "environments/prod/environment.yaml",
                "hosts: any\ndefaults: { keep: 0 }\n"
            ),
        ]),
        [
            "CONFIG_INVALID: environments/prod/environment.yaml: defaults: keep: expected at least 1",
            "CONFIG_INVALID: environments/prod/web.yaml: health.ready.every: 0ms, expected 10ms to 365d",
            "CONFIG_INVALID: services/web/service.yaml: run.environment.rust_log: expected a name of A-Z, 0-9 and '_' that begins with no digit",
        ]
    );
}

#[test]
fn unknown_fields_are_refused_at_every_depth() {
    for (fields, expected) in [
        (
            "limits: {}",
            "environments/prod/web.yaml: limits: unknown field `limits`",
        ),
        ("run: { limts: {} }", "run.limts: unknown field `limts`"),
        (
            "health: { ready: { http: /, timout: 1s } }",
            "health.ready.timout: unknown field `timout`",
        ),
        (
            "health: { startup: { tcp: true, every: 1s } }",
            "health.startup.every: unknown field `every`",
        ),
        (
            "health: { live: { http: /, path: x } }",
            "health.live.path: unknown field",
        ),
        (
            "strategy: { blueGreen: { back: 1m } }",
            "unknown field `back`",
        ),
        (
            "build: { steps: [ { run: [a], shell: true } ] }",
            "build.steps[0].shell: unknown field",
        ),
        ("keep: \"5\"", "keep: invalid type: string"),
        ("keep: -1", "keep: invalid value"),
        ("keep: 4294967296", "keep: invalid value"),
        (
            "run: { limits: { memory: 512 } }",
            "run.limits.memory: invalid type: integer",
        ),
        (
            "run: { limits: { memory: 1.5GiB } }",
            "run.limits.memory: expected a whole number",
        ),
        (
            "run: { environment: { A: 1 } }",
            "run.environment.A: invalid type: integer",
        ),
    ] {
        let detail = refused(fields);
        assert!(detail.contains(expected), "{fields}: {detail}");
    }
}

#[test]
fn a_strategy_of_a_later_version_is_refused_with_those_of_this_one() {
    for fields in ["strategy: { canary: { steps: [] } }", "strategy: canary"] {
        let detail = refused(fields);
        assert!(
            detail.contains("unknown variant `canary`, expected `blueGreen` or `recreate`"),
            "{detail}"
        );
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    for (fields, expected) in [
        (
            "run: { command: [] }",
            "run.command: expected exactly one of",
        ),
        (
            "run: { command: [''] }",
            "run.command: expected exactly one of",
        ),
        (
            "run: { command: [./web], static: public }",
            "run: both `command` and `static`",
        ),
        (
            "run: { static: ../etc }",
            "run.static: expected a relative path",
        ),
        (
            "run: { static: /etc }",
            "run.static: expected a relative path",
        ),
        (
            "run: { static: docs }",
            "run.static: lies beneath none of `build.output`",
        ),
        (
            "run: { environment: { PORT: \"1\" } }",
            "run.environment.PORT: the agent sets this variable",
        ),
        (
            "run: { environment: { A-B: \"1\" } }",
            "run.environment.A-B: expected a name",
        ),
        (
            "run: { environment: { 1A: \"1\" } }",
            "run.environment.1A: expected a name",
        ),
        (
            "run: { credentials: [db, db] }",
            "run.credentials: a credential is named twice",
        ),
        (
            "run: { limits: { tasks: 0 } }",
            "run.limits.tasks: expected more than 0",
        ),
        (
            "run: { limits: { memory: 0B } }",
            "run.limits.memory: expected more than 0",
        ),
        (
            "build: { output: [a/x, b/x] }",
            "build.output: two outputs have the same last component",
        ),
        (
            "build: { output: [a/../x] }",
            "build.output: expected a relative path",
        ),
        (
            "build: { output: [.] }",
            "build.output: expected a relative path",
        ),
        (
            "build: { cache: [/tmp] }",
            "build.cache: expected a relative path",
        ),
        (
            "build: { steps: [ { run: [] } ] }",
            "build.steps: expected a program",
        ),
        (
            "build: { timeout: 0s }",
            "build.timeout: 0ms, expected 10ms to 365d",
        ),
        (
            "test: { timeout: 366d }",
            "test.timeout: 366d, expected 10ms to 365d",
        ),
        (
            "health: { ready: { http: null } }",
            "health: ready: expected exactly one of",
        ),
        (
            "health: { ready: { http: /, tcp: true } }",
            "health: ready: expected exactly one of",
        ),
        (
            "health: { ready: { tcp: false } }",
            "health: ready: expected exactly one of",
        ),
        (
            "health: { ready: { http: ready } }",
            "health.ready.http: expected a path",
        ),
        (
            "health: { ready: { http: \"/a b\" } }",
            "health.ready.http: expected a path",
        ),
        (
            "health: { ready: { exec: [] } }",
            "health.ready.exec: expected a program",
        ),
        (
            "health: { ready: { failures: 0 } }",
            "health.ready: expected at least 1",
        ),
        (
            "health: { identity: { header: \"a:b\" } }",
            "health.identity.header: not the name",
        ),
        (
            "traffic: { listen: \"0.0.0.0:0\" }",
            "traffic.listen: port 0",
        ),
        (
            "traffic: { listen: \"localhost:80\" }",
            "traffic.listen: invalid socket address",
        ),
        (
            "traffic: { driver: nginx }",
            "traffic.driver: unknown variant `nginx`, expected `embedded`",
        ),
        ("strategy: { blueGreen: {}, recreate: {} }", "strategy: "),
        (
            "strategy: { blueGreen: {} }\ntraffic: null",
            "strategy: `blueGreen` needs `traffic`",
        ),
        ("state: gone", "state: unknown variant `gone`"),
        ("keep: 0", "keep: expected at least 1"),
        ("place: { labels: { Role: web } }", "place.labels"),
    ] {
        let detail = refused(fields);
        assert!(detail.contains(expected), "{fields}: {detail}");
    }
}

#[test]
fn only_sources_that_name_no_secret_and_no_option_are_taken() {
    let fields = |repository: &str| PIN.replace("{ ", &format!("{{ repository: '{repository}', "));
    for fine in [
        "https://git.example.org/web.git",
        "https://127.0.0.1:8443/a/b",
        "https://[::1]/a",
        "ssh://git@git.example.org:22/web.git",
        "ssh://git.example.org/~a/web.git",
        "file:///srv/git/web.git",
        "/srv/git/my web.git",
    ] {
        overlaid(&fields(fine)).expect(fine);
    }
    for bad in [
        "",
        "http://git.example.org/web.git",
        "git://git.example.org/web.git",
        "ext::sh -c touch% /tmp/x",
        "git@git.example.org:web.git",
        "web.git",
        "../web.git",
        "-upload-pack=x",
        "file://host/srv",
        "https://token@git.example.org/web.git",
        "https://user:secret@git.example.org/web.git",
        "ssh://git:secret@git.example.org/web.git",
        "ssh://-oProxyCommand=x/web.git",
        "ssh://-l@host/web.git",
        "https:///web.git",
        "https://git.example.org",
        "https://git.example.org/web.git?token=x",
        "https://git.example.org/web.git#x",
        "https://git.example.org/web\u{1b}.git",
    ] {
        let quoted = fields(bad).replace('\'', "\"").replace('\u{1b}', "\\e");
        let refusal = overlaid(&quoted).expect_err(bad);
        assert!(refusal.detail.contains("source.repository: "), "{refusal}");
    }
}

#[test]
fn branches_that_git_would_misread_are_refused() {
    for bad in [
        "-x", "a b", "a..b", "a~1", "@{1}", "a.lock", "/a", "a/", "", "a^", "a:b",
    ] {
        let overlay = PIN.replace("{ ", &format!("{{ branch: \"{bad}\", "));
        assert!(
            overlaid(&overlay)
                .unwrap_err()
                .detail
                .contains("source.branch: "),
            "{bad}"
        );
    }
    overlaid(&PIN.replace("{ ", "{ branch: release/1.x, ")).unwrap();
}

#[test]
fn all_that_is_wrong_with_a_tree_is_told_by_file() {
    let lines = all_refused(&[
        ("repository.yaml", "format: 2\n"),
        ("environments/README.md", "x"),
        ("environments/prod/Web.yaml", PIN),
        ("environments/prod/api.yaml", PIN),
        ("environments/prod/web.yml", PIN),
        ("environments/prod/x/web.yaml", PIN),
        ("environments/test/web.yaml", PIN),
        ("services/db/service.yml", "x"),
        ("services/environment/service.yaml", WEB),
        ("services/idle/service.yaml", "source: [\n"),
        ("services/web/extra.yaml", "x"),
    ]);
    let seen = lines
        .iter()
        .map(|line| line.splitn(3, ": ").collect::<Vec<_>>());
    let seen: Vec<_> = seen.map(|parts| (parts[1], &parts[2][..15])).collect();
    assert_eq!(
        seen,
        [
            ("environments/README.md", "unexpected; `en"),
            ("environments/prod/Web.yaml", "'Web' is not a "),
            ("environments/prod/api.yaml", "an overlay of a"),
            ("environments/prod/web.yml", "unexpected; `en"),
            ("environments/prod/x/web.yaml", "unexpected; `en"),
            ("environments/test/environment.yaml", "missing; every "),
            ("repository.yaml", "format: 2, this"),
            ("services/db/service.yml", "unexpected; `se"),
            ("services/environment/service.yaml", "'environment' i"),
            ("services/idle/service.yaml", "did not find ex"),
            ("services/web/extra.yaml", "unexpected; `se"),
        ]
    );
}

#[test]
fn what_is_wrong_with_a_base_is_told_once_for_all_environments() {
    let lines = all_refused(&[
        ("services/web/service.yaml", &WEB.replace("main", "a..b")),
        ("environments/dev/environment.yaml", "hosts: any\n"),
        ("environments/dev/web.yaml", PIN),
    ]);
    assert_eq!(
        lines,
        [
            "CONFIG_INVALID: services/web/service.yaml: source.branch: not the name of a branch, such as `main`"
        ]
    );
}

#[test]
fn a_base_without_overlay_runs_nowhere() {
    let rendered = all(&tree(&[("environments/prod/web.yaml", "")]), &origin()).unwrap();
    assert!(rendered.releases.is_empty());
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    for (rules, expected) in [
        ("{}", "missing field `hosts`"),
        (
            "hosts: all",
            "hosts: invalid value: string \"all\", expected `any` or a list of hosts",
        ),
        (
            "hosts: [ { name: a }, { name: a } ]",
            "hosts: two hosts have the same name",
        ),
        (
            "hosts: [ { name: A } ]",
            "hosts[0].name: expected a lower-case letter",
        ),
        (
            "hosts: [ { name: a, role: web } ]",
            "hosts[0].role: unknown field",
        ),
        (
            "hosts: any\nrate: { perMinute: 0 }",
            "rate.perMinute: invalid value",
        ),
        (
            "hosts: any\nrate: { perDay: 1 }",
            "rate.perDay: unknown field",
        ),
        ("hosts: any\ncooldown: null", "cooldown: null"),
        (
            "hosts: any\ncooldown: 400d",
            "cooldown: 400d, expected 0ms to 365d",
        ),
        (
            "hosts: any\nonCooldown: wait",
            "onCooldown: unknown variant `wait`, expected `queue` or `refuse`",
        ),
        (
            "hosts: any\ndefaults: { keep: null }",
            "defaults.keep: null",
        ),
        (
            "hosts: any\nafter: staging",
            "after: there is no environment 'staging'",
        ),
        (
            "hosts: any\nafter: prod",
            "after: the environments follow each other in a circle",
        ),
    ] {
        let lines = all_refused(&[("environments/prod/environment.yaml", rules)]);
        assert!(
            lines.len() == 1 && lines[0].contains(expected),
            "{rules}: {lines:?}"
        );
    }
}

#[test]
fn two_services_on_one_address_need_hosts_apart() {
    let fits = |hosts: &str, a: &str, b: &str| {
        all(
            &tree(&[
                ("services/api/service.yaml", WEB),
                ("environments/prod/environment.yaml", hosts),
                ("environments/prod/web.yaml", &format!("{PIN}{a}\n")),
                ("environments/prod/api.yaml", &format!("{PIN}{b}\n")),
            ]),
            &origin(),
        )
        .map_err(|refusals| refusals[0].to_string())
    };
    let (web, api) = (
        "place: { labels: { role: web } }",
        "place: { labels: { role: api } }",
    );
    let fast = "place: { labels: { disk: fast } }";
    let listed = "hosts: [ { name: a, labels: { role: web } }, { name: b, labels: { role: api, disk: fast } } ]\n";
    let any = "hosts: any\n";
    assert_eq!(
        fits(any, "", "").unwrap_err(),
        "CONFIG_INVALID: environments/prod/web.yaml: traffic.listen: 'api' listens on 0.0.0.0:8080 too; keep them apart by `place`"
    );
    assert!(fits(any, "", "traffic: { listen: \"0.0.0.0:8081\" }").is_ok());
    assert!(fits(any, "", "traffic: { listen: \"127.0.0.1:8080\" }").is_err());
    assert!(fits(any, "", "traffic: { listen: \"[::]:8080\" }").is_err());
    assert!(fits(any, "", "traffic: { listen: \"[::1]:8080\" }").is_ok());
    assert!(fits(any, "", "state: absent").is_ok());
    assert!(fits(any, "", "state: stopped").is_err());
    assert!(fits(any, web, api).is_ok());
    assert!(fits(any, web, fast).is_err());
    assert!(fits(listed, web, fast).is_ok());
    assert!(fits(listed, api, fast).is_err());
}

#[test]
fn three_files_may_not_add_up_to_one_out_of_bounds() {
    let long = "x".repeat(100 << 10);
    let lines = all_refused(&[
        (
            "services/web/service.yaml",
            &format!("{WEB}test: {{ steps: [ {{ run: [a, {long}] }} ] }}\n"),
        ),
        (
            "environments/prod/environment.yaml",
            &format!("hosts: any\ndefaults: {{ run: {{ environment: {{ A: {long} }} }} }}\n"),
        ),
        (
            "environments/prod/web.yaml",
            &format!("{PIN}build: {{ fetch: [ {{ run: [a, {long}] }} ] }}\n"),
        ),
    ]);
    assert!(
        lines[0].contains("environments/prod/web.yaml: once rendered: ") && lines.len() == 1,
        "{lines:?}"
    );
}

/// A fleet of `services` in four environments.
fn fleet(services: usize) -> Files {
    let mut files = tree(&[]);
    for n in 0..services {
        let base = WEB.replace("8080", &(10_000 + n).to_string());
        files.insert(
            format!("services/s{n}/service.yaml"),
            base.into_bytes().into(),
        );
        for environment in ["dev", "staging", "canary", "prod"] {
            let overlay = format!("{PIN}run: {{ environment: {{ N: \"{n}\" }} }}\n");
            files.insert(
                format!("environments/{environment}/environment.yaml"),
                b"hosts: any\n"[..].into(),
            );
            files.insert(
                format!("environments/{environment}/s{n}.yaml"),
                overlay.into_bytes().into(),
            );
        }
    }
    files
}

#[test]
fn a_large_fleet_renders_soon() {
    let files = fleet(1000);
    let start = std::time::Instant::now();
    let rendered = all(&files, &origin()).unwrap();
    let took = start.elapsed();
    assert_eq!(rendered.releases.len(), 4001);
    println!("4001 releases in {took:?}");
    assert!(took < Duration::from_secs(20), "took {took:?}");
}
