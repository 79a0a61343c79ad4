//! Fetching from a repository of real git over a local path.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use state::Code;
use state::digest::ObjectId;
use state::git::fetch::{Fetcher, Request};
use state::git::{Git, Kind};
use state::tree::Objects;

/// Runs git in `folder` with no configuration but the repository's own, and returns what it printed.
fn git(folder: &Path, args: &[&str]) -> String {
    let done = Command::new("git")
        .current_dir(folder)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .args(args)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// A remote with the branches `main` and `other`, and a place for a mirror.
struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        git(
            fixture.folder.path(),
            &["init", "-q", "-b", "main", "remote"],
        );
        fixture.commit("one");
        git(&fixture.remote(), &["branch", "other"]);
        fixture
    }

    fn remote(&self) -> PathBuf {
        self.folder.path().join("remote")
    }

    fn commit(&self, content: &str) -> ObjectId {
        std::fs::write(self.remote().join("file"), content).unwrap();
        git(&self.remote(), &["add", "."]);
        git(&self.remote(), &["commit", "-q", "-m", content]);
        git(&self.remote(), &["rev-parse", "HEAD"]).parse().unwrap()
    }

    fn request(&self, branches: &[&str]) -> Request {
        let refs = branches.iter();
        let refs = refs.map(|name| {
            (
                format!("refs/heads/{name}"),
                format!("refs/incoming/{name}"),
            )
        });
        Request {
            url: self.remote().display().to_string(),
            token: None,
            ca: None,
            refs: refs.collect(),
            wanted: None,
            into: self.folder.path().join("mirrors/a.git"),
            max_bytes: 1 << 20,
            deadline: Duration::from_secs(20),
        }
    }
}

#[test]
fn a_commit_that_the_client_cannot_read_blinds_it_for_one_fetch_and_no_longer() {
    let fixture = Fixture::new();
    let (remote, mut fetcher) = (fixture.remote(), Fetcher::default());
    // git reads a side whose author follows its committer; gix does not.
    let raw = git(&remote, &["cat-file", "commit", "main"]);
    let mut lines: Vec<_> = raw.lines().collect();
    lines.swap(1, 2);
    std::fs::write(remote.join("raw"), lines.join("\n") + "\n").unwrap();
    let arguments = ["hash-object", "-t", "commit", "-w", "--literally", "raw"];
    let side = git(&remote, &arguments);
    let tree = git(&remote, &["rev-parse", "main^{tree}"]);
    let merge = ["commit-tree", "-p", "main", "-p", &side, "-m", "x", &tree];
    let merge = git(&remote, &merge);
    git(&remote, &["reset", "-q", "--hard", &merge]);
    let request = fixture.request(&["main"]);
    fetcher.fetch(&request).unwrap();
    let id = fixture.commit("two");
    let refusal = fetcher.fetch(&request).unwrap_err();
    assert_eq!(refusal.code, Code::FetchFailed, "{refusal}");
    let fetched = fetcher.fetch(&request).unwrap();
    assert_eq!(fetched.refs, [("refs/incoming/main".to_owned(), id)]);
}

#[test]
fn exactly_the_named_branches_arrive_and_a_second_fetch_brings_nothing() {
    let fixture = Fixture::new();
    git(&fixture.remote(), &["tag", "v1"]);
    let id = fixture.commit("two");
    let request = fixture.request(&["main"]);
    let mut fetcher = Fetcher::default();
    let first = fetcher.fetch(&request).unwrap();
    assert_eq!(first.refs, [("refs/incoming/main".to_owned(), id)]);
    assert!(first.pack.is_some());
    assert_eq!(
        git(&request.into, &["for-each-ref", "--format=%(refname)"]),
        "refs/incoming/main"
    );
    Git::open(&request.into)
        .unwrap()
        .object(Kind::Commit, &id, 1000)
        .unwrap();
    assert_eq!(fetcher.fetch(&request).unwrap().pack, None);
}

