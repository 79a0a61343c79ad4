//! One request: claim a slot, pass the request on, pass the answer back. The client gets an answer in every case.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;

use super::body::{Passing, Progress};
use super::header;
use super::limit::Limits;
use super::pool::SendError;
use super::service::{Claim, Service};

/// The body of an answer: a slot's, or the proxy's own line.
pub(super) type AnswerBody = Either<Passing<Claim>, Full<Bytes>>;

/// Answers one request of `client`.
pub(super) async fn answer(
    service: &Service,
    limits: Limits,
    client: IpAddr,
    mut request: Request<Incoming>,
) -> Response<AnswerBody> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (mut head, body) = request.into_parts();
    if let Err(status) = header::prepare(&mut head, client) {
        return own(status, "this request cannot be forwarded");
    }
    let asked = header::upgrade(&head.headers);
    let Some(claim) = service.claim() else {
        let mut answer = own(StatusCode::SERVICE_UNAVAILABLE, "no release is live");
        answer
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        return answer;
    };

    let progress = Arc::new(Progress::new());
    let body = Passing::new(body, limits.idle, progress.clone());
    let sent = tokio::select! {
        sent = claim.target.pool.send(Request::from_parts(head, body)) => sent,
        () = progress.stalled(limits.idle) => return late(&claim, &progress),
    };
    match sent {
        Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => match asked {
            Some(_) => tunnel(claim, upgrade, answer),
            None => failed(&claim, "the service changed the protocol unasked"),
        },
        Ok(answer) => pass_back(claim, limits, answer),
        Err(error) => refused(&claim, &progress, &error),
    }
}

/// Passes a slot's answer back.
fn pass_back(claim: Claim, limits: Limits, answer: Response<Incoming>) -> Response<AnswerBody> {
    let (mut head, body) = answer.into_parts();
    if head.status.is_server_error() {
        claim.target.errors_5xx.fetch_add(1, Ordering::Relaxed);
    }
    header::strip(&mut head.headers);
    head.version = Version::HTTP_11;
    let body = Passing::new(body, limits.idle, claim);
    Response::from_parts(head, Either::Left(body))
}

/// Joins the two connections once both have left HTTP. The request is in flight as long as they live.
fn tunnel(claim: Claim, client: OnUpgrade, mut answer: Response<Incoming>) -> Response<AnswerBody> {
    let slot = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        let _claim = claim;
        let joined = async {
            let (client, slot) = tokio::try_join!(client, slot)?;
            tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(slot))
                .await?;
            Ok::<_, super::body::Error>(())
        };
        if let Err(error) = joined.await {
            tracing::debug!(error = %error, "a tunnel broke");
        }
    });
    let (mut head, _) = answer.into_parts();
    let protocol = header::upgrade(&head.headers);
    header::strip(&mut head.headers);
    if let Some(protocol) = protocol {
        header::set_upgrade(&mut head.headers, protocol);
    }
    Response::from_parts(head, Either::Right(Full::default()))
}

/// Answers when neither side has moved for too long.
fn late(claim: &Claim, progress: &Progress) -> Response<AnswerBody> {
    if progress.waits_for_client() {
        return incomplete();
    }
    claim.target.lost.fetch_add(1, Ordering::Relaxed);
    own(
        StatusCode::GATEWAY_TIMEOUT,
        "the service did not answer in time",
    )
}

/// Answers for a slot that did not.
fn refused(claim: &Claim, progress: &Progress, error: &SendError) -> Response<AnswerBody> {
    tracing::debug!(
        error = error as &dyn std::error::Error,
        "no answer from a slot"
    );
    match error {
        _ if progress.client_failed() => incomplete(),
        SendError::Connect { .. } => {
            claim
                .target
                .connect_failures
                .fetch_add(1, Ordering::Relaxed);
            own(StatusCode::BAD_GATEWAY, "the service cannot be reached")
        }
        SendError::Lost(_) => failed(claim, "the service broke off before it answered"),
    }
}

/// Answers for a slot that may have acted on the request.
fn failed(claim: &Claim, line: &str) -> Response<AnswerBody> {
    claim.target.lost.fetch_add(1, Ordering::Relaxed);
    own(StatusCode::BAD_GATEWAY, line)
}

/// Answers a client that did not send its whole request.
fn incomplete() -> Response<AnswerBody> {
    own(StatusCode::REQUEST_TIMEOUT, "the request was not completed")
}

/// The proxy's own answer of one line.
fn own(status: StatusCode, line: &str) -> Response<AnswerBody> {
    let body = Full::from(format!("{}: {line}\n", status.as_u16()));
    let mut answer = Response::new(Either::Right(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}
