//! Services and builds as accounts of their own, below an agent that is root: what they get, and what they cannot reach.
//! Only root can try any of it; as anybody else the cases end at once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::earned::earn_here;
use tests::fleet::{Fleet, Service};
use tests::host::{Host, hold_code, is_live};
use tests::program::binary;
use tests::{http, wait};

const RULES: &str = "hosts: any\n";

/// A fleet whose folder every account may enter; `None` where the tests do not run as root.
fn fleet() -> Option<Fleet> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let fleet = Fleet::new(RULES, &[]);
    fs::set_permissions(fleet.path(""), Permissions::from_mode(0o711)).unwrap();
    Some(fleet)
}

/// A service that runs `script` before it does what is expected of it, with the credential `token`.
fn add(fleet: &Fleet, service: &Service, script: &str, credentials: &str) {
    let program = fleet.path(service.name);
    let serve = binary("service").display().to_string();
    fs::write(&program, format!("#!/bin/sh\n{script}\nexec {serve}\n")).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let service = Service {
        program,
        ..service.clone()
    };
    fleet.add(&service);
    let file = format!("services/{}/service.yaml", service.name);
    let text = fs::read_to_string(fleet.path("state").join(&file)).unwrap();
    let text = text.replace(
        "run: { ",
        &format!("run: {{ credentials: [ {credentials} ], "),
    );
    fleet.write(&file, &text);
}

fn publish(fleet: &Fleet) {
    fleet.commit("Add the services").ok();
    fleet.push().ok();
}

fn host(fleet: &Fleet, users: &str) -> Host {
    let host = fleet.host("one");

    host.configure("users", json!(users));
    host
}

