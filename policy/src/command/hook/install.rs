//! `policy hook install REPO`: writes the two hooks and the settings that they read.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use state::file;

use crate::command::Exit;
use crate::repository::Repository;
use crate::settings::{Folder, HOOK_MARK, Settings, is_our_hook};

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
    let folder = Folder::of(&args.repository);
    let settings = folder.settings()?;
    if let Some(remote) = &settings.remote {
        bail!(
            "'{}' is policy's mirror of '{}': nobody pushes to it, so it takes no hooks",
            args.repository.display(),
            remote
        );
    }
    let hooks = args.repository.join("hooks");
    for name in ["pre-receive", "post-receive"] {
        refuse_foreign(&hooks.join(name), name)?;
    }
    folder.create()?;
    if let Some(key) = &args.key {
        let key = key
            .canonicalize()
            .with_context(|| format!("cannot find the key '{}'", key.display()))?;
        let key = Some(key);
        folder.save_settings(&Settings { key, ..settings })?;
    }
    std::fs::create_dir_all(&hooks)
        .with_context(|| format!("cannot make '{}'", hooks.display()))?;
    let program = std::env::current_exe().context("cannot find this program's own path")?;
    for name in ["pre-receive", "post-receive"] {
        let path = hooks.join(name);
        let script = format!(
            "#!/bin/sh\n{HOOK_MARK}\nexec {} hook {name} .\n",
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
        Ok(bytes) if !is_our_hook(&bytes) => bail!(
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
