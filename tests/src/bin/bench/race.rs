//! Four policy servers on one repository against plain `git push` into a bare repository without hooks: the same
//! pushers, each with a clone and services of its own, push in parallel and try again when another was faster.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tests::fleet::Fleet;
use tests::program::{self, Outcome};
use tests::servers::{self, PolicyServer};

/// Pushes in all, unless the caller says another number.
pub(crate) const PUSHES: usize = 500;

const SERVERS: usize = 4;
const PUSHERS: usize = 4;
/// A pusher pins one after the other: a pin that is replaced before policy sees it would never be admitted.
const SERVICES_EACH: usize = 10;
/// The time that each of the two has.
const WITHIN: Duration = Duration::from_secs(900);

/// How git and the hook say that another push was faster: before the remote judged, or meanwhile.
const LOST: [&str; 5] = [
    "LOST_RACE",
    "[rejected]",
    "failed to update ref",
    "cannot lock ref",
    "incorrect old value",
];

/// One who pushes.
struct Pusher<'a> {
    number: usize,
    clone: PathBuf,
    home: &'a Path,
    /// The repository in which a pin must be admitted before its service is pinned again.
    admitted: Option<PathBuf>,
    deadline: Instant,
}

/// What pushers did.
struct Pushed {
    pins: Vec<String>,
    lost: usize,
    begun: Instant,
    ended: Instant,
}

impl Pushed {
    fn rate(&self, ended: Instant) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        let pins = self.pins.len() as f64;
        pins / ended.duration_since(self.begun).as_secs_f64()
    }
}

/// Prints admissions a second beside plain pushes a second; fails unless the log holds every pin once.
pub(crate) fn run(pushes: usize) -> Result<()> {
    let fleet = servers::fleet(PUSHERS * SERVICES_EACH);
    let each = pushes.div_ceil(PUSHERS);
    git(
        fleet.path(""),
        &fleet,
        &["clone", "-q", "--bare", "state", "plain.git"],
    )?;
    let peer = push_all(&fleet, "plain", each)?;

    let (_, before) = servers::admissions(&fleet, &[])?;
    let running: Result<Vec<_>> = (0..SERVERS).map(|_| PolicyServer::start(&fleet)).collect();
    let running = running?;
    let own = push_all(&fleet, "state", each)?;
    let (counts, changes) = loop {
        let (counts, changes) = servers::admissions(&fleet, &own.pins)?;
        if counts.iter().all(|count| *count > 0) {
            break (counts, changes);
        }
        ensure!(Instant::now() < own.begun + WITHIN, "admitted: {counts:?}");
        thread::sleep(Duration::from_millis(50));
    };
    let ended = Instant::now();
    for server in running {
        let code = server.end(rustix::process::Signal::TERM)?;
        ensure!(code == 0, "policy run ended with {code}");
    }
    ensure!(
        counts.iter().all(|count| *count == 1) && changes == before + own.pins.len(),
        "not admitted exactly once: {counts:?}, {changes} changes after {before}"
    );
    println!(
        "race: {} pushes by {PUSHERS} pushers, {SERVERS} policy servers, all admitted exactly once: {:.2} admissions/s \
         ({} races lost); plain git push {:.2}/s ({} races lost), ratio {:.2}",
        own.pins.len(),
        own.rate(ended),
        own.lost,
        peer.rate(peer.ended),
        peer.lost,
        own.rate(ended) / peer.rate(peer.ended),
    );
    Ok(())
}

