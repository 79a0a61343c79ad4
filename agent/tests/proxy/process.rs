//! The proxy as a process: its tables, its orders, its end.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use agent::slot::Slot;
use agent::traffic::embedded::Embedded;
use agent::traffic::table::{Address, RouteTable};
use rustix::process::Signal;
use state::refusal::Code;

use crate::support::{Echo, Host, SOON, free_address, until, web};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_proxy_is_started_again_and_serves_what_its_tables_say() {
    let mut host = Host::start().await;
    let echo = Echo::start("a").await;
    host.serve(Slot::Blue, echo.address.clone()).await;
    let before = host.ensure_running().await;
    assert_eq!(
        host.ensure_running().await,
        before,
        "a living proxy is adopted"
    );
    host.signal(Signal::KILL).await;
    until("the proxy is gone", || async {
        host.driver.ping().await.is_err()
    })
    .await;
    let start = Instant::now();
    assert_ne!(host.ensure_running().await, before);
    assert!(host.exchange(GET).await.starts_with("HTTP/1.1 200"));
    println!("served again after {:?}", start.elapsed());
    let observed = host.driver.observe(&web()).await.unwrap().unwrap();
    assert_eq!(observed.generation, host.table.generation);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_is_not_later_is_refused_and_the_file_stays() {
    let mut host = Host::start().await;
    host.apply(|_| ()).await;
    let in_force = host.table.clone();
    host.driver
        .apply(&in_force)
        .await
        .expect("the same again is fine");

    let mut earlier = in_force.clone();
    earlier.generation -= 1;
    let mut other = in_force.clone();
    other.listen = free_address();
    for table in [earlier, other] {
        let refusal = host.driver.apply(&table).await.unwrap_err();
        assert_eq!(refusal.code, Code::GenerationStale, "{refusal}");
        let routes = host.layout().routes();
        assert_eq!(
            RouteTable::load(&routes, &web()).unwrap().unwrap(),
            in_force
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_refused_and_touches_nothing() {
    let mut host = Host::start().await;
    let echo = Echo::start("a").await;
    host.serve(Slot::Blue, echo.address.clone()).await;
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();

    let mut moved = host.table.clone();
    moved.generation += 1;
    moved.listen = foreign.local_addr().unwrap();
    let refusal = host.driver.apply(&moved).await.unwrap_err();
    assert_eq!(refusal.code, Code::ListenInUse, "{refusal}");

    let api = RouteTable::new("api".parse().unwrap(), host.table.listen);
    let refusal = host.driver.apply(&api).await.unwrap_err();
    assert_eq!(refusal.code, Code::ListenInUse, "{refusal}");
    assert!(refusal.detail.contains("'web'"), "{refusal}");
    let routes = host.layout().routes();
    assert_eq!(RouteTable::load(&routes, &api.service).unwrap(), None);
    assert!(host.exchange(GET).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_service_leaves_its_old_address_and_a_removed_one_frees_it() {
    let mut host = Host::start().await;
    let echo = Echo::start("a").await;
    host.serve(Slot::Blue, echo.address.clone()).await;
    let old = host.table.listen;
    host.apply(|table| table.listen = free_address()).await;
    assert!(host.exchange(GET).await.starts_with("HTTP/1.1 200"));
    TcpListener::bind(old).expect("the old address is free");

    host.driver.remove(&web()).await.unwrap();
    assert_eq!(host.driver.observe(&web()).await.unwrap(), None);
    TcpListener::bind(host.table.listen).expect("the address is free");
    host.driver
        .remove(&web())
        .await
        .expect("removing twice is fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_proxy_finishes_what_is_in_flight_and_says_close() {
    let mut host = Host::start().await;
    let slot = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(slot.local_addr().unwrap());
    host.serve(Slot::Blue, address).await;
    let mut client = host.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let (mut request, _) = slot.accept().unwrap();

    host.signal(Signal::TERM).await;
    until("the proxy has stopped listening", || async {
        std::net::TcpStream::connect(host.table.listen).is_err()
    })
    .await;
    request
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.ends_with("ok"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_or_senseless_control_client_disturbs_nobody() {
    let host = Host::start().await;
    let socket = host.layout().proxy_socket();
    let mut silent = UnixStream::connect(&socket).unwrap();
    let mut senseless = UnixStream::connect(&socket).unwrap();
    senseless.write_all(b"{\"request\":\"reboot\"}\n").unwrap();
    let mut answer = String::new();
    senseless.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("UNSUPPORTED"), "{answer}");
    host.driver.ping().await.unwrap();
    silent.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "the proxy hangs up");
}

#[tokio::test]
async fn without_a_proxy_the_driver_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let driver = Embedded::new(folder.path().join("proxy.sock"), folder.path());
    let start = Instant::now();
    assert_eq!(
        driver.ping().await.unwrap_err().code,
        Code::ProxyUnavailable
    );
    assert!(start.elapsed() < Duration::from_secs(1));
}
