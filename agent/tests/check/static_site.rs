//! What a static site serves, and how it ends.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use agent::runner::SlotStatus;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::site::{AGENT, Listen, PATIENCE, Site};

#[tokio::test]
async fn a_static_site_serves_its_folder_and_nothing_else() {
    let site = Site::new(&Listen::Port);
    fs::write(site.target.app.join("secret"), "secret").unwrap();
    fs::write(site.target.app.join("public/a.css"), "body{}").unwrap();
    site.start().await;
    let tag = format!("etag: \"{}\"", site.target.release);
    let css = site.raw("GET /a.css HTTP/1.1").await;
    assert!(
        css.contains("content-type: text/css; charset=utf-8")
            && css.contains(&tag)
            && css.ends_with("body{}"),
        "{css}"
    );
    assert!(css.contains("writ-release: 0707"), "{css}");
    let head = site.raw("HEAD / HTTP/1.1").await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let known = site
        .raw(&format!(
            "GET / HTTP/1.1\r\nIf-None-Match: \"{}\"",
            site.target.release
        ))
        .await;
    assert!(known.starts_with("HTTP/1.1 304"), "{known}");
    for (request, status) in [
        ("GET /../secret HTTP/1.1", "404"),
        ("GET /%2e%2e/secret HTTP/1.1", "404"),
        ("GET /sub/ HTTP/1.1", "404"),
        ("POST / HTTP/1.1", "405"),
    ] {
        let answer = site.raw(request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {answer}"
        );
    }
    site.stop().await;
}

#[tokio::test]
async fn a_site_has_its_own_page_for_what_is_missing() {
    let site = Site::new(&Listen::Port);
    let page = site.target.app.join("public/404.html");
    fs::write(page, "<p>nothing here").unwrap();
    site.start().await;
    for path in ["/missing", "/sub/", "/missing"] {
        let answer = site
            .raw(&format!("GET {path} HTTP/1.1\r\nRange: bytes=0-1"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert!(
            answer.contains("content-type: text/html; charset=utf-8"),
            "{answer}"
        );
        assert!(answer.ends_with("<p>nothing here"), "{answer}");
        assert!(!answer.contains("etag"), "{answer}");
    }
    let head = site.raw("HEAD /missing HTTP/1.1").await;
    assert!(
        head.starts_with("HTTP/1.1 404") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    site.stop().await;
}

#[tokio::test]
async fn files_come_whole_and_in_ranges_also_over_a_kept_connection() {
    let site = Site::new(&Listen::Port);
    let large = "0123456789".repeat(20_000);
    fs::write(site.target.app.join("public/large.bin"), &large).unwrap();
    site.start().await;
    let whole = site.raw("GET /large.bin HTTP/1.1").await;
    assert!(whole.ends_with(&large), "{} bytes", whole.len());
    for _ in 0..2 {
        let part = site.raw("GET / HTTP/1.1\r\nRange: bytes=1-3").await;
        assert!(
            part.starts_with("HTTP/1.1 206") && part.ends_with("\r\n\r\nell"),
            "{part}"
        );
        assert!(site.raw("GET /?x HTTP/1.1").await.ends_with("hello"));
    }
    let mut stream = TcpStream::connect(("127.0.0.1", site.port()))
        .await
        .unwrap();
    let mut buffer = [0; 1024];
    for _ in 0..10 {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            let length = stream.read(&mut buffer).await.unwrap();
            assert_ne!(length, 0);
            answer.extend_from_slice(&buffer[..length]);
        }
    }
    site.stop().await;
}

#[tokio::test]
async fn a_site_that_ends_tells_its_clients_to_leave_before_it_closes() {
    let site = Site::new(&Listen::Port);
    site.start().await;
    let mut stream = TcpStream::connect(("127.0.0.1", site.port()))
        .await
        .unwrap();
    let mut buffer = [0; 1024];
    let mut ask = async || {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let length = stream.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(!ask().await.contains("connection: close"));
    let stop = tokio::join!(site.stop(), async {
        let deadline = Instant::now() + PATIENCE;
        while !ask().await.contains("connection: close") {
            assert!(Instant::now() < deadline);
        }
    });
    assert_eq!(stop, ((), ()));
    assert_eq!(site.status(), SlotStatus::Absent);
}

#[test]
fn a_site_without_its_folder_does_not_start() {
    let missing = PathBuf::from("/nonexistent/site");
    let run = Command::new(AGENT)
        .arg("static")
        .arg(&missing)
        .output()
        .unwrap();
    assert!(!run.status.success());
    assert!(String::from_utf8_lossy(&run.stderr).contains("/nonexistent/site"));
}