fn give_credential(host: &Host, service: &str, name: &str) {
    let folder = host.root().join("etc/writ/credentials").join(service);
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(folder.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
    fs::write(folder.join(name), format!("{name} of {service}")).unwrap();
}

fn account(host: &Host, service: &str) -> u32 {
    let record = host.services().join(service).join("record.json");
    let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    u32::try_from(record["account"].as_u64().unwrap()).unwrap()
}

fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

/// What a service found out about itself, or could do: `name=value`, one a line.
fn found(host: &Host, service: &str) -> BTreeMap<String, String> {
    let path = host.services().join(service).join("data/found");
    let text = wait::until("the service has looked", Duration::from_secs(20), || {
        let text = fs::read_to_string(&path).ok()?;
        text.ends_with("end=\n").then_some(text)
    });
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn services_and_builds_have_accounts_of_their_own_and_no_way_to_each_other() {
    let Some(fleet) = fleet() else { return };
    let root = fleet.path("hosts/one");
    let root = root.display();
    let look = format!(
        r#"
can() {{ echo "$1=$(shift; "$@" >/dev/null 2>&1 && echo yes || echo no)"; }}
{{
    echo "uid=$(id -u)" "gid=$(id -g)" "groups=$(id -G)" | tr ' ' '\n'
    echo "umask=$(umask)"
    sed -n 's/:\t/=/p' /proc/self/status | grep -e ^Cap -e ^NoNewPrivs
    echo "descriptor=$(ls /proc/$$/fd | grep -c -x 7)"
    echo "token=$(cat "$CREDENTIALS_DIRECTORY/token")"
    can "write own credential" sh -c ': > "$CREDENTIALS_DIRECTORY/token"'
    can "add credential" touch "$CREDENTIALS_DIRECTORY/more"
    for other in one two; do
        services={root}/var/lib/writ/agent/services/$other
        can "$other data" ls $services/data
        can "$other cache" ls $services/cache/home
        can "$other stamps" touch $services/cache/stamps.json
        can "$other release" touch $services/releases/x
        can "$other record" cat $services/record.json
        can "$other credential" cat {root}/run/writ/$other.credentials/blue/token
        can "$other socket" touch {root}/run/writ/$other/x
    done
    echo end=
}} > "$STATE_DIRECTORY/found"
"#
    );
    for name in ["one", "two"] {
        let service = Service {
            build: "[ { run: [ sh, -c, \"id -u > behaviour.build; echo >> behaviour; touch $HOME/x\" ] } ]",
            ..Service::web(name)
        };
        add(&fleet, &service, &look, "token");
    }
    publish(&fleet);
    let mut host = host(&fleet, "70000-70009");
    for name in ["one", "two"] {
        give_credential(&host, name, "token");
    }
    // The agent was started with a file open that is none of a service's affair.
    let status = Command::new("sh")
        .args(["-c", "exec 7</etc/passwd; exec \"$@\"", "sh"])
        .arg(binary("agent"))
        .arg("--root")
        .arg(host.root())
        .arg("once")
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");

    let numbers = ["one", "two"].map(|name| account(&host, name));
    assert_eq!(
        BTreeMap::from(numbers.map(|n| (n, ())))
            .into_keys()
            .collect::<Vec<_>>(),
        [70_000, 70_002]
    );
    for (name, number) in ["one", "two"].into_iter().zip(numbers) {
        let found = found(&host, name);
        let other = if name == "one" { "two" } else { "one" };
        let number = number.to_string();
        let expect = |key: &str, value: &str| {
            assert_eq!(
                found.get(key).map(String::as_str),
                Some(value),
                "{name}: {key}"
            );
        };
        for key in ["uid", "gid", "groups"] {
            expect(key, &number);
        }
        expect("umask", "0077");
        expect("NoNewPrivs", "1");
        for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            expect(key, "0000000000000000");
        }
        expect("descriptor", "0");
        expect("token", &format!("token of {name}"));
        for key in ["write own credential", "add credential"] {
            expect(key, "no");
        }
        for what in [
            "data",
            "cache",
            "stamps",
            "release",
            "record",
            "credential",
            "socket",
        ] {
            expect(&format!("{other} {what}"), "no");
            if !["data", "credential", "socket"].contains(&what) {
                expect(&format!("{name} {what}"), "no");
            }
        }
        let folder = host.services().join(name);
        let home = folder.join("cache/home/x");
        assert_eq!(
            owner(&home).to_string(),
            (number.parse::<u32>().unwrap() + 1).to_string()
        );
        assert_eq!(owner(&folder.join("cache/stamps.json")), 0);
    }

    // What one may do to the processes of the other, as the kernel says: nothing.
    let pids = host.processes_named("service");
    let pid = pids.first().unwrap().as_raw_nonzero().to_string();
    let uid = owner(Path::new(&format!("/proc/{pid}")));
    let stranger = if uid == numbers[0] {
        numbers[1]
    } else {
        numbers[0]
    };
    for command in [
        format!("cat /proc/{pid}/environ"),
        format!("ls /proc/{pid}/root/"),
        format!("ls /proc/{pid}/fd"),
        format!("kill -0 {pid}"),
    ] {
        use std::os::unix::process::CommandExt as _;
        let mut tried = Command::new("sh");
        let tried = tried.args(["-c", &command]).uid(stranger).gid(stranger);
        assert!(!tried.output().unwrap().status.success(), "{command}");
    }

    // Another agent, and another range: the numbers stay.
    host.configure("users", json!("80000-80009"));
    host.start();
    fleet.release("one", "text v2\n");
    host.wait_for("v2 is live", "one", |one| {
        is_live(one) && one["running"]["number"] != 1
    });
    assert_eq!(["one", "two"].map(|name| account(&host, name)), numbers);
    assert_eq!(owner(&host.services().join("one/data/found")), numbers[0]);
}

#[test]
fn a_probe_is_never_roots_also_where_nobody_can_say_whose_the_slot_is() {
    let Some(fleet) = fleet() else { return };
    let probe = "id -u > $STATE_DIRECTORY/new; mv $STATE_DIRECTORY/new $STATE_DIRECTORY/probed";
    let service = Service {
        extra: format!("health: {{ live: {{ exec: [ sh, -c, \"{probe}\" ], every: 100ms }} }}"),
        ..Service::worker("one")
    };
    add(&fleet, &service, "exec sleep 600", "token");
    publish(&fleet);
    let mut host = host(&fleet, "70000-70009");
    give_credential(&host, "one", "token");
    host.start();
    host.wait_for("it is live", "one", is_live);
    let folder = host.services().join("one");
    let probed = || {
        wait::until("it was probed", Duration::from_secs(20), || {
            fs::read_to_string(folder.join("data/probed")).ok()
        })
    };
    assert_eq!(probed(), "70000\n");
    host.kill();
    fs::remove_file(folder.join("slots/blue/order.json")).unwrap();
    fs::remove_file(folder.join("data/probed")).unwrap();
    host.start();
    assert_eq!(probed(), "70000\n");
}

#[test]
fn a_service_without_an_account_left_waits_and_disturbs_no_other() {
    let Some(fleet) = fleet() else { return };
    for name in ["one", "two"] {
        add(&fleet, &Service::web(name), "", "");
    }
    publish(&fleet);
    let mut host = host(&fleet, "70000-70001");
    host.start();
    let (mut live, mut waits) = ("one", "two");
    wait::until("one of them runs", Duration::from_secs(60), || {
        let found = ["one", "two"].map(|name| is_live(&host.service(name)));
        if found[1] {
            (live, waits) = ("two", "one");
        }
        found.contains(&true).then_some(())
    });
    host.wait_for("the other waits", waits, |other| {
        hold_code(other) == Some("ACCOUNTS_EXHAUSTED")
    });
    earn_here("ACCOUNTS_EXHAUSTED");
    assert!(is_live(&host.service(live)));
    host.kill();

    host.configure("users", json!("70000-70003"));
    host.start();
    wait::until("it is tried again", Duration::from_secs(60), || {
        let asked = host.agent(&["retry", waits]).code == 0;
        (asked || is_live(&host.service(waits))).then_some(())
    });
    host.wait_for("it runs", waits, is_live);
    assert_eq!(account(&host, waits), 70_002);
}

#[test]
fn what_an_older_agent_left_is_taken_over() {
    let Some(fleet) = fleet() else { return };
    add(
        &fleet,
        &Service::web("web"),
        "cat \"$STATE_DIRECTORY/dir/kept\" > \"$STATE_DIRECTORY/copy\"",
        "",
    );
    publish(&fleet);
    let mut host = host(&fleet, "70000-70009");
    let victim = fleet.path("victim");
    fs::write(&victim, "root's").unwrap();
    let [data, cache] = ["data", "cache"].map(|name| host.services().join("web").join(name));
    fs::create_dir_all(data.join("dir")).unwrap();
    fs::create_dir_all(&cache).unwrap();
    fs::write(data.join("dir/kept"), "kept").unwrap();
    fs::set_permissions(data.join("dir/kept"), Permissions::from_mode(0o600)).unwrap();
    symlink(&victim, data.join("link")).unwrap();
    for path in [
        data.clone(),
        data.join("dir"),
        data.join("dir/kept"),
        cache.clone(),
    ] {
        chown(path, Some(1_234), Some(1_234)).unwrap();
    }
    std::os::unix::fs::lchown(data.join("link"), Some(1_234), Some(1_234)).unwrap();
    symlink(&victim, cache.join("stamps.json")).unwrap();
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    let number = account(&host, "web");
    for path in ["", "dir", "dir/kept", "link", "copy"] {
        assert_eq!(owner(&data.join(path)), number, "{path}");
    }
    assert_eq!(fs::read_to_string(data.join("copy")).unwrap(), "kept");
    assert_eq!((owner(&victim), owner(&cache)), (0, 0));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "root's");
    assert!(!cache.join("stamps.json").is_symlink());
}

