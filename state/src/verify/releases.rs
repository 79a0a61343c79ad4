//! Steps 9 to 13: the releases of one host, each judged alone.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::admitted::{path, place};
use crate::commit::TreeTrailer;
use crate::digest::{ObjectId, PayloadHash, ReleaseId};
use crate::environment::Hosts;
use crate::git::Git;
use crate::manifest::{Manifest, Subject};
use crate::name::{EnvironmentName, HostName, Label, ServiceName};
use crate::release::{Origin, Release, Rules};
use crate::tree::{self, Snapshot};
use crate::{Code, Refusal, render};

use super::files::links;
use super::intake::Intake;
use super::log::Entry;
use super::main_walk::Judge;

/// A value that passed every step. There is no other way to get one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// The value.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// The value, without the proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// A host's own set of what it has verified: service, release, payload of the origin.
pub type Known<'a> = &'a dyn Fn(&ServiceName, &ReleaseId, &PayloadHash) -> bool;

/// Takes up again a release that this host has verified before: upkeep, rollback, start after a reboot.
///
/// # Errors
/// `STATE_UNSAFE` if the host does not know it: its file was changed.
pub fn recall(release: Release, known: Known<'_>) -> Result<Verified<Release>, Refusal> {
    let id = release.id();
    if known(&release.service, &id, &release.origin.payload) {
        return Ok(Verified(release));
    }
    let detail = format!(
        "release {id} of '{}' was never verified on this host",
        release.service
    );
    Err(Refusal::new(Code::StateUnsafe, detail))
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    /// The host's environment.
    pub environment: EnvironmentName,
    /// Its name.
    pub host: HostName,
    /// Its own labels, which count only where the environment says `hosts: any`.
    pub labels: BTreeMap<Label, Label>,
}

/// The releases that `host` should run, each verified or refused; a service placed elsewhere is not among them.
///
/// What is `known` was verified before and is not verified again.
///
/// # Errors
/// What refuses all of them: `ENVIRONMENT_UNKNOWN`, `HOST_UNKNOWN`, and a refusal of the environment's rules.
pub fn releases(
    git: &Git,
    intake: &Intake,
    host: &HostIdentity,
    known: Known<'_>,
) -> Result<BTreeMap<ServiceName, Result<Verified<Release>, Refusal>>, Refusal> {
    let mut origins = Origins::new(git, intake);
    let environment = &host.environment;
    let rules = admitted_rules(intake, environment)?;
    origins.check_rules(&rules)?;
    let labels = labels(&rules, host)?;
    let mut releases = BTreeMap::new();
    for (file, bytes) in &intake.admitted.files {
        let Some((at, Subject::Service(service))) = place(file) else {
            continue;
        };
        if at != *environment {
            continue;
        }
        let verified =
            Release::from_yaml(at, service.clone(), bytes).map_err(|refusal| refusal.at(file));
        match verified {
            Ok(release) if !release.spec.place.takes(labels) => continue,
            Ok(release) => {
                let judged = judge(intake, &mut origins, release, known);
                releases.insert(service, judged.map_err(|refusal| refusal.at(file)));
            }
            Err(refusal) => drop(releases.insert(service, Err(refusal))),
        }
    }
    Ok(releases)
}

/// 12. The rules of this environment are in the tree.
fn admitted_rules(intake: &Intake, environment: &EnvironmentName) -> Result<Rules, Refusal> {
    let file = path(environment, &Subject::Rules);
    let bytes = intake.admitted.files.get(&file).ok_or_else(|| {
        let detail = format!("environment '{environment}' is not admitted");
        Refusal::new(Code::EnvironmentUnknown, detail)
    })?;
    Rules::from_yaml(environment.clone(), bytes).map_err(|refusal| refusal.at(file))
}

/// 12. The host is in the tree: its signed labels, or where any host may be, its own.
fn labels<'a>(
    rules: &'a Rules,
    host: &'a HostIdentity,
) -> Result<&'a BTreeMap<Label, Label>, Refusal> {
    let Hosts::Listed(hosts) = &rules.spec.hosts else {
        return Ok(&host.labels);
    };
    let listed = hosts.iter().find(|listed| listed.name == host.host);
    listed.map(|listed| &listed.labels).ok_or_else(|| {
        let detail = format!(
            "environment '{}' does not list host '{}'",
            host.environment, host.host
        );
        Refusal::new(Code::HostUnknown, detail)
    })
}

