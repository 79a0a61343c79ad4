//! One GET over a new connection: no redirect is followed, no proxy asked, and no more read than is kept.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::handshake;
use hyper::header::{HOST, HeaderMap, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::KEPT;
use crate::fs;
use crate::traffic::table::Address;

/// What was answered.
pub(super) struct Response {
    /// The status.
    pub(super) status: StatusCode,
    /// The headers.
    pub(super) headers: HeaderMap,
    /// The start of the body.
    pub(super) body: Vec<u8>,
}

/// Gets `path` from `address`; an error says why there is no answer.
pub(super) async fn get(address: &Address, path: &str) -> Result<Response, String> {
    let text = |error: io::Error| error.to_string();
    match address {
        Address::Tcp(to) => {
            ask(
                TcpStream::connect(to).await.map_err(text)?,
                &to.to_string(),
                path,
            )
            .await
        }
        Address::Unix(to) => ask(fs::connect(to).await.map_err(text)?, "localhost", path).await,
    }
    .map_err(|error| error.to_string())
}

/// Sends the request over `stream` and reads the start of the answer.
async fn ask<S>(stream: S, host: &str, path: &str) -> anyhow::Result<Response>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, "writ-probe")
        .body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with this function, however that ends.
    let mut driver = JoinSet::new();
    driver.spawn(connection);

    let mut response = sender.send_request(request).await?;
    let mut body = Vec::new();
    while body.len() < KEPT
        && let Some(frame) = response.frame().await
    {
        body.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
    }
    body.truncate(KEPT);
    let (head, _) = response.into_parts();
    Ok(Response {
        status: head.status,
        headers: head.headers,
        body,
    })
}