#[test]
fn a_remote_that_rewound_a_branch_is_followed_so_that_the_rollback_is_seen() {
    let fixture = Fixture::new();
    let one = git(&fixture.remote(), &["rev-parse", "HEAD"])
        .parse()
        .unwrap();
    fixture.commit("two");
    let request = fixture.request(&["main"]);
    let mut fetcher = Fetcher::default();
    fetcher.fetch(&request).unwrap();
    git(&fixture.remote(), &["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(fetcher.fetch(&request).unwrap().refs[0].1, one);
}

#[test]
fn a_missing_branch_and_an_empty_repository_are_refused_by_name() {
    let fixture = Fixture::new();
    let refusal = Fetcher::default()
        .fetch(&fixture.request(&["main", "admitted"]))
        .unwrap_err();
    assert_eq!(refusal.code, Code::RefMissing);
    assert!(refusal.detail.contains("refs/heads/admitted"), "{refusal}");

    git(fixture.folder.path(), &["init", "-q", "--bare", "empty"]);
    let mut request = fixture.request(&["main"]);
    request.url = format!("file://{}/empty", fixture.folder.path().display());
    let refusal = Fetcher::default().fetch(&request).unwrap_err();
    assert_eq!(refusal.code, Code::RefMissing, "{refusal}");
}

#[test]
fn a_remote_that_is_gone_or_of_another_kind_is_refused() {
    let fixture = Fixture::new();
    for url in [
        "/nowhere/at/all",
        "http://localhost/state.git",
        "git://localhost/state.git",
        "-oProxyCommand=x:y",
    ] {
        let mut request = fixture.request(&["main"]);
        request.url = url.to_owned();
        let refusal = Fetcher::default().fetch(&request).unwrap_err();
        assert_eq!(refusal.code, Code::FetchFailed, "{refusal}");
        assert!(refusal.detail.contains(url), "{refusal}");
    }
}

#[test]
fn a_remote_with_half_a_history_is_refused() {
    let fixture = Fixture::new();
    fixture.commit("two");
    let url = format!("file://{}", fixture.remote().display());
    let half = ["clone", "-q", "--bare", "--depth=1", &url, "half"];
    git(fixture.folder.path(), &half);
    let mut request = fixture.request(&["main"]);
    request.url = fixture.folder.path().join("half").display().to_string();
    let refusal = Fetcher::default().fetch(&request).unwrap_err();
    assert_eq!(refusal.code, Code::FetchFailed, "{refusal}");
}

#[test]
fn what_was_refused_is_taken_back_and_can_be_fetched_again() {
    let fixture = Fixture::new();
    let request = fixture.request(&["main"]);
    let mut fetcher = Fetcher::default();
    let one = fetcher.fetch(&request).unwrap();
    let two = fixture.commit("two");
    let fetched = fetcher.fetch(&request).unwrap();
    let mirror = Git::open(&request.into).unwrap();
    mirror.discard(&fetched).unwrap();
    let mirror = Git::open(&request.into).unwrap();
    assert!(!mirror.contains(&two) && mirror.contains(&one.refs[0].1));
    assert_eq!(mirror.resolve("refs/incoming/main").unwrap(), None);
    assert_eq!(fetcher.fetch(&request).unwrap().refs, fetched.refs);
    assert!(Git::open(&request.into).unwrap().contains(&two));
}

#[test]
fn what_a_killed_fetch_left_is_swept_away() {
    let fixture = Fixture::new();
    let request = fixture.request(&["main"]);
    let packs = request.into.join("objects/pack");
    Git::init_bare(&request.into).unwrap();
    for name in [
        ".tmpAbCdEf",
        "tmp_pack_1",
        "pack-0000000000000000000000000000000000000000.keep",
    ] {
        std::fs::write(packs.join(name), "half").unwrap();
    }
    let pack = Fetcher::default().fetch(&request).unwrap().pack.unwrap();
    let mut left: Vec<_> = std::fs::read_dir(packs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [format!("{pack}.idx"), format!("{pack}.pack")]);
}

#[test]
fn a_repository_of_another_user_is_refused_with_the_reason() {
    let fixture = Fixture::new();
    for path in [fixture.remote(), fixture.remote().join(".git")] {
        if std::os::unix::fs::chown(path, Some(65534), None).is_err() {
            return; // only root can give files away
        }
    }
    let refusal = Fetcher::default()
        .fetch(&fixture.request(&["main"]))
        .unwrap_err();
    assert_eq!(refusal.code, Code::FetchFailed);
    assert!(
        refusal.detail.contains("belongs to user 65534"),
        "{refusal}"
    );
}
