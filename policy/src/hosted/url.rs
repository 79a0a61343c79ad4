//! Which URLs of a remote policy takes: those that stock git reaches without a helper of its own.

use anyhow::bail;
use state::text::Escaped;

/// Says whether git reaches `url` by ssh: `ssh://…`, or `user@host:path`.
pub(super) fn is_ssh(url: &str) -> bool {
    let before = |mark| url.split(mark).next().unwrap_or_default();
    url.starts_with("ssh://")
        || (!url.contains("://") && !before(':').contains('/') && url.contains(':'))
}

/// Refuses what is no URL of a git repository, or holds a password, which every list of processes would show.
pub(super) fn check_url(url: &str) -> anyhow::Result<()> {
    let is_path = url.starts_with('/') || url.starts_with("file:///");
    let known = is_path || url.starts_with("https://") || is_ssh(url);
    let odd = url.starts_with('-') || url.contains("::") || url.contains(char::is_control);
    if !known || odd {
        bail!(
            "the remote '{}' is none of https://…, ssh://…, user@host:path, file:///… and an absolute path",
            Escaped(url)
        );
    }
    let authority = url.split("://").nth(1).unwrap_or_default();
    let authority = authority.split('/').next().unwrap_or_default();
    if authority
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'))
    {
        bail!("the remote's URL holds a password: hand it to git's credential helper instead");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_that_git_reaches_without_a_helper_are_taken() {
        for url in [
            "https://git.example.org/state.git",
            "https://policy@git.example.org:8443/state.git",
            "ssh://git@git.example.org:22/state.git",
            "git@git.example.org:acme/state.git",
            "file:///srv/git/state.git",
            "/srv/git/state.git",
        ] {
            check_url(url).unwrap();
        }
        for url in [
            "",
            "state.git",
            "../state.git",
            "http://git.example.org/state.git",
            "git://git.example.org/state.git",
            "ext::sh -c reboot",
            "-uevil@host:path",
            "https://a\u{1b}b/",
            "https://policy:secret@git.example.org/state.git",
        ] {
            check_url(url).unwrap_err();
        }
    }
}
