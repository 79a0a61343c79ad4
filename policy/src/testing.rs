//! Small worlds for the tests of rules and judging.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use state::digest::{ObjectId, PayloadHash};
use state::manifest::Subject;
use state::name::{EnvironmentName, ServiceName};
use state::release::{Origin, Release, Rules};
use state::render::Rendered;
use state::service::Service;

use crate::evidence::Evidence;
use crate::judge::Judged;
use crate::rule::Verdict;

/// The time at which the tests judge.
pub(crate) const NOW: Timestamp = Timestamp::constant(1_795_000_000, 0);

/// Commits without a required trailer and approvals: no rule of the tests asks for them.
pub(crate) const NONE: Evidence = Evidence {
    trailer: None,
    approvals: BTreeMap::new(),
    held: Vec::new(),
};

/// `seconds` after [`NOW`], or before it.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW.as_second() + seconds).unwrap()
}

pub(crate) fn environment(name: &str) -> EnvironmentName {
    name.parse().unwrap()
}

pub(crate) fn service(name: &str) -> Subject {
    Subject::Service(name.parse().unwrap())
}

const ORIGIN: Origin = Origin {
    commit: ObjectId([7; 20]),
    payload: PayloadHash([7; 32]),
};

/// What is admitted or wanted, built up environment by environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct World(pub(crate) Rendered);

impl World {
    /// Adds an environment with `rules`, a JSON object without `hosts`.
    pub(crate) fn rules(mut self, name: &str, rules: &Value) -> Self {
        let mut spec = json!({ "hosts": "any" });
        spec.as_object_mut()
            .unwrap()
            .extend(rules.as_object().unwrap().clone());
        let environment = environment(name);
        let rules = Rules {
            environment: environment.clone(),
            origin: ORIGIN,
            spec: serde_json::from_value(spec).unwrap(),
        };
        self.0.rules.insert(environment, rules);
        self
    }

    /// Adds `name`, pinned to version `version` of the source repository of the same name.
    pub(crate) fn runs(self, environment: &str, name: &str, version: u8) -> Self {
        self.with(environment, name, name, version, "running")
    }

    /// Adds `name` with everything that rules look at.
    pub(crate) fn with(
        mut self,
        environment: &str,
        name: &str,
        source: &str,
        version: u8,
        state: &str,
    ) -> Self {
        let spec = json!({
            "source": {
                "repository": format!("https://git.example.org/{source}.git"),
                "branch": "main",
                "commit": ObjectId([version; 20]),
            },
            "run": { "command": ["./service"] },
            "state": state,
        });
        let (environment, service) = (
            self::environment(environment),
            name.parse::<ServiceName>().unwrap(),
        );
        let release = Release {
            service: service.clone(),
            environment: environment.clone(),
            origin: ORIGIN,
            spec: serde_json::from_value(spec).unwrap(),
        };
        self.0.releases.insert((environment, service), release);
        self
    }

    /// Lets `name` be what `change` makes of it.
    pub(crate) fn but(
        mut self,
        environment: &str,
        name: &str,
        change: impl FnOnce(&mut Service),
    ) -> Self {
        let place = (self::environment(environment), name.parse().unwrap());
        change(&mut self.0.releases.get_mut(&place).unwrap().spec);
        self
    }

    /// Lets `name` listen on `port` of all addresses.
    pub(crate) fn listens(self, environment: &str, name: &str, port: u16) -> Self {
        let traffic = json!({ "listen": format!("0.0.0.0:{port}") });
        let traffic = serde_json::from_value(traffic).unwrap();
        self.but(environment, name, |spec| spec.traffic = Some(traffic))
    }

    /// Lets `name` need `needed`.
    pub(crate) fn needs(self, environment: &str, name: &str, needed: &str) -> Self {
        let needed = needed.parse().unwrap();
        self.but(environment, name, |spec| spec.needs = [needed].into())
    }
}

/// The verdict on `subject`, which must be among the changes.
#[track_caller]
pub(crate) fn verdict_on<'a>(
    judged: &'a [Judged],
    environment: &str,
    subject: &str,
) -> &'a Verdict {
    let found = judged.iter().find(|one| {
        one.change.environment.as_str() == environment && one.change.subject.as_str() == subject
    });
    &found.expect("the change is judged").verdict
}
