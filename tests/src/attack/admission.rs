//! Admissions and freshness statements as a thief of the policy key makes them: honest until a test changes them.

use jiff::{SignedDuration, Timestamp};
use state::admitted::{self, MANIFEST, SIGNATURE, STATEMENT};
use state::commit::Commit;
use state::digest::{ObjectId, PayloadHash, ReleaseId, Sha256Hash};
use state::freshness::Freshness;
use state::key::SigningKey;
use state::manifest::{Change, Link, Manifest, Subject};
use state::name::EnvironmentName;
use state::release::{Origin, Release, Rules};
use state::sshsig::{self, Namespace};
use state::tree::{self, Files};
use state::verify::{Chain, Entry};
use state::{render, trust, yaml};

use super::forge::Forge;

/// A manifest and its tree, before they are signed and written.
pub struct Draft {
    /// What is signed.
    pub manifest: Manifest,
    /// The admitted tree without the statement.
    pub files: Files,
    /// Further files of the commit's tree that the manifest does not know.
    pub smuggled: Files,
    /// The commit's parents.
    pub parents: Vec<ObjectId>,
    /// Who signs.
    pub key: SigningKey,
    /// As what.
    pub namespace: Namespace,
}

impl Draft {
    /// Says again what the files are, after a test has changed them: the SHA-256 id of the tree.
    pub fn seal(&mut self) {
        self.manifest.tree = tree::sha256_id(&self.files);
    }

    /// What is admitted at a place of `dev` as `spell` writes it, which only a later version of policy would, with
    /// everything that policy says about it in order.
    pub fn respell(&mut self, subject: &str, spell: impl FnOnce(String) -> String) {
        let (dev, subject): (_, Subject) = (environment("dev"), subject.parse().expect("a place"));
        let path = admitted::path(&dev, &subject);
        let text = String::from_utf8(self.files[&path].to_vec()).expect("text");
        let text = spell(text);
        let to = Some(id_of(&dev, &subject, text.as_bytes()));
        self.files.insert(path, text.into_bytes().into());
        for change in &mut self.manifest.changes {
            if change.place() == (&dev, &subject) {
                change.to = to;
            }
        }
        self.seal();
    }

    /// Leaves what is admitted at a place of `dev` as it is in `before`.
    pub fn keep(&mut self, subject: &str, before: &Files) {
        let (dev, subject): (_, Subject) = (environment("dev"), subject.parse().expect("a place"));
        let path = admitted::path(&dev, &subject);
        self.files.insert(path.clone(), before[&path].clone());
        let changes = &mut self.manifest.changes;
        changes.retain(|change| change.place() != (&dev, &subject));
        self.seal();
    }

    /// The admitted release of `service` in `dev`, changed by `edit`, with everything that policy says about it in order.
    pub fn edit_release(&mut self, service: &str, edit: impl FnOnce(&mut Release)) {
        let path = format!("releases/dev/{service}.yaml");
        let name = service.parse().expect("a name");
        let mut release = Release::from_yaml(environment("dev"), name, &self.files[&path])
            .expect("a release in form");
        edit(&mut release);
        self.files
            .insert(path, release.to_yaml().into_bytes().into());
        for change in &mut self.manifest.changes {
            if (change.environment.as_str(), change.subject.as_str()) == ("dev", service) {
                change.to = Some(release.id());
            }
        }
        self.seal();
    }
}

/// The environment `name`.
pub fn environment(name: &str) -> EnvironmentName {
    name.parse().expect("a name")
}

impl Forge {
    /// The newest entry of the log.
    pub fn last(&self) -> Entry {
        Entry::read(&self.git, &self.tip("admitted")).expect("the log's last entry")
    }

    /// Begins another log: `admitted` points at an empty tree, as before the first admission.
    pub fn begin_log(&self) {
        let root = self.commit_files(&Files::new(), &[]);
        self.point("admitted", &root);
    }

    /// The admitted tree without its statement.
    pub fn admitted_files(&self) -> Files {
        let mut files = self.files(&self.tip("admitted"));
        files.retain(|path, _| !STATEMENT.contains(&path.as_str()));
        files
    }

    /// What policy would sign next if every change on `main` were admitted.
    pub fn draft(&self) -> Draft {
        let main = self.tip("main");
        let author = self.origin(&main);
        let rendered = render::all(&self.files(&main), &author).expect("main renders");
        let releases = rendered.releases.values().map(|release| {
            let subject = Subject::Service(release.service.clone());
            (
                &release.environment,
                subject,
                release.id(),
                release.to_yaml(),
            )
        });
        let rules = rendered.rules.values().map(|rules| {
            let environment = &rules.environment;
            (environment, Subject::Rules, rules.id(), rules.to_yaml())
        });
        let before = self.admitted_files();
        let mut draft = self.empty_draft(author);
        draft
            .files
            .retain(|path, _| admitted::place(path).is_none());
        for (environment, subject, id, text) in releases.chain(rules) {
            let path = admitted::path(environment, &subject);
            let old = before.get(&path);
            let from = old.map(|bytes| id_of(environment, &subject, bytes));
            let bytes = match old {
                Some(old) if from == Some(id) => old.clone(),
                _ => text.into_bytes().into(),
            };
            draft.files.insert(path, bytes);
            draft.change(environment, subject, from, Some(id));
        }
        for (path, bytes) in &before {
            if let Some((environment, subject)) = admitted::place(path)
                && !draft.files.contains_key(path)
            {
                let from = id_of(&environment, &subject, bytes);
                draft.change(&environment, subject, Some(from), None);
            }
        }
        draft
            .manifest
            .changes
            .sort_by(|one, two| one.place().cmp(&two.place()));
        draft.seal();
        draft
    }