#[test]
fn what_runs_when_accounts_come_runs_on_and_goes_back_as_one() {
    let Some(fleet) = fleet() else { return };
    add(
        &fleet,
        &Service::web("web"),
        ": >> \"$STATE_DIRECTORY/opened\"",
        "",
    );
    publish(&fleet);
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    let runs_as = |host: &Host| {
        let pids = host.processes_named("service");
        assert_eq!(pids.len(), 1, "{pids:?}");
        let pid = pids[0].as_raw_nonzero();
        (pid, owner(Path::new(&format!("/proc/{pid}"))))
    };
    let before = runs_as(&host);
    assert_eq!(before.1, 0);
    host.kill();

    host.configure("users", json!("70000-70009"));
    host.start();
    host.wait_for("it is adopted", "web", is_live);
    assert_eq!(runs_as(&host), before);

    fleet.release("web", "never-ready\n");
    host.wait_for("v2 is held", "web", |web| hold_code(web).is_some());
    wait::until("v1 runs again", Duration::from_secs(20), || {
        (host.processes_named("service").len() == 1).then_some(())
    });
    assert_eq!(runs_as(&host).1, 70_000);
    assert_eq!(owner(&host.services().join("web/data/opened")), 70_000);
}

#[test]
fn the_proxy_reaches_the_socket_of_a_service_that_nobody_else_can() {
    let Some(fleet) = fleet() else { return };
    let web = Service::web("web");
    let port = web.port.unwrap();
    add(&fleet, &web, "", "");
    let file = "services/web/service.yaml";
    let text = fs::read_to_string(fleet.path("state").join(file)).unwrap();
    fleet.write(file, &text.replace("run: { ", "run: { listen: socket, "));
    publish(&fleet);
    let mut host = host(&fleet, "70000-70009");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
    let socket = host.root().join("run/writ/web/blue.sock");
    let status = fs::symlink_metadata(&socket).unwrap();
    assert_eq!((status.uid(), status.mode() & 0o077), (70_000, 0));

    // The service puts a link in its place, to a socket that only root may open.
    fs::remove_file(&socket).unwrap();
    symlink(host.root().join("run/writ/agent.sock"), &socket).unwrap();
    wait::until("the link is not followed", Duration::from_secs(20), || {
        let answer = http::get(port, "/");
        answer
            .is_some_and(|(status, _)| status >= 500)
            .then_some(())
    });
}

