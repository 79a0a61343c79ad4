//! One fetch: exactly the named branches of one remote, into exactly the named refs of a mirror.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::{fs, io};

use gix::bstr::BString;
use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::Transport;
use gix::protocol::transport::client::blocking_io::http;
use gix::remote::Direction;
use gix::remote::fetch::{Status, Tags};
use gix::url::Scheme;
use serde::{Deserialize, Serialize};

use super::client::{Clients, authorization};
use super::http::{Budget, Session};
use super::{Git, RefUpdate, chain, fault, object_id, unusable};
use crate::digest::ObjectId;
use crate::{Code, Refusal};

/// What to fetch, from where, with which credentials, within which bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// `https://…`, `ssh://…`, `file:///…` or an absolute path.
    pub url: String,
    /// A file with a token, or with `user:password`; sent over https only. Read anew by every fetch.
    pub token: Option<PathBuf>,
    /// A PEM file with the only authorities to trust over https; the system's if left out. Read anew by every fetch.
    pub ca: Option<PathBuf>,
    /// Full ref names: the remote's, and the one of the mirror that it is written to. A remote may rewind any of them.
    pub refs: Vec<(String, String)>,
    /// A commit: nothing is fetched if the first of the mirror's refs reaches it already.
    pub wanted: Option<ObjectId>,
    /// The mirror: a bare repository, made if there is none.
    pub into: PathBuf,
    /// The most bytes that the remote may send, and the most that one file may take on disk.
    pub max_bytes: u64,
    /// The time within which it must all have happened.
    pub deadline: Duration,
}

/// What a fetch found and left in the mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// What each of the mirror's refs points at, in the order of the request.
    pub refs: Vec<(String, ObjectId)>,
    /// The pack that was written, if the remote had anything new: see [`Git::discard`].
    pub pack: Option<String>,
    /// Whether the first of the refs reaches the commit that is wanted.
    pub reaches: bool,
}

/// Fetches in this process. Only the fetch worker does: it alone has limits.
#[derive(Default)]
pub struct Fetcher {
    clients: Clients,
}

impl Fetcher {
    /// Does what `request` says.
    ///
    /// # Errors
    /// `FETCH_FAILED`, `FETCH_TOO_BIG`, `FETCH_TIMEOUT`, `DISK_FULL`, and `REF_MISSING` for a branch that the remote lacks.
    pub fn fetch(&mut self, request: &Request) -> Result<Fetched, Refusal> {
        let at = |refusal: Refusal| refusal.at(format_args!("'{}'", request.url));
        let git = Git::init_bare(&request.into)?;
        if reaches(&git, request)? {
            return Ok(Fetched {
                reaches: true,
                ..Fetched::default()
            });
        }
        let url = gix::url::parse(request.url.as_str()).map_err(|error| at(failed(error)))?;
        let fetched = match url.scheme {
            Scheme::Https => self.over_https(&git, url, request),
            Scheme::Ssh => over_program(&git, url, request),
            Scheme::File => {
                let path = PathBuf::from(url.path.to_string());
                over_program(&git, url, request).map_err(|refusal| explain_owner(refusal, &path))
            }
            _ => Err(failed("expected https, ssh, file or an absolute path")),
        };
        Ok(Fetched {
            reaches: reaches(&git, request)?,
            ..fetched.map_err(at)?
        })
    }

    fn over_https(
        &mut self,
        git: &Git,
        url: gix::Url,
        request: &Request,
    ) -> Result<Fetched, Refusal> {
        let budget = Budget::new(request.max_bytes, request.deadline);
        let session = Session {
            client: self.clients.get(request.ca.as_deref())?,
            authorization: request.token.as_deref().map(authorization).transpose()?,
            budget: budget.clone(),
        };
        let remote = remote(git, url.clone(), request)?;
        let transport = http::Transport::new_http(session, url, Protocol::V2, false);
        let received = receive(git, remote.to_connection_with_transport(transport), request);
        received.map_err(|refusal| budget.refusal().unwrap_or(refusal))
    }
}

/// Says whether the mirror holds the commit that is wanted on the first of its refs.
fn reaches(git: &Git, request: &Request) -> Result<bool, Refusal> {
    let Some((wanted, (_, name))) = request.wanted.zip(request.refs.first()) else {
        return Ok(false);
    };
    match git.resolve(name)? {
        Some(tip) if git.contains(&wanted) => git.is_ancestor(&wanted, &tip),
        _ => Ok(false),
    }
}

/// Fetches from the `git-upload-pack` that gix starts, here or over ssh.
fn over_program(git: &Git, url: gix::Url, request: &Request) -> Result<Fetched, Refusal> {
    let remote = remote(git, url, request)?;
    let connection = remote.connect(Direction::Fetch).map_err(failed)?;
    receive(git, connection, request)
}

/// Adds why git may have refused a local repository: its own words are lost on the way.
fn explain_owner(mut refusal: Refusal, path: &Path) -> Refusal {
    let user = rustix::process::geteuid().as_raw();
    if let Some(owner) = fs::metadata(path).ok().map(|metadata| metadata.uid())
        && refusal.code == Code::FetchFailed
        && owner != user
    {
        refusal.detail += &format!(
            " (it belongs to user {owner}, this is user {user}: git reads it only if \
             `git config --system --add safe.directory` names it)"
        );
    }
    refusal
}

