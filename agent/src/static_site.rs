//! The process `agent static`: serves the files of a folder at PORT or SOCKET, as the release RELEASE_ID.
//!
//! The entity tag is the release: an older release that comes back must not be taken for what a client has seen, as it
//! would be by the files' times. There are no listings, and no file outside the folder is served. Since a release is
//! read-only, small files are kept in memory.

mod memory;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tower_http::services::ServeDir;
use tower_http::services::fs::ServeFileSystemResponseBody;

use crate::serve::{self, Bounds, Listener, Peer, Watch};
use memory::Memory;

/// Says which release answers.
const RELEASE: HeaderName = HeaderName::from_static("writ-release");
/// What is answered where nothing is, if the site has it.
const NOT_FOUND: &str = "/404.html";

const BOUNDS: Bounds = Bounds {
    head: Duration::from_secs(30),
    idle: Duration::from_secs(60),
    connections: 4096,
    farewell: Duration::from_secs(10),
};

type Body = Either<ServeFileSystemResponseBody, Full<Bytes>>;

/// A folder as one release.
struct Site {
    files: ServeDir,
    memory: Memory,
    release: Option<HeaderValue>,
    tag: Option<HeaderValue>,
}

/// Serves `folder` until SIGTERM, then ends what was begun.
///
/// # Errors
/// If it is not told where to listen, cannot listen there, or a link in the folder leads out of it.
pub fn run(folder: &Path) -> io::Result<()> {
    let root = folder.canonicalize()?;
    refuse_links_out(&root, &root)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(&root, env::var("RELEASE_ID").ok()))
}

async fn serve(folder: &Path, release: Option<String>) -> io::Result<()> {
    let listener = listen().await?;
    let mut term = signal(SignalKind::terminate())?;
    let header = |text: String| HeaderValue::from_str(&text).ok();
    let site = Site {
        files: ServeDir::new(folder),
        memory: Memory::default(),
        tag: release
            .as_ref()
            .and_then(|release| header(format!("\"{release}\""))),
        release: release.and_then(header),
    };
    let (stop, stopped) = oneshot::channel();
    let end = async move {
        term.recv().await;
        // Nobody needs to hear when the socket is closed.
        let _ = stop.send(oneshot::channel().0);
    };
    tokio::join!(serve::serve(listener, site, BOUNDS, stopped), end);
    Ok(())
}

async fn listen() -> io::Result<Listener> {
    if let Some(path) = env::var_os("SOCKET").map(PathBuf::from) {
        // Left by the process that had the slot before.
        let _ = fs::remove_file(&path);
        return Listener::unix(&path);
    }
    let port = env::var("PORT")
        .ok()
        .and_then(|port| port.parse::<u16>().ok());
    let port =
        port.ok_or_else(|| io::Error::other("expected a port in PORT or a path in SOCKET"))?;
    Listener::tcp(([127, 0, 0, 1], port).into()).await
}

impl serve::Answer for Site {
    type Body = Body;
    type Client = ();

    fn client(&self, _: Peer) {}

    async fn answer(
        &self,
        (): &(),
        _: &Arc<Watch>,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        let mut response = if is_known(request.headers(), self.tag.as_ref()) {
            empty(StatusCode::NOT_MODIFIED)
        } else {
            forget_times(request.headers_mut(), self.tag.as_ref());
            self.file(request).await
        };
        let status = response.status();
        let headers = response.headers_mut();
        headers.remove(LAST_MODIFIED);
        let tag = self
            .tag
            .clone()
            .filter(|_| status.is_success() || status == StatusCode::NOT_MODIFIED);
        for (name, value) in [(ETAG, tag), (RELEASE, self.release.clone())] {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        response
    }
}

impl Site {
    /// The file that is asked for; the site's own page where there is none.
    async fn file(&self, request: Request<Incoming>) -> Response<Body> {
        let method = request.method().clone();
        let answer = self.read(request.map(drop)).await;
        if answer.status() != StatusCode::NOT_FOUND {
            return answer;
        }
        let mut page = Request::new(());
        *page.method_mut() = method;
        *page.uri_mut() = Uri::from_static(NOT_FOUND);
        let mut page = self.read(page).await;
        if !page.status().is_success() {
            return answer;
        }
        *page.status_mut() = StatusCode::NOT_FOUND;
        page
    }

