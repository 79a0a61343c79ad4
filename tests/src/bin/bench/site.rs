//! What a static site can do, beside nginx on the same files: one process each.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::hammer;
use crate::peer::Peer;

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 64;

pub(crate) fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let files = [
        ("index.html", 2 << 10),
        ("style.css", 8 << 10),
        ("app.js", 32 << 10),
    ];
    let folder = dir.path().join("public");
    std::fs::create_dir(&folder)?;
    for (name, length) in files {
        std::fs::write(folder.join(name), "x".repeat(length))?;
    }
    let paths = files.map(|(name, _)| format!("/{name}"));
    let site = Peer::site(&folder)?;
    let nginx = Peer::nginx(dir.path(), "nginx", &format!("root {};", folder.display()))?;
    let load = |target: &Peer, rate| hammer::run(target.port, &paths, CONNECTIONS, rate, TIME);

    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push((load(&site, None)?.rate(), load(&nginx, None)?.rate()));
    }
    let most = |of: &dyn Fn(&(f64, f64)) -> f64| rates.iter().map(of).fold(0.0, f64::max);
    let (ours, theirs) = (most(&|rates| rates.0), most(&|rates| rates.1));
    let offered = (ours.min(theirs) / 2.0).floor();
    let mut p99 = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        p99.0 = p99.0.min(load(&site, Some(offered))?.ms(99));
        p99.1 = p99.1.min(load(&nginx, Some(offered))?.ms(99));
    }
    let (rate, latency) = (ours / theirs, p99.0 / p99.1);
    println!(
        "static: {ours:.0} requests a second, nginx {theirs:.0}: {rate:.2} × (at least 0.70, best of {ROUNDS})"
    );
    println!(
        "static: at {offered} requests a second p99 {:.3} ms, nginx {:.3} ms: {latency:.2} × (at most 2.00)",
        p99.0, p99.1,
    );
    ensure!(rate >= 0.7, "it answers less than nginx");
    ensure!(latency <= 2.0, "it answers later than nginx");
    Ok(())
}