    /// The next manifest from the commit `author`, with no change.
    pub fn empty_draft(&self, author: Origin) -> Draft {
        let admitted = self.tip("admitted");
        let last = Entry::read(&self.git, &admitted).ok();
        let link = last.map_or(Link::START, |last| last.manifest.link());
        let files = self.admitted_files();
        let commit = author.commit;
        Draft {
            manifest: Manifest {
                domain: self.domain,
                sequence: link.sequence + 1,
                previous: link.hash,
                trust: self.newest_trust().reference(),
                author_tree: self.tree_id(&commit),
                tree: tree::sha256_id(&files),
                author,
                changes: Vec::new(),
                holds: Vec::new(),
                issued: now(),
            },
            files,
            smuggled: Files::new(),
            parents: vec![admitted, commit],
            key: self.key("policy"),
            namespace: Namespace::Manifest,
        }
    }

    /// The SHA-256 id of a commit's tree; of the empty one if the tree is not in form.
    fn tree_id(&self, commit: &ObjectId) -> state::digest::TreeId {
        let limits = &self.newest_trust().limits;
        let read = tree::read(&self.git, &self.tree_of(commit), limits);
        read.map_or_else(|_| tree::sha256_id(&Files::new()), |snapshot| snapshot.id)
    }

    /// How policy names a commit; zeros for the payload if it is not in form.
    pub fn origin(&self, commit: &ObjectId) -> Origin {
        let parsed = Commit::parse(*commit, &self.raw(commit));
        Origin {
            commit: *commit,
            payload: parsed.map_or(PayloadHash([0; 32]), |commit| commit.payload_hash()),
        }
    }

    /// Signs a manifest, puts it with its tree on `admitted`, and says that it is the newest.
    pub fn admit(&self, draft: Draft) -> ObjectId {
        let text = draft.manifest.print();
        let signature = sshsig::sign(&draft.key, draft.namespace, text.as_bytes());
        let link = draft.manifest.link();
        let id = self.append(draft, text.as_bytes(), signature.as_bytes());
        self.freshen(&link, |_| {});
        id
    }

    /// Puts these bytes of a statement with the tree of `draft` on `admitted`.
    pub fn append(&self, draft: Draft, manifest: &[u8], signature: &[u8]) -> ObjectId {
        let mut files = draft.files;
        files.extend(draft.smuggled);
        files.insert(MANIFEST.to_owned(), manifest.into());
        files.insert(SIGNATURE.to_owned(), signature.into());
        let id = self.commit_files(&files, &draft.parents);
        self.point("admitted", &id);
        id
    }

    /// Admits what is on `main` after `edit` has had its way with the draft.
    pub fn admit_edited(&self, edit: impl FnOnce(&mut Draft)) -> ObjectId {
        let mut draft = self.draft();
        edit(&mut draft);
        self.admit(draft)
    }

    /// Signs that `tip` is the newest manifest, after `edit`, by the policy key.
    pub fn freshen(&self, tip: &Link, edit: impl FnOnce(&mut Freshness)) {
        let mut statement = Freshness {
            domain: self.domain,
            sequence: tip.sequence,
            manifest: tip.hash,
            issued: now(),
            expires: now() + SignedDuration::from_hours(24),
        };
        edit(&mut statement);
        let text = statement.print();
        let signature = sshsig::sign(&self.key("policy"), Namespace::Freshness, text.as_bytes());
        self.publish_freshness(text.as_bytes(), signature.as_bytes());
    }

    /// Puts these bytes on the branch `fresh`.
    pub fn publish_freshness(&self, text: &[u8], signature: &[u8]) {
        let files = Files::from([
            ("freshness".to_owned(), text.into()),
            ("freshness.sig".to_owned(), signature.into()),
        ]);
        self.point("fresh", &self.commit_files(&files, &[]));
    }

    /// The trust file in force.
    pub fn newest_trust(&self) -> trust::Trust {
        let chain = Chain::read(&self.git, &self.tip("trust"), &self.domain);
        chain.expect("the fleet's trust").newest().clone()
    }
}

impl Draft {
    /// Tells a change, if it is one.
    fn change(
        &mut self,
        environment: &EnvironmentName,
        subject: Subject,
        from: Option<ReleaseId>,
        to: Option<ReleaseId>,
    ) {
        if from != to {
            self.manifest.changes.push(Change {
                environment: environment.clone(),
                subject,
                from,
                to,
            });
        }
    }
}

/// This moment, in whole seconds.
pub fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).expect("a time of our days")
}

/// The id of what is admitted, which need not be something that this version knows.
fn id_of(environment: &EnvironmentName, subject: &Subject, bytes: &[u8]) -> ReleaseId {
    let read = match subject {
        Subject::Rules => Rules::from_yaml(environment.clone(), bytes).map(|rules| rules.id()),
        Subject::Service(service) => {
            Release::from_yaml(environment.clone(), service.clone(), bytes)
                .map(|release| release.id())
        }
    };
    read.unwrap_or_else(|_| {
        let mut value = yaml::parse(bytes).expect("what is admitted is YAML");
        value.as_object_mut().expect("a map").remove("origin");
        // Of ASCII alone this is the canonical form.
        ReleaseId(Sha256Hash::of(value.to_string().as_bytes()).0)
    })
}
