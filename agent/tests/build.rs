//! Sources of real git, fetched by the real worker, built in the real sandbox.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use agent::build::{self, Built, Job, Unbuilt};
use agent::layout::{Layout, ServiceLayout};
use agent::sandbox::{Config, Kind, Sandbox};
use agent::source::{self, Access, Fetched, Limits};
use agent::user::User;
use state::digest::{ObjectId, ReleaseId};
use state::git::worker::Worker;
use state::service::{Network, Service, Step};
use state::unit::{Bytes, Period};
use state::{Code, Refusal};

/// A host, a service's folders on it, and a source repository.
struct Host {
    root: tempfile::TempDir,
    layout: Layout,
    service: ServiceLayout,
    worker: Worker,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(&root.path().join("host")).unwrap();
        let service = layout.service(&"web".parse().unwrap());
        layout.create().unwrap();
        service.create(None).unwrap();
        let host = Self {
            worker: Worker::new(
                env!("CARGO_BIN_EXE_agent").into(),
                vec!["fetch-worker".into()],
            ),
            root,
            layout,
            service,
        };
        fs::create_dir(host.repository()).unwrap();
        host.git(&["init", "--quiet", "--initial-branch=main"]);
        host
    }

    fn repository(&self) -> PathBuf {
        self.root.path().join("source")
    }

    fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(self.repository())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", self.root.path())
            .args([
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@example.org",
                "-c",
                "protocol.file.allow=always",
            ])
            .args(args)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.repository().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Commits all there is and gives the commit.
    fn commit(&self) -> ObjectId {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=x"]);
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    /// A service whose only build step is `script`, of the commit `pin`.
    fn spec(&self, pin: ObjectId, script: &str) -> Service {
        let text = serde_json::json!({
            "source": { "repository": self.repository(), "branch": "main", "commit": pin },
            "run": { "command": ["./web"] },
        });
        let mut spec: Service = serde_json::from_value(text).unwrap();
        spec.build.steps = vec![shell(script)];
        spec
    }

    fn fetch(&mut self, spec: &Service) -> Result<Fetched, Refusal> {
        let mirror = self.layout.source(&spec.source.repository);
        source::fetch(
            &mirror,
            &spec.source,
            &Access::default(),
            &Limits::default(),
            &mut self.worker,
        )
    }

    async fn release(&mut self, number: u32, spec: &Service) -> Result<Built, Unbuilt> {
        self.release_in(&sandbox(Config::default()), number, spec)
            .await
    }

    async fn release_in(
        &mut self,
        sandbox: &Sandbox,
        number: u32,
        spec: &Service,
    ) -> Result<Built, Unbuilt> {
        let fetched = self.fetch(spec)?;
        let job = Job {
            service: self.service.clone(),
            id: ReleaseId([1; 32]),
            number,
            spec: spec.clone(),
        };
        let compiled = build::build(job, &fetched, &Limits::default(), sandbox, &|_| {}).await?;
        let tested = build::test(compiled, sandbox, &|_| {}).await?;
        Ok(build::stage(tested, b"release: yes\n")?)
    }

    /// Commits `web` with a build of `script`, whose failure is given.
    async fn fails(&mut self, script: &str) -> Unbuilt {
        self.write("web", "web");
        let spec = self.spec(self.commit(), script);
        self.release(1, &spec).await.unwrap_err()
    }

    fn leftovers(&self) -> Vec<PathBuf> {
        fs::read_dir(self.service.releases())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

fn shell(script: &str) -> Step {
    let run = ["sh", "-ec", script].map(str::to_owned).to_vec();
    Step { run }
}

fn sandbox(config: Config) -> Sandbox {
    Sandbox::new(config, None)
}

fn unconfined() -> Sandbox {
    sandbox(Config {
        kind: Kind::None,
        ..Config::default()
    })
}

#[tokio::test]
async fn a_release_holds_its_outputs_its_logs_and_nothing_else() {
    let mut host = Host::new();
    host.write("hello.txt", "hello");
    let mut spec = host.spec(
        host.commit(),
        "mkdir out; tr a-z A-Z <hello.txt >out/web; chmod +x out/web; echo built",
    );
    spec.build.output = vec!["out/web".into(), "hello.txt".into()];
    spec.test.steps = vec![shell("test \"$(cat out/web)\" = HELLO; echo tested")];
    for sandbox in [sandbox(Config::default()), unconfined()] {
        let built = host.release_in(&sandbox, 1, &spec).await.unwrap();
        let mut names: Vec<_> = fs::read_dir(built.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["app", "build.log", "release.yaml", "tests.log"]);
        assert_eq!(
            fs::read_to_string(built.path().join("app/web")).unwrap(),
            "HELLO"
        );
        assert_eq!(
            fs::metadata(built.path().join("app/web")).unwrap().mode() & 0o7777,
            0o555
        );
        assert_eq!(
            fs::metadata(built.path().join("app/hello.txt"))
                .unwrap()
                .mode()
                & 0o7777,
            0o444
        );
        assert!(
            fs::read_to_string(built.path().join("build.log"))
                .unwrap()
                .ends_with("\nbuilt\n")
        );
        assert!(
            fs::read_to_string(built.path().join("tests.log"))
                .unwrap()
                .ends_with("\ntested\n")
        );
        assert_eq!(host.leftovers(), [built.path()]);
        assert_eq!(
            Built::open(&host.service, &ReleaseId([1; 32]), 1),
            Some(built.clone())
        );
        fs::remove_dir_all(built.path()).unwrap();
    }
}

#[tokio::test]
async fn a_failure_has_the_logs_end_and_leaves_no_release() {
    let mut host = Host::new();
    let unbuilt = host
        .fails("for i in $(seq 60); do echo line $i; done; exit 3")
        .await;
    assert_eq!(unbuilt.refusal.code, Code::BuildFailed);
    assert!(
        unbuilt.refusal.detail.ends_with("exit code 3"),
        "{}",
        unbuilt.refusal
    );
    assert_eq!(unbuilt.log.len(), 50);
    assert_eq!(unbuilt.log.last().unwrap(), "line 60");
    assert!(Built::open(&host.service, &ReleaseId([1; 32]), 1).is_none());
    build::clean(&host.service).unwrap();
    assert!(host.leftovers().is_empty());
}

#[tokio::test]
async fn a_test_that_fails_fails_the_release() {
    let mut host = Host::new();
    host.write("web", "web");
    let mut spec = host.spec(host.commit(), "true");
    spec.test.steps = vec![shell("echo expected 1, got 2; exit 1")];
    let unbuilt = host.release(1, &spec).await.unwrap_err();
    assert_eq!(unbuilt.refusal.code, Code::TestFailed);
    assert_eq!(unbuilt.log.last().unwrap(), "expected 1, got 2");
}

#[tokio::test]
async fn a_build_that_hangs_is_killed_with_its_children() {
    for sandbox in [sandbox(Config::default()), unconfined()] {
        let mut host = Host::new();
        host.write("web", "web");
        let mark = format!("{}.{}", 600, std::process::id());
        let script = format!("setsid sleep {mark} & sleep {mark} & wait");
        let mut spec = host.spec(host.commit(), &script);
        spec.build.timeout = Period(500);
        let begun = Instant::now();
        let unbuilt = host.release_in(&sandbox, 1, &spec).await.unwrap_err();
        assert_eq!(unbuilt.refusal.code, Code::BuildTimeout);
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(commands_with(&mark), Vec::<String>::new());
    }
}

/// The command lines of all processes that hold `mark`.
fn commands_with(mark: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|line| line.contains(mark))
        .collect()
}

#[tokio::test]
async fn a_build_sees_neither_network_nor_the_hosts_files() {
    let mut host = Host::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    host.write("web", "web");
    let secret = host.root.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    let script = format!(
        "! bash -c '{connect}' 2>/dev/null; ! cat {secret} 2>/dev/null; ! touch /usr/x 2>/dev/null; ! ls /etc/shadow 2>/dev/null; \
         test \"$PWD\" = /build; test \"$HOME\" = /home; test -z \"$CARGO_MANIFEST_DIR\"; touch /tmp/x; touch $HOME/x",
        secret = secret.display()
    );
    let mut spec = host.spec(host.commit(), &script);
    let done = host.release(1, &spec).await;
    assert!(done.is_ok(), "{done:?}");

    spec.build.fetch = vec![shell(&format!("bash -c '{connect}'"))];
    host.release(2, &spec).await.unwrap();
    spec.build.fetch = Vec::new();
    spec.build.network = Network::Allow;
    spec.build.steps = vec![shell(&format!("bash -c '{connect}'"))];
    host.release(3, &spec).await.unwrap();
}

#[tokio::test]
async fn a_flood_is_cut_and_the_build_goes_on() {
    let mut host = Host::new();
    host.write("web", "web");
    let mut spec = host.spec(
        host.commit(),
        "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo end",
    );
    spec.build.output = vec!["web".into()];
    let built = host.release(1, &spec).await.unwrap();
    let log = fs::metadata(built.path().join("build.log")).unwrap().len();
    assert!(log < (8 << 20) + 100, "{log}");
}

#[tokio::test]
async fn a_disk_without_room_is_told_from_a_build_that_fails() {
    let mut host = Host::new();
    let unbuilt = host
        .fails("dd if=/dev/zero of=/dev/full bs=1 count=1")
        .await;
    assert_eq!(unbuilt.refusal.code, Code::DiskFull, "{unbuilt:?}");

    let floor = Config {
        disk_floor: Bytes(u64::MAX),
        ..Config::default()
    };
    let spec = host.spec(host.commit(), "true");
    let unbuilt = host
        .release_in(&sandbox(floor), 1, &spec)
        .await
        .unwrap_err();
    assert_eq!(unbuilt.refusal.code, Code::DiskFull, "{unbuilt:?}");
}

#[tokio::test]
async fn what_is_kept_comes_back_and_a_file_is_new_exactly_if_it_changed() {
    let mut host = Host::new();
    host.write("same", "same");
    host.write("other", "1");
    // What cargo and make do: build again what is newer than its product.
    let script = "mkdir -p target/deep; echo ---
        for f in same other; do
            if [ ! -e target/deep/$f ] || [ $f -nt target/deep/$f ]; then cp $f target/deep/$f; echo built $f; fi
        done";
    let mut spec = host.spec(host.commit(), script);
    spec.build.cache = vec!["target".into()];
    spec.build.output = vec!["target/deep/other".into()];
    let first = spec.source.commit;
    host.write("other", "2");
    let second = host.commit();

    for (number, commit, said, content) in [
        (1, first, "built same\nbuilt other\n", "1"),
        (2, first, "", "1"),
        (3, second, "built other\n", "2"),
        (4, first, "built other\n", "1"),
    ] {
        spec.source.commit = commit;
        let built = host.release(number, &spec).await.unwrap();
        let log = fs::read_to_string(built.path().join("build.log")).unwrap();
        assert_eq!(log.split_once("\n---\n").unwrap().1, said, "build {number}");
        assert_eq!(
            fs::read_to_string(built.path().join("app/other")).unwrap(),
            content
        );
    }
}

#[tokio::test]
async fn a_build_that_fails_or_hides_its_folder_keeps_the_next_one_well() {
    let mut host = Host::new();
    let mut spec = host.spec(
        host.commit(),
        "mkdir -p target; echo kept >target/x; exit 1",
    );
    spec.build.cache = vec!["target".into(), "deep/er".into()];
    host.release(1, &spec).await.unwrap_err();
    spec.build.steps = vec![shell(
        "cat target/x; rm -r target; ln -s /usr target; mkdir locked; touch locked/x; chmod 555 locked",
    )];
    host.release(2, &spec).await.unwrap();
    spec.build.steps = vec![shell("test ! -e target; mkdir -p deep/er; touch deep/er/x")];
    host.release(3, &spec).await.unwrap();
    spec.build.steps = vec![shell("test -e deep/er/x")];
    host.release(4, &spec).await.unwrap();
}

#[tokio::test]
async fn links_that_stay_in_the_source_are_kept_and_others_refused() {
    let mut host = Host::new();
    host.write("dir/file", "file");
    symlink("../dir/file", host.repository().join("dir/link")).unwrap();
    symlink("dir", host.repository().join("short")).unwrap();
    let good = host.commit();
    let spec = host.spec(good, "test \"$(cat short/link)\" = file");
    host.release(1, &spec).await.unwrap();

    // The last leads out only by way of another link.
    for target in [
        "../../etc/passwd",
        "/etc/passwd",
        "short/../../x",
        "dir/deep/../../x",
    ] {
        let _ = fs::remove_file(host.repository().join("bad"));
        symlink(target, host.repository().join("bad")).unwrap();
        let _ = fs::remove_file(host.repository().join("dir/deep"));
        symlink("..", host.repository().join("dir/deep")).unwrap();
        let spec = host.spec(host.commit(), "true");
        let unbuilt = host.release(1, &spec).await.unwrap_err();
        assert_eq!(
            unbuilt.refusal.code,
            Code::SourceRefused,
            "{target}: {unbuilt:?}"
        );
    }
}

#[tokio::test]
async fn a_source_with_a_submodule_or_too_many_bytes_is_refused() {
    let mut host = Host::new();
    host.write("large", &"x".repeat(5000));
    let spec = host.spec(host.commit(), "true");
    let fetched = host.fetch(&spec).unwrap();
    let folder = host.root.path().join("checkout");
    fs::create_dir(&folder).unwrap();
    let small = Limits {
        bytes: 4999,
        ..Limits::default()
    };
    assert_eq!(
        fetched.checkout(&folder, &small).unwrap_err().code,
        Code::SourceRefused
    );
    let few = Limits {
        entries: 0,
        ..Limits::default()
    };
    assert_eq!(
        fetched.checkout(&folder, &few).unwrap_err().code,
        Code::SourceRefused
    );

    let url = host.repository().display().to_string();
    host.git(&["submodule", "--quiet", "add", &url, "sub"]);
    let spec = host.spec(host.commit(), "true");
    let unbuilt = host.release(1, &spec).await.unwrap_err();
    assert_eq!(unbuilt.refusal.code, Code::SourceRefused, "{unbuilt:?}");
    assert!(
        unbuilt.refusal.detail.contains("submodule"),
        "{}",
        unbuilt.refusal
    );
}

#[test]
fn a_commit_that_is_not_on_the_branch_is_refused_whoever_serves_it() {
    let mut host = Host::new();
    host.write("web", "web");
    let main = host.commit();
    host.git(&["switch", "--quiet", "--create=fork"]);
    host.write("web", "evil");
    let fork = host.commit();
    // As forges show the commits of a pull request, and as another service may have fetched its branch.
    host.git(&["update-ref", "refs/pull/1/head", "fork"]);
    host.git(&["switch", "--quiet", "main"]);
    assert_eq!(
        host.fetch(&host.spec(fork, "true")).unwrap_err().code,
        Code::SourceNotOnBranch
    );
    let mut other = host.spec(fork, "true");
    other.source.branch = "fork".into();
    host.fetch(&other).unwrap();
    assert_eq!(
        host.fetch(&host.spec(fork, "true")).unwrap_err().code,
        Code::SourceNotOnBranch
    );
    host.fetch(&host.spec(main, "true")).unwrap();
    let absent = ObjectId([7; 20]);
    assert_eq!(
        host.fetch(&host.spec(absent, "true")).unwrap_err().code,
        Code::SourceNotOnBranch
    );
}

#[test]
fn a_mirror_that_a_crash_has_broken_is_fetched_anew() {
    let mut host = Host::new();
    let spec = host.spec(host.commit(), "true");
    host.fetch(&spec).unwrap();
    let mirror = host.layout.source(&spec.source.repository);
    for broken in ["HEAD", "objects"] {
        let path = mirror.join(broken);
        fs::remove_dir_all(&path)
            .or_else(|_| fs::write(&path, ""))
            .unwrap();
        host.fetch(&spec).unwrap();
        assert_eq!(host.fetch(&spec).unwrap(), host.fetch(&spec).unwrap());
    }
}

#[tokio::test]
async fn a_build_that_nobody_waits_for_any_more_ends_and_keeps_its_cache() {
    let mut host = Host::new();
    let mark = format!("{}.{}", 700, std::process::id());
    let mut spec = host.spec(
        host.commit(),
        &format!("mkdir target; touch target/x; sleep {mark}"),
    );
    spec.build.cache = vec!["target".into()];
    let sleeps = async {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !commands_with(&mark)
            .iter()
            .any(|line| line.starts_with("sleep"))
        {
            assert!(Instant::now() < deadline, "the build never came to its end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        unexpected = host.release(1, &spec) => panic!("{unexpected:?}"),
        () = sleeps => {}
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !commands_with(&mark).is_empty() {
        assert!(Instant::now() < deadline, "the build goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    spec.build.steps = vec![shell("test -e target/x")];
    host.release(2, &spec).await.unwrap();
}

#[test]
fn a_source_that_is_gone_is_needed_only_for_what_is_new() {
    let mut host = Host::new();
    let first = host.commit();
    host.fetch(&host.spec(first, "true")).unwrap();
    let second = host.commit();
    let moved = host.root.path().join("moved");
    fs::rename(host.repository(), &moved).unwrap();
    host.fetch(&host.spec(first, "true")).unwrap();
    assert_eq!(
        host.fetch(&host.spec(second, "true")).unwrap_err().code,
        Code::SourceUnavailable
    );
    fs::rename(&moved, host.repository()).unwrap();
    let mut spec = host.spec(second, "true");
    spec.source.branch = "gone".into();
    assert_eq!(host.fetch(&spec).unwrap_err().code, Code::SourceUnavailable);
    spec.source.branch = "main".into();
    host.fetch(&spec).unwrap();
}

#[tokio::test]
async fn the_agents_root_builds_and_runs_nothing_as_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut host = Host::new();
    let user = User::by_name("nobody").unwrap();
    fs::set_permissions(host.root.path(), fs::Permissions::from_mode(0o711)).unwrap();
    host.service.create(Some(&user)).unwrap();
    host.write("dir/web", "web");
    let script = "id -u >dir/who; mkdir -p target; touch target/x $HOME/x";
    let mut spec = host.spec(host.commit(), script);
    spec.build.output = vec!["dir".into()];
    spec.build.cache = vec!["target".into()];
    for (number, kind) in [(1, Kind::Bubblewrap), (2, Kind::None)] {
        let sandbox = Sandbox::new(
            Config {
                kind,
                ..Config::default()
            },
            Some(user.clone()),
        );
        let built = host.release_in(&sandbox, number, &spec).await.unwrap();
        let who = built.path().join("app/dir/who");
        assert_eq!(
            fs::read_to_string(&who).unwrap().trim(),
            user.uid.to_string()
        );
        assert_eq!(fs::metadata(&who).unwrap().uid(), 0);
        let reads = Command::new("cat")
            .arg(&who)
            .uid(user.uid)
            .gid(user.gid)
            .output()
            .unwrap();
        assert!(
            reads.status.success(),
            "the slot's user must be able to read its release"
        );
    }
}

/// The real thing: a crate without dependencies, with the toolchain that builds these tests.
#[tokio::test]
async fn cargo_builds_and_tests_a_crate_in_the_sandbox_without_network() {
    let mut host = Host::new();
    host.write(
        "Cargo.toml",
        "[package]\nname = \"web\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    );
    host.write(
        "src/main.rs",
        "fn main() { println!(\"one\"); }\n#[test]\nfn well() {}\n",
    );
    let repository = host.repository();
    run(Command::new("cargo")
        .args(["generate-lockfile", "--offline"])
        .current_dir(&repository));
    let cargo = |words: &str| Step {
        run: words.split(' ').map(str::to_owned).collect(),
    };
    let mut spec = host.spec(host.commit(), "");
    spec.build.fetch = vec![cargo("cargo fetch --locked --offline")];
    spec.build.steps = vec![cargo("cargo build --locked --offline")];
    spec.build.cache = vec!["target".into()];
    spec.build.output = vec!["target/debug/web".into()];
    spec.test.steps = vec![cargo("cargo test --locked --offline")];
    let sysroot = run(Command::new("rustc").args(["--print", "sysroot"]));
    let tools = vec![PathBuf::from(sysroot.trim())];
    let sandbox = sandbox(Config {
        tools,
        ..Config::default()
    });
    let first = host.release_in(&sandbox, 1, &spec).await.unwrap();
    assert_eq!(
        run(&mut Command::new(first.path().join("app/web"))),
        "one\n"
    );

    host.write("src/main.rs", "fn main() { println!(\"two\"); }\n");
    spec.source.commit = host.commit();
    let second = host.release_in(&sandbox, 2, &spec).await.unwrap();
    assert_eq!(
        run(&mut Command::new(second.path().join("app/web"))),
        "two\n"
    );
    assert_eq!(
        run(&mut Command::new(first.path().join("app/web"))),
        "one\n"
    );

    let again = host.release_in(&sandbox, 3, &spec).await.unwrap();
    let log = fs::read_to_string(again.path().join("build.log")).unwrap();
    assert!(
        log.contains("Finished") && !log.contains("Compiling"),
        "{log}"
    );
}

/// Runs a command that must succeed and gives what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
