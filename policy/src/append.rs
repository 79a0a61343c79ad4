//! The last steps of an admission: the manifest is composed, written down, signed and appended, with the statement of
//! freshness, in one transaction.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use state::admitted::{MANIFEST, SIGNATURE};
use state::commit;
use state::digest::ObjectId;
use state::git::{Kind, RefUpdate};
use state::manifest::{Change, Manifest};
use state::sshsig::{self, Namespace};
use state::tree::{self, Files};
use state::{Code, Refusal, file};

use crate::admit::Admitter;
use crate::admitted;
use crate::branch::Branch;
use crate::candidate::Candidate;
use crate::evidence::Evidence;
use crate::fresh;
use crate::hosted::Moved;
use crate::log::Log;
use crate::output::transition;
use crate::settings::unusable;

impl Admitter<'_> {
    /// The manifest that admits `changes` of `candidate` next, with all holds from then on.
    pub(crate) fn compose(
        log: &Log,
        candidate: &Candidate,
        changes: Vec<Change>,
        evidence: &Evidence,
        now: Timestamp,
    ) -> Result<Manifest, Refusal> {
        let files = admitted::apply(
            &log.snapshot().files,
            &changes,
            &candidate.rendered,
            &evidence.files(&changes),
        )?;
        let link = log.link();
        Ok(Manifest {
            domain: *log.domain(),
            sequence: link.sequence + 1,
            previous: link.hash,
            trust: log.trust().reference(),
            author: candidate.origin.clone(),
            author_tree: candidate.snapshot.id,
            tree: tree::sha256_id(&files),
            changes,
            holds: evidence.held.clone(),
            issued: now,
        })
    }

    /// The manifest that was written down for the next sequence and did not get onto `admitted`, if there is one.
    ///
    /// # Errors
    /// `SIGN_EQUIVOCATION` if what was written down does not follow what is admitted: the log was set back.
    pub(crate) fn saved(&self, log: &Log) -> Result<Option<Manifest>, Refusal> {
        let path = self.folder.signed();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(&path, &error)),
        };
        let manifest = Manifest::parse(&bytes).map_err(|refusal| refusal.at(path.display()))?;
        let link = log.link();
        if manifest.sequence <= link.sequence {
            return Ok(None);
        }
        if (manifest.sequence, manifest.previous) == (link.sequence + 1, link.hash) {
            return Ok(Some(manifest));
        }
        let detail = format!(
            "manifest {} was signed here after {}, but the last one on 'admitted' is {} {}",
            manifest.sequence, manifest.previous, link.sequence, link.hash
        );
        Err(Refusal::new(Code::SignEquivocation, detail))
    }

    /// Checks that nothing was signed beyond the log that policy's own word on `fresh` tells of, and nothing else does any
    /// more. The word is neither contradicted nor replaced by one about an earlier admission.
    ///
    /// # Errors
    /// `SIGN_EQUIVOCATION` with what brings `admitted` back; `LOST_RACE` if the branches of a remote moved while they were
    /// fetched, one of them earlier than the other.
    pub(crate) fn check_witness(&self, log: &Log, saved: Option<&Manifest>) -> Result<(), Refusal> {
        let (repository, link) = (self.repository, log.link());
        let Some(commit) = repository.tip(Branch::Fresh)? else {
            return Ok(());
        };
        let Some(shown) = fresh::beyond(&repository.git, log, &commit, saved) else {
            return Ok(());
        };
        let found = format!(
            "'fresh' shows that manifest {} {} was signed, but the last one on 'admitted' is {} {}",
            shown.sequence, shown.manifest, link.sequence, link.hash
        );
        let refspec = "+refs/verified/admitted:refs/heads/admitted";
        let command = match &repository.upstream {
            Some(upstream) if upstream.refresh(&repository.git)? != Moved::Nothing => {
                return Err(Refusal::new(Code::LostRace, found));
            }
            Some(upstream) => format!("git -C MIRROR push '{}' {refspec}", upstream.url()),
            None => format!(
                "git -C '{}' fetch MIRROR {refspec}",
                repository.folder.display()
            ),
        };
        let detail = format!(
            "{found}; every host keeps what it verified, in /var/lib/writ/agent/mirrors/*.git; \
             with a copy of one of them: {command}"
        );
        Err(Refusal::new(Code::SignEquivocation, detail))
    }

    /// The evidence that was written down with [`Admitter::saved`]: what was pushed may be something else by now.
    pub(crate) fn saved_evidence(&self) -> Result<Files, Refusal> {
        let path = self.folder.evidence();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Files::new()),
            Err(error) => return Err(unusable(&path, &error)),
        };
        let texts: BTreeMap<String, String> =
            serde_json::from_slice(&bytes).map_err(|error| unusable(&path, &error))?;
        let files = texts.into_iter();
        Ok(files
            .map(|(path, text)| (path, text.into_bytes().into()))
            .collect())
    }

    /// Checks `manifest` as an agent would, writes it down, signs it and appends it, and moves `fresh` along.
    ///
    /// # Errors
    /// `SELF_CHECK_FAILED` before anything is signed; `LOST_RACE` if a branch moved meanwhile.
    pub(crate) fn append(
        &self,
        log: &Log,
        manifest: &Manifest,
        candidate: &Candidate,
        evidence: &Files,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        // 5. Everything of an admission follows from the manifest, what it follows, and `main`.
        let git = &self.repository.git;
        self.check_named(log, manifest)?;
        let mut files = admitted::apply(
            &log.snapshot().files,
            &manifest.changes,
            &candidate.rendered,
            evidence,
        )?;
        log.verified().check_next(git, manifest, &files, now)?;
        let text = manifest.print();
        // What is written down stays at hand, also if the remote takes it off `main`.
        self.repository
            .keep(&[(Branch::Main, manifest.author.commit)])?;
        self.write_down(&text, evidence)?;
        let signature = sshsig::sign(self.key, Namespace::Manifest, text.as_bytes());
        files.insert(MANIFEST.to_owned(), text.into_bytes().into());
        files.insert(SIGNATURE.to_owned(), signature.into_bytes().into());
        // 6. Compare and swap.
        let previous = match log.verified().last() {
            Some(entry) => entry.commit,
            None => self.root(manifest.issued)?,
        };
        let parents = [previous, manifest.author.commit];
        let admitted =
            fresh::write_commit(git, &files, &parents, &message(manifest), manifest.issued)?;
        let fresh = fresh::write(git, self.key, log, &manifest.link(), now)?;
        self.repository.transaction(&[
            Self::update(Branch::Admitted, log.tip(), admitted),
            Self::update(Branch::Fresh, self.repository.tip(Branch::Fresh)?, fresh),
        ])
    }

    /// Checks that the trust file by which agents judge the manifest lists the key that is about to sign it.
    fn check_named(&self, log: &Log, manifest: &Manifest) -> Result<(), Refusal> {
        let trust = log.verified().chain().get(&manifest.trust)?;
        let key = self.key.public();
        if trust.policy.keys.contains(key) {
            return Ok(());
        }
        let (version, key) = (trust.version, key.fingerprint());
        let detail = format!("it names trust version {version}, which does not list key {key}");
        Err(Refusal::new(Code::SelfCheckFailed, detail))
    }

    /// Says why what was written down cannot be appended any more, as after a new trust file, and that policy stops:
    /// it cannot know whether somebody holds those bytes signed.
    pub(crate) fn not_completed(&self, refusal: Refusal) -> Refusal {
        if refusal.code != Code::SelfCheckFailed {
            return refusal;
        }
        let path = self.folder.signed();
        let detail = format!(
            "the manifest in '{}' would be refused now: {}; if no host has accepted it, remove the file",
            path.display(),
            refusal.detail
        );
        Refusal::new(Code::SignEquivocation, detail)
    }

    /// Makes the manifest durable before it is signed. [`Admitter::saved`] came before: nothing else was written down
    /// for its sequence.
    fn write_down(&self, text: &str, evidence: &Files) -> Result<(), Refusal> {
        // Git does not wait for the disk, and a pass that was killed could not: the commits that the manifest names, and
        // the admission before it, must not be lost where it is kept.
        self.repository.git.sync()?;
        let path = self.folder.evidence();
        let texts = evidence
            .iter()
            .map(|(path, bytes)| (path, String::from_utf8_lossy(bytes)));
        let texts: BTreeMap<_, _> = texts.collect();
        let json = serde_json::to_vec(&texts).map_err(|error| unusable(&path, &error))?;
        file::write_atomic(&path, &json, 0o644).map_err(|error| unusable(&path, &error))?;
        let path = self.folder.signed();
        file::write_atomic(&path, text.as_bytes(), 0o644).map_err(|error| unusable(&path, &error))
    }

    /// The empty commit below the first admission.
    pub(crate) fn root(&self, time: Timestamp) -> Result<ObjectId, Refusal> {
        let git = &self.repository.git;
        let empty = git.write(Kind::Tree, b"")?;
        git.write(
            Kind::Commit,
            &commit::unsigned(&empty, &[], "Begin the log of admissions", time),
        )
    }

    pub(crate) fn update(branch: Branch, expected: Option<ObjectId>, new: ObjectId) -> RefUpdate {
        RefUpdate {
            name: branch.full_name(),
            expected,
            new: Some(new),
        }
    }
}

/// What `git log --first-parent admitted` shows of an admission.
fn message(manifest: &Manifest) -> String {
    let summary = match manifest.changes.as_slice() {
        [] => "holds".to_owned(),
        [one] => format!("{} {}", one.environment, one.subject),
        many => format!("{} changes", many.len()),
    };
    let mut text = format!("Admit {}: {summary}\n\n", manifest.sequence);
    for change in &manifest.changes {
        let ids = transition(change.from, change.to);
        let _ = writeln!(
            text,
            "{} {}: {}",
            change.environment,
            change.subject,
            ids.trim()
        );
    }
    for hold in &manifest.holds {
        let (environment, subject) = hold.place();
        let _ = writeln!(text, "{environment} {subject}: held, {}", hold.reason);
    }
    text
}
