//! Three files and the release that they make, or why not.

mod trees;
mod values;

use super::*;
use crate::digest::{ObjectId, PayloadHash};
use crate::service::{Check, Strategy};

const PIN: &str = "source: { commit: \"0123456789abcdef0123456789abcdef01234567\" }\n";

const WEB: &str = "\
source: { repository: https://git.example.org/web.git, branch: main }
build:
  steps: [ { run: [cargo, build] } ]
  output: [ target/release/web, public ]
run: { command: [ ./web ], environment: { RUST_LOG: info } }
health: { ready: { http: /ready, successes: 2 } }
traffic: { listen: \"0.0.0.0:8080\" }
";

fn origin() -> Origin {
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
    let refusal = overlaid(&format!("{PIN}{fields}\n"))
        .expect_err(fields)
        .of_draft();
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
fn what_is_unknown_is_newer_for_a_host_and_a_slip_of_the_pen_for_its_author() {
    let known = [
        ("environments/prod/environment.yaml", "hosts: any\n"),
        ("environments/prod/web.yaml", PIN),
        ("services/web/service.yaml", WEB),
    ];
    let web = |files: &Files| {
        let (prod, web) = ("prod".parse().unwrap(), "web".parse().unwrap());
        one(files, &prod, &web, &origin()).unwrap_err()
    };
    for ((path, text), expected) in
        known
            .into_iter()
            .zip([Code::RulesNewer, Code::ReleaseNewer, Code::ReleaseNewer])
    {
        let text = format!("{text}freeze: true\n");
        assert_eq!(web(&tree(&[(path, &text)])).code, expected, "{path}");
        let said = all_refused(&[(path, &text)]);
        assert!(
            said.iter().all(|line| line.starts_with("CONFIG_INVALID")),
            "{said:?}"
        );
    }
    let strict = tree(&[(
        "environments/prod/environment.yaml",
        "hosts: any\nonCooldown: page\n",
    )]);
    assert_eq!(web(&strict).code, Code::RulesNewer);
    let broken = tree(&[("environments/prod/environment.yaml", "hosts: [ 1 ]\n")]);
    assert_eq!(web(&broken).code, Code::ConfigInvalid);
}

#[test]
fn a_later_format_of_the_repository_is_newer() {
    let domain = "0".repeat(64);
    for (text, code) in [
        (
            format!("format: 1\nname: a\ndomain: \"{domain}\"\nmoved: x\n"),
            Code::RulesNewer,
        ),
        ("format: 2\n".to_owned(), Code::RulesNewer),
        ("format: 0\n".to_owned(), Code::ConfigInvalid),
        ("format: x\n".to_owned(), Code::ConfigInvalid),
        ("name: a\n".to_owned(), Code::ConfigInvalid),
    ] {
        let refusal = repository(&tree(&[("repository.yaml", &text)])).unwrap_err();
        assert_eq!(refusal.code, code, "{refusal}");
    }
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
            ready.probe.failures,
            ready.probe.every.to_string().as_str()
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
    assert_eq!((ready.probe.check, ready.successes), (Check::Tcp, 2));
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
    let base = WEB.replace("RUST_LOG", "RUST-LOG");
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
            "CONFIG_INVALID: services/web/service.yaml: run.environment.RUST-LOG: expected a name of letters of ASCII, digits and '_' that begins with no digit",
        ]
    );
}

#[test]
fn a_variable_has_any_name_that_a_shell_allows_and_is_a_text() {
    let fine = overlaid(&format!(
        "{PIN}run: {{ environment: {{ http_proxy: a, _Mixed1: b }} }}\n"
    ));
    assert_eq!(fine.unwrap().spec.run.environment["http_proxy"], "a");
    for (value, text) in [
        ("true", "true"),
        ("8080", "8080"),
        ("-1", "-1"),
        ("0x10", "16"),
    ] {
        let refusal = overlaid(&format!(
            "{PIN}run: {{ environment: {{ DEBUG: {value} }} }}\n"
        ));
        let said = refusal.unwrap_err().to_string();
        let expected =
            format!("run.environment.DEBUG: variables are texts: write \"{text}\" with the quotes");
        assert!(said.ends_with(&expected), "{said}");
    }
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
