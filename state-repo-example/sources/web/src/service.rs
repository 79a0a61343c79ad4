//! What the service answers: its name, its health, and whatever is posted to `/echo`.

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::{Request, Response};

/// The version that people see; a change of this one file is a new release to deploy.
const VERSION: &str = include_str!("../version.txt");
/// Echoes after which [`Fault::UnwellUnderLoad`] shows.
const ECHOES_UNTIL_UNWELL: u64 = 100;

/// A defect that is switched on with the variable `FAULT`, to watch what the agent does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// It starts and lives, but never says that it is ready.
    NeverReady,
    /// It says that it is well until it has done some work; requests are answered all the same.
    UnwellUnderLoad,
}

impl Fault {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self::None),
            "never-ready" => Ok(Self::NeverReady),
            "unwell-under-load" => Ok(Self::UnwellUnderLoad),
            other => Err(format!(
                "FAULT is '{other}', expected never-ready or unwell-under-load"
            )),
        }
    }
}

/// The service's identity and what it has done so far.
pub struct Service {
    release: String,
    slot: String,
    fault: Fault,
    echoes: AtomicU64,
}

impl Service {
    /// Reads `RELEASE_ID` and `SLOT`, which the agent sets, and `FAULT`, which an author may set.
    pub fn from_environment() -> Result<Self, String> {
        let read = |name| env::var(name).unwrap_or_default();
        Ok(Self::new(
            read("RELEASE_ID"),
            read("SLOT"),
            Fault::parse(&read("FAULT"))?,
        ))
    }

    fn new(release: String, slot: String, fault: Fault) -> Self {
        Self {
            release,
            slot,
            fault,
            echoes: AtomicU64::new(0),
        }
    }

    /// The id of the release that answers: echoed in the header `Writ-Release`.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The service's name and version.
    pub fn name(&self) -> String {
        format!("web {}", VERSION.trim())
    }

    /// Answers one request.
    pub fn answer(&self, request: Request) -> Response {
        match (request.method.as_str(), request.path()) {
            ("GET" | "HEAD", "/") => Response::text("200 OK", self.greeting()),
            ("GET" | "HEAD", "/health") => self.health(!self.is_unwell()),
            ("GET" | "HEAD", "/health/ready") => {
                self.health(!self.is_unwell() && self.fault != Fault::NeverReady)
            }
            ("POST", "/echo") => {
                self.echoes.fetch_add(1, Ordering::Relaxed);
                Response::bytes("200 OK", request.body)
            }
            (_, "/" | "/health" | "/health/ready") => Response::not_allowed("GET, HEAD"),
            (_, "/echo") => Response::not_allowed("POST"),
            _ => Response::text("404 Not Found", "there is no such page\n".into()),
        }
    }

    fn greeting(&self) -> String {
        format!(
            "{}, slot {}, release {}\n",
            self.name(),
            self.slot,
            self.release
        )
    }

    fn is_unwell(&self) -> bool {
        self.fault == Fault::UnwellUnderLoad
            && self.echoes.load(Ordering::Relaxed) >= ECHOES_UNTIL_UNWELL
    }

    fn health(&self, is_well: bool) -> Response {
        if is_well {
            Response::text("200 OK", "well\n".into())
        } else {
            Response::text("503 Service Unavailable", "not well\n".into())
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn service(fault: &str) -> Service {
        let fault = Fault::parse(fault).expect("a known fault");
        Service::new("1f0c".into(), "blue".into(), fault)
    }

    fn status(service: &Service, method: &str, target: &str) -> &'static str {
        service.answer(Request::new(method, target, b"")).status
    }

    #[test]
    fn the_greeting_names_version_slot_and_release() {
        let response = service("").answer(Request::new("GET", "/", b""));
        let text = String::from_utf8(response.body).expect("text");
        assert_eq!(
            text,
            format!("web {}, slot blue, release 1f0c\n", VERSION.trim())
        );
    }

    #[test]
    fn echo_returns_the_body_unchanged() {
        let response = service("").answer(Request::new("POST", "/echo?n=1", b"\0\r\nbody"));
        assert_eq!(response.body, b"\0\r\nbody");
    }

    #[test]
    fn a_well_service_is_alive_and_ready() {
        let service = service("");
        assert_eq!(status(&service, "GET", "/health"), "200 OK");
        assert_eq!(status(&service, "GET", "/health/ready"), "200 OK");
    }

    #[test]
    fn the_fault_never_ready_lives_without_being_ready() {
        let service = service("never-ready");
        assert_eq!(status(&service, "GET", "/health"), "200 OK");
        assert!(status(&service, "GET", "/health/ready").starts_with("503"));
    }

    #[test]
    fn the_fault_unwell_under_load_shows_after_work_and_still_answers() {
        let service = service("unwell-under-load");
        assert_eq!(status(&service, "GET", "/health/ready"), "200 OK");
        for _ in 0..ECHOES_UNTIL_UNWELL {
            assert_eq!(status(&service, "POST", "/echo"), "200 OK");
        }
        assert!(status(&service, "GET", "/health/ready").starts_with("503"));
        assert_eq!(status(&service, "POST", "/echo"), "200 OK");
    }

    #[test]
    fn unknown_pages_methods_and_faults_are_refused() {
        assert!(status(&service(""), "GET", "/nowhere").starts_with("404"));
        assert!(status(&service(""), "DELETE", "/").starts_with("405"));
        assert!(status(&service(""), "GET", "/echo").starts_with("405"));
        assert!(Fault::parse("sometimes").is_err());
    }
}
