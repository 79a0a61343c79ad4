//! Git's smart HTTP over clients that outlive a fetch: a connection made once serves the next passes too.
//!
//! gix's own backend builds a client, and so a TLS handshake, for every fetch. This one adds what that lacks: a cap on
//! the bytes of a whole fetch, a deadline, no proxies from the environment and no redirects.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use gix::protocol::transport::client::AuthenticationRequired;
use gix::protocol::transport::client::blocking_io::http::{
    GetResponse, Http, PostBodyDataKind, PostResponse,
};
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};

use super::chain;
use crate::{Code, Refusal};

/// What one fetch may still take, and the refusal of what took more: gix's errors keep only its text.
pub(super) struct Budget {
    until: Instant,
    bytes: Cell<u64>,
    refusal: RefCell<Option<Refusal>>,
}

impl Budget {
    pub(super) fn new(bytes: u64, deadline: Duration) -> Rc<Self> {
        Rc::new(Self {
            until: Instant::now() + deadline,
            bytes: Cell::new(bytes),
            refusal: RefCell::new(None),
        })
    }

    /// The refusal that ended the fetch, if it was ended here.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.take()
    }

    fn fail(&self, code: Code, detail: impl Into<String>) -> io::Error {
        let refusal = Refusal::new(code, detail);
        let error = io::Error::other(refusal.clone());
        self.refusal.borrow_mut().get_or_insert(refusal);
        error
    }

    /// The time that is left.
    fn time(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.fail(Code::FetchTimeout, "the deadline has passed"));
        }
        Ok(left)
    }

    /// Takes `read` bytes off what is left.
    fn take(&self, read: usize) -> io::Result<()> {
        match self.bytes.get().checked_sub(read as u64) {
            Some(left) => self.bytes.set(left),
            None => return Err(self.fail(Code::FetchTooBig, "the remote sent more than the limit")),
        }
        Ok(())
    }
}

/// The HTTP side of one fetch.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) budget: Rc<Budget>,
}

impl Session {
    fn exchange(
        &self,
        request: RequestBuilder,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Rc<RefCell<Exchange>> {
        let mut map = HeaderMap::new();
        for line in headers {
            let (name, value) = line.as_ref().split_once(':').unwrap_or_default();
            if let (Ok(name), Ok(value)) = (
                HeaderName::try_from(name),
                HeaderValue::try_from(value.trim()),
            ) {
                map.append(name, value);
            }
        }
        if let Some(value) = &self.authorization {
            map.insert(AUTHORIZATION, value.clone());
        }
        Rc::new(RefCell::new(Exchange {
            request: Some(request.headers(map)),
            body: Vec::new(),
            response: None,
            budget: Rc::clone(&self.budget),
        }))
    }
}

impl Http for Session {
    type Headers = Lazy<Cursor<Vec<u8>>>;
    type ResponseBody = Lazy<BufReader<Body>>;
    type PostBody = PostBody;

