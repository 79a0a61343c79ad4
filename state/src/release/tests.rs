//! Ids that must never change, and spellings that must not matter.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::digest::{ObjectId, PayloadHash};

mod newer;

/// Everything that must be written, and nothing else.
fn smallest() -> Value {
    json!({
        "source": {
            "repository": "https://git.example.org/worker.git",
            "branch": "main",
            "commit": "0123456789abcdef0123456789abcdef01234567",
        },
        "run": { "command": ["./worker"] },
    })
}

/// Every field, each unlike its default.
fn fullest() -> Value {
    json!({
        "source": {
            "repository": "ssh://git@git.example.org/web.git",
            "branch": "release/1.x",
            "commit": "89abcdef0123456789abcdef0123456789abcdef",
        },
        "build": {
            "fetch": [{ "run": ["cargo", "fetch", "--locked"] }],
            "steps": [{ "run": ["cargo", "build", "--release"] }],
            "output": ["target/release/web", "public"],
            "cache": ["target"],
            "timeout": "90m",
            "network": "allow",
            "limits": { "memory": "2GiB", "tasks": 512, "disk": "10GiB", "output": "1GiB", "log": "1MiB" },
        },
        "test": { "steps": [{ "run": ["cargo", "test"] }], "timeout": "1h" },
        "run": {
            "command": ["./web", "--motto", "größer \u{1f600} \"1\"\n"],
            "listen": "socket",
            "environment": { "RUST_LOG": "info", "EMPTY": "" },
            "credentials": ["db"],
            "limits": { "memory": "512MiB", "cpu": "200%", "tasks": 256, "enforce": "required" },
        },
        "health": {
            "startup": { "exec": ["./ready"], "within": "30s" },
            "ready": { "http": "/ready", "every": "2s", "successes": 1, "failures": 2, "timeout": "1s" },
            "live": { "tcp": true, "every": "1s" },
            "identity": { "header": "Writ-Release" },
        },
        "traffic": { "listen": "[::]:8080", "drain": "1m" },
        "strategy": { "recreate": { "bake": "5m" } },
        "state": "stopped",
        "keep": 3,
        "place": { "labels": { "role": "web" } },
        "needs": ["api", "db"],
    })
}

/// [`fullest`] before builds had limits.
fn without_build_limits() -> Value {
    let mut value = fullest();
    value["build"].as_object_mut().unwrap().remove("limits");
    value
}

/// The same before services could need each other.
fn without_needs() -> Value {
    let mut value = without_build_limits();
    value.as_object_mut().unwrap().remove("needs");
    value
}

fn site() -> Value {
    let mut value = smallest();
    value["build"] = json!({ "output": ["public"] });
    value["run"] = json!({ "static": "public" });
    value["traffic"] = json!({ "listen": "0.0.0.0:80" });
    value
}

fn rules_value() -> Value {
    json!({
        "hosts": [{ "name": "web-1", "labels": { "role": "web" } }],
        "rate": { "perMinute": 2, "perHour": 10, "source": { "perHour": 20 } },
        "cooldown": "10m",
        "onCooldown": "refuse",
        "maxRemovals": 2,
        "defaults": { "keep": 5, "run": { "environment": { "TZ": "UTC" } } },
    })
}

fn origin() -> Origin {
    Origin {
        commit: ObjectId([1; 20]),
        payload: PayloadHash([2; 32]),
    }
}

fn release(value: &Value) -> Release {
    Release {
        service: "web".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        origin: origin(),
        spec: yaml::typed(value).unwrap(),
    }
}

fn rules(value: &Value) -> Rules {
    Rules {
        environment: "prod".parse().unwrap(),
        origin: origin(),
        spec: yaml::typed(value).unwrap(),
    }
}

fn reread(bytes: &[u8]) -> Result<Release, Refusal> {
    Release::from_yaml("prod".parse().unwrap(), "web".parse().unwrap(), bytes)
}

#[test]
fn golden_ids_never_change() {
    // Computed once by `json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)` and SHA-256.
    for (value, id) in [
        (
            smallest(),
            "308ccff18289e463d4ffd4db6b00cdafb5dc5d75f36f13a0f4777c4c13f26281",
        ),
        (
            without_needs(),
            "3bc5e89cdadf6c221404961f9c980f4726f4fd901d74a0ac075996adcbbf3b88",
        ),
        (
            without_build_limits(),
            "16806e2efed2bb4cb84435ddaabcf1d0247042a377bb72a41e21d93a18fe4682",
        ),
        (
            fullest(),
            "4d2d1a68ae2bd009401c711929aedf3d84fc2cffd40161dde75ac37cca4c9e15",
        ),
        (
            site(),
            "ef5077c1a85bc6661004fde0d2baa857b8b9f6278c4f5fbc5b5c3e2cabf7d090",
        ),
    ] {
        assert_eq!(release(&value).id().to_string(), id);
    }
    for (value, id) in [
        (
            json!({ "hosts": "any" }),
            "86086141b1ce80798c4de033487011639193f5bc70b0a1c9b1df7e840cb843f2",
        ),
        (
            rules_value(),
            "471699ef99cafac7232299b67b65dd8daba3b9a66b0b38f43100d3d7c19c01ea",
        ),
    ] {
        assert_eq!(rules(&value).id().to_string(), id);
    }
}

