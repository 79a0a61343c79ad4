//! Small files, kept in memory once they were asked for. It is bounded: when it is full, it begins anew.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Body as _;

/// The longest file that is kept, in bytes.
pub(super) const MAX_FILE: u64 = 64 << 10;
/// All that is kept, in bytes.
const MAX_TOTAL: u64 = 16 << 20;
/// What an entry weighs beside its file and its path, in bytes.
const OVERHEAD: u64 = 1 << 10;

/// Answers by the path that was asked for.
#[derive(Default)]
pub(super) struct Memory(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    answers: HashMap<String, Response<Full<Bytes>>>,
    total: u64,
}

impl Memory {
    pub(super) fn get(&self, path: &str) -> Option<Response<Full<Bytes>>> {
        let kept = self.0.lock().expect("no holder panics");
        kept.answers.get(path).cloned()
    }

    pub(super) fn keep(&self, path: String, answer: &Response<Full<Bytes>>) {
        let length = answer.body().size_hint().exact().unwrap_or_default();
        let weight = OVERHEAD + length + path.len() as u64;
        let mut kept = self.0.lock().expect("no holder panics");
        if kept.total + weight > MAX_TOTAL {
            *kept = Kept::default();
        }
        kept.total += weight;
        kept.answers.insert(path, answer.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_forgets_before_it_is_too_large() {
        let memory = Memory::default();
        let answer = Response::new(Full::new(Bytes::from(vec![0; 64 << 10])));
        for number in 0..300 {
            memory.keep(format!("/{number}"), &answer);
            assert!(memory.get(&format!("/{number}")).is_some());
            assert!(memory.0.lock().unwrap().total <= MAX_TOTAL);
        }
        assert!(memory.get("/0").is_none());
    }
}
