//! Which sources are fetched, and which are written out.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use agent::source::Limits;
use state::Code;
use state::digest::ObjectId;
use state::unit::Bytes;

use crate::host::Host;

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
        fetched
            .checkout(&folder, &small, Bytes(0))
            .await
            .unwrap_err()
            .code,
        Code::SourceRefused
    );
    let few = Limits {
        entries: 0,
        ..Limits::default()
    };
    assert_eq!(
        fetched
            .checkout(&folder, &few, Bytes(0))
            .await
            .unwrap_err()
            .code,
        Code::SourceRefused
    );

    let all = Limits::default();
    let full = fetched.checkout(&folder, &all, Bytes(u64::MAX)).await;
    assert_eq!(full.unwrap_err().code, Code::DiskFull);

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

#[tokio::test]
async fn what_is_not_what_it_seems_is_refused_by_its_path() {
    let mut host = Host::new();
    let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12345\n");
    host.write("media/logo.png", &pointer);
    let spec = host.spec(host.commit(), "true");
    let unbuilt = host.release(1, &spec).await.unwrap_err();
    assert_eq!(unbuilt.refusal.code, Code::SourceRefused, "{unbuilt:?}");
    let told = "'media/logo.png' is a Git LFS pointer";
    assert!(unbuilt.refusal.detail.contains(told), "{}", unbuilt.refusal);

    // A text about pointers is none.
    host.write(
        "media/logo.png",
        &format!("# How a pointer looks\n{pointer}"),
    );
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::create_dir(host.repository().join("dir")).unwrap();
    fs::write(host.repository().join("dir").join(name), "x").unwrap();
    let spec = host.spec(host.commit(), "true");
    let unbuilt = host.release(2, &spec).await.unwrap_err();
    assert_eq!(unbuilt.refusal.code, Code::SourceRefused, "{unbuilt:?}");
    let told = r"'dir': the name 'caf\xe9' is not UTF-8";
    assert!(unbuilt.refusal.detail.contains(told), "{}", unbuilt.refusal);

    fs::remove_dir_all(host.repository().join("dir")).unwrap();
    let spec = host.spec(host.commit(), "test -e media/logo.png");
    host.release(3, &spec).await.unwrap();
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
