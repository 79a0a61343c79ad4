//! A git server over TLS, written by hand: it serves one repository as `git upload-pack` does, until it is told how to
//! misbehave. What stock servers never send (half an answer, no answer, an endless one) comes from here.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::program;
use crate::server;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// What the server can do: the first request of every fetch.
    Capabilities,
    /// Where the branches point.
    Refs,
    /// Objects, in a pack.
    Pack,
}

/// An answer: a status line with headers, then the body in pieces, with a pause before each.
pub struct Reply {
    head: String,
    body: Box<dyn Iterator<Item = Vec<u8>> + Send>,
    pause: Duration,
    length_is_told: bool,
}

impl Reply {
    /// A good answer with this body.
    pub fn good(body: Vec<u8>) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
        Self::raw(head, std::iter::once(body))
    }

    /// A good answer whose length is not told; it ends with the connection, if ever.
    pub fn stream(body: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Self {
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
        Self {
            length_is_told: false,
            ..Self::raw(head, body)
        }
    }

    /// A redirect to `target`.
    pub fn redirect(target: &str) -> Self {
        let head = format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n");
        Self::raw(head, std::iter::empty())
    }

    /// Any status line and headers, and any body.
    pub fn raw(
        head: impl Into<String>,
        body: impl Iterator<Item = Vec<u8>> + Send + 'static,
    ) -> Self {
        Self {
            head: head.into(),
            body: Box::new(body),
            pause: Duration::ZERO,
            length_is_told: true,
        }
    }

    /// No answer at all; the connection stays open.
    pub fn silence() -> Self {
        Self::raw("", std::iter::once(Vec::new())).every(Duration::from_secs(3600))
    }

    /// The same answer with a pause before each piece.
    #[must_use]
    pub fn every(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }
}

/// Makes of a question and its honest answer what is sent.
pub type Behaviour = Box<dyn FnMut(Question, Vec<u8>) -> Reply + Send>;

/// The server; it ends with the value.
pub struct Hostile {
    port: u16,
    dir: PathBuf,
    shared: Arc<Shared>,
}

/// What the server's threads share.
struct Shared {
    repository: PathBuf,
    behaviour: Mutex<Option<Behaviour>>,
    heads: Mutex<Vec<String>>,
    over: AtomicBool,
    ended: (Mutex<bool>, Condvar),
}

