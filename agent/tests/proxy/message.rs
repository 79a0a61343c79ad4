//! What becomes of single requests and answers, byte by byte.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;
use std::time::Instant;

use agent::proxy::protocol::Counters;
use agent::slot::Slot;
use agent::traffic::table::Address;

use crate::support::{Host, SOON, free_address, until, web};

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
async fn a_client_that_has_shut_its_side_gets_its_answer() {
    let mut host = Host::start().await;
    let (address, process) = slot(|mut stream| {
        let request = read_until(&mut stream, "body");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .unwrap();
        request
    });
    host.serve(Slot::Blue, address).await;
    let mut client = host.connect();
    let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    client.write_all(post).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("ok"), "{answer}");
    process.join().unwrap();
}

/// What a slot gets of `request` that answers once it has all of a body in chunks, and what the client gets; that must
/// come soon.
async fn smuggle(request: &str) -> (String, String) {
    let mut host = Host::start().await;
    let (address, process) = slot(|mut stream| {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut got = String::new();
        loop {
            let mut piece = [0; 4096];
            let length = stream.read(&mut piece).unwrap_or(0);
            got += &String::from_utf8_lossy(&piece[..length]);
            let in_chunks = got.to_lowercase().contains("transfer-encoding: chunked");
            if length == 0 || !in_chunks || got.contains("\r\n0\r\n") {
                break;
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        got
    });
    host.serve(Slot::Blue, address.clone()).await;
    let begun = Instant::now();
    let answer = host.exchange(request).await;
    assert!(begun.elapsed() < SOON / 2, "{request:?}: {answer}");
    if let Address::Tcp(address) = address {
        // Frees a slot that nothing was sent to.
        let _ = TcpStream::connect(address);
    }
    (process.join().unwrap().to_lowercase(), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_programs_could_read_differently_is_refused_at_once() {
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
    let lengths = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n";
    for (request, status) in [
        (format!("{chunked}\r\nZ\r\nbody\r\n0\r\n\r\n"), 400),
        (format!("{chunked}\r\n4\r\nbodyXX0\r\n\r\n"), 400),
        (format!("{chunked}\r\n4\nbody\r\n0\r\n\r\n"), 400),
        (format!("{chunked}\r\nffffffffffffffffff\r\n"), 400),
        (format!("{chunked}Transfer-Encoding: gzip\r\n\r\n"), 400),
        (
            chunked.replace("chunked", "gzip, chunked") + "\r\n0\r\n\r\n",
            501,
        ),
        (
            chunked.replace("chunked", "chunked, chunked") + "\r\n0\r\n\r\n",
            501,
        ),
        (
            chunked.replace("chunked", "xchunked") + "\r\n0\r\n\r\n",
            400,
        ),
        (chunked.replace("1.1", "1.0") + "\r\n0\r\n\r\n", 400),
        (format!("{lengths}Content-Length: 5\r\n\r\nbody!"), 400),
        (lengths.replace("4", "+4") + "\r\nbody", 400),
        (lengths.replace("4", "4, 5") + "\r\nbody", 400),
        (lengths.replace("Length:", "Length :") + "\r\nbody", 400),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n".into(),
            400,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n".into(),
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(), 400),
        (
            "GET http://b/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(),
            400,
        ),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".into(), 405),
    ] {
        let (_, answer) = smuggle(&request).await;
        let expected = format!("HTTP/1.1 {status} ");
        // hyper answers a request of HTTP/1.0 in kind.
        let answer = answer.replace("HTTP/1.0", "HTTP/1.1");
        assert!(answer.starts_with(&expected), "{request:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1").count(),
            1,
            "{request:?}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_on_is_written_anew() {
    let next = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (request, passed) in [
        // A bare LF ends a line, as RFC 9112 §2.2 allows, and goes on as CR LF.
        ("GET / HTTP/1.1\nHost: a\nConnection: close\n\n".into(), "get / http/1.1\r\nhost: a\r\n"),
        // The chunks count, the length goes, and nothing that follows is taken for a request.
        (
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{next}"),
            "\r\ntransfer-encoding: chunked\r\n",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody".into(),
            "\r\ncontent-length: 4\r\n",
        ),
        ("GET / HTTP/1.0\r\n\r\n".into(), "\r\nhost: 127.0.0.1:"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Gone\r\nX-Gone: 1\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n".into(),
            "\r\nx-real-ip: 127.0.0.1\r\n",
        ),
    ] {
        let (got, answer) = smuggle(&request).await;
        assert!(answer.contains(" 200 OK"), "{request:?}: {answer}");
        assert!(got.contains(passed), "{request:?}: {got}");
        for gone in ["smuggled", "content-length: 99", "x-gone", "6.6.6.6", "connection:"] {
            assert!(!got.contains(gone), "{request:?}: {got}");
        }
        assert_eq!(got.matches("content-length").count() + got.matches("http/1.1").count(), 1 + usize::from(passed.contains("length")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_balancer_is_believed_who_asked() {
    let mut host = Host::start().await;
    let (address, process) = slot(|mut stream| {
        let request = read_until(&mut stream, "\r\n\r\n");
        let _ = stream.write_all(b"HTTP/1.1 204 No\r\n\r\n");
        request
    });
    host.apply(|table| {
        table.trust.insert("127.0.0.0/8".parse().unwrap());
    })
    .await;
    host.serve(Slot::Blue, address).await;
    let answer = host
        .exchange(&GET.replace(
            "\r\n\r\n",
            "\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n",
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let request = process.join().unwrap();
    for field in [
        "x-forwarded-for: 192.0.2.7, 127.0.0.1\r\n",
        "x-forwarded-proto: https\r\n",
        "forwarded: for=127.0.0.1;proto=http\r\n",
    ] {
        assert!(request.contains(field), "{field}: {request}");
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
