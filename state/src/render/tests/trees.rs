//! What holds among the files of a tree, and how fast a large one renders.

use std::time::{Duration, Instant};

use super::*;

#[test]
fn all_that_is_wrong_with_a_tree_is_told_by_file() {
    let lines = all_refused(&[
        ("repository.yaml", "format: 2\n"),
        ("environments/README.md", "x"),
        ("environments/prod/Web.yaml", PIN),
        ("environments/prod/api.yaml", PIN),
        ("environments/prod/environment.yaml.yaml", "hosts: any\n"),
        ("environments/prod/web.yaml.yaml", PIN),
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
            ("environments/prod/environment.yaml.yaml", "'environment.ya"),
            ("environments/prod/web.yaml.yaml", "'web.yaml' is n"),
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
            "hosts: [ { name: b }, { name: a, key: ssh-ed25519 AAAA } ]",
            "UNSUPPORTED: environments/prod/environment.yaml: hosts[1].key: hosts of this version of Writ sign no reports",
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
            "UNSUPPORTED: environments/prod/environment.yaml: after: this version of Writ does not hold",
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
fn what_a_service_needs_is_another_one_of_its_environment() {
    let needs = |web: &str, api: &str| {
        let rendered = all(
            &tree(&[
                ("services/api/service.yaml", &WEB.replace("8080", "8081")),
                ("services/far/service.yaml", WEB),
                ("environments/prod/web.yaml", &format!("{PIN}{web}\n")),
                ("environments/prod/api.yaml", &format!("{PIN}{api}\n")),
                ("environments/dev/environment.yaml", "hosts: any\n"),
                ("environments/dev/far.yaml", PIN),
            ]),
            &origin(),
        );
        rendered.map_err(|refusals| refusals[0].to_string())
    };
    let rendered = needs("needs: [ api ]", "needs: [ web ]").unwrap();
    let place = ("prod".parse().unwrap(), "web".parse().unwrap());
    let api: ServiceName = "api".parse().unwrap();
    assert!(rendered.releases[&place].spec.needs.contains(&api));
    let place = "CONFIG_INVALID: environments/prod/web.yaml: needs: ";
    assert_eq!(
        needs("needs: [ web ]", "").unwrap_err(),
        format!("{place}the service itself")
    );
    for (web, api) in [("far", ""), ("nobody", ""), ("api", "state: absent")] {
        assert_eq!(
            needs(&format!("needs: [ {web} ]"), api).unwrap_err(),
            format!("{place}there is no service '{web}' in 'prod', or it is absent")
        );
    }
    assert!(needs("needs: [ api ]\nstate: absent", "state: absent").is_ok());
    assert!(needs("needs: [ Api ]", "").is_err());
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
    let start = Instant::now();
    let rendered = all(&files, &origin()).unwrap();
    let took = start.elapsed();
    assert_eq!(rendered.releases.len(), 4001);
    println!("4001 releases in {took:?}");
    assert!(took < Duration::from_secs(20), "took {took:?}");
}
