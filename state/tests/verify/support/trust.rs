//! The fleet's trust files, signed with ssh-keygen.

use state::digest::Sha256Hash;
use state::key::{PublicKey, SigningKey};
use state::tree::Files;
use state::trust::Trust;
use state::verify;

use super::Fleet;

impl Fleet {
    /// The text of a trust file: two root keys of which both must sign, one policy key, alice for everything and a CI
    /// key for pins of `web`.
    pub(crate) fn trust_file(&self, version: u64, prev: Option<Sha256Hash>, more: &str) -> String {
        let key = |name: &str| {
            let line = std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
            line.trim().to_owned()
        };
        let prev = prev.map_or(String::new(), |hash| format!("prev: sha256:{hash}\n"));
        let (root1, root2, alice, ci) = (key("root1"), key("root2"), key("alice"), key("ci"));
        let policy = self.policy.public();
        format!(
            r#"writ: trust/1
name: acme
version: {version}
{prev}expires: 2030-01-01T00:00:00Z
root: {{ threshold: 2, keys: [ "{root1}", "{root2}" ] }}
policy: {{ keys: [ "{policy}" ], maxFreshness: 24h }}
authors:
  - {{ name: alice, key: "{alice}", environments: [ "*" ], paths: [ "**" ], may: [ author, rules, hold ] }}
  - {{ name: web-ci, key: "{ci}", environments: [ prod ], paths: [ "environments/*/web.yaml" ], fields: [ source.commit ], may: [ author ] }}
{more}"#
        )
    }

    /// Replaces the branch `trust` by these versions, each signed by these keys with ssh-keygen.
    pub(crate) fn publish_trust(&self, versions: &[(u64, &str, &[&str])]) {
        let mut files = Files::new();
        for (version, text, signers) in versions {
            let mut signatures = String::new();
            for signer in *signers {
                let file = self.path("trust.yaml");
                std::fs::write(&file, text).unwrap();
                self.run(
                    "ssh-keygen",
                    &[
                        "-q",
                        "-Y",
                        "sign",
                        "-n",
                        "trust@writ",
                        "-f",
                        signer,
                        "trust.yaml",
                    ],
                );
                let signature = self.path("trust.yaml.sig");
                signatures += &std::fs::read_to_string(&signature).unwrap();
                std::fs::remove_file(signature).unwrap();
            }
            files.insert(format!("{version}.yaml"), text.as_bytes().into());
            files.insert(format!("{version}.sig"), signatures.as_bytes().into());
        }
        let commit = self.commit_files(&files, &[]);
        self.move_branch("trust", &commit);
    }

    /// Publishes trust 2 after trust 1, with `more` lines.
    pub(crate) fn publish_second_trust(&self, more: &str) {
        let first = self.trust_file(1, None, "");
        let second = self.trust_file(2, Some(Sha256Hash::of(first.as_bytes())), more);
        let both: &[&str] = &["root1", "root2"];
        self.publish_trust(&[(1, &first, both), (2, &second, both)]);
    }

    /// Publishes trust 2 after the trust 1 that is published, under the policy key of now.
    pub(crate) fn publish_second_trust_from_first(&self, more: &str) {
        let first = self.git_as("alice", &["show", "trust:1.yaml"]) + "\n";
        let hash = Sha256Hash::of(first.as_bytes());
        assert_eq!(hash.0, self.domain.0);
        let both: &[&str] = &["root1", "root2"];
        self.publish_trust(&[
            (1, &first, both),
            (2, &self.trust_file(2, Some(hash), more), both),
        ]);
    }

    /// Publishes a trust 2 without the key of CI, which ended after `last`.
    pub(crate) fn end_ci(&self, last: u64) {
        let first = self.trust_file(1, None, "");
        let second = self.trust_file(
            2,
            Some(Sha256Hash::of(first.as_bytes())),
            &self.ended("ci", last),
        );
        let kept = second.lines().filter(|line| !line.contains("web-ci"));
        let second = kept.map(|line| format!("{line}\n")).collect::<String>();
        let both: &[&str] = &["root1", "root2"];
        self.publish_trust(&[(1, &first, both), (2, &second, both)]);
    }

    /// The lines of a trust file that end the key `name`.
    fn ended(&self, name: &str, last: u64) -> String {
        let line = std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        let key: PublicKey = line.trim().parse().unwrap();
        ended(&key, last)
    }

    /// Gives policy a new key in trust 2 and ends the one that it had after `last`.
    pub(crate) fn rotate_policy(&mut self, last: u64) {
        let old = self.policy.public().clone();
        self.policy = SigningKey::generate();
        self.publish_second_trust_from_first(&ended(&old, last));
    }

    /// The trust file in force.
    pub(crate) fn newest_trust(&self) -> Trust {
        let tip = self.git().require("refs/heads/trust").unwrap();
        verify::Chain::read(&self.git(), &tip, &self.domain)
            .unwrap()
            .newest()
            .clone()
    }
}

/// The lines of a trust file that end `key`.
fn ended(key: &PublicKey, last: u64) -> String {
    let fingerprint = key.fingerprint();
    format!("ended: [ {{ key: \"{fingerprint}\", lastSequence: {last}, reason: rotated }} ]\n")
}
