//! `policy hook install REPO`: writes the two hooks and the settings that they read.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use state::file;

use crate::command::Exit;
use crate::repository::Repository;
use crate::settings::{Folder, Settings};

/// By this line a hook of ours is told from a foreign one.
const MARK: &str = "# Installed by `policy hook install`.";

/// Install pre-receive and post-receive in a bare repository.
#[derive(Debug, Args)]
pub(super) struct InstallArgs {
    /// The bare repository.
    repository: PathBuf,
    /// The policy key, for accounts that may read it; kept in REPO/writ/policy.yaml.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub(super) fn run(args: &InstallArgs) -> anyhow::Result<Exit> {
    Repository::served(&args.repository)?;
    let hooks = args.repository.join("hooks");
    for name in ["pre-receive", "post-receive"] {
        refuse_foreign(&hooks.join(name), name)?;
    }
    let folder = Folder::of(&args.repository);
    folder.create()?;
    if let Some(key) = &args.key {
        let key = key
            .canonicalize()
            .with_context(|| format!("cannot find the key '{}'", key.display()))?;
        folder.save_settings(&Settings { key: Some(key) })?;
    }
    std::fs::create_dir_all(&hooks)
        .with_context(|| format!("cannot make '{}'", hooks.display()))?;
    let program = std::env::current_exe().context("cannot find this program's own path")?;
    for name in ["pre-receive", "post-receive"] {
        let path = hooks.join(name);
        let script = format!(
            "#!/bin/sh\n{MARK}\nexec {} hook {name} .\n",
            quoted(&program)
        );
        file::write_atomic(&path, script.as_bytes(), 0o755)
            .with_context(|| format!("cannot write '{}'", path.display()))?;
    }
    outln!(
        "installed pre-receive and post-receive in '{}'",
        hooks.display()
    );
    Ok(Exit::Done)
}

/// Refuses to replace a hook that somebody else wrote.
fn refuse_foreign(path: &Path, name: &str) -> anyhow::Result<()> {
    match std::fs::read(path) {
        Ok(bytes) if !String::from_utf8_lossy(&bytes).contains(MARK) => bail!(
            "'{}' is somebody else's hook: have it run `policy hook {name} .` with the same standard input, or move it away",
            path.display()
        ),
        _ => Ok(()),
    }
}

/// `path` as one word of a POSIX shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