#[test]
fn spelled_defaults_of_rules_do_not_change_their_id() {
    let plain = json!({ "hosts": [{ "name": "a" }] });
    let spelled = json!({
        "hosts": [{ "name": "a", "labels": {} }],
        "rate": { "source": {} }, "cooldown": "0s", "onCooldown": "queue", "maxRemovals": 1,
        "approvals": 0, "treeTrailer": "optional", "defaults": {},
    });
    assert_eq!(rules(&plain).id(), rules(&spelled).id());
    let printed = rules(&rules_value()).to_yaml();
    let read = Rules::from_yaml("prod".parse().unwrap(), printed.as_bytes()).unwrap();
    assert_eq!(read, rules(&rules_value()));
}

#[test]
fn nothing_but_what_runs_is_part_of_an_id() {
    let one = release(&smallest());
    let mut other = one.clone();
    other.origin.commit = ObjectId([9; 20]);
    other.environment = "dev".parse().unwrap();
    assert_eq!(one.id(), other.id());
    other.spec.keep = 4;
    assert_ne!(one.id(), other.id());
}

#[test]
fn a_release_prints_its_origin_first_and_reads_like_its_source() {
    insta::assert_snapshot!(release(&fullest()).to_yaml(), @r#"
    origin:
      commit: '0101010101010101010101010101010101010101'
      payload: '0202020202020202020202020202020202020202020202020202020202020202'
    source:
      repository: ssh://git@git.example.org/web.git
      branch: release/1.x
      commit: 89abcdef0123456789abcdef0123456789abcdef
    build:
      fetch:
      - run:
        - cargo
        - fetch
        - --locked
      steps:
      - run:
        - cargo
        - build
        - --release
      output:
      - target/release/web
      - public
      cache:
      - target
      timeout: 90m
      network: allow
      limits:
        memory: 2GiB
        tasks: 512
        disk: 10GiB
        output: 1GiB
        log: 1MiB
    test:
      steps:
      - run:
        - cargo
        - test
      timeout: 1h
    run:
      command:
      - ./web
      - --motto
      - |
        größer 😀 "1"
      listen: socket
      environment:
        EMPTY: ''
        RUST_LOG: info
      credentials:
      - db
      limits:
        memory: 512MiB
        cpu: 200%
        tasks: 256
        enforce: required
    health:
      startup:
        exec:
        - ./ready
        within: 30s
      ready:
        http: /ready
        every: 2s
        successes: 1
        failures: 2
        timeout: 1s
      live:
        tcp: true
        every: 1s
      identity:
        header: Writ-Release
    traffic:
      listen: '[::]:8080'
      drain: 1m
    strategy:
      recreate:
        bake: 5m
    state: stopped
    keep: 3
    place:
      labels:
        role: web
    needs:
    - api
    - db
    "#);
}

#[test]
fn any_other_spelling_of_a_release_is_refused() {
    let printed = release(&fullest()).to_yaml();
    assert_eq!(reread(printed.as_bytes()).unwrap(), release(&fullest()));
    for (from, to) in [
        ("origin:\n", "# why\norigin:\n"),
        ("keep: 3\n", "keep: 0x3\n"),
        ("keep: 3\n", "keep: 3\n\n"),
        ("90m", "5400s"),
        ("\n  branch: release/1.x", "\n  branch: 'release/1.x'"),
        ("state: stopped\nkeep: 3\n", "keep: 3\nstate: stopped\n"),
        ("state: stopped\n", "state: running\n"),
    ] {
        let changed = printed.replace(from, to);
        assert_ne!(changed, printed, "{from:?}");
        let refusal = reread(changed.as_bytes()).unwrap_err();
        assert_eq!(refusal.code, Code::ConfigInvalid);
    }
    for start in [printed.find("source:").unwrap(), printed.len()] {
        assert!(reread(&printed.as_bytes()[start..]).is_err());
    }
}

#[test]
fn keys_are_sorted_by_utf_16_and_texts_escaped_as_in_rfc_8785() {
    // RFC 8785, 3.2.3 and 3.2.2.2.
    let value = json!({
        "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
        "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O With Diaeresis",
        "a": "\u{20ac}$\u{f}\nA'B\"\\\\\"/", "n": [-1, true],
    });
    let mut text = String::new();
    canonical(&value, &mut text);
    let expected = concat!(
        "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"a\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\",\"n\":[-1,true],",
        "\"\u{80}\":\"Control\",\"\u{f6}\":\"Latin Small Letter O With Diaeresis\",\"\u{20ac}\":\"Euro Sign\",",
        "\"\u{1f600}\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
    );
    assert_eq!(text, expected);
}

/// Defaults of `site`, each spelled as an author might: where, and the text.
const DEFAULTS: &[(&str, &str)] = &[
    ("build.fetch", "[]"),
    ("build.steps", "[]"),
    ("build.cache", "[]"),
    ("build.timeout", "1200s"),
    ("build.network", "deny"),
    ("build.limits.memory", "8192MiB"),
    ("build.limits.tasks", "0x1000"),
    ("build.limits.disk", "32GiB"),
    ("build.limits.output", "4096MiB"),
    ("build.limits.log", "8192KiB"),
    ("test.steps", "[]"),
    ("test.timeout", "20m"),
    ("run.command", "[]"),
    ("run.listen", "port"),
    ("run.environment", "{}"),
    ("run.credentials", "[]"),
    ("run.limits.enforce", "bestEffort"),
    ("run.stop.signal", "TERM"),
    ("run.stop.within", "10000ms"),
    ("health.startup.within", "60s"),
    ("health.ready.every", "1000ms"),
    ("health.ready.successes", "3"),
    ("health.ready.failures", "0x3"),
    ("health.ready.timeout", "2s"),
    ("health.live.every", "10s"),
    ("health.live.timeout", "2s"),
    ("traffic.driver", "embedded"),
    ("traffic.drain", "30s"),
    ("strategy.blueGreen.bake", "600s"),
    ("state", "running"),
    ("keep", "5"),
    ("place.labels", "{}"),
    ("needs", "[]"),
];

/// The lines of a map in the order that `seed` picks, with comments between them.
fn print_shuffled(fields: &Map<String, Value>, indent: usize, seed: &mut u64, lines: &mut String) {
    let mut fields: Vec<_> = fields.iter().collect();
    while !fields.is_empty() {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let pick = usize::try_from(*seed >> 33).unwrap() % fields.len();
        let (key, value) = fields.swap_remove(pick);
        let blank = " ".repeat(indent);
        lines.push_str(&format!("{blank}# {key}: {pick}\n{blank}{key}:"));
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                lines.push('\n');
                print_shuffled(fields, indent + 2, seed, lines);
            }
            Value::String(text) if text.starts_with('\u{1}') => {
                lines.push_str(&format!(" {} # default\n", &text[1..]));
            }
            other => lines.push_str(&format!(" {other}\n")),
        }
    }
}

