//! One request: claim a slot, pass the request on, pass the answer back. The client gets an answer in every case.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;

use super::answer::Answer;
use super::body;
use super::header::{self, Client};
use super::pool::{Link, SendError};
use super::service::{Claim, Service};
use crate::serve::{Upload, Watch};

/// The body of an answer: a slot's, or the proxy's own line.
pub(super) type AnswerBody = Either<Answer, Full<Bytes>>;

/// Answers one request of `client`.
pub(super) async fn answer(
    service: &Service,
    client: &Client,
    watch: &Arc<Watch>,
    mut request: Request<Incoming>,
) -> Response<AnswerBody> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (mut head, body) = request.into_parts();
    let asked = match header::prepare(&mut head, client, service.trust(client.ip())) {
        Ok(asked) => asked,
        Err(status) => return closing(own(status, "this request cannot be forwarded")),
    };
    let Some(claim) = service.claim() else {
        let mut answer = own(StatusCode::SERVICE_UNAVAILABLE, "no release is live");
        answer
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        return answer;
    };

    let body = body::Request::new(body, watch.clone());
    match send(&claim, watch, Request::from_parts(head, body)).await {
        Some(Ok((answer, link))) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            match asked {
                Some(_) => tunnel(claim, service, watch, upgrade, answer, link),
                None => failed(&claim, "the service changed the protocol unasked"),
            }
        }
        Some(Ok((answer, link))) => pass_back(claim, watch, answer, link),
        Some(Err(error)) => refused(&claim, watch, &error),
        None => late(&claim, watch),
    }
}

/// Sends the request to the slot; `None` if neither side has moved for too long.
async fn send(
    claim: &Claim,
    watch: &Watch,
    request: Request<body::Request>,
) -> Option<Result<(Response<Incoming>, Link<body::Request>), SendError>> {
    let mut sent = pin!(claim.target.pool.send(request));
    std::future::poll_fn(|context| match sent.as_mut().poll(context) {
        Poll::Ready(sent) => Poll::Ready(Some(sent)),
        Poll::Pending if watch.stalled() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Passes a slot's answer back.
fn pass_back(
    claim: Claim,
    watch: &Arc<Watch>,
    answer: Response<Incoming>,
    link: Link<body::Request>,
) -> Response<AnswerBody> {
    let (mut head, body) = answer.into_parts();
    if head.status.is_server_error() {
        claim.target.errors_5xx.fetch_add(1, Ordering::Relaxed);
    }
    header::strip(&mut head.headers);
    head.version = Version::HTTP_11;
    let body = Answer::new(body, link, watch.clone(), claim);
    Response::from_parts(head, Either::Left(body))
}

/// Joins the two connections once both have left HTTP. The request is in flight as long as they live.
fn tunnel(
    claim: Claim,
    service: &Service,
    watch: &Arc<Watch>,
    client: OnUpgrade,
    mut answer: Response<Incoming>,
    link: Link<body::Request>,
) -> Response<AnswerBody> {
    let slot = hyper::upgrade::on(&mut answer);
    let (watch, idle) = (watch.clone(), service.limits.idle);
    tokio::spawn(async move {
        let _claim = claim;
        let joined = async {
            if let Some(wire) = link.into_wire() {
                wire.await?;
            }
            let (client, slot) = tokio::try_join!(client, slot)?;
            tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(slot))
                .await?;
            Ok::<_, body::Error>(())
        };
        let ended = tokio::select! {
            ended = joined => ended,
            // A client that reads nothing would otherwise hold its slot for ever.
            () = watch.blocked_for(idle) => Err("the client reads nothing".into()),
        };
        if let Err(error) = ended {
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
fn late(claim: &Claim, watch: &Watch) -> Response<AnswerBody> {
    if watch.upload_is(Upload::Waits) {
        return incomplete();
    }
    claim.target.lost.fetch_add(1, Ordering::Relaxed);
    own(
        StatusCode::GATEWAY_TIMEOUT,
        "the service did not answer in time",
    )
}

/// Answers for a slot that did not.
fn refused(claim: &Claim, watch: &Watch, error: &SendError) -> Response<AnswerBody> {
    tracing::debug!(
        error = error as &dyn std::error::Error,
        "no answer from a slot"
    );
    match error {
        _ if watch.upload_is(Upload::Broken) => {
            closing(own(StatusCode::BAD_REQUEST, "the body is malformed"))
        }
        _ if watch.stalled() => incomplete(),
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
    closing(own(
        StatusCode::REQUEST_TIMEOUT,
        "the request was not completed",
    ))
}

/// Has the client send nothing more on this connection: where its request ends is not known.
fn closing(mut answer: Response<AnswerBody>) -> Response<AnswerBody> {
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(CONNECTION, close);
    answer
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