/// Lets all pushers push `each` pins to the repository `remote` of the fleet's folder.
fn push_all(fleet: &Fleet, remote: &str, each: usize) -> Result<Pushed> {
    let url = format!("../{remote}.git");
    let home = fleet.path("");
    let deadline = Instant::now() + WITHIN;
    let mut pushers = Vec::new();
    for number in 0..PUSHERS {
        let name = format!("{remote}-{number}");
        git(home.clone(), fleet, &["clone", "-q", "state", &name])?;
        let clone = fleet.path(&name);
        // It signs as the work tree of the fleet does.
        std::fs::copy(fleet.path("state/.git/config"), clone.join(".git/config"))?;
        git(clone.clone(), fleet, &["remote", "set-url", "origin", &url])?;
        pushers.push(Pusher {
            number,
            clone,
            home: &home,
            admitted: (remote == "state").then(|| fleet.path("state.git")),
            deadline,
        });
    }
    let begun = Instant::now();
    let results: Vec<Result<(Vec<String>, usize)>> = thread::scope(|scope| {
        let threads: Vec<_> = pushers
            .iter()
            .map(|pusher| scope.spawn(move || pusher.push_all(each)))
            .collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a pusher panicked"),
        });
        joined.collect()
    });
    let mut pushed = Pushed {
        pins: Vec::new(),
        lost: 0,
        begun,
        ended: Instant::now(),
    };
    for result in results {
        let (pins, lost) = result?;
        pushed.pins.extend(pins);
        pushed.lost += lost;
    }
    Ok(pushed)
}

impl Pusher<'_> {
    /// Pushes `count` pins, one after the other; returns them, and how many races it lost.
    fn push_all(&self, count: usize) -> Result<(Vec<String>, usize)> {
        let (mut pins, mut lost): (Vec<String>, _) = (Vec::new(), 0);
        for number in 0..count {
            let service = self.number * SERVICES_EACH + number % SERVICES_EACH;
            if let Some(last) = number.checked_sub(SERVICES_EACH) {
                self.wait_for(service, &pins[last])?;
            }
            let pin = servers::pin(&format!("pusher {}", self.number), number);
            while !self.push(service, &pin)? {
                lost += 1;
                ensure!(Instant::now() < self.deadline, "pushes took too long");
                self.git(&["fetch", "-q", "origin", "main"])?;
                self.git(&["reset", "-q", "--hard", "FETCH_HEAD"])?;
            }
            pins.push(pin);
        }
        Ok((pins, lost))
    }

    /// Commits a pin, signed, and pushes it; `false` if another push was faster.
    fn push(&self, service: usize, pin: &str) -> Result<bool> {
        let file = self.clone.join(servers::overlay(service));
        std::fs::write(file, servers::pinned_to(pin))?;
        self.git(&["commit", "-q", "-a", "-m", "Pin one"])?;
        let said = self.run(&["push", "--porcelain", "origin", "HEAD:refs/heads/main"]);
        if said.code == 0 {
            return Ok(true);
        }
        let is_lost = LOST.iter().any(|lost| said.all().contains(lost));
        ensure!(is_lost, "git push: {}", said.all());
        Ok(false)
    }

    /// Waits until the last pin of a service is admitted, where somebody admits.
    fn wait_for(&self, service: usize, pin: &str) -> Result<()> {
        let Some(repository) = &self.admitted else {
            return Ok(());
        };
        let release = format!("admitted:releases/dev/{}.yaml", servers::service(service));
        let repository = repository.to_str().context("a path in UTF-8")?;
        while !self
            .run(&["--git-dir", repository, "show", &release])
            .stdout
            .contains(pin)
        {
            ensure!(Instant::now() < self.deadline, "'{pin}' is not admitted");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let mut git = program::command("git", self.home);
        program::run(git.args(args).current_dir(&self.clone))
    }

    fn git(&self, args: &[&str]) -> Result<()> {
        let outcome = self.run(args);
        ensure!(outcome.code == 0, "git {args:?}: {}", outcome.all());
        Ok(())
    }
}

fn git(dir: PathBuf, fleet: &Fleet, args: &[&str]) -> Result<()> {
    let mut git = program::command("git", &fleet.path(""));
    let outcome = program::run(git.args(args).current_dir(dir));
    ensure!(outcome.code == 0, "git {args:?}: {}", outcome.all());
    Ok(())
}
