//! The process `agent static`: serves the files of a folder at PORT or SOCKET, as the release RELEASE_ID.
//!
//! The entity tag is the release: an older release that comes back must not be taken for what a client has seen, as it
//! would be by the files' times. There are no listings, and no file outside the folder is served.

use std::convert::Infallible;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_http::services::ServeDir;
use tower_http::services::fs::ServeFileSystemResponseBody;

/// Says which release answers.
const RELEASE: HeaderName = HeaderName::from_static("writ-release");
/// How long clients on open connections are told to leave before those that are idle are closed.
const LAME_DUCK: Duration = Duration::from_millis(500);
/// How long answers that were begun may take when the process ends.
const FINISH: Duration = Duration::from_secs(10);
/// How long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(30);
/// The wait after an accept that failed for want of descriptors.
const RECOVER: Duration = Duration::from_millis(50);

type Body = Either<ServeFileSystemResponseBody, Empty<Bytes>>;

/// What all connections share.
struct Site {
    files: ServeDir,
    release: Option<HeaderValue>,
    tag: Option<HeaderValue>,
    phase: watch::Receiver<Phase>,
}

/// How far the end of the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Every answer asks its client to leave.
    LameDuck,
    /// Idle connections are closed.
    Closing,
}

/// A connection, of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Where requests come from.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
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
    let listener = Listener::bind()?;
    let mut term = signal(SignalKind::terminate())?;
    let (phase, watched) = watch::channel(Phase::Serving);
    let header = |text: String| HeaderValue::from_str(&text).ok();
    let site = Arc::new(Site {
        files: ServeDir::new(folder),
        tag: release
            .as_ref()
            .and_then(|release| header(format!("\"{release}\""))),
        release: release.and_then(header),
        phase: watched,
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = term.recv() => break,
            stream = listener.accept() => {
                if let Some(stream) = stream? {
                    connections.spawn(connection(stream, site.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    phase.send_replace(Phase::LameDuck);
    sleep(LAME_DUCK).await;
    phase.send_replace(Phase::Closing);
    let _ = timeout(FINISH, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    Ok(())
}

impl Listener {
    fn bind() -> io::Result<Self> {
        if let Some(path) = env::var_os("SOCKET").map(PathBuf::from) {
            // Left by the process that had the slot before.
            let _ = fs::remove_file(&path);
            return UnixListener::bind(path).map(Self::Unix);
        }
        let port = env::var("PORT")
            .ok()
            .and_then(|port| port.parse::<u16>().ok());
        let port =
            port.ok_or_else(|| io::Error::other("expected a port in PORT or a path in SOCKET"))?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// The next connection. A client that is gone already is no error, nor is a moment without descriptors.
    async fn accept(&self) -> io::Result<Option<Box<dyn Stream>>> {
        let accepted = match self {
            Self::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| Box::new(stream) as _),
            Self::Unix(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| Box::new(stream) as _),
        };
        match accepted {
            Err(error) if is_transient(&error) => {
                sleep(RECOVER).await;
                Ok(None)
            }
            accepted => accepted.map(Some),
        }
    }
}

/// Says whether an accept that failed may succeed a moment later.
fn is_transient(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::MFILE | Errno::NFILE | Errno::CONNABORTED)
    )
}

/// Answers the requests of one connection.
async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    site: Arc<Site>,
) {
    let mut phase = site.phase.clone();
    let service = service_fn(|request| answer(request, &site));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = phase.wait_for(|phase| *phase == Phase::Closing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(mut request: Request<Incoming>, site: &Site) -> Result<Response<Body>, Infallible> {
    let mut response = if is_known(request.headers(), site.tag.as_ref()) {
        let mut response = Response::new(Either::Right(Empty::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        forget_times(request.headers_mut(), site.tag.as_ref());
        let served = site.files.clone().try_call(request).await;
        served.map_or_else(|_| failed(), |response| response.map(Either::Left))
    };
    let status = response.status();
    let headers = response.headers_mut();
    headers.remove(LAST_MODIFIED);
    let tag = site
        .tag
        .clone()
        .filter(|_| status.is_success() || status == StatusCode::NOT_MODIFIED);
    for (name, value) in [(ETAG, tag), (RELEASE, site.release.clone())] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    if *site.phase.borrow() != Phase::Serving {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn failed() -> Response<Body> {
    let mut response = Response::new(Either::Right(Empty::new()));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
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
