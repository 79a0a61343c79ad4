//! A policy that judges nothing: it admits what `main` renders to, after a test has had its way with it.

use jiff::{SignedDuration, Timestamp};
use state::digest::{ObjectId, PayloadHash, ReleaseId, Sha256Hash};
use state::freshness::Freshness;
use state::git::Kind;
use state::manifest::{Change, Link, Manifest, Subject};
use state::name::EnvironmentName;
use state::release::{Origin, Release, Rules};
use state::sshsig::{self, Namespace};
use state::tree::{self, Files, Limits, Objects};
use state::unit::Bytes;
use state::{admitted, commit, render, verify, yaml};

use super::{Fleet, at};

/// How large the trees of the tests may be.
pub(super) const LIMITS: Limits = Limits {
    files: 1000,
    bytes: Bytes(1 << 20),
};

/// A manifest and its tree, before policy signs and writes them.
pub(crate) struct Draft {
    pub(crate) manifest: Manifest,
    pub(crate) files: Files,
    /// Further files of the commit's tree that the manifest does not know.
    pub(crate) smuggled: Files,
    pub(crate) namespace: Namespace,
    pub(crate) parents: Vec<ObjectId>,
}

impl Fleet {
    /// Admits the tip of `main`: everything that it renders to, judged by no rule.
    pub(crate) fn admit(&mut self) -> Manifest {
        self.admit_edited(|_| {})
    }

    /// Admits the tip of `main` after `edit` has had its way with the manifest and the tree.
    pub(crate) fn admit_edited(&mut self, edit: impl FnOnce(&mut Draft)) -> Manifest {
        let mut draft = self.draft();
        edit(&mut draft);
        self.admit_drafted(draft)
    }

    /// Signs a manifest and puts it with its tree on the branch `admitted`.
    pub(crate) fn admit_drafted(&mut self, draft: Draft) -> Manifest {
        self.admit_spelled(draft, |text| text)
    }

    /// The same with the text that `spell` makes of the manifest.
    pub(crate) fn admit_spelled(
        &mut self,
        draft: Draft,
        spell: impl FnOnce(String) -> String,
    ) -> Manifest {
        let text = spell(draft.manifest.print());
        let signature = sshsig::sign(&self.policy, draft.namespace, text.as_bytes());
        self.last = draft.manifest.link();
        self.files = draft.files.clone();
        let mut files = draft.files;
        files.extend(draft.smuggled);
        files.insert(admitted::MANIFEST.into(), text.into_bytes().into());
        files.insert(admitted::SIGNATURE.into(), signature.into_bytes().into());
        self.admitted = self.commit_files(&files, &draft.parents);
        self.move_branch("admitted", &self.admitted);
        let tip = self.last;
        self.freshen(&tip, self.last.issued);
        draft.manifest
    }

    /// What an honest policy would sign now.
    pub(crate) fn draft(&self) -> Draft {
        let git = self.git();
        let main = self.main();
        let raw = git.object(Kind::Commit, &main, 1 << 20).unwrap();
        // An attacker's commit need not be in form: its payload is then the commit itself.
        let parsed = commit::Commit::parse(main, &raw);
        let payload = parsed.map_or(PayloadHash([0; 32]), |commit| commit.payload_hash());
        let author = Origin {
            commit: main,
            payload,
        };
        let root = commit::Links::parse(&raw).unwrap().tree;
        let snapshot = tree::read(&git, &root, &LIMITS).unwrap();
        let rendered = render::all(&snapshot.files, &author).unwrap();
        let mut files = Files::new();
        let mut changes = Vec::new();
        let releases = rendered.releases.values().map(|release| {
            let subject = Subject::Service(release.service.clone());
            (
                release.environment.clone(),
                subject,
                release.id(),
                release.to_yaml(),
            )
        });
        let rules = rendered.rules.values();
        let rules = rules.map(|rules| {
            (
                rules.environment.clone(),
                Subject::Rules,
                rules.id(),
                rules.to_yaml(),
            )
        });
        for (environment, subject, id, text) in releases.chain(rules) {
            let path = admitted::path(&environment, &subject);
            let before = self.files.get(&path);
            let from = before.map(|bytes| id_of(&environment, &subject, bytes));
            if from == Some(id) {
                files.insert(path.clone(), self.files[&path].clone());
                continue;
            }
            let to = Some(id);
            changes.push(Change {
                environment,
                subject,
                from,
                to,
            });
            files.insert(path, text.into_bytes().into());
        }
        for path in self.files.keys().filter(|path| !files.contains_key(*path)) {
            let Some((environment, subject)) = admitted::place(path) else {
                continue;
            };
            let from = Some(id_of(&environment, &subject, &self.files[path]));
            changes.push(Change {
                environment,
                subject,
                from,
                to: None,
            });
        }
        for (path, bytes) in &self.files {
            let place = admitted::evidence_place(path);
            let stays = place.is_some_and(|(environment, subject)| {
                !changes
                    .iter()
                    .any(|change| change.place() == (&environment, &subject))
            });
            if stays {
                files.insert(path.clone(), bytes.clone());
            }
        }
        changes.sort_by(|a, b| a.place().cmp(&b.place()));
        let sequence = self.last.sequence + 1;
        let manifest = Manifest {
            domain: self.domain,
            sequence,
            previous: self.last.hash,
            trust: self.newest_trust().reference(),
            author,
            author_tree: snapshot.id,
            tree: tree::sha256_id(&files),
            changes,
            holds: Vec::new(),
            issued: at(sequence.try_into().unwrap()),
        };
        Draft {
            manifest,
            files,
            smuggled: Files::new(),
            namespace: Namespace::Manifest,
            parents: vec![self.admitted, main],
        }
    }

