//! Fetching over https from a real server with a private CA and a token, in this process and in a worker.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use state::Code;
use state::git::fetch::{Fetcher, Request};
use state::git::worker::Worker;
use tests::program::binary;
use tests::server::GitServer;
use tests::wait;

/// A repository with one commit on `main`, behind a server.
struct Fixture {
    folder: tempfile::TempDir,
    server: GitServer,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repositories = folder.path().join("repositories");
        std::fs::create_dir(&repositories).unwrap();
        git(&repositories, &["init", "-q", "-b", "main", "state.git"]);
        let server = GitServer::start(&folder.path().join("server"), &repositories).unwrap();
        let fixture = Self { folder, server };
        fixture.commit("one");
        fixture
    }

    fn commit(&self, content: &str) {
        let repository = self.folder.path().join("repositories/state.git");
        std::fs::write(repository.join("file"), content).unwrap();
        git(&repository, &["add", "."]);
        git(
            &repository,
            &["commit", "-q", "--no-gpg-sign", "-m", "a commit"],
        );
    }

    fn request(&self) -> Request {
        Request {
            url: self.server.url("state.git/.git"),
            token: Some(self.server.token()),
            ca: Some(self.server.ca()),
            refs: vec![("refs/heads/main".into(), "refs/incoming/main".into())],
            wanted: None,
            into: self.folder.path().join("mirror.git"),
            max_bytes: 1 << 20,
            deadline: Duration::from_secs(20),
        }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn git(folder: &Path, args: &[&str]) {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    let done = Command::new("git")
        .current_dir(folder)
        .args(identity)
        .args(args)
        .status();
    assert!(done.unwrap().success(), "git {args:?}");
}

fn refused(request: &Request, code: Code, text: &str) {
    let refusal = Fetcher::default().fetch(request).unwrap_err();
    assert_eq!(refusal.code, code, "{refusal}");
    assert!(refusal.detail.contains(text), "{refusal}");
    assert!(!refusal.detail.contains("s3cret"), "{refusal}");
}

#[test]
fn a_branch_arrives_over_https_and_its_next_commit_over_the_same_connection() {
    let fixture = Fixture::new();
    let mut fetcher = Fetcher::default();
    let first = fetcher.fetch(&fixture.request()).unwrap();
    assert!(first.pack.is_some());
    assert_eq!(fetcher.fetch(&fixture.request()).unwrap().pack, None);
    fixture.commit("two");
    let second = fetcher.fetch(&fixture.request()).unwrap();
    assert!(second.pack.is_some() && second.refs != first.refs);
    let log = std::fs::read_to_string(fixture.server.access_log()).unwrap();
    let connections: BTreeSet<_> = log.lines().map(|line| line.split(' ').next()).collect();
    assert_eq!(connections.len(), 1, "{log}");
}

#[test]
fn without_the_token_or_the_authority_nothing_is_fetched() {
    let fixture = Fixture::new();
    let mut request = fixture.request();
    request.token = None;
    refused(&request, Code::FetchFailed, "401");
    request.token = Some(fixture.file("token", "reader:wrong"));
    refused(&request, Code::FetchFailed, "401");
    request.token = Some(fixture.file("token", "two words"));
    refused(&request, Code::FetchFailed, "holds no token");
    request = fixture.request();
    request.ca = None;
    refused(&request, Code::FetchFailed, "certificate");
    request.ca = Some(fixture.file("ca.pem", "nothing"));
    refused(&request, Code::FetchFailed, "holds no PEM certificate");
}

#[test]
fn a_token_or_an_authority_that_was_replaced_counts_at_once() {
    let fixture = Fixture::new();
    let mut request = fixture.request();
    request.token = Some(fixture.file("token", "reader:old"));
    request.ca = Some(fixture.file(
        "ca.pem",
        &std::fs::read_to_string(fixture.server.ca()).unwrap(),
    ));
    let mut fetcher = Fetcher::default();
    assert_eq!(fetcher.fetch(&request).unwrap_err().code, Code::FetchFailed);
    fixture.file("token", GitServer::TOKEN);
    fetcher.fetch(&request).unwrap();
    fixture.file("ca.pem", "nothing");
    assert_eq!(fetcher.fetch(&request).unwrap_err().code, Code::FetchFailed);
}

#[test]
fn a_redirect_is_refused_with_its_target() {
    let fixture = Fixture::new();
    let mut request = fixture.request();
    request.url = fixture.server.url("moved/state.git");
    refused(
        &request,
        Code::FetchFailed,
        "redirects to 'https://elsewhere.invalid",
    );
}

#[test]
fn more_bytes_than_allowed_are_not_read() {
    let fixture = Fixture::new();
    let noise: String = (0..200_000u64)
        .map(|i| format!("{:x}", i * i * i))
        .collect();
    fixture.commit(&noise);
    refused(&fixture.request(), Code::FetchTooBig, "more than");
}

#[test]
fn a_worker_answers_like_the_fetch_itself_and_is_not_started_anew() {
    let fixture = Fixture::new();
    let mut worker = worker();
    let first = worker.fetch(&fixture.request()).unwrap();
    let id = worker.id().unwrap();
    assert!(first.pack.is_some());
    let mut missing = fixture.request();
    missing.refs[0].0 = "refs/heads/absent".into();
    assert_eq!(worker.fetch(&missing).unwrap_err().code, Code::RefMissing);
    assert_eq!(worker.fetch(&fixture.request()).unwrap().refs, first.refs);
    assert_eq!(worker.id(), Some(id));
}

#[test]
fn a_worker_is_killed_by_a_file_that_outgrows_the_request_and_started_again() {
    let fixture = Fixture::new();
    let noise: String = (0..200_000u64)
        .map(|i| format!("{:x}", i * i * i))
        .collect();
    fixture.commit(&noise);
    let mut request = fixture.request();
    // Over a local path nobody counts bytes on the way; the kernel does when they are written.
    request.url = fixture
        .folder
        .path()
        .join("repositories/state.git")
        .display()
        .to_string();
    let mut worker = worker();
    let refusal = worker.fetch(&request).unwrap_err();
    assert_eq!(refusal.code, Code::FetchTooBig, "{refusal}");
    request.max_bytes = 64 << 20;
    worker.fetch(&request).unwrap();
}

#[test]
fn a_worker_ends_with_its_agent() {
    let mut worker = Command::new(binary("agent"))
        .arg("fetch-worker")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    drop(worker.stdin.take());
    let ended = || worker.try_wait().unwrap();
    assert!(wait::until("the worker ends", Duration::from_secs(10), ended).success());
}

#[test]
fn ssh_is_asked_for_no_password() {
    let fixture = Fixture::new();
    let ssh = fixture.file(
        "ssh",
        "#!/bin/sh\necho \"$@\" >>${0%/*}/asked\nwhile [ $1 != reader@example.invalid ]; do shift; done\nshift; eval \"$*\"\n",
    );
    std::fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("PATH={}:{path}", fixture.folder.path().display());
    let agent = binary("agent").into_os_string();
    let args = vec![path.into(), agent, "fetch-worker".into()];
    let mut request = fixture.request();
    let repository = fixture.folder.path().join("repositories/state.git");
    request.url = format!("ssh://reader@example.invalid{}", repository.display());
    let mut worker = Worker::new("/usr/bin/env".into(), args);
    worker.fetch(&request).unwrap();
    std::fs::write(
        &ssh,
        "#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n",
    )
    .unwrap();
    request.into = fixture.folder.path().join("other.git");
    let refusal = worker.fetch(&request).unwrap_err();
    assert!(refusal.detail.contains("denies access"), "{refusal}");
    let asked = std::fs::read_to_string(fixture.folder.path().join("asked")).unwrap();
    assert!(asked.contains("-o BatchMode=yes"), "{asked}");
    assert!(
        asked.contains("reader@example.invalid git-upload-pack"),
        "{asked}"
    );
}

fn worker() -> Worker {
    Worker::new(binary("agent"), vec!["fetch-worker".into()])
}
