//! A host that was enrolled a moment ago and knows nothing but the domain: the one who is lied to most easily.

use std::path::PathBuf;

use serde_json::Value;
use state::Code;

use super::forge::Forge;
use super::range::Range;
use crate::host::{Host, is_live};

/// A new host without labels, so that it runs `job` only, and the link that it follows.
pub struct Newcomer {
    /// The host; its agent makes a pass when it is told to.
    pub host: Host,
    link: PathBuf,
}

impl Newcomer {
    /// Enrols it; `repository` is served to it.
    pub fn new(range: &Range, forge: &Forge) -> Self {
        let name = forge.path.file_stem().expect("a name").display();
        let name = format!("new-{name}");
        let link = range.fleet.path(format!("{name}.git"));
        std::os::unix::fs::symlink(&forge.path, &link).expect("a link");
        let url = format!("file://{}", link.display());
        let (root, domain) = (
            range.fleet.path(format!("hosts/{name}")),
            range.fleet.domain(),
        );
        let host = Host::enroll(root, &name, &url, &domain, &[]);
        Self { host, link }
    }

    /// Makes a pass, which must be refused with `code`, for all releases or for `job`, and starts nothing.
    #[track_caller]
    pub fn refuses(&self, code: Code) {
        let once = self.host.agent(&["once"]);
        assert_ne!(once.code, 0, "{}", once.all());
        let status = self.host.status();
        let refused = match &status["pass"]["refused"]["code"] {
            Value::Null => self.host.service("job")["held"]["code"].clone(),
            code => code.clone(),
        };
        assert_eq!(refused, code.as_str(), "{status:#}\n{}", once.all());
        assert!(once.all().contains("remedy"), "{}", once.all());
        let services = self.host.processes_named("service");
        assert!(services.is_empty(), "nothing was started: {services:?}");
    }

    /// Makes a pass, after which `job` runs.
    #[track_caller]
    pub fn accepts(&self) {
        self.host.agent(&["once"]).ok();
        let job = self.host.service("job");
        assert!(is_live(&job), "{job:#}");
    }

    /// The sequence that it has accepted.
    pub fn sequence(&self) -> u64 {
        let bytes = std::fs::read(self.host.state().join("floor.json")).expect("the floor");
        let floor: Value = serde_json::from_slice(&bytes).expect("the floor is JSON");
        floor["sequence"].as_u64().expect("a sequence")
    }

    /// Has its link lead to the honest repository.
    pub fn serve_honestly(&self, range: &Range) {
        std::fs::remove_file(&self.link).expect("the link");
        std::os::unix::fs::symlink(range.honest(), &self.link).expect("a link");
    }
}

impl Range {
    /// Serves what `attack` makes of a copy of the honest repository to a new host, which must refuse it with `code`
    /// and start nothing; shown the honest repository, it runs `job`. Root recovers the fleet first if a thief of the
    /// policy key made that host believe anything.
    #[track_caller]
    pub fn newcomer_refuses(&mut self, code: Code, attack: impl FnOnce(&Forge)) -> Code {
        let before = self.witness();
        let forge = self.forge();
        attack(&forge);
        let newcomer = Newcomer::new(self, &forge);
        newcomer.refuses(code);
        let believed = newcomer.sequence();
        if believed > 0 {
            self.anchor(self.honest_sequence().max(believed) + 1);
        }
        self.honest_pass();
        newcomer.serve_honestly(self);
        newcomer.accepts();
        self.unharmed(&before);
        code
    }
}
