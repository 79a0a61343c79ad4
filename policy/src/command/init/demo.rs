//! Throw-away keys and what they sign: trust version 1 on the branch `trust`, the first commit on `main`.

use std::path::Path;

use anyhow::Context as _;
use state::digest::{Domain, Sha256Hash};
use state::file;
use state::key::SigningKey;
use state::name::Label;
use state::sshsig::{self, Namespace};
use state::trust::Trust;

use crate::command::keygen::{generate, public_path};
use crate::program::Program;

/// Makes the keys in `keys`, signs trust version 1, and commits the content of `dir` to `main` as its author.
pub(super) fn sign(git: &Program, dir: &Path, keys: &Path, name: &Label) -> anyhow::Result<()> {
    let root = generate(&keys.join("root"), "root")?;
    let author = generate(&keys.join("author"), "author")?;
    let policy = generate(&keys.join("policy"), "policy")?;
    let trust = super::trust(name, &root, &policy, &author);
    let signature = sshsig::sign(
        &SigningKey::load(&keys.join("root"))?,
        Namespace::Trust,
        trust.as_bytes(),
    );
    let domain = Domain(Sha256Hash::of(trust.as_bytes()).0);
    Trust::first(trust.as_bytes(), signature.as_bytes(), &domain)?;

    let signers = format!(
        "author@{name} namespaces=\"git\" {author}\n\
         policy@{name} namespaces=\"manifest@writ,freshness@writ\" {policy}\n\
         root@{name} namespaces=\"trust@writ\" {root}\n"
    );
    let allowed = keys.join("allowed_signers");
    file::write_atomic(&allowed, signers.as_bytes(), 0o644)?;
    configure(git, name, &public_path(&keys.join("author")), &allowed)?;
    commit_trust(git, &trust, &signature)?;
    set_domain(&dir.join("repository.yaml"), &domain)?;
    git.run(&["add", "--all"])?;
    git.run(&["commit", "-q", "-S", "-m", "Describe the fleet"])?;
    outln!(
        "Made '{}' with throw-away keys in '{}'. For trying out only.",
        dir.display(),
        keys.display()
    );
    outln!("domain: sha256:{domain}");
    outln!(
        "next:   policy hook install REPO --key {}",
        super::quoted(&keys.join("policy"))
    );
    outln!("        git push REPO trust, then git push REPO main");
    Ok(())
}

/// Lets stock git sign and verify in this clone.
fn configure(git: &Program, name: &Label, author: &Path, allowed: &Path) -> anyhow::Result<()> {
    let (author, allowed) = (author.display().to_string(), allowed.display().to_string());
    for (key, value) in [
        ("user.name", "author"),
        ("user.email", &format!("author@{name}")),
        ("gpg.format", "ssh"),
        ("user.signingkey", &author),
        ("commit.gpgsign", "true"),
        ("gpg.ssh.allowedSignersFile", &allowed),
    ] {
        git.run(&["config", key, value])?;
    }
    Ok(())
}

/// Commits the trust file to the branch `trust`, past the work tree.
fn commit_trust(git: &Program, trust: &str, signature: &str) -> anyhow::Result<()> {
    let blob = |text: &str| git.feed(&["hash-object", "-w", "--stdin"], text.as_bytes());
    let (sig, yaml) = (blob(signature)?, blob(trust)?);
    let entries = format!("100644 blob {sig}\t1.sig\n100644 blob {yaml}\t1.yaml\n");
    let tree = git.feed(&["mktree"], entries.as_bytes())?;
    let commit = git.run(&["commit-tree", "-m", "Trust version 1", &tree])?;
    git.run(&["update-ref", "refs/heads/trust", &commit])?;
    Ok(())
}

/// Sets the line `domain:` of repository.yaml, or adds it.
fn set_domain(path: &Path, domain: &Domain) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read '{}'", path.display()))?;
    let line = format!("domain: \"{domain}\"");
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter().position(|old| old.starts_with("domain:")) {
        Some(at) => lines[at] = &line,
        None => lines.push(&line),
    }
    super::write(path, &(lines.join("\n") + "\n"))
}
