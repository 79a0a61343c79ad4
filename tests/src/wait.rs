//! Waiting for a condition with a deadline; the only place in the tests where time is spent.

use std::time::{Duration, Instant};

/// Asks `condition` every 20 ms until it gives a value; panics with `what` after `within`.
pub fn until<T>(what: &str, within: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
