//! Steps 9 to 12 for the commits of `main` from which releases and rules originate.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::approval::{self, Signed};
use crate::commit::{Commit, TreeTrailer};
use crate::digest::{ObjectId, ReleaseId};
use crate::git::Git;
use crate::manifest::{Manifest, Subject};
use crate::name::EnvironmentName;
use crate::release::{Origin, Release, Rules};
use crate::tree::{self, Snapshot};
use crate::{Code, Refusal, render};

use super::admissions::{Admission, Admissions};
use super::approvals::{self, AsOf};
use super::files::links;
use super::intake::Intake;
use super::main_walk::Judge;
use super::needs;

/// The commits of `main` from which releases originate, each verified and read once, however many do.
pub(super) struct Origins<'a> {
    git: &'a Git,
    intake: &'a Intake,
    authors: BTreeMap<ObjectId, Arc<Author>>,
    admissions: Admissions<'a>,
}

/// A commit of `main` that passed steps 9 to 11.
struct Author {
    /// The commit; `None` if root has vouched for what was admitted from it.
    commit: Option<Commit>,
    tree: Snapshot,
}

impl<'a> Origins<'a> {
    pub(super) fn new(git: &'a Git, intake: &'a Intake) -> Self {
        Self {
            git,
            intake,
            authors: BTreeMap::new(),
            admissions: Admissions::new(
                git,
                &intake.newer,
                intake.older.as_ref(),
                &intake.admitted.files,
            ),
        }
    }

    pub(super) fn check_release(&mut self, release: &Release) -> Result<(), Refusal> {
        let author = self.author(&release.origin)?;
        let Release {
            service,
            environment,
            origin,
            ..
        } = release;
        let subject = Subject::Service(service.clone());
        let admission = self.check_trailer(environment, &subject, &release.id(), &author)?;
        // 12. The approvals, which stay in the tree until the service changes again.
        let signed = approval::admitted(&self.intake.admitted.files, environment, &subject);
        self.check_approvals(&admission, environment, &subject, &signed)?;
        let rendered = render::one(&author.tree.files, environment, service, origin);
        compare(rendered.as_ref() == Ok(release), origin, rendered.err())?;
        self.check_needs(release, &author)
    }

    /// 12. When the release was admitted, what it needs was admitted as the same commit has it.
    fn check_needs(&mut self, release: &Release, author: &Author) -> Result<(), Refusal> {
        let Release {
            service,
            environment,
            origin,
            spec,
        } = release;
        if spec.needs.is_empty() {
            return Ok(());
        }
        let subject = Subject::Service(service.clone());
        let id = release.id();
        let admission = self.admissions.that_admitted(environment, &subject, &id)?;
        if self.is_vouched(&admission.manifest) {
            return Ok(());
        }
        for needed in &spec.needs {
            let wanted = render::one(&author.tree.files, environment, needed, origin)?.id();
            let subject = Subject::Service(needed.clone());
            let found = self
                .admissions
                .release_at(environment, &subject, &admission)?;
            needs::met(needed, wanted, found).map_err(|refusal| {
                refusal.at(format_args!("manifest {}", admission.manifest.sequence))
            })?;
        }
        Ok(())
    }

    pub(super) fn check_rules(&mut self, rules: &Rules) -> Result<(), Refusal> {
        // What was verified before is not verified again, and the log not read back for it.
        if let Some(sequence) = self.intake.rules_verified(&rules.environment)
            && !self
                .admissions
                .changed_since(&rules.environment, &Subject::Rules, sequence)?
        {
            return Ok(());
        }
        let author = self.author(&rules.origin)?;
        let Rules {
            environment,
            origin,
            ..
        } = rules;
        self.check_trailer(environment, &Subject::Rules, &rules.id(), &author)?;
        self.check_lineage(environment)?;
        let rendered = render::rules(&author.tree.files, environment, origin);
        compare(rendered.as_ref() == Ok(rules), origin, rendered.err())
    }

    /// Step 11: checks the trailer where the rules demanded it that were in force when `id` was admitted; returns that
    /// admission.
    fn check_trailer(
        &mut self,
        environment: &EnvironmentName,
        subject: &Subject,
        id: &ReleaseId,
        author: &Author,
    ) -> Result<Arc<Admission>, Refusal> {
        let admission = self.admissions.that_admitted(environment, subject, id)?;
        if let Some(commit) = &author.commit
            && !self.is_vouched(&admission.manifest)
        {
            let rules = self.admissions.rules_for(environment, &admission)?;
            commit.check_tree_trailer(&author.tree.id, rules.spec.tree_trailer)?;
        }
        Ok(admission)
    }