proptest! {
    #[test]
    fn order_comments_and_spelled_defaults_do_not_change_an_id(
        spelled in prop::sample::subsequence(DEFAULTS, 0..=DEFAULTS.len()),
        mut seed in any::<u64>(),
    ) {
        let mut base = site();
        base["health"] = json!({ "startup": { "tcp": true }, "ready": { "http": "/" }, "live": { "http": "/" } });
        let expected = release(&base);
        let mut written = base;
        for (path, text) in spelled {
            let mut place = &mut written;
            for key in path.split('.') {
                place = &mut place[key];
            }
            *place = Value::from(format!("\u{1}{text}"));
        }
        let mut text = String::new();
        print_shuffled(written.as_object().unwrap(), 0, &mut seed, &mut text);
        let release = release(&yaml::parse(text.as_bytes()).unwrap());
        prop_assert_eq!(release.id(), expected.id());
        prop_assert_eq!(release.to_yaml(), expected.to_yaml());
    }

    #[test]
    fn what_is_printed_reads_back_with_the_same_id(
        texts in prop::collection::vec("[^\0]{0,12}", 1..6),
        plain in "(~|null|true|0x1F|1e3|\\.5|-|\\?|:|<<|!a|%a|@a|&a|\\*a|#a|---|[0-9]{40}|yes|  a|a |\n\n|\u{feff}|\u{85})",
        pin in "[0-9]{19}[0-9e][0-9]{20}",
        keep in 1..=u32::MAX,
    ) {
        let mut value = fullest();
        value["source"]["commit"] = json!(pin);
        value["keep"] = json!(keep);
        value["run"]["environment"] = json!({ "A": texts[0], "B": plain });
        value["run"]["command"] = json!(texts);
        let release = release(&value);
        let printed = release.to_yaml();
        let read = reread(printed.as_bytes()).unwrap();
        prop_assert_eq!(read.id(), release.id());
        prop_assert_eq!(identify::<Service>(printed.as_bytes()), Ok((release.id(), origin())));
        prop_assert_eq!(read, release);
    }
}
