//! The probes of a service. What is asked is an enum here and three fields where it is written, so that
//! "exactly one of `http`, `tcp` and `exec`" is checked once, and unknown fields beside them are refused.

use serde::{Deserialize, Serialize};

use crate::unit::Period;

/// The probes of a service; none of them is asked where it is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Health {
    /// Must succeed once within its time after the start.
    pub startup: Option<Startup>,
    /// Must succeed some times in a row before traffic; failing during bake rolls back.
    pub ready: Option<Ready>,
    /// Failing some times in a row restarts the slot, or rolls back during bake.
    pub live: Option<Probe>,
    /// A further proof that the answer comes from the release.
    pub identity: Option<Identity>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `http: /path`: an answer with status 200–399 is a success.
    Http(String),
    /// `tcp: true`: a connection that is accepted is a success.
    Tcp,
    /// `exec: [program, argument, …]`: run as the slot's user in `app/`; exit code 0 is a success.
    Exec(Vec<String>),
}

/// The startup probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// What is asked.
    pub check: Check,
    /// The time within which it must succeed once. Default 1 min.
    pub within: Period,
}

/// A probe that is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub check: Check,
    /// The time between two questions. Default: 1 s for `ready`, 10 s for `live`.
    pub every: Period,
    /// Failures in a row that make it unwell. Default 3.
    pub failures: u32,
    /// The time for one answer. Default 2 s.
    pub timeout: Period,
}

/// The readiness probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What is asked, and how often.
    pub probe: Probe,
    /// Successes in a row that make it ready. Default 3.
    pub successes: u32,
}

/// A response header that must echo the release id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// The header's name.
    pub header: String,
}

const STARTUP_WITHIN: Period = Period::minutes(1);
const READY_EVERY: Period = Period::seconds(1);
const LIVE_EVERY: Period = Period::seconds(10);
const IN_A_ROW: u32 = 3;
const TIMEOUT: Period = Period::seconds(2);

/// `health` as it is written.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    startup: Option<WrittenStartup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<WrittenReady>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<WrittenLive>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
}

/// `health.startup` as it is written.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WrittenStartup {
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    within: Option<Period>,
}

/// `health.ready` as it is written.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WrittenReady {
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<Period>,
    #[serde(skip_serializing_if = "Option::is_none")]
    successes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Period>,
}

/// `health.live` as it is written.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WrittenLive {
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<Period>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Period>,
}

/// A probe that does not say what is asked, or says it twice.
#[derive(Debug, thiserror::Error)]
#[error("{probe}: expected exactly one of `http: /path`, `tcp: true` and `exec: [program, …]`")]
struct NotOneCheck {
    probe: &'static str,
}

type Three = (Option<String>, Option<bool>, Option<Vec<String>>);

impl Check {
    fn read(probe: &'static str, three: Three) -> Result<Self, NotOneCheck> {
        match three {
            (Some(path), None, None) => Ok(Self::Http(path)),
            (None, Some(true), None) => Ok(Self::Tcp),
            (None, None, Some(command)) => Ok(Self::Exec(command)),
            _ => Err(NotOneCheck { probe }),
        }
    }

    fn write(self) -> Three {
        match self {
            Self::Http(path) => (Some(path), None, None),
            Self::Tcp => (None, Some(true), None),
            Self::Exec(command) => (None, None, Some(command)),
        }
    }
}

impl Startup {
    fn read(written: WrittenStartup) -> Result<Self, NotOneCheck> {
        let WrittenStartup {
            http,
            tcp,
            exec,
            within,
        } = written;
        Ok(Self {
            check: Check::read("startup", (http, tcp, exec))?,
            within: within.unwrap_or(STARTUP_WITHIN),
        })
    }

    fn write(self) -> WrittenStartup {
        let (http, tcp, exec) = self.check.write();
        WrittenStartup {
            http,
            tcp,
            exec,
            within: unless(self.within, STARTUP_WITHIN),
        }
    }
}

impl Ready {
    fn read(written: WrittenReady) -> Result<Self, NotOneCheck> {
        let probe = Probe {
            check: Check::read("ready", (written.http, written.tcp, written.exec))?,
            every: written.every.unwrap_or(READY_EVERY),
            failures: written.failures.unwrap_or(IN_A_ROW),
            timeout: written.timeout.unwrap_or(TIMEOUT),
        };
        let successes = written.successes.unwrap_or(IN_A_ROW);
        Ok(Self { probe, successes })
    }

    fn write(self) -> WrittenReady {
        let (http, tcp, exec) = self.probe.check.write();
        WrittenReady {
            http,
            tcp,
            exec,
            every: unless(self.probe.every, READY_EVERY),
            successes: unless(self.successes, IN_A_ROW),
            failures: unless(self.probe.failures, IN_A_ROW),
            timeout: unless(self.probe.timeout, TIMEOUT),
        }
    }
}

// One success ends a row of failures, so `live` has no `successes`.
impl Probe {
    fn read(written: WrittenLive) -> Result<Self, NotOneCheck> {
        Ok(Self {
            check: Check::read("live", (written.http, written.tcp, written.exec))?,
            every: written.every.unwrap_or(LIVE_EVERY),
            failures: written.failures.unwrap_or(IN_A_ROW),
            timeout: written.timeout.unwrap_or(TIMEOUT),
        })
    }

    fn write(self) -> WrittenLive {
        let (http, tcp, exec) = self.check.write();
        WrittenLive {
            http,
            tcp,
            exec,
            every: unless(self.every, LIVE_EVERY),
            failures: unless(self.failures, IN_A_ROW),
            timeout: unless(self.timeout, TIMEOUT),
        }
    }
}

/// `value`, unless it is the `default`.
fn unless<T: Copy + PartialEq>(value: T, default: T) -> Option<T> {
    (value != default).then_some(value)
}

impl TryFrom<Written> for Health {
    type Error = NotOneCheck;

    fn try_from(written: Written) -> Result<Self, NotOneCheck> {
        Ok(Self {
            startup: written.startup.map(Startup::read).transpose()?,
            ready: written.ready.map(Ready::read).transpose()?,
            live: written.live.map(Probe::read).transpose()?,
            identity: written.identity,
        })
    }
}

impl From<Health> for Written {
    fn from(health: Health) -> Self {
        Self {
            startup: health.startup.map(Startup::write),
            ready: health.ready.map(Ready::write),
            live: health.live.map(Probe::write),
            identity: health.identity,
        }
    }
}
