//! `agent enroll`: tells a host, once, which fleet it belongs to.

use std::path::PathBuf;

use state::digest::Domain;
use state::floor::Floor;
use state::name::{EnvironmentName, HostName, Label};
use state::unit::Period;
use state::{Code, Refusal};

use super::{Exit, Place};
use crate::accounts;
use crate::config::{Config, Ports, Remote, Users, parse_domain};
use crate::output;
use crate::sandbox;

/// Make this machine a host of a fleet: write agent.yaml and an empty floor
///
/// The domain is the SHA-256 of the fleet's first trust file. Take it from a root holder, not from the repository: it is
/// the one thing that a host cannot verify.
#[derive(Debug, clap::Args)]
pub(super) struct EnrollArgs {
    /// The state repository: https://…, ssh://…, file:///… or an absolute path; may be repeated for its mirrors, the
    /// preferred one first.
    #[arg(long = "repository", value_name = "URL", required = true)]
    repositories: Vec<String>,
    /// The fleet, as sha256:<64 hex digits>.
    #[arg(long, value_parser = parse_domain)]
    domain: Domain,
    /// The environment whose releases this host runs.
    #[arg(long, value_name = "NAME")]
    environment: EnvironmentName,
    /// The host's name in its environment.
    #[arg(long, value_name = "NAME")]
    host: HostName,
    /// A file with an access token, for every repository over https.
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// A PEM file with the only authorities to trust, for every repository over https.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The account numbers for services and builds, two for each service, as 70000-79999; required for root.
    #[arg(long, value_name = "RANGE", value_parser = str::parse::<Users>)]
    users: Option<Users>,
    /// The time between two passes.
    #[arg(long, value_name = "TIME", value_parser = str::parse::<Period>, overrides_with = "poll")]
    poll: Option<Period>,
    /// The loopback ports of slots, as 20000-29999.
    #[arg(long, value_name = "RANGE", value_parser = str::parse::<Ports>)]
    ports: Option<Ports>,
    /// What confines builds.
    #[arg(long, value_name = "KIND", value_parser = parse_sandbox)]
    sandbox: Option<sandbox::Kind>,
    /// A folder that builds may read beside /usr, such as a toolchain; may be repeated.
    #[arg(long, value_name = "DIR")]
    tools: Vec<PathBuf>,
    /// A label of this host, as KEY=VALUE; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(Label, Label)>,
}

fn parse_sandbox(text: &str) -> Result<sandbox::Kind, String> {
    match text {
        "bubblewrap" => Ok(sandbox::Kind::Bubblewrap),
        "none" => Ok(sandbox::Kind::None),
        _ => Err("expected 'bubblewrap' or 'none'".to_owned()),
    }
}

fn parse_label(text: &str) -> Result<(Label, Label), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    let parse = |text: &str| text.parse::<Label>().map_err(|error| error.to_string());
    Ok((parse(key)?, parse(value)?))
}

pub(super) fn cmd_enroll(place: &Place, args: &EnrollArgs) -> anyhow::Result<Exit> {
    let layout = &place.layout;
    if layout.floor().exists() {
        let detail = format!("'{}' exists", layout.floor().display());
        return Err(Refusal::new(Code::AlreadyEnrolled, detail).into());
    }
    let config = config(args);
    config.check()?;
    accounts::check(layout, &config)?;
    layout.create()?;
    if let Some(folder) = place.config.parent() {
        std::fs::create_dir_all(folder)?;
    }
    config.save(&place.config)?;
    // Last, because it is what makes a host enrolled.
    let floor = Floor::enrolled(args.domain, args.environment.clone(), args.host.clone());
    floor.save(&layout.floor())?;
    output::print(&format!(
        "enrolled {} in {}; settings are in {}\n",
        args.host,
        args.environment,
        place.config.display()
    ))?;
    Ok(Exit::Well)
}

fn config(args: &EnrollArgs) -> Config {
    let remote = |url: &String| {
        let mut remote = Remote::new(url.clone());
        if url.starts_with("https://") {
            remote.token.clone_from(&args.token);
            remote.ca.clone_from(&args.ca);
        }
        remote
    };
    let mut config = Config::new(
        args.host.clone(),
        args.environment.clone(),
        args.domain,
        args.repositories.iter().map(remote).collect(),
    );
    config.users = args.users;
    config.poll = args.poll.unwrap_or(config.poll);
    config.ports = args.ports.unwrap_or(config.ports);
    config.sandbox.kind = args.sandbox.unwrap_or(config.sandbox.kind);
    config.sandbox.tools.clone_from(&args.tools);
    config.labels = args.labels.iter().cloned().collect();
    config
}