    fn get(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Self::Headers, Self::ResponseBody>> {
        let exchange = self.exchange(self.client.get(url), headers);
        Ok(GetResponse {
            headers: Lazy::new(&exchange, Exchange::headers),
            body: Lazy::new(&exchange, Exchange::body),
        })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _kind: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Self::Headers, Self::ResponseBody, Self::PostBody>> {
        let exchange = self.exchange(self.client.post(url), headers);
        Ok(PostResponse {
            post_body: PostBody(Rc::clone(&exchange)),
            headers: Lazy::new(&exchange, Exchange::headers),
            body: Lazy::new(&exchange, Exchange::body),
        })
    }

    fn configure(&mut self, _config: &dyn Any) -> gix::Result {
        Ok(()) // git's own configuration of HTTP (proxies, headers, cookies) is not taken over
    }
}

/// One request and its response; sent when the first byte of the response is asked for, so that its body is complete.
pub(super) struct Exchange {
    request: Option<RequestBuilder>,
    body: Vec<u8>,
    response: Option<Response>,
    budget: Rc<Budget>,
}

impl Exchange {
    fn send(&mut self) -> io::Result<&mut Option<Response>> {
        if let Some(mut request) = self.request.take() {
            if !self.body.is_empty() {
                request = request.body(std::mem::take(&mut self.body));
            }
            let sent = request.timeout(self.budget.time()?).send();
            let response = sent.map_err(|error| match error.is_timeout() {
                true => self.budget.fail(Code::FetchTimeout, chain(&error)),
                false => self.budget.fail(Code::FetchFailed, chain(&error)),
            })?;
            self.check_status(&response)?;
            self.response = Some(response);
        }
        Ok(&mut self.response)
    }

    fn check_status(&self, response: &Response) -> io::Result<()> {
        let (status, url) = (response.status(), response.url());
        if status.is_success() {
            return Ok(());
        }
        let mut detail = format!("'{url}' answered {status}");
        if let Some(target) = response.headers().get(LOCATION) {
            let target = String::from_utf8_lossy(target.as_bytes());
            detail = format!("'{url}' redirects to '{target}': redirects are not followed");
        }
        let error = self.budget.fail(Code::FetchFailed, detail);
        if status == StatusCode::UNAUTHORIZED {
            // gix asks for credentials on this kind alone, and is told that there are none.
            let www_authenticate = Vec::new();
            let required = AuthenticationRequired { www_authenticate };
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, required));
        }
        Err(error)
    }

    fn headers(&mut self) -> io::Result<Cursor<Vec<u8>>> {
        let mut text = Vec::new();
        if let Some(response) = self.send()? {
            for (name, value) in response.headers() {
                text.extend_from_slice(name.as_str().as_bytes());
                text.push(b':');
                text.extend_from_slice(value.as_bytes());
                text.push(b'\n');
            }
        }
        Ok(Cursor::new(text))
    }

    fn body(&mut self) -> io::Result<BufReader<Body>> {
        let response = self.send()?.take();
        let budget = Rc::clone(&self.budget);
        Ok(BufReader::new(Body { response, budget }))
    }
}

/// Collects what is posted.
pub(super) struct PostBody(Rc<RefCell<Exchange>>);

impl Write for PostBody {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A response's body, counted.
pub(super) struct Body {
    response: Option<Response>,
    budget: Rc<Budget>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(response) = &mut self.response else {
            return Ok(0);
        };
        self.budget.time()?;
        let read = response.read(buffer);
        // The error of a client that ran out of time looks like any other, so the clock is asked.
        let read = read.or_else(|error| {
            self.budget.time()?;
            Err(self.budget.fail(Code::FetchFailed, chain(&error)))
        })?;
        self.budget.take(read)?;
        Ok(read)
    }
}

impl Drop for Body {
    /// Reads the end of the body, which gix leaves: only then is the connection kept for the next request.
    fn drop(&mut self) {
        if let Some(response) = &mut self.response {
            let _ = io::copy(&mut response.take(64), &mut io::sink());
        }
    }
}

/// A reader that is opened by its first use.
pub(super) struct Lazy<R> {
    exchange: Rc<RefCell<Exchange>>,
    open: fn(&mut Exchange) -> io::Result<R>,
    reader: Option<R>,
}

impl<R> Lazy<R> {
    fn new(exchange: &Rc<RefCell<Exchange>>, open: fn(&mut Exchange) -> io::Result<R>) -> Self {
        Self {
            exchange: Rc::clone(exchange),
            open,
            reader: None,
        }
    }

    fn reader(&mut self) -> io::Result<&mut R> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => (self.open)(&mut self.exchange.borrow_mut())?,
        };
        Ok(self.reader.insert(reader))
    }
}

impl<R: BufRead> Read for Lazy<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader()?.read(buffer)
    }
}

impl<R: BufRead> BufRead for Lazy<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Some(reader) = &mut self.reader {
            reader.consume(amount);
        }
    }
}
