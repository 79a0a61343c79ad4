//! Connections: a thread for each, kept alive between requests, bounded in number and in idle time.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::http::{self, NoRequest, Response};
use crate::service::Service;

/// The most connections at a time; further ones are closed at once.
const MAX_CONNECTIONS: usize = 1000;
/// The longest silence of a client. Longer than a proxy keeps idle connections, so that the proxy closes first.
const MAX_SILENCE: Duration = Duration::from_secs(300);

/// A stream whose waits can be bounded.
pub trait Connection: Read + Write + Send + 'static {
    /// Bounds every read and write, and sends small answers at once.
    fn prepare(&self) -> io::Result<()>;
}

impl Connection for TcpStream {
    fn prepare(&self) -> io::Result<()> {
        self.set_nodelay(true)?;
        self.set_read_timeout(Some(MAX_SILENCE))?;
        self.set_write_timeout(Some(MAX_SILENCE))
    }
}

impl Connection for UnixStream {
    fn prepare(&self) -> io::Result<()> {
        self.set_read_timeout(Some(MAX_SILENCE))?;
        self.set_write_timeout(Some(MAX_SILENCE))
    }
}

/// Serves every connection that comes in. A connection that fails ends alone.
pub fn serve<C: Connection>(incoming: impl Iterator<Item = io::Result<C>>, service: &Arc<Service>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in incoming.flatten() {
        if open.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (service, left) = (service.clone(), open.clone());
        let thread = thread::Builder::new().spawn(move || {
            // The client is gone: there is nobody left to tell.
            let _ = converse(stream, &service);
            left.fetch_sub(1, Ordering::Relaxed);
        });
        if thread.is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Answers the requests of one connection, in order, until either side closes it.
fn converse(stream: impl Connection, service: &Service) -> io::Result<()> {
    stream.prepare()?;
    let mut stream = BufReader::new(stream);
    loop {
        match http::read(&mut stream) {
            Ok(request) => {
                let keep_alive = request.keep_alive;
                let has_body = request.method != "HEAD";
                let response = service.answer(request);
                response.write(stream.get_mut(), service.release(), has_body, keep_alive)?;
                if !keep_alive {
                    return Ok(());
                }
            }
            Err(NoRequest::Closed) => return Ok(()),
            Err(NoRequest::Refused(status)) => {
                let response = Response::text(status, format!("{status}\n"));
                return response.write(stream.get_mut(), service.release(), true, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::tests::service;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    fn start() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || serve(listener.incoming(), &Arc::new(service(""))));
        address
    }

    /// Sends `bytes` and reads until the server closes the connection.
    fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).expect("connect");
        stream.prepare().expect("prepare");
        stream.write_all(bytes).expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer
    }

    #[test]
    fn one_connection_carries_many_requests() {
        let request = b"POST /echo HTTP/1.1\r\nContent-Length: 4\r\n\r\nping";
        let mut bytes = request.repeat(100);
        bytes.extend(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n");
        let answer = exchange(start(), &bytes);
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 101);
        assert_eq!(answer.matches("Writ-Release: 1f0c").count(), 101);
        assert_eq!(answer.matches("ping").count(), 100);
    }

    #[test]
    fn a_hundred_connections_are_served_at_once() {
        let address = start();
        let mut streams: Vec<_> = (0..100)
            .map(|_| TcpStream::connect(address).expect("connect"))
            .collect();
        for stream in streams.iter_mut().rev() {
            stream
                .write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
                .expect("write");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("read");
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        }
    }

    #[test]
    fn a_bad_request_is_answered_and_closed() {
        let answer = exchange(start(), b"nonsense\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request"), "{answer}");
    }
}
