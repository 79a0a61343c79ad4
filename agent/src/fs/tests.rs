//! What an account does to have root change, give away or read what is not its own. Only root can be tricked so: as
//! anybody else the tests end at once.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// Whom files belonged to, and whom they are given to.
const FORMER: u32 = 70_000;
const NEXT: u32 = 70_002;
/// What tells the attacker, who is this program again, where to attack.
const FOLDER: &str = "WRIT_TEST_ATTACK";

/// A folder that every account may enter, with root's `victim/secret` and `data`, which belongs to `FORMER`.
fn folders() -> Option<(tempfile::TempDir, PathBuf, PathBuf)> {
    if !geteuid().is_root() {
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), Permissions::from_mode(0o711)).unwrap();
    let (victim, data) = (root.path().join("victim"), root.path().join("data"));
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("secret"), "secret").unwrap();
    fs::create_dir(&data).unwrap();
    own(&data, FORMER);
    Some((root, victim, data))
}

fn own(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
}

fn owner_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

/// The attacker: as soon as `data` is his, puts a link to `victim` in the place of `data/dir`; until he is killed.
#[test]
fn attacker() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let (data, victim) = (folder.join("data"), folder.join("victim"));
    fs::write(folder.join("his/ready"), "").unwrap();
    loop {
        let moved = fs::rename(data.join("dir"), data.join("aside"));
        if moved.is_ok() && symlink(&victim, data.join("dir")).is_ok() {
            let _ = fs::write(folder.join("his/swapped"), "");
        }
    }
}

struct Attacker(Child);

impl Attacker {
    fn start(folder: &Path) -> Self {
        let his = folder.join("his");
        fs::create_dir(&his).unwrap();
        own(&his, NEXT);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "fs::tests::attacker"])
            .env(FOLDER, folder)
            .stdout(Stdio::null())
            .uid(NEXT)
            .gid(NEXT);
        let attacker = Self(command.spawn().unwrap());
        wait_for(&his.join("ready"));
        attacker
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(Instant::now() < deadline, "no {}", path.display());
        std::thread::yield_now();
    }
}

/// How a build's checkout was given away by earlier agents: by names, from the top on.
fn by_names(path: &Path, user: &User) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            by_names(&entry?.path(), user)?;
        }
    }
    Ok(())
}

/// Gives a folder of root's to the attacker, again and again, while he exchanges what is in it for a link to files of
/// the same names. Returns in which try one of those changed hands.
fn race(give: fn(&Path, &User) -> io::Result<()>, tries: usize) -> Option<usize> {
    const FILES: usize = 10;
    let (root, victim, data) = folders()?;
    let fill = |folder: &Path| {
        fs::create_dir_all(folder).unwrap();
        (0..FILES).for_each(|file| fs::write(folder.join(file.to_string()), "").unwrap());
    };
    fill(&victim);
    let _attacker = Attacker::start(root.path());
    let swapped = root.path().join("his/swapped");
    (0..tries).find(|_| {
        remove(&data).unwrap();
        let _ = fs::remove_file(&swapped);
        fs::create_dir(&data).unwrap();
        fill(&data.join("dir"));
        // Names may vanish under it: that is for who calls to say.
        let _ = give(&data, &User::numbered(NEXT));
        own(&data, NEXT);
        wait_for(&swapped);
        (0..FILES).any(|file| owner_of(&victim.join(file.to_string())) != 0)
    })
}

#[test]
fn a_folder_that_becomes_a_link_meanwhile_gives_nothing_else_away() {
    assert_eq!(race(hand_over, 1_000), None);
    // The race is one that can be lost, though not on a machine that has no time for the attacker.
    if geteuid().is_root() && race(by_names, 1_000).is_none() {
        eprintln!("nobody won the race: this machine is too busy to show that it can be lost");
    }
}

