//! The benchmarks: each measures Writ and a peer in the same run and prints a ratio, since machines are noisy.
//! `tests/bench.sh` builds everything in release mode and runs them.

mod cost;
mod hammer;
mod peer;
mod poll;
mod proxy;
mod race;
mod render;
mod scale;
mod site;
mod swap;
mod verify;

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let [verify::HOST, ..] = wanted.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return verify::host(&wanted[1..]);
    }
    let all = wanted.is_empty();
    for name in wanted.iter().map(String::as_str) {
        anyhow::ensure!(
            [
                "poll", "static", "proxy", "scale", "swap", "render", "verify", "race"
            ]
            .contains(&name)
                || race_pushes(name).is_some(),
            "unknown benchmark '{name}': poll, static, proxy, scale, swap, render, verify or race[=PUSHES]"
        );
    }
    let is_wanted = |name: &str| all || wanted.iter().any(|one| one == name);
    if is_wanted("render") {
        render::run()?;
    }
    if is_wanted("poll") {
        poll::run()?;
    }
    if is_wanted("verify") {
        verify::run()?;
    }
    if is_wanted("static") {
        site::run()?;
    }
    if is_wanted("proxy") {
        proxy::run()?;
    }
    if is_wanted("scale") {
        scale::run()?;
    }
    if is_wanted("swap") {
        swap::run()?;
    }
    let fewer = wanted.iter().find_map(|name| race_pushes(name));
    if is_wanted("race") || fewer.is_some() {
        race::run(fewer.unwrap_or(race::PUSHES))?;
    }
    Ok(())
}

/// The number in `race=NUMBER`.
fn race_pushes(name: &str) -> Option<usize> {
    name.strip_prefix("race=")?.parse().ok()
}