    /// The admitted tree, without the statement.
    pub(crate) fn admitted_files(&self) -> &Files {
        &self.files
    }

    /// What the next manifest follows.
    pub(crate) fn last(&self) -> Link {
        self.last
    }

    /// Goes back to where a clone of the branches would be: what comes next is another history.
    pub(crate) fn fork_from(&mut self, admitted: &ObjectId, manifest: &Manifest) {
        let git = self.git();
        let entry = verify::Entry::read(&git, admitted).unwrap();
        self.files = tree::read(&git, &entry.tree, &LIMITS).unwrap().files;
        self.files
            .retain(|path, _| !admitted::STATEMENT.contains(&path.as_str()));
        self.last = manifest.link();
        self.admitted = *admitted;
        self.move_branch("admitted", admitted);
        self.freshen(&manifest.link(), manifest.issued);
    }

    /// Signs that `tip` is the newest manifest, for 24 hours from `issued`.
    pub(crate) fn freshen(&self, tip: &Link, issued: Timestamp) {
        self.freshen_edited(tip, issued, |_| {});
    }

    /// Signs that `tip` is the newest manifest after `edit` has had its way with the statement.
    pub(crate) fn freshen_edited(
        &self,
        tip: &Link,
        issued: Timestamp,
        edit: impl FnOnce(&mut Freshness),
    ) {
        let mut statement = Freshness {
            domain: self.domain,
            sequence: tip.sequence,
            manifest: tip.hash,
            issued,
            expires: issued + SignedDuration::from_hours(24),
        };
        edit(&mut statement);
        let text = statement.print();
        let signature = sshsig::sign(&self.policy, Namespace::Freshness, text.as_bytes());
        self.publish_freshness(&text, &signature);
    }

    /// Puts these bytes on the branch `fresh`.
    pub(crate) fn publish_freshness(&self, text: &str, signature: &str) {
        let files = Files::from([
            ("freshness".to_owned(), text.as_bytes().into()),
            ("freshness.sig".to_owned(), signature.as_bytes().into()),
        ]);
        self.move_branch("fresh", &self.commit_files(&files, &[]));
    }
}

/// The id of what is admitted at a place, which need not be something that this version knows.
pub(crate) fn id_of(environment: &EnvironmentName, subject: &Subject, bytes: &[u8]) -> ReleaseId {
    let read = match subject {
        Subject::Rules => Rules::from_yaml(environment.clone(), bytes).map(|rules| rules.id()),
        Subject::Service(service) => {
            Release::from_yaml(environment.clone(), service.clone(), bytes)
                .map(|release| release.id())
        }
    };
    read.unwrap_or_else(|_| {
        let mut value = yaml::parse(bytes).unwrap();
        value.as_object_mut().unwrap().remove("origin");
        // Of ASCII alone this is the canonical form.
        let canonical = serde_json::to_string(&value).unwrap();
        ReleaseId(Sha256Hash::of(canonical.as_bytes()).0)
    })
}
