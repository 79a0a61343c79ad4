//! The proxy's bounds. They are the same for every service; none of them cuts a transfer that still moves.

use std::time::Duration;

/// How long and how much the proxy puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time for a whole request head, and also the time that a kept-alive connection may be idle.
    pub head: Duration,
    /// The time in which a body, or the beginning of an answer, must move on.
    pub idle: Duration,
    /// The time for a connection to a slot.
    pub connect: Duration,
    /// How long an unused connection to a slot is kept: less than the idle limit of usual servers (Node.js: 5 s), so
    /// that a request seldom meets a connection that the slot is about to close.
    pub pool: Duration,
    /// Open connections per listen address; more wait in the kernel's queue.
    pub connections: usize,
    /// The time in which requests in flight may end when the proxy stops, after the lame duck's time.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            connect: Duration::from_secs(5),
            pool: Duration::from_secs(4),
            connections: 4096,
            farewell: Duration::from_secs(30),
        }
    }
}
