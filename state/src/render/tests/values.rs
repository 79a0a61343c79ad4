//! Fields and values that no service may have.

use super::*;

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
            "build: { limits: { cpu: 100% } }",
            "build.limits.cpu: unknown field `cpu`, expected one of `memory`, `tasks`, `disk`, `output`, `log`",
        ),
        (
            "build: { limits: { disk: 5 } }",
            "build.limits.disk: invalid type: integer",
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
            "run.environment.A: variables are texts",
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
            "build: { limits: { memory: 0B, log: 0KiB } }",
            "build.limits.memory: expected more than 0",
        ),
        (
            "build: { limits: { tasks: 0 } }",
            "build.limits.tasks: expected more than 0",
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
            "health.ready.failures: expected at least 1",
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
            "traffic: { trust: [ 10.0.0.1 ] }",
            "traffic.trust: '10.0.0.1', expected a network such as '10.0.0.0/8'",
        ),
        (
            "traffic: { trust: [ 10.0.0.1/8 ] }",
            "traffic.trust: '10.0.0.1/8', expected '10.0.0.0/8'",
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
