//! A load that costs its machine little: one thread, many kept connections, and answers that are only counted, since
//! each is as long as the first one of its kind.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

/// How long an answer may take, and a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of a load.
pub(crate) struct Outcome {
    pub(crate) answers: usize,
    /// From the time a request was due to the end of its answer, in microseconds, sorted.
    latencies: Vec<u128>,
    time: Duration,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.answers as f64 / self.time.as_secs_f64()
    }

    /// The latency in milliseconds below which `percent` of the answers came.
    pub(crate) fn ms(&self, percent: usize) -> f64 {
        let index = (self.latencies.len() * percent / 100).min(self.latencies.len() - 1);
        self.latencies[index] as f64 / 1000.0
    }
}

/// A request and how long its answer is.
struct Question {
    bytes: Vec<u8>,
    answer: usize,
}

struct Connection {
    stream: TcpStream,
    due: Instant,
    missing: usize,
}

/// GETs `paths` in turn over `connections`, `rate` times a second whether or not answers come; without a rate, as soon
/// as a connection is free.
pub(crate) fn run(
    port: u16,
    paths: &[String],
    connections: usize,
    rate: Option<f64>,
    time: Duration,
) -> Result<Outcome> {
    let questions: Vec<_> = paths
        .iter()
        .map(|path| question(port, path))
        .collect::<Result<_>>()?;
    let mut open = Vec::new();
    for _ in 0..connections {
        let stream = dial(port)?;
        stream.set_nonblocking(true)?;
        let due = Instant::now();
        open.push(Connection {
            stream,
            due,
            missing: 0,
        });
    }
    let mut free: Vec<usize> = (0..connections).rev().collect();
    let (mut latencies, mut sent) = (Vec::new(), 0_usize);
    let mut buffer = vec![0; 64 << 10];
    let start = Instant::now();
    while start.elapsed() < time || free.len() < connections {
        let now = Instant::now();
        let mut wait = Duration::from_millis(100);
        let over = now >= start + time;
        while let Some(&number) = free.last().filter(|_| !over) {
            let due = rate.map_or(now, |rate| {
                start + Duration::from_secs_f64(sent as f64 / rate)
            });
            if due > now {
                wait = due - now;
                break;
            }
            free.pop();
            let question = &questions[sent % questions.len()];
            let connection = &mut open[number];
            connection.due = due;
            connection.missing = question.answer;
            connection.stream.write_all(&question.bytes)?;
            sent += 1;
        }
        for number in readable(&open, wait)? {
            let connection = &mut open[number];
            match connection.stream.read(&mut buffer) {
                Ok(0) => bail!("a connection was closed"),
                Ok(length) => {
                    let rest = connection.missing.checked_sub(length);
                    connection.missing = rest.context("more than an answer")?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if connection.missing == 0 {
                latencies.push(connection.due.elapsed().as_micros());
                free.push(number);
            } else {
                ensure!(connection.due.elapsed() < PATIENCE, "an answer is missing");
            }
        }
    }
    ensure!(!latencies.is_empty(), "no answer");
    latencies.sort_unstable();
    Ok(Outcome {
        answers: latencies.len(),
        latencies,
        time: start.elapsed(),
    })
}

/// The connections that wait for an answer and have something to read.
fn readable(open: &[Connection], wait: Duration) -> Result<Vec<usize>> {
    let waiting: Vec<usize> = (0..open.len())
        .filter(|number| open[*number].missing > 0)
        .collect();
    let mut polled: Vec<_> = waiting
        .iter()
        .map(|number| PollFd::new(&open[*number].stream, PollFlags::IN))
        .collect();
    let wait = Timespec::try_from(wait)?;
    poll(&mut polled, Some(&wait))?;
    let ready = waiting.iter().zip(&polled);
    let ready = ready.filter(|(_, polled)| !polled.revents().is_empty());
    Ok(ready.map(|(number, _)| *number).collect())
}

/// Opens connections that have been used once, and stay open as long as the value.
pub(crate) fn idle(port: u16, count: usize) -> Result<Vec<TcpStream>> {
    let question = question(port, "/")?;
    let streams = (0..count).map(|_| {
        let mut stream = dial(port)?;
        stream.write_all(&question.bytes)?;
        stream.read_exact(&mut vec![0; question.answer])?;
        Ok(stream)
    });
    streams.collect()
}

/// Connects `count` times at once and gives the time of each, sorted.
pub(crate) fn burst(port: u16, count: usize) -> Result<Vec<Duration>> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut sockets = Vec::new();
    for _ in 0..count {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        let begun = Instant::now();
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => sockets.push((socket, begun)),
            Err(error) => return Err(error.into()),
        }
    }
    let (mut times, mut kept) = (Vec::new(), Vec::new());
    while !sockets.is_empty() {
        let mut polled: Vec<_> = sockets
            .iter()
            .map(|(socket, _)| PollFd::new(socket, PollFlags::OUT))
            .collect();
        let wait = Timespec::try_from(PATIENCE)?;
        ensure!(poll(&mut polled, Some(&wait))? > 0, "no connection");
        let done: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        let (mut done, mut still) = (done.into_iter(), Vec::new());
        for (socket, begun) in sockets {
            if done.next() == Some(true) {
                sockopt::socket_error(socket.as_fd())??;
                times.push(begun.elapsed());
                kept.push(socket);
            } else {
                still.push((socket, begun));
            }
        }
        sockets = still;
    }
    times.sort_unstable();
    Ok(times)
}

/// Asks once, to see how long the answer is.
fn question(port: u16, path: &str) -> Result<Question> {
    let bytes = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
    )
    .into_bytes();
    let mut stream = dial(port)?;
    let mut answer = 0;
    // Twice: what a server does once only is no part of a load.
    for _ in 0..2 {
        stream.write_all(&bytes)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend_from_slice(&byte);
        }
        let text = String::from_utf8(head)?.to_lowercase();
        ensure!(text.starts_with("http/1.1 200"), "{text}");
        let length = text.split("content-length: ").nth(1).context("a length")?;
        let length: usize = length.lines().next().unwrap_or_default().parse()?;
        stream.read_exact(&mut vec![0; length])?;
        answer = text.len() + length;
    }
    Ok(Question { bytes, answer })
}

fn dial(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