fn judge(
    intake: &Intake,
    origins: &mut Origins<'_>,
    release: Release,
    known: Known<'_>,
) -> Result<Verified<Release>, Refusal> {
    if !known(&release.service, &release.id(), &release.origin.payload) {
        origins.check_release(&release)?;
    }
    // 13. Held by the manifest.
    if let Some(hold) = intake.hold(&release.environment, &release.service) {
        return Err(Refusal::new(
            Code::Held,
            format!(
                "held by manifest {}: {}",
                intake.manifest().sequence,
                hold.reason
            ),
        ));
    }
    Ok(Verified(release))
}

/// The commits of `main` from which releases originate, each verified and read once, however many do.
struct Origins<'a> {
    git: &'a Git,
    intake: &'a Intake,
    trees: BTreeMap<ObjectId, Arc<Snapshot>>,
    /// The first manifest of each author, as far back as the log was read.
    manifests: BTreeMap<ObjectId, Manifest>,
    /// The next entry to read on the way back.
    cursor: Option<Entry>,
}

impl<'a> Origins<'a> {
    fn new(git: &'a Git, intake: &'a Intake) -> Self {
        Self {
            git,
            intake,
            trees: BTreeMap::new(),
            manifests: BTreeMap::new(),
            cursor: Some(intake.tip.clone()),
        }
    }

    fn check_release(&mut self, release: &Release) -> Result<(), Refusal> {
        let tree = self.tree(&release.origin)?;
        let Release {
            service,
            environment,
            origin,
            ..
        } = release;
        let rendered = render::one(&tree.files, environment, service, origin);
        compare(rendered.as_ref() == Ok(release), origin, rendered.err())
    }

    fn check_rules(&mut self, rules: &Rules) -> Result<(), Refusal> {
        let tree = self.tree(&rules.origin)?;
        let rendered = render::rules(&tree.files, &rules.environment, &rules.origin);
        compare(
            rendered.as_ref() == Ok(rules),
            &rules.origin,
            rendered.err(),
        )
    }

    /// The tree of the commit `origin`, after steps 9, 10 and 11.
    fn tree(&mut self, origin: &Origin) -> Result<Arc<Snapshot>, Refusal> {
        if let Some(tree) = self.trees.get(&origin.commit) {
            return Ok(Arc::clone(tree));
        }
        let manifest = self.first_manifest(origin)?;
        let chain = &self.intake.chain;
        let judge = Judge {
            trust: chain.get(&manifest.trust)?,
            newest: chain.newest(),
            sequence: manifest.sequence,
        };
        // 9. Its grammar, its signature, its payload. Root has vouched for what was admitted before an anchor.
        let anchor = &chain.newest().anchor;
        if anchor
            .as_ref()
            .is_none_or(|anchor| manifest.sequence > anchor.sequence)
        {
            let (commit, _) = judge.authenticate(self.git, &origin.commit)?;
            // 11. An environment cannot require the trailer yet.
            commit.check_tree_trailer(&manifest.author_tree, TreeTrailer::Optional)?;
        }
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
        let tree = Arc::new(tree::read(self.git, &root, &judge.trust.limits)?);
        if tree.id != manifest.author_tree {
            let detail = format!(
                "the tree of commit {} is {}, expected {}",
                origin.commit, tree.id, manifest.author_tree
            );
            return Err(Refusal::new(Code::TreeMismatch, detail));
        }
        self.trees.insert(origin.commit, Arc::clone(&tree));
        Ok(tree)
    }

    /// The first manifest that was made from the commit `origin`.
    fn first_manifest(&mut self, origin: &Origin) -> Result<Manifest, Refusal> {
        loop {
            let at = self.cursor.as_ref().map(|entry| &entry.manifest);
            let older = at.is_none_or(|manifest| manifest.author.commit != origin.commit);
            match self.manifests.get(&origin.commit) {
                Some(manifest) if older => return Ok(manifest.clone()),
                _ => {}
            }
            let Some(entry) = self.cursor.take() else {
                let detail = format!("no manifest was made from commit {}", origin.commit);
                return Err(Refusal::new(Code::OriginMismatch, detail));
            };
            self.cursor = entry.previous(self.git)?;
            let author = entry.manifest.author.commit;
            self.manifests.insert(author, entry.manifest);
        }
    }
}

/// 12. Rendered again from the author's tree, it is what was admitted.
fn compare(equal: bool, origin: &Origin, error: Option<Refusal>) -> Result<(), Refusal> {
    if equal {
        return Ok(());
    }
    let commit = origin.commit;
    let detail = match error {
        Some(refusal) => format!("commit {commit} does not render: {refusal}"),
        None => format!("commit {commit} renders to something else"),
    };
    Err(Refusal::new(Code::RenderMismatch, detail))
}