    async fn read(&self, request: Request<()>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let whole = request.method() == Method::GET && !request.headers().contains_key(RANGE);
        if whole && let Some(known) = self.memory.get(&path) {
            return known.map(Either::Right);
        }
        let request = request.map(|()| Full::<Bytes>::default());
        let Ok(mut answer) = self.files.clone().try_call(request).await else {
            return empty(StatusCode::INTERNAL_SERVER_ERROR);
        };
        name_charset(answer.headers_mut());
        let length = answer.body().size_hint().exact();
        let small = length.is_some_and(|length| length <= memory::MAX_FILE);
        if !(whole && small && answer.status() == StatusCode::OK) {
            return answer.map(Either::Left);
        }
        let (head, body) = answer.into_parts();
        let Ok(body) = body.collect().await else {
            return empty(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let answer = Response::from_parts(head, Full::new(body.to_bytes()));
        self.memory.keep(path, &answer);
        answer.map(Either::Right)
    }
}

/// Says that texts are UTF-8: without it browsers guess.
fn name_charset(headers: &mut HeaderMap) {
    let Some(Ok(kind)) = headers.get(CONTENT_TYPE).map(HeaderValue::to_str) else {
        return;
    };
    if kind.starts_with("text/") && !kind.contains("charset") {
        let named = HeaderValue::try_from(format!("{kind}; charset=utf-8"));
        headers.insert(CONTENT_TYPE, named.expect("made of a value"));
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::default()));
    *response.status_mut() = status;
    response
}

/// Says whether the client has this release's answer; only answers that were found had a tag.
fn is_known(headers: &HeaderMap, tag: Option<&HeaderValue>) -> bool {
    let Some(tag) = tag.and_then(|tag| tag.to_str().ok()) else {
        return false;
    };
    let asked = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut tags = asked.flat_map(|value| value.split(','));
    tags.any(|known| known.trim().trim_start_matches("W/") == tag)
}

/// Drops conditions on times, and a range of another release's file.
fn forget_times(headers: &mut HeaderMap, tag: Option<&HeaderValue>) {
    headers.remove(IF_MODIFIED_SINCE);
    headers.remove(IF_UNMODIFIED_SINCE);
    if headers
        .remove(IF_RANGE)
        .is_some_and(|range| Some(&range) != tag)
    {
        headers.remove(RANGE);
    }
}

/// Refuses a link that leads out of `root`; one that leads nowhere is not found when it is asked for. The release is
/// read-only, so looking once is enough.
fn refuse_links_out(root: &Path, folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            refuse_links_out(root, &path)?;
        } else if kind.is_symlink()
            && fs::canonicalize(&path).is_ok_and(|target| !target.starts_with(root))
        {
            return Err(io::Error::other(format!(
                "the link '{}' leads out of the folder",
                path.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tagged(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_the_same_release_is_not_modified() {
        let tag = HeaderValue::from_static("\"abc\"");
        for (asked, known) in [
            ("\"abc\"", true),
            ("\"x\", W/\"abc\"", true),
            ("\"abd\"", false),
            ("abc", false),
        ] {
            assert_eq!(
                is_known(&tagged(IF_NONE_MATCH, asked), Some(&tag)),
                known,
                "{asked}"
            );
        }
        assert!(!is_known(&tagged(IF_NONE_MATCH, "\"abc\""), None));
    }

    #[test]
    fn a_range_of_another_release_becomes_the_whole_file() {
        let tag = HeaderValue::from_static("\"abc\"");
        for (asked, ranged) in [
            ("\"abc\"", true),
            ("\"old\"", false),
            ("Sat, 21 Nov 2026 00:00:00 GMT", false),
        ] {
            let mut headers = tagged(IF_RANGE, asked);
            headers.insert(RANGE, HeaderValue::from_static("bytes=0-1"));
            forget_times(&mut headers, Some(&tag));
            assert_eq!(headers.contains_key(RANGE), ranged, "{asked}");
        }
    }

    #[test]
    fn a_link_that_leads_out_is_refused_and_one_within_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("sub")).unwrap();
        fs::write(root.join("index.html"), "hello").unwrap();
        symlink("../index.html", root.join("sub/in")).unwrap();
        symlink("nowhere", root.join("sub/dangling")).unwrap();
        refuse_links_out(&root, &root).unwrap();
        symlink("/etc/passwd", root.join("sub/out")).unwrap();
        assert!(
            refuse_links_out(&root, &root)
                .unwrap_err()
                .to_string()
                .contains("sub/out")
        );
    }
}
