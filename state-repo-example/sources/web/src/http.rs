//! As much of HTTP/1.1 as the service needs: requests with a Content-Length, one answer each, in order.
//!
//! Leaves out chunked bodies (refused, so that no two readers can disagree about where a request ends).

use std::io::{self, BufRead, BufReader, Read, Write};

/// The most bytes of a request line and its headers.
const MAX_HEAD: u64 = 16 * 1024;
/// The most bytes of a request's body.
const MAX_BODY: u64 = 1024 * 1024;

/// One request, read to its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    target: String,
    pub body: Vec<u8>,
    pub keep_alive: bool,
}

impl Request {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    #[cfg(test)]
    pub fn new(method: &str, target: &str, body: &[u8]) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            body: body.into(),
            keep_alive: true,
        }
    }
}

/// Why no request could be read.
#[derive(Debug)]
pub enum NoRequest {
    /// The client is gone, or was silent for too long.
    Closed,
    /// The request is refused with this status; where the next one would begin is unknown.
    Refused(&'static str),
}

impl From<io::Error> for NoRequest {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

const BAD_REQUEST: NoRequest = NoRequest::Refused("400 Bad Request");

/// Reads the next request of a connection. What follows it stays in the reader for the next call.
pub fn read<S: Read + Write>(stream: &mut BufReader<S>) -> Result<Request, NoRequest> {
    let mut head = stream.take(MAX_HEAD);
    let line = read_line(&mut head)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BAD_REQUEST);
    };
    if !target.starts_with('/') || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(BAD_REQUEST);
    }
    let mut length = None;
    let mut keep_alive = version == "HTTP/1.1";
    let mut awaits_continue = false;
    loop {
        let line = read_line(&mut head)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or(BAD_REQUEST)?;
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => {
                let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
                let number = value.parse::<u64>().ok().filter(|_| is_number);
                if length.replace(number.ok_or(BAD_REQUEST)?).is_some() {
                    return Err(BAD_REQUEST);
                }
            }
            ("transfer-encoding", _) => return Err(NoRequest::Refused("411 Length Required")),
            ("connection", value) if value.eq_ignore_ascii_case("close") => keep_alive = false,
            ("expect", value) => awaits_continue = value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
    }
    let length = length.unwrap_or(0);
    if length > MAX_BODY {
        return Err(NoRequest::Refused("413 Content Too Large"));
    }
    if awaits_continue && length > 0 {
        stream
            .get_mut()
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    if stream.take(length).read_to_end(&mut body)? as u64 != length {
        return Err(NoRequest::Closed);
    }
    Ok(Request {
        method: method.into(),
        target: target.into(),
        body,
        keep_alive,
    })
}

/// Reads one line and takes its CRLF off. A head that ends without one was cut, by the client or by its bound.
fn read_line(head: &mut io::Take<impl BufRead>) -> Result<String, NoRequest> {
    let mut line = Vec::new();
    head.read_until(b'\n', &mut line)?;
    let Some(line) = line.strip_suffix(b"\n") else {
        return Err(match head.limit() {
            0 => NoRequest::Refused("431 Request Header Fields Too Large"),
            _ => NoRequest::Closed,
        });
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8(line.to_vec()).map_err(|_| BAD_REQUEST)
}

/// One answer.
#[derive(Debug)]
pub struct Response {
    pub status: &'static str,
    pub body: Vec<u8>,
    kind: &'static str,
    allow: Option<&'static str>,
}

impl Response {
    /// An answer to read.
    pub fn text(status: &'static str, body: String) -> Self {
        Self {
            status,
            body: body.into(),
            kind: "text/plain; charset=utf-8",
            allow: None,
        }
    }

    /// An answer of bytes.
    pub fn bytes(status: &'static str, body: Vec<u8>) -> Self {
        Self {
            status,
            body,
            kind: "application/octet-stream",
            allow: None,
        }
    }

    /// The page exists, but only for the methods of `allow`.
    pub fn not_allowed(allow: &'static str) -> Self {
        let text = format!("allowed: {allow}\n");
        Self {
            allow: Some(allow),
            ..Self::text("405 Method Not Allowed", text)
        }
    }

    /// Writes the answer in one piece; `has_body` is false in answer to HEAD.
    pub fn write(
        &self,
        stream: &mut impl Write,
        release: &str,
        has_body: bool,
        keep_alive: bool,
    ) -> io::Result<()> {
        let mut bytes = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nWrit-Release: {release}\r\n",
            self.status,
            self.kind,
            self.body.len(),
        )
        .into_bytes();
        if let Some(allow) = self.allow {
            bytes.extend(format!("Allow: {allow}\r\n").bytes());
        }
        if !keep_alive {
            bytes.extend(b"Connection: close\r\n");
        }
        bytes.extend(b"\r\n");
        if has_body {
            bytes.extend(&self.body);
        }
        stream.write_all(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A connection in memory: what the client sent, and what it would receive.
    struct Wire(Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Wire {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn wire(sent: impl Into<Vec<u8>>) -> BufReader<Wire> {
        BufReader::new(Wire(Cursor::new(sent.into()), Vec::new()))
    }

    fn refusal(sent: impl Into<Vec<u8>>) -> &'static str {
        match read(&mut wire(sent)) {
            Err(NoRequest::Refused(status)) => status,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn pipelined_requests_are_read_one_by_one() {
        let mut wire = wire(
            "POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(
            read(&mut wire).expect("first"),
            Request::new("POST", "/echo", b"abc")
        );
        let second = read(&mut wire).expect("second");
        assert_eq!((second.path(), second.keep_alive), ("/", false));
        assert!(matches!(read(&mut wire), Err(NoRequest::Closed)));
    }

    #[test]
    fn head_and_body_are_bounded() {
        let long = "x".repeat(MAX_HEAD as usize);
        assert!(refusal(format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n")).starts_with("431"));
        let length = MAX_BODY + 1;
        let request = format!("POST /echo HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        assert!(refusal(request).starts_with("413"));
    }

    #[test]
    fn requests_whose_end_is_unclear_are_refused() {
        for header in [
            "Transfer-Encoding: chunked",
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: +1",
            "Content-Length:",
            "no colon",
        ] {
            let status = refusal(format!("POST /echo HTTP/1.1\r\n{header}\r\n\r\n"));
            assert!(status.starts_with('4'), "{header}: {status}");
        }
        assert!(refusal("GET /\r\n\r\n").starts_with("400"));
        assert!(refusal("GET / HTTP/2.0\r\n\r\n").starts_with("400"));
        assert!(refusal(b"GET /\xff HTTP/1.1\r\n\r\n").starts_with("400"));
    }

    #[test]
    fn a_cut_request_is_not_answered() {
        for sent in [
            "",
            "GET / HT",
            "POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\nab",
        ] {
            assert!(
                matches!(read(&mut wire(sent)), Err(NoRequest::Closed)),
                "{sent:?}"
            );
        }
    }

    #[test]
    fn a_client_that_waits_to_send_its_body_is_told_to_continue() {
        let mut wire =
            wire("POST /echo HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\na");
        assert_eq!(read(&mut wire).expect("request").body, b"a");
        assert_eq!(wire.get_ref().1, b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    #[test]
    fn an_answer_names_the_release_and_a_head_answer_has_no_body() {
        let mut bytes = Vec::new();
        let response = Response::text("200 OK", "hello".into());
        response
            .write(&mut bytes, "1f0c", false, false)
            .expect("a vector takes it");
        assert_eq!(
            String::from_utf8(bytes).expect("text"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\
             Writ-Release: 1f0c\r\nConnection: close\r\n\r\n"
        );
    }
}
