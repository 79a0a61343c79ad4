//! The loopback ports of this host's slots: each is given to one slot at a time.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use state::{Code, Refusal};

use crate::config::Ports;

/// The ports that slots may listen on, and those that are given out.
#[derive(Debug)]
pub struct PortPool {
    range: Ports,
    taken: Mutex<BTreeSet<u16>>,
}

impl PortPool {
    /// A pool of `range` in which nothing is given out.
    pub fn new(range: Ports) -> Self {
        Self {
            range,
            taken: Mutex::default(),
        }
    }

    /// Gives out a port that nobody listens on.
    ///
    /// # Errors
    /// `PORTS_EXHAUSTED`.
    pub fn take(&self) -> Result<u16, Refusal> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (self.range.first..=self.range.last)
            .find(|port| !taken.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok());
        let port = free.ok_or_else(|| {
            let detail = format!("no port of {} is free", self.range);
            Refusal::new(Code::PortsExhausted, detail)
        })?;
        taken.insert(port);
        Ok(port)
    }

    /// Gives out this very port, unless another slot has it by now or somebody listens there.
    pub fn take_again(&self, port: u16) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        TcpListener::bind(("127.0.0.1", port)).is_ok() && taken.insert(port)
    }

    /// Notes that a slot has the port already.
    pub fn note(&self, port: u16) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(port);
    }

    /// Takes a port back.
    pub fn give_back(&self, port: u16) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_out_once_and_never_if_somebody_listens_there() {
        let (range, occupied) = (20_000..60_000)
            .step_by(3)
            .find_map(|first| {
                let last = first + 2;
                let free = |port| TcpListener::bind(("127.0.0.1", port)).ok();
                let (one, _two, _three) = (free(first)?, free(first + 1)?, free(last)?);
                Some((Ports { first, last }, one))
            })
            .unwrap();
        let pool = PortPool::new(range);
        assert_eq!(pool.take().unwrap(), range.first + 1);
        assert_eq!(pool.take().unwrap(), range.last);
        assert_eq!(pool.take().unwrap_err().code, Code::PortsExhausted);
        drop(occupied);
        assert_eq!(pool.take().unwrap(), range.first);
        pool.give_back(range.last);
        let occupied = TcpListener::bind(("127.0.0.1", range.last)).unwrap();
        assert!(!pool.take_again(range.last), "somebody listens there");
        drop(occupied);
        assert!(pool.take_again(range.last));
        assert!(!pool.take_again(range.last), "a slot has it");
    }
}