/// A folder and a file of root's.
fn victims(fleet: &Fleet) -> PathBuf {
    let victims = fleet.path("victims");
    fs::create_dir(&victims).unwrap();
    fs::write(victims.join("script"), "root's").unwrap();
    victims
}

#[track_caller]
fn unharmed(victims: &Path) {
    let script = victims.join("script");
    assert_eq!((owner(victims), owner(&script)), (0, 0));
    assert_eq!(fs::read_to_string(script).unwrap(), "root's");
}

/// Releases `web` again and again.
fn release(fleet: &Fleet, host: &Host, rounds: u32, mut check: impl FnMut()) {
    for round in 1..=rounds {
        let commit = fleet.release("web", &format!("text v{round}\n"));
        host.wait_for("it is live", "web", |web| {
            is_live(web) && web["running"]["source"] == commit.as_str()
        });
        check();
    }
}

#[test]
fn a_link_that_a_build_leaves_beside_its_home_is_not_written_through() {
    let Some(fleet) = fleet() else { return };
    let victims = victims(&fleet);
    let shown = victims.display();
    let step = format!(
        "ln -sf {shown}/script $HOME/../stamps.json; ln -sfn {shown} $HOME/../folders; true"
    );
    let web = Service {
        build: format!("[ {{ run: [ sh, -c, \"{step}\" ] }} ]").leak(),
        ..Service::web("web")
    };
    add(&fleet, &web, "", "");
    publish(&fleet);
    let mut host = host(&fleet, "70000-70009");
    host.configure("sandbox", json!({ "kind": "none" }));
    host.start();
    release(&fleet, &host, 2, || unharmed(&victims));
    let stamps = host.services().join("web/cache/stamps.json");
    let stamps = fs::symlink_metadata(stamps).unwrap();
    assert!(stamps.is_file() && stamps.uid() == 0);
}

/// Wherever credentials are copied to: as soon as there is a folder, a link takes its place.
#[test]
fn a_link_in_the_place_of_credentials_gives_nothing_away() {
    let Some(fleet) = fleet() else { return };
    let victims = victims(&fleet);
    let (victim, run) = (victims.display(), fleet.path("hosts/one/run/writ"));
    let run = run.display();
    let script = format!(
        r#"
(
    n=0
    while :; do
        for folder in {run}/web/green.credentials {run}/web/blue.credentials \
                {run}/web.credentials/green {run}/web.credentials/blue; do
            if [ -d $folder ] && [ ! -L $folder ]; then
                n=$((n + 1))
                mv $folder {run}/web/aside-$n && ln -s {victim} $folder
            fi
        done
    done 2>/dev/null
) &
echo tried > "$STATE_DIRECTORY/tried"
"#
    );
    let web = Service {
        strategy: "{ blueGreen: { bake: 100ms } }",
        ..Service::web("web")
    };
    // Many, so that there is time to come in between.
    let credentials: Vec<String> = (0..60).map(|n| format!("token-{n}")).collect();
    add(&fleet, &web, &script, &credentials.join(", "));
    publish(&fleet);
    let mut host = host(&fleet, "70000-70009");
    for name in &credentials {
        give_credential(&host, "web", name);
    }
    host.start();
    release(&fleet, &host, 5, || unharmed(&victims));
    assert!(host.services().join("web/data/tried").exists());
}
