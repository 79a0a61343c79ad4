//! The listening socket of one service.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response};
use state::refusal::{Code, Refusal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::forward::{self, AnswerBody};
use super::header::Client;
use super::limit::Limits;
use super::service::Service;
use crate::serve::{self, Bounds, Peer, Watch, serve};

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
        let socket = serve::Listener::tcp(address).await;
        let socket = socket.map_err(|error| not_bound(address, &error))?;
        let bounds = Bounds {
            head: limits.head,
            idle: limits.idle,
            connections: limits.connections,
            farewell: limits.farewell,
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(socket, Forward(service), bounds, stopped));
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

/// Answers with what the service's slots answer.
struct Forward(Arc<Service>);

impl serve::Answer for Forward {
    type Body = AnswerBody;
    type Client = Client;

    fn client(&self, peer: Peer) -> Client {
        let (client, listen) = peer.expect("the proxy listens on TCP only");
        Client::new(client.ip(), listen)
    }

    async fn answer(
        &self,
        client: &Client,
        watch: &Arc<Watch>,
        request: Request<Incoming>,
    ) -> Response<AnswerBody> {
        forward::answer(&self.0, client, watch, request).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::serve::HEAD_BYTES;
    use crate::slot::{Role, Slot};
    use crate::traffic::table::{Address, Backend, RouteTable};

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