impl Hostile {
    /// Starts a server for `repository`, with its own files in `dir`; it behaves well.
    pub fn start(dir: &Path, repository: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("a folder");
        server::make_certificates(dir).expect("certificates");
        let chain = CertificateDer::from_pem_file(dir.join("server.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).expect("a key");
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("a certificate and its key");
        let tls = Arc::new(tls);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            repository: repository.to_owned(),
            behaviour: Mutex::new(None),
            heads: Mutex::new(Vec::new()),
            over: AtomicBool::new(false),
            ended: (Mutex::new(false), Condvar::new()),
        });
        let of_server = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if of_server.over.load(Ordering::Relaxed) {
                    return;
                }
                let (tls, shared) = (Arc::clone(&tls), Arc::clone(&of_server));
                // A connection that breaks is the client's to report.
                std::thread::spawn(move || {
                    let _ = shared.converse(tls, stream);
                });
            }
        });
        Self {
            port,
            dir: dir.to_owned(),
            shared,
        }
    }

    /// The URL of the repository.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/state.git", self.port)
    }

    /// The certificate of the private CA, in PEM.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A file with a token.
    pub fn token(&self) -> PathBuf {
        self.dir.join("token")
    }

    /// Answers every question by `behaviour` from now on.
    pub fn behave(&self, behaviour: impl FnMut(Question, Vec<u8>) -> Reply + Send + 'static) {
        *lock(&self.shared.behaviour) = Some(Box::new(behaviour));
    }

    /// Answers honestly again.
    pub fn behave_well(&self) {
        *lock(&self.shared.behaviour) = None;
    }

    /// The heads of all requests so far, as they came.
    pub fn heads(&self) -> Vec<String> {
        lock(&self.shared.heads).clone()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        *lock(&self.shared.ended.0) = true;
        self.shared.ended.1.notify_all();
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes the listener
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Answers requests on one connection until either side ends it.
    fn converse(&self, tls: Arc<ServerConfig>, stream: TcpStream) -> io::Result<()> {
        let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        while let Some(request) = Request::read(&mut stream)? {
            lock(&self.heads).push(request.head.clone());
            let honest = self.upload_pack(&request)?;
            let reply = match &mut *lock(&self.behaviour) {
                Some(behaviour) => behaviour(request.question(), honest),
                None => Reply::good(honest),
            };
            self.send(reply, request.question(), stream.get_mut())?;
        }
        Ok(())
    }

    fn send(&self, mut reply: Reply, question: Question, out: &mut impl Write) -> io::Result<()> {
        let kind = match question {
            Question::Capabilities => "advertisement",
            Question::Refs | Question::Pack => "result",
        };
        if !reply.head.is_empty() {
            let kind = format!("Content-Type: application/x-git-upload-pack-{kind}\r\n\r\n");
            out.write_all((reply.head + &kind).as_bytes())?;
            out.flush()?;
        }
        loop {
            if self.pause(reply.pause) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let Some(piece) = reply.body.next() else {
                break;
            };
            out.write_all(&piece)?;
            out.flush()?;
        }
        if reply.length_is_told {
            Ok(())
        } else {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }

    /// Lets time pass; true if the server ended meanwhile.
    fn pause(&self, time: Duration) -> bool {
        let (ended, woken) = &self.ended;
        let ended = woken.wait_timeout_while(lock(ended), time, |ended| !*ended);
        *ended.unwrap_or_else(PoisonError::into_inner).0
    }

    /// What stock git answers.
    fn upload_pack(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut git = program::command("git", &self.repository);
        git.env("GIT_PROTOCOL", "version=2").args([
            "-c",
            "safe.directory=*",
            "upload-pack",
            "--stateless-rpc",
        ]);
        if request.question() == Question::Capabilities {
            git.arg("--http-backend-info-refs");
        }
        program::feed(git.arg(&self.repository), &request.body)
    }
}

/// One request.
struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// Reads the next one; `None` at the end of the connection.
    fn read(stream: &mut BufReader<impl Read>) -> io::Result<Option<Self>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(None);
            }
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body)?;
        Ok(Some(Self { head, body }))
    }

    fn question(&self) -> Question {
        let asks = |what: &[u8]| self.body.windows(what.len()).any(|window| window == what);
        if self.head.starts_with("GET") {
            Question::Capabilities
        } else if asks(b"command=ls-refs") {
            Question::Refs
        } else {
            Question::Pack
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stock_git_clones_from_it_while_it_behaves_and_not_when_it_redirects() {
        let folder = tempfile::tempdir().expect("a folder");
        let git = |args: &[&str]| {
            let mut git = program::command("git", folder.path());
            git.current_dir(folder.path()).args(args);
            program::run(git.env("GIT_SSL_CAINFO", folder.path().join("server/ca.pem")))
        };
        git(&["init", "-q", "-b", "main", "one"]).ok();
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        let commit = [
            "-C",
            "one",
            "commit",
            "-q",
            "--no-gpg-sign",
            "--allow-empty",
            "-m",
            "one",
        ];
        git(&[&identity[..], &commit].concat()).ok();
        let repository = folder.path().join("one/.git");
        let server = Hostile::start(&folder.path().join("server"), &repository);
        git(&["clone", "-q", &server.url(), "two"]).ok();
        server.behave(|_, _| Reply::redirect("https://elsewhere.invalid/"));
        assert_ne!(git(&["clone", "-q", &server.url(), "three"]).code, 0);
        server.behave_well();
        git(&["clone", "-q", &server.url(), "three"]).ok();
        assert!(server.heads()[0].starts_with("GET /state.git/info/refs?service=git-upload-pack"));
    }
}
