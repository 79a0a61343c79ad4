//! A small HTTP service that does what its `behaviour` file says: the well and unwell services of the tests.
//!
//! The file stands in the working folder (a release's `app/`) and holds words, one a line:
//! `text WORD` (what it answers), `never-ready`, `ready-after MS`, `unhealthy-after MS`, `exit-after MS`,
//! `exit-now`, `flood` (writes to its log without end), `deaf` (does not listen). `/slow` says so in the log and answers after three seconds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Default)]
struct Behaviour {
    text: String,
    never_ready: bool,
    ready_after: Duration,
    unhealthy_after: Option<Duration>,
    exit_after: Option<Duration>,
    flood: bool,
    deaf: bool,
}

fn read_behaviour() -> Behaviour {
    let mut behaviour = Behaviour {
        text: "none".to_owned(),
        ..Behaviour::default()
    };
    for line in std::fs::read_to_string("behaviour")
        .unwrap_or_default()
        .lines()
    {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let ms = || Duration::from_millis(rest.parse().expect("a number of milliseconds"));
        match word {
            "text" => rest.clone_into(&mut behaviour.text),
            "never-ready" => behaviour.never_ready = true,
            "ready-after" => behaviour.ready_after = ms(),
            "unhealthy-after" => behaviour.unhealthy_after = Some(ms()),
            "exit-after" => behaviour.exit_after = Some(ms()),
            "exit-now" => std::process::exit(7),
            "flood" => behaviour.flood = true,
            "deaf" => behaviour.deaf = true,
            "" => {}
            other => panic!("unknown behaviour {other:?}"),
        }
    }
    behaviour
}

/// Answers requests on one connection until the client closes it.
fn serve<S: Read + Write>(
    stream: S,
    behaviour: &Behaviour,
    started: Instant,
) -> std::io::Result<()> {
    let release = std::env::var("RELEASE_ID").unwrap_or_default();
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if stream.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            stream.read_line(&mut header)?;
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let age = started.elapsed();
        let path = request.split(' ').nth(1).unwrap_or("/");
        let unhealthy = behaviour.unhealthy_after.is_some_and(|after| age >= after);
        let unready = behaviour.never_ready || age < behaviour.ready_after;
        let (status, answer) = match path {
            _ if unhealthy => ("500 Internal Server Error", b"unhealthy as told".to_vec()),
            "/health/ready" if unready => {
                ("503 Service Unavailable", b"not ready as told".to_vec())
            }
            "/echo" => ("200 OK", body),
            "/slow" => {
                println!("slow");
                std::thread::sleep(Duration::from_secs(3));
                ("200 OK", behaviour.text.clone().into_bytes())
            }
            _ => ("200 OK", behaviour.text.clone().into_bytes()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nWrit-Release: {release}\r\n\r\n",
            answer.len()
        );
        let stream = stream.get_mut();
        stream.write_all(&[head.as_bytes(), &answer].concat())?;
        stream.flush()?;
    }
}

fn main() {
    let behaviour = read_behaviour();
    let started = Instant::now();
    println!("started: {}", behaviour.text);
    if let Some(after) = behaviour.exit_after {
        std::thread::spawn(move || {
            std::thread::sleep(after);
            eprintln!("last words before the exit that was asked for");
            std::process::exit(3);
        });
    }
    if behaviour.flood {
        std::thread::spawn(|| {
            let line = "all work and no play makes a log file full\n".repeat(1000);
            while std::io::stdout().write_all(line.as_bytes()).is_ok() {}
        });
    }
    if behaviour.deaf {
        loop {
            std::thread::park();
        }
    }
    if let Ok(path) = std::env::var("SOCKET") {
        let _ = std::fs::remove_file(&path);
        for stream in UnixListener::bind(path)
            .expect("the socket of SOCKET")
            .incoming()
            .flatten()
        {
            let behaviour = behaviour.clone();
            std::thread::spawn(move || serve(stream, &behaviour, started));
        }
    } else {
        let port: u16 = std::env::var("PORT")
            .expect("PORT or SOCKET")
            .parse()
            .expect("a port");
        for stream in TcpListener::bind(("127.0.0.1", port))
            .expect("the port of PORT")
            .incoming()
            .flatten()
        {
            let behaviour = behaviour.clone();
            let _ = TcpStream::set_nodelay(&stream, true);
            std::thread::spawn(move || serve(stream, &behaviour, started));
        }
    }
}
