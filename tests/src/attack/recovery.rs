//! What follows a stolen policy key: root ends it and vouches for the last honest manifest, and the log goes on above
//! everything that the thief has signed. Every host that had believed him comes along.

use state::Code;
use state::digest::ObjectId;
use state::verify::Entry;

use super::forge::Forge;
use super::range::{Range, Witness};
use crate::wait;

impl Range {
    /// Serves what `attack` makes of a copy of the honest repository, with the policy key. The agent must refuse the
    /// release of `web` with `code` and go on running what it ran; root then recovers the fleet.
    #[track_caller]
    pub fn release_refused(&mut self, code: Code, attack: impl FnOnce(&Forge)) -> Code {
        let before = self.witness();
        let forge = self.forge();
        attack(&forge);
        self.serve(&forge.path);
        self.wait_for_hold(code);
        self.unharmed(&before);
        self.floor_not_back(&before);
        self.recover();
        code
    }

    /// The same for a thief who admits `main` with the commit that `attack` writes.
    #[track_caller]
    pub fn admission_refused(
        &mut self,
        code: Code,
        attack: impl FnOnce(&Forge) -> ObjectId,
    ) -> Code {
        self.release_refused(code, |forge| {
            let commit = attack(forge);
            forge.point("main", &commit);
            forge.admit_edited(|_| {});
        })
    }

    /// Waits until the agent's status shows that `web` is held by verification; it must be with `code`.
    #[track_caller]
    pub fn wait_for_hold(&self, code: Code) {
        let within = std::time::Duration::from_secs(30);
        let held = wait::until("the release is refused", within, || {
            let web = self.host.service("web");
            web["held"].is_object().then(|| web["held"].clone())
        });
        assert_eq!(held["code"], code.as_str(), "{held:#}");
        assert_eq!(held["kind"], "refused", "{held:#}");
        assert!(held["remedy"].is_string(), "{held:#}");
    }

    /// Asserts that the trust stands and that the sequence did not go back.
    #[track_caller]
    pub fn floor_not_back(&self, before: &Witness) {
        let (now, then) = (self.floor(), before.floor());
        assert_eq!(now["trust"], then["trust"], "trust stands");
        let sequence = |floor: &serde_json::Value| floor["sequence"].as_u64();
        assert!(sequence(&now) >= sequence(then), "the floor went back");
    }

    /// Root ends the stolen policy key and anchors the log; an honest admission gets through, also to this host.
    #[track_caller]
    pub fn recover(&mut self) {
        self.anchor(self.sequence() + 1);
        self.serve_honestly();
        self.honest_pass();
    }

    /// Root publishes a trust file with a new policy key, and the log goes on at `next`.
    #[track_caller]
    pub fn anchor(&mut self, next: u64) {
        let honest = self.open(&self.honest());
        let last: Entry = honest.last();
        let (sequence, manifest) = (last.manifest.sequence, last.manifest.hash());
        let main = last.manifest.author.payload;
        let mut trust = self.trust.next();
        trust.end(&self.keys.public("policy"), sequence);
        trust.policy = vec![self.keys.make("policy").to_string()];
        trust.more = format!(
            "anchor: {{ sequence: {sequence}, manifest: \"sha256:{manifest}\", next: {next}, main: \"sha256:{main}\" }}\n"
        );
        self.publish(trust);
    }

    /// Two root holders sign `trust`, and it is pushed past policy's hook.
    #[track_caller]
    pub fn publish(&mut self, trust: super::trust::TrustText) {
        let clone = self.clone_of_author();
        clone.publish_trust(&trust, &["root", "root2"]);
        self.fleet.in_state(&["push", "-q", "origin", "trust"]).ok();
        self.trust = trust;
    }
}
