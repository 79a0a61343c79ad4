//! Attacks by whoever stands between a host and its repository, or on the host: the agent of a range is pointed at a
//! hostile server, or restarted under other circumstances, and pointed back.

use std::path::PathBuf;

use serde_json::{Value, json};
use state::Code;

use super::hostile::{Hostile, Question, Reply};
use super::range::{NOTICE, Range};
use crate::wait;

/// What a hostile server may take of the agent's time and space.
const BOUNDS: (&str, &str) = ("5s", "4MiB");

impl Range {
    /// Has the agent follow a server of our own that asks for nothing and, until told otherwise, behaves.
    pub fn besiege(&mut self) -> Hostile {
        let server = Hostile::start(&self.fleet.path("hostile"), &self.honest());
        self.follow(json!([remote_of(&server)]));
        server
    }

    /// Writes `remotes` to agent.yaml and starts the agent anew.
    pub fn follow(&mut self, remotes: Value) {
        self.host.kill();
        self.host.configure("remotes", remotes);
        self.host.start();
    }

    /// Has the agent follow the link to the honest repository again.
    pub fn follow_honest(&mut self) {
        self.follow(json!([{ "url": self.url() }]));
    }

    /// Serves by `behaviour`. The agent must refuse the intake with `code`, go on running what it ran, and keep its
    /// floor; then an honest admission must get through, from the same server.
    #[track_caller]
    pub fn server_refused(
        &mut self,
        code: Code,
        behaviour: impl FnMut(Question, Vec<u8>) -> Reply + Send + 'static,
    ) -> Code {
        let server = self.besiege();
        self.honest_pass();
        let before = self.witness();
        server.behave(behaviour);
        self.honest_push().ok();
        self.wait_for_refusal(code);
        self.unharmed(&before);
        assert_eq!(&self.floor(), before.floor(), "the floor has moved");
        server.behave_well();
        self.honest_pass();
        self.follow_honest();
        code
    }

    /// Does `hardship` to a host whose agent does not run; whoever asks or starts it must be told `code`, and what runs
    /// must go on. Then `relief` takes back what was done, and an honest admission must get through.
    #[track_caller]
    pub fn hardship_refused(
        &mut self,
        code: Code,
        hardship: impl FnOnce(&mut Self),
        relief: impl FnOnce(&mut Self),
    ) -> Code {
        let before = self.witness();
        self.host.kill();
        hardship(self);
        self.host.kill();
        relief(self);
        self.unharmed(&before);
        assert_eq!(&self.floor(), before.floor(), "the floor has moved");
        self.host.start();
        self.honest_pass();
        code
    }

    /// The agent's mirrors of the state repository.
    pub fn mirrors(&self) -> Vec<PathBuf> {
        let below = |folder: PathBuf| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path())
        };
        let state = self.host.state();
        let all = below(state.clone()).chain(below(state.join("mirrors")));
        let is_mirror =
            |path: &PathBuf| path.join("refs").is_dir() && path.extension() == Some("git".as_ref());
        all.filter(is_mirror).collect()
    }

    /// Writes a file into each of the agent's mirrors, as somebody does who got hold of the disk.
    pub fn plant(&self, file: &str, text: &str) {
        let mirrors = self.mirrors();
        assert!(!mirrors.is_empty(), "the agent has a mirror");
        for mirror in mirrors {
            let path = mirror.join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file is planted");
        }
    }

    /// Waits until the agent has moved aside every mirror in which something was planted, and has said so.
    #[track_caller]
    pub fn uprooted(&self, file: &str) {
        wait::until("what was planted is gone", NOTICE, || {
            let mut mirrors = self.mirrors().into_iter();
            let gone = !mirrors.any(|mirror| mirror.join(file).exists());
            let said = self.host.agent(&["history"]).ok().stdout;
            (gone && said.contains(Code::RepositoryUnsupported.as_str())).then_some(())
        });
    }
}

/// What agent.yaml says of a hostile server.
pub fn remote_of(server: &Hostile) -> Value {
    let (deadline, most) = BOUNDS;
    json!({
        "url": server.url(),
        "ca": server.ca(),
        "token": server.token(),
        "deadline": deadline,
        "maxBytes": most,
    })
}
