//! What becomes of single requests and answers, byte by byte.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use agent::proxy::protocol::Counters;
use agent::route::Address;
use agent::slot::Slot;

use crate::support::{Host, free_address, until, web};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A slot whose one connection `serve` gets.
fn slot<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Address, JoinHandle<T>) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(socket.local_addr().unwrap());
    let task = std::thread::spawn(move || serve(socket.accept().unwrap().0));
    (address, task)
}

/// Reads up to and with `end`.
fn read_until(stream: &mut impl std::io::Read, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{text}");
        text.push(char::from(byte[0]));
    }
    text
}

async fn counters(host: &Host) -> Counters {
    host.driver.sample(&web(), Slot::Blue).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_slot_a_client_is_told_to_come_back() {
    let mut host = Host::start().await;
    host.apply(|_| ()).await;
    let answer = host.exchange(GET).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_cannot_be_reached_is_a_502_and_is_counted() {
    let mut host = Host::start().await;
    host.serve(Slot::Blue, Address::Tcp(free_address())).await;
    let answer = host.exchange(GET).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(counters(&host).await.connect_failures, 1);
    assert_eq!(counters(&host).await.in_flight, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_whose_process_dies_in_the_answer_is_not_sent_again() {
    let mut host = Host::start().await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(socket.local_addr().unwrap());
    let process = std::thread::spawn(move || {
        let (mut stream, _) = socket.accept().unwrap();
        read_until(&mut stream, "pay once");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap();
        drop(stream);
        socket
    });
    host.serve(Slot::Blue, address).await;
    let post =
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 8\r\n\r\npay once";
    let answer = host.exchange(post).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(counters(&host).await.lost, 1);
    let socket = process.join().unwrap();
    socket.set_nonblocking(true).unwrap();
    assert!(socket.accept().is_err(), "no second request came");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_not_made_whole() {
    let mut host = Host::start().await;
    let (address, process) = slot(|mut stream| {
        read_until(&mut stream, "\r\n\r\n");
        let part = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n";
        stream.write_all(part).unwrap();
    });
    host.serve(Slot::Blue, address).await;
    let answer = host.exchange(GET).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("part"),
        "{answer}"
    );
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    process.join().unwrap();
    assert_eq!(counters(&host).await.lost, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_hops_have_their_own_framing_and_connection_fields() {
    let mut host = Host::start().await;
    let (address, process) = slot(|mut stream| {
        let request = read_until(&mut stream, "0\r\n\r\n");
        let answer = "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer.as_bytes()).unwrap();
        request
    });
    host.serve(Slot::Blue, address).await;
    // Both lengths: the classic attempt at request smuggling.
    let post = "POST /x HTTP/1.1\r\nHost: example.org\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    let answer = host.exchange(post).await;
    let request = process.join().unwrap().to_lowercase();
    assert!(request.starts_with("post /x http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nhost: example.org\r\n"), "{request}");
    assert!(
        request.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("\r\ntransfer-encoding: chunked\r\n"),
        "{request}"
    );
    for gone in ["content-length", "x-hop", "connection", "6.6.6.6"] {
        assert!(!request.contains(gone), "{gone}: {request}");
    }
    assert!(
        answer.contains("x-end: 1") && answer.ends_with("\r\n\r\nok"),
        "{answer}"
    );
    for gone in ["x-hop", "keep-alive"] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_becomes_a_tunnel_that_counts_as_in_flight() {
    let mut host = Host::start().await;
    let (address, process) = slot(|mut stream| {
        let request = read_until(&mut stream, "\r\n\r\n");
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        stream.write_all(switch).unwrap();
        read_until(&mut stream, "question");
        stream.write_all(b"answer").unwrap();
        request
    });
    host.serve(Slot::Blue, address).await;
    let mut client = host.connect();
    let ask = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(ask).unwrap();
    let head = read_until(&mut client, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("upgrade: websocket"), "{head}");
    read_until(&mut client, "hello");
    assert_eq!(counters(&host).await.in_flight, 1);
    client.write_all(b"question").unwrap();
    read_until(&mut client, "answer");
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    drop(client);
    let request = process.join().unwrap().to_lowercase();
    assert!(request.contains("upgrade: websocket"), "{request}");
    until("the tunnel has ended", || async {
        counters(&host).await.in_flight == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_may_listen_on_a_unix_socket() {
    let mut host = Host::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blue.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let process = std::thread::spawn(move || {
        let (mut stream, _) = socket.accept().unwrap();
        read_until(&mut stream, "\r\n\r\n");
        stream
            .write_all(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nok")
            .unwrap();
    });
    host.serve(Slot::Blue, Address::Unix(path)).await;
    let answer = host.exchange(GET).await;
    assert!(
        answer.starts_with("HTTP/1.1 500") && answer.ends_with("ok"),
        "{answer}"
    );
    process.join().unwrap();
    assert_eq!(counters(&host).await.errors_5xx, 1);
}