#[test]
fn only_what_belonged_to_the_former_owner_changes_hands() {
    let Some((root, victim, data)) = folders() else {
        return;
    };
    fs::create_dir_all(data.join("a/b")).unwrap();
    fs::write(data.join("a/b/file"), "x").unwrap();
    symlink(&victim, data.join("a/link")).unwrap();
    for path in ["a", "a/b", "a/b/file", "a/link"] {
        own(&data.join(path), FORMER);
    }
    fs::write(data.join("roots"), "x").unwrap();
    fs::hard_link(victim.join("secret"), data.join("hard")).unwrap();

    let next = User::numbered(NEXT);
    hand_over(&data, &next).unwrap();
    for path in ["", "a", "a/b", "a/b/file", "a/link"] {
        let status = fs::symlink_metadata(data.join(path)).unwrap();
        assert_eq!((status.uid(), status.gid()), (NEXT, NEXT), "{path}");
    }
    for path in [data.join("roots"), victim.join("secret"), victim] {
        assert_eq!(owner_of(&path), 0, "{}", path.display());
    }

    // A second name of a file may lie in another service's folder.
    let again = root.path().join("again");
    fs::create_dir(&again).unwrap();
    fs::write(again.join("one"), "x").unwrap();
    own(&again.join("one"), FORMER);
    own(&again, FORMER);
    fs::hard_link(again.join("one"), root.path().join("two")).unwrap();
    let error = hand_over(&again, &next).unwrap_err().to_string();
    assert!(error.contains("'one' has 2 names"), "{error}");
    assert_eq!(owner_of(&again), FORMER);
}

#[test]
fn a_folder_of_somebody_else_or_a_link_is_not_given() {
    let Some((root, victim, data)) = folders() else {
        return;
    };
    let next = User::numbered(NEXT);
    let link = root.path().join("link");
    symlink(&victim, &link).unwrap();
    assert!(give(&link, &[0, FORMER], &next).is_err());
    assert!(hand_over(&link, &next).is_err());
    assert!(owner(&link).is_err());
    assert!(give(&data, &[0], &next).is_err());
    give(&data, &[0, FORMER], &next).unwrap();
    give(&data, &[0], &next).unwrap();
    assert_eq!((owner_of(&data), owner_of(&victim)), (NEXT, 0));
}

#[test]
fn removing_a_link_leaves_what_it_leads_to() {
    let root = tempfile::tempdir().unwrap();
    let [kept, gone] = ["kept", "gone"].map(|name| root.path().join(name));
    fs::create_dir_all(kept.join("inner")).unwrap();
    fs::create_dir_all(gone.join("inner")).unwrap();
    symlink(&kept, gone.join("link")).unwrap();
    fs::set_permissions(&gone, Permissions::from_mode(0o500)).unwrap();
    remove(&gone).unwrap();
    remove(&gone).unwrap();
    symlink(&kept, &gone).unwrap();
    remove(&gone).unwrap();
    assert!(kept.join("inner").exists() && !gone.exists());
}

#[test]
fn folders_are_removed_however_deep_they_lie_in_each_other() {
    let root = tempfile::tempdir().unwrap();
    let deep = root.path().join("deep");
    fs::create_dir(&deep).unwrap();
    let mut at = read_folder(CWD, &deep).unwrap();
    // More than a process may have open, or than fit on a thread's stack as calls.
    for level in 0..30_000 {
        // The names that are moved to may be taken, by anything.
        rustix::fs::mkdirat(&at, "1", Mode::RWXU).unwrap();
        if level % 1_000 == 0 {
            rustix::fs::mkdirat(&at, "2", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("/", &at, "3").unwrap();
        }
        at = read_folder(&at, "1").unwrap();
    }
    remove(&deep).unwrap();
    assert!(!deep.exists());
}

#[tokio::test]
async fn a_socket_is_connected_to_only_where_the_slot_made_it() {
    let root = tempfile::tempdir().unwrap();
    let [own, link, hard] = ["own", "link", "hard"].map(|name| root.path().join(name));
    let _listener = UnixListener::bind(&own).unwrap();
    assert!(connect(&own).await.is_ok());
    symlink(&own, &link).unwrap();
    assert!(connect(&link).await.is_err());
    fs::hard_link(&own, &hard).unwrap();
    assert!(connect(&hard).await.is_err());
    fs::write(root.path().join("file"), "").unwrap();
    assert!(connect(&root.path().join("file")).await.is_err());
    let missing = connect(&root.path().join("none")).await.unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}
