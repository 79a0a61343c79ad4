//! The fuzz targets on stable Rust: each over its corpus, and over some thousand mutations that are the same each time.
//! `SNAPSHOTS=overwrite` makes the corpora anew.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use state::approval::Approval;
use state::digest::ReleaseId;
use state::git::{Git, Kind};
use state::key::SigningKey;
use state::manifest::{Manifest, Subject};
use state::sshsig::{self, Namespace};
use state::tree::Objects as _;
use tests::fuzz::{TARGETS, mutate};
use tests::long_log::LongLog;

/// Mutations of each file of a corpus.
const MUTATIONS: u64 = 1_000;

/// The longest that a target may take over one input, on a slow machine that does something else besides.
const LONGEST: Duration = Duration::from_secs(5);

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

/// The files of a corpus, sorted by name.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(corpus(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// Writes corpora of what a small fleet publishes.
fn make_corpora() {
    let log = LongLog::new(3).unwrap();
    let git = Git::open(&log.repository()).unwrap();
    let write = |target: &str, name: &str, bytes: &[u8]| {
        std::fs::create_dir_all(corpus(target)).unwrap();
        std::fs::write(corpus(target).join(name), bytes).unwrap();
    };
    let show = |revision: &str| {
        log.git(&["cat-file", "blob", revision])
            .unwrap()
            .into_bytes()
    };
    for (number, (main, admitted)) in log.main.iter().zip(&log.admitted).enumerate() {
        let commit = git.object(Kind::Commit, main, 1 << 20).unwrap();
        write("commit", &number.to_string(), &commit);
        let tree = log
            .git(&["rev-parse", &format!("{admitted}^{{tree}}")])
            .unwrap();
        let tree = git
            .object(Kind::Tree, &tree.trim().parse().unwrap(), 1 << 20)
            .unwrap();
        write("tree", &number.to_string(), &tree);
        write(
            "manifest",
            &number.to_string(),
            &show(&format!("{admitted}:manifest")),
        );
        write(
            "sshsig",
            &number.to_string(),
            &show(&format!("{admitted}:manifest.sig")),
        );
    }
    let folder = log.git(&["rev-parse", "main:environments/prod"]).unwrap();
    let folder = git
        .object(Kind::Tree, &folder.trim().parse().unwrap(), 1 << 20)
        .unwrap();
    write("tree", "folder", &folder);
    write("freshness", "0", &show("fresh:freshness"));
    write("sshsig", "freshness", &show("fresh:freshness.sig"));
    write("trust", "0", &show("trust:1.yaml"));
    write(
        "service",
        "release",
        &show("admitted:releases/prod/service-1.yaml"),
    );
    let (base, overlay) = (
        show("main:services/service-1/service.yaml"),
        show("main:environments/prod/service-1.yaml"),
    );
    write(
        "service",
        "layers",
        &[&base[..], b"---\n", &overlay].concat(),
    );
    let key = SigningKey::generate();
    let manifest = Manifest::parse(&show("admitted:manifest")).unwrap();
    for (name, change) in [
        ("service", manifest.changes[0].clone()),
        ("rules", {
            let mut change = manifest.changes[0].clone();
            (change.subject, change.from, change.to) =
                (Subject::Rules, None, Some(ReleaseId([3; 32])));
            change
        }),
    ] {
        let approval = Approval {
            domain: manifest.domain,
            change,
            since: 2,
            expires: manifest.issued,
        };
        let text = approval.print();
        write("approval", name, text.as_bytes());
        let signature = sshsig::sign(&key, Namespace::Approval, text.as_bytes());
        write("sshsig", name, signature.as_bytes());
    }
}

#[test]
fn every_target_holds_over_its_corpus_and_its_mutations() {
    if std::env::var_os("SNAPSHOTS").is_some_and(|value| value == "overwrite") {
        make_corpora();
    }
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "the corpus of '{name}' is empty");
        for (number, seed) in seeds.iter().enumerate() {
            assert!(target(seed), "seed {number} of '{name}' is not accepted");
            let other = &seeds[(number + 1) % seeds.len()];
            for mutation in 0..MUTATIONS {
                let bytes = mutate(seed, other, mutation);
                let start = Instant::now();
                target(&bytes);
                assert!(
                    start.elapsed() < LONGEST,
                    "'{name}': mutation {mutation} of seed {number}"
                );
            }
        }
    }
}

#[test]
fn every_target_is_one_of_cargo_fuzz_too() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let body = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            body.contains(&format!("tests::fuzz::{name}(bytes)")),
            "{name}"
        );
    }
}