/// The remote with the refs of the request, and no others.
fn remote<'a>(git: &'a Git, url: gix::Url, request: &Request) -> Result<gix::Remote<'a>, Refusal> {
    let specs = request
        .refs
        .iter()
        .map(|(from, to)| BString::from(format!("+{from}:{to}")));
    git.repository
        .remote_at_without_url_rewrite(url)
        .and_then(|remote| remote.with_refspecs(specs, Direction::Fetch))
        .map(|remote| remote.with_fetch_tags(Tags::None))
        .map_err(failed)
}

/// Asks for the refs, and for their objects if one of them has moved.
fn receive<T: Transport>(
    git: &Git,
    connection: gix::remote::Connection<'_, '_, '_, T>,
    request: &Request,
) -> Result<Fetched, Refusal> {
    let prepared = connection
        // Never a prompt, never a helper. What an https server answered is in the budget.
        .with_credentials(|_| Err(gix::error::message("the remote denies access").into()))
        .prepare_fetch(
            gix::progress::Discard,
            gix::remote::ref_map::Options::default(),
        )
        .map_err(failed)?;
    let mut refs = Vec::new();
    for (from, to) in &request.refs {
        let mut offered = prepared
            .ref_map()
            .remote_refs
            .iter()
            .map(|offer| offer.unpack());
        let found = offered.find(|(name, ..)| *name == from.as_str());
        let id = found.and_then(|(_, id, _)| id);
        let id = id.ok_or_else(|| Refusal::new(Code::RefMissing, format!("no '{from}'")))?;
        refs.push((to.clone(), object_id(id)?));
    }
    git.unlock()?;
    if points_at(git, &refs)? {
        return Ok(Fetched {
            refs,
            ..Fetched::default()
        });
    }
    git.sweep()?;
    let received = prepared.receive(gix::progress::Discard, &AtomicBool::new(false));
    let received = match received {
        Ok(received) => received,
        Err(error) => {
            git.forget_unreadable()?;
            return Err(failed(error));
        }
    };
    let pack = match received.status {
        Status::Change {
            write_pack_bundle, ..
        } => write_pack_bundle.data_path,
        Status::NoPackReceived { .. } => None,
    };
    if !points_at(git, &refs)? {
        return Err(failed("the mirror's refs could not be moved"));
    }
    let pack = pack.and_then(|file| Some(file.file_stem()?.to_str()?.to_owned()));
    Ok(Fetched {
        refs,
        pack,
        reaches: false,
    })
}

/// Says whether every ref of the mirror is where it should be.
fn points_at(git: &Git, refs: &[(String, ObjectId)]) -> Result<bool, Refusal> {
    for (name, id) in refs {
        if git.resolve(name)? != Some(*id) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn failed(error: impl Into<Box<dyn std::error::Error>>) -> Refusal {
    let error = error.into();
    let code = fault(error.as_ref(), Code::FetchFailed);
    Refusal::new(code, chain(error.as_ref()))
}

impl Git {
    /// Takes back what a fetch brought whose content was refused: its refs, then its pack.
    pub fn discard(&self, fetched: &Fetched) -> Result<(), Refusal> {
        let updates = fetched.refs.iter().map(|(name, id)| RefUpdate {
            name: name.clone(),
            expected: Some(*id),
            new: None,
        });
        self.transaction(&updates.collect::<Vec<_>>())?;
        let folder = self.path().join("objects/pack");
        for pack in fetched.pack.iter().filter(|name| is_pack(name)) {
            for extension in ["idx", "pack", "keep"] {
                remove(&folder.join(format!("{pack}.{extension}")))?;
            }
        }
        Ok(())
    }

    /// Drops all refs if one leads to a commit that the client cannot read. It follows every parent to tell the remote
    /// what is here, also those that no step of verification looks at, and would fail at each fetch from then on. The
    /// next fetch tells nothing and is sent everything.
    fn forget_unreadable(&self) -> Result<(), Refusal> {
        let refs = self.all()?;
        let tips: Vec<_> = refs.iter().map(|(_, id)| *id).collect();
        if self.unreadable(&tips)?.is_none() {
            return Ok(());
        }
        let dropped = refs.into_iter().map(|(name, id)| RefUpdate {
            name,
            expected: Some(id),
            new: None,
        });
        self.transaction(&dropped.collect::<Vec<_>>())
    }

    /// Removes the locks that a killed process left in a mirror, where only one at a time moves refs: it would wait for
    /// them for ever.
    fn unlock(&self) -> Result<(), Refusal> {
        remove(&self.path().join("packed-refs.lock"))?;
        let mut folders = vec![self.path().join("refs")];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).map_err(|error| unusable(&folder, &error))?;
            for entry in entries.flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                } else if path.extension().is_some_and(|lock| lock == "lock") {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Removes what a fetch that was killed left behind. No fetch may be under way.
    pub fn sweep(&self) -> Result<(), Refusal> {
        let folder = self.path().join("objects/pack");
        let entries = fs::read_dir(&folder).map_err(|error| unusable(&folder, &error))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let pack = path.file_stem().and_then(|stem| stem.to_str());
            let keep = path
                .extension()
                .is_some_and(|extension| extension == "keep");
            if keep || !pack.is_some_and(|name| is_pack(name) || name == "multi-pack-index") {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Says whether `name` is the name of a pack, without its extension: `pack-` and the hex of its hash.
pub(super) fn is_pack(name: &str) -> bool {
    let hash = name.strip_prefix("pack-").unwrap_or_default();
    hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Removes a file that may not be there.
fn remove(file: &Path) -> Result<(), Refusal> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(file, &error)),
        _ => Ok(()),
    }
}