    /// Step 12: checks that the rules by which anything was ever judged were let in as the rules before them demanded: else
    /// who once passes over the approvals of a change of rules is free of them from then on.
    fn check_lineage(&mut self, environment: &EnvironmentName) -> Result<(), Refusal> {
        let rules = Subject::Rules;
        let mut newer = None;
        loop {
            let older = self
                .admissions
                .last_change(environment, &rules, newer.as_deref())?;
            let Some(admission) = older.filter(|older| !self.is_vouched(&older.manifest)) else {
                return Ok(());
            };
            let signed = self.admissions.evidence(environment, &rules, &admission)?;
            let checked = self.check_approvals(&admission, environment, &rules, &signed);
            let sequence = admission.manifest.sequence;
            checked
                .map_err(|refusal| refusal.at(format_args!("the rules of manifest {sequence}")))?;
            newer = Some(admission);
        }
    }

    /// Step 12: checks the approvals that the rules demanded which were in force before `admission`.
    fn check_approvals(
        &mut self,
        admission: &Admission,
        environment: &EnvironmentName,
        subject: &Subject,
        signed: &[Signed],
    ) -> Result<(), Refusal> {
        let manifest = &admission.manifest;
        if self.is_vouched(manifest) {
            return Ok(());
        }
        let required = self.admissions.rules_for(environment, admission)?;
        let required = required.spec.approvals;
        let change = admission.change(environment, subject);
        let Some(change) = change.filter(|_| required > 0) else {
            return Ok(());
        };
        let chain = &self.intake.chain;
        let as_of = AsOf {
            admission: Some(admission),
            trust: chain.get(&manifest.trust)?,
            sequence: manifest.sequence,
            issued: manifest.issued,
        };
        let standing = approvals::standing(
            self.git,
            chain,
            &mut self.admissions,
            change,
            &as_of,
            &manifest.author.commit,
            signed,
        )?;
        standing.check(required)
    }

    /// The commit `origin`, after steps 9, 10 and 11.
    fn author(&mut self, origin: &Origin) -> Result<Arc<Author>, Refusal> {
        if let Some(author) = self.authors.get(&origin.commit) {
            return Ok(Arc::clone(author));
        }
        let admission = self.admissions.first_from(&origin.commit)?;
        let manifest = &admission.manifest;
        let chain = &self.intake.chain;
        let judge = Judge {
            trust: chain.get(&manifest.trust)?,
            newest: chain.newest(),
            sequence: manifest.sequence,
            known: None,
        };
        // 9. Its grammar, its signature, its payload. Root has vouched for what was admitted before an anchor.
        let commit = if self.is_vouched(manifest) {
            None
        } else {
            let (commit, _) = judge.authenticate(self.git, &origin.commit)?;
            // 11. Where it is, the trailer is right.
            commit.check_tree_trailer(&manifest.author_tree, TreeTrailer::Optional)?;
            Some(commit)
        };
        if manifest.author != *origin {
            let detail = format!(
                "origin {} has payload {}, admitted was {}",
                origin.commit, origin.payload, manifest.author.payload
            );
            return Err(Refusal::new(Code::PayloadMismatch, detail));
        }
        // 10. The commits that it stands on.
        if let Some((sequence, refusal)) = &self.intake.unjudged
            && manifest.sequence >= *sequence
        {
            return Err(refusal.clone());
        }
        // 11. Its tree.
        let root = links(self.git, &origin.commit)?.tree;
        let tree = tree::read(self.git, &root, &judge.trust.limits)?;
        if tree.id != manifest.author_tree {
            let detail = format!(
                "the tree of commit {} is {}, expected {}",
                origin.commit, tree.id, manifest.author_tree
            );
            return Err(Refusal::new(Code::TreeMismatch, detail));
        }
        let author = Arc::new(Author { commit, tree });
        self.authors.insert(origin.commit, Arc::clone(&author));
        Ok(author)
    }

    /// Says whether root has vouched for what this manifest and those before it admitted.
    fn is_vouched(&self, manifest: &Manifest) -> bool {
        let anchor = self.intake.chain.newest().anchor.as_ref();
        anchor.is_some_and(|anchor| manifest.sequence <= anchor.sequence)
    }
}

/// 12. Rendered again from the author's tree, it is what was admitted.
fn compare(equal: bool, origin: &Origin, error: Option<Refusal>) -> Result<(), Refusal> {
    if equal {
        return Ok(());
    }
    let commit = origin.commit;
    let detail = match error {
        // Policy may have known what is not known here.
        Some(refusal) if refusal.code.is_newer() => {
            return Err(refusal.at(format_args!("commit {commit}")));
        }
        Some(refusal) => format!("commit {commit} does not render: {refusal}"),
        None => format!("commit {commit} renders to something else"),
    };
    Err(Refusal::new(Code::RenderMismatch, detail))
}
