//! The listening socket of one service and the connections that came in through it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use state::refusal::{Code, Refusal};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_io_timeout::TimeoutStream;

use super::forward::{self, AnswerBody};
use super::limit::{HEAD_BYTES, LAME_DUCK, Limits};
use super::service::Service;

/// A listening socket at work.
pub(super) struct Listener {
    stop: oneshot::Sender<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Says why nobody can listen on `address`.
pub(crate) fn not_bound(address: SocketAddr, error: &io::Error) -> Refusal {
    let code = match error.kind() {
        io::ErrorKind::AddrInUse => Code::ListenInUse,
        _ => Code::ListenRefused,
    };
    Refusal::new(code, format!("{address}: {error}"))
}

impl Listener {
    /// Binds `address` and forwards what comes in there to `service`.
    pub(super) async fn start(
        address: SocketAddr,
        service: Arc<Service>,
        limits: Limits,
    ) -> Result<Self, Refusal> {
        let socket = TcpListener::bind(address).await;
        let socket = socket.map_err(|error| not_bound(address, &error))?;
        let door = Door {
            service,
            limits,
            leave: watch::Sender::new(()),
            places: Arc::new(Semaphore::new(limits.connections)),
            closing: Arc::new(AtomicBool::new(false)),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(door.run(socket, stopped));
        Ok(Self { stop, task })
    }

    /// Closes the socket; the task that is returned ends when the connections have.
    pub(super) async fn stop(self) -> JoinHandle<()> {
        let (closed, hear) = oneshot::channel();
        if self.stop.send(closed).is_ok() {
            // An error means that the task is gone, and the socket with it.
            let _ = hear.await;
        }
        self.task
    }
}

/// What every connection of a listener shares.
struct Door {
    service: Arc<Service>,
    limits: Limits,
    /// Tells connections to end; each holds a receiver as long as it lives.
    leave: watch::Sender<()>,
    places: Arc<Semaphore>,
    closing: Arc<AtomicBool>,
}

impl Door {
    /// Accepts until told to stop, then is a lame duck, then waits for what is in flight.
    async fn run(self, socket: TcpListener, mut stop: oneshot::Receiver<oneshot::Sender<()>>) {
        let closed = loop {
            tokio::select! {
                closed = &mut stop => break closed,
                (stream, client, place) = self.accept(&socket) => self.serve(stream, client, place),
            }
        };
        drop(socket);
        if let Ok(closed) = closed {
            // Nobody may be waiting any more.
            let _ = closed.send(());
        }
        self.closing.store(true, Ordering::Relaxed);
        tokio::time::sleep(LAME_DUCK).await;
        self.leave.send_replace(());
        let ended = self.leave.closed();
        if tokio::time::timeout(self.limits.farewell, ended)
            .await
            .is_err()
        {
            tracing::warn!("connections were cut that did not end in time");
        }
    }

    /// The next connection, once there is a place for it.
    async fn accept(&self, socket: &TcpListener) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        let place = self.places.clone().acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        loop {
            match socket.accept().await {
                Ok((stream, client)) => return (stream, client, place),
                // Too many open files, as a rule: give those that are open some time to end.
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept connections");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, client: SocketAddr, place: OwnedSemaphorePermit) {
        // Only a hint to the kernel: without it answers come late, not wrong.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        // A client that reads nothing would otherwise hold its slot for ever.
        stream.set_write_timeout(Some(self.limits.idle));
        let (service, closing, limits) = (self.service.clone(), self.closing.clone(), self.limits);
        let answer = service_fn(move |request| {
            let (service, closing) = (service.clone(), closing.clone());
            async move {
                let mut answer = forward::answer(&service, limits, client.ip(), request).await;
                if closing.load(Ordering::Relaxed) {
                    say_close(&mut answer);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_header_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(Box::pin(stream)), answer)
            .with_upgrades();
        let mut leave = self.leave.subscribe();
        tokio::spawn(async move {
            let _place = place;
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = leave.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(client = %client, error = %error, "connection failed");
            }
        });
    }
}

/// Tells the client to send nothing more on this connection.
fn say_close(answer: &mut Response<AnswerBody>) {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::route::{Address, Backend, RouteTable};
    use crate::slot::{Role, Slot};

    const BRIEF: Duration = Duration::from_millis(100);

    /// A listener before a slot that accepts connections and says nothing.
    async fn before_a_silent_slot(limits: Limits) -> (SocketAddr, TcpListener, Listener) {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let slot = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut table = RouteTable::new("web".parse().unwrap(), address);
        let backend = Backend {
            address: Address::Tcp(slot.local_addr().unwrap()),
            weight: 100,
            role: Role::Stable,
            extra: Default::default(),
        };
        table.slots.insert(Slot::Blue, backend);
        let service = Arc::new(Service::new(table, limits));
        let listener = Listener::start(address, service, limits).await.unwrap();
        (address, slot, listener)
    }

    /// Sends `request` and reads until the proxy closes, which it must.
    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let reading = stream.read_to_string(&mut answer);
        let read = tokio::time::timeout(Duration::from_secs(10), reading).await;
        // A reset is as good as an end.
        let _ = read.expect("the proxy closes the connection");
        answer
    }

    #[tokio::test]
    async fn a_client_that_is_slow_with_its_head_is_cut() {
        let limits = Limits {
            head: BRIEF,
            ..Limits::default()
        };
        let (address, _slot, _listener) = before_a_silent_slot(limits).await;
        assert_eq!(exchange(address, "GET / HTTP/1.1\r\nHos").await, "");
    }

    #[tokio::test]
    async fn a_head_of_many_bytes_or_fields_is_refused() {
        let (address, _slot, _listener) = before_a_silent_slot(Limits::default()).await;
        let long = format!("X: {}\r\n", "x".repeat(HEAD_BYTES));
        for fields in [long, "X: x\r\n".repeat(101)] {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let answer = exchange(address, &request).await;
            assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_move_ends_the_request() {
        let limits = Limits {
            idle: BRIEF,
            ..Limits::default()
        };
        let (address, _slot, _listener) = before_a_silent_slot(limits).await;
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\npart";
        let answer = exchange(address, post).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }

    #[tokio::test]
    async fn a_slot_that_does_not_answer_is_a_504() {
        let limits = Limits {
            idle: BRIEF,
            ..Limits::default()
        };
        let (address, _slot, _listener) = before_a_silent_slot(limits).await;
        let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = exchange(address, get).await;
        assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    }

    #[tokio::test]
    async fn a_connection_too_many_waits_for_a_place() {
        let limits = Limits {
            connections: 1,
            head: BRIEF,
            ..Limits::default()
        };
        let (address, _slot, _listener) = before_a_silent_slot(limits).await;
        let _first = TcpStream::connect(address).await.unwrap();
        // The first one is cut for its silence, then the second one is served.
        let bad = exchange(address, "BAD\r\n\r\n").await;
        assert!(bad.starts_with("HTTP/1.1 400"), "{bad}");
    }
}
