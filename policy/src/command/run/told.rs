//! What the daemon tells: to people, as `policy admit` does, or as structured lines where `RUST_LOG` asks for them.

use std::path::Path;

use state::{Code, Refusal};
use tracing::{debug, info, warn};
use tracing_subscriber::EnvFilter;

use crate::admit::Pass;
use crate::command::{admit, refused};
use crate::judge::Judged;
use crate::output::Paint;
use crate::rule::Verdict;
use crate::way_out::{PassedOver, WayOut};

/// How it is told: one way, so that no journal has everything twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    /// Lines for people.
    Words,
    /// Events with fields, on standard error.
    Events,
}

/// What was told last: the same is not told again.
pub(super) struct Told {
    voice: Voice,
    error: Option<Refusal>,
    refused: (Vec<Refusal>, Option<WayOut>, Vec<PassedOver>, bool),
    left: Vec<Judged>,
}

impl Told {
    /// Has told nothing yet.
    pub(super) fn new() -> Self {
        Self {
            voice: voice(),
            error: None,
            refused: (Vec::new(), None, Vec::new(), false),
            left: Vec::new(),
        }
    }

    /// That it begins.
    pub(super) fn serving(&self, path: &Path, remote: Option<&str>) {
        let path = path.display();
        match (self.voice, remote) {
            (Voice::Events, remote) => info!(repository = %path, remote, "serving"),
            (Voice::Words, Some(url)) => outln!("serving '{path}', mirror of '{url}'"),
            (Voice::Words, None) => outln!("serving '{path}'"),
        }
    }

    /// What a pass did.
    pub(super) fn pass(&mut self, pass: &Pass) {
        self.recovered();
        let refused = (
            pass.refused.clone(),
            pass.way_out.clone(),
            pass.passed_over.clone(),
            pass.heavy.is_some(),
        );
        let is_news = self.refused != refused;
        match self.voice {
            Voice::Words => {
                admit::report_admitted(pass);
                if is_news {
                    admit::report_refused(pass);
                }
            }
            Voice::Events => {
                if is_news {
                    pass.refused.iter().for_each(warn_of);
                    if let Some(way_out) = &pass.way_out {
                        warn!(way_out = way_out.to_string(), "on `main`");
                    }
                    if let Some(heavy) = &pass.heavy {
                        warn!("{heavy}");
                    }
                    for passed_over in &pass.passed_over {
                        warn_of(&passed_over.refusal);
                        warn!(way_out = passed_over.to_string(), "passed over");
                    }
                }
                self.events(pass);
            }
        }
        self.refused = refused;
        self.left.clone_from(&pass.left);
    }

    /// The admissions and verdicts of a pass, and the pass itself.
    fn events(&self, pass: &Pass) {
        if let Some(why) = &pass.replaced {
            warn!(code = %why.code, detail = why.detail, "what lay beside the last admission was replaced");
        }
        for manifest in &pass.admitted {
            let sequence = manifest.sequence;
            for change in &manifest.changes {
                let (environment, name) = change.place();
                let (from, to) = (change.from, change.to);
                info!(sequence, %environment, %name, from = from.map(display), to = to.map(display), "admit");
            }
        }
        for Judged { change, verdict } in pass.left.iter().filter(|one| !self.left.contains(one)) {
            let (environment, name) = change.place();
            match verdict {
                Verdict::Admit => {}
                Verdict::Wait { until, why } => {
                    let until = until.map(display);
                    let (code, detail) = (why.code, &why.detail);
                    info!(%environment, %name, %code, until, detail, "wait");
                }
                Verdict::Refuse(why) => {
                    let (code, detail) = (why.code, &why.detail);
                    warn!(%environment, %name, %code, detail, "refuse");
                }
            }
        }
        let (admitted, left, refused) = (pass.admitted.len(), pass.left.len(), pass.refused.len());
        if admitted > 0 || pass.left != self.left {
            info!(admitted, left, refused, "pass");
        } else {
            debug!(admitted, left, refused, "pass");
        }
    }

    /// That a pass failed.
    pub(super) fn failed(&mut self, refusal: Refusal) {
        // Whoever ends the daemon knows.
        if refusal.code == Code::Interrupted || self.error.as_ref() == Some(&refusal) {
            return;
        }
        match self.voice {
            Voice::Words => {
                refused(std::slice::from_ref(&refusal));
            }
            Voice::Events => warn_of(&refusal),
        }
        self.error = Some(refusal);
    }

    /// That it does not fail any more.
    pub(super) fn recovered(&mut self) {
        if let Some(error) = self.error.take() {
            match self.voice {
                Voice::Words => outln!("{} is over", error.code),
                Voice::Events => info!(code = %error.code, "is over"),
            }
        }
    }
}

fn warn_of(refusal: &Refusal) {
    let Refusal { code, detail, .. } = refusal;
    warn!(%code, detail, remedy = refusal.remedy(), "refused");
}

fn display(value: impl std::fmt::Display) -> tracing::field::DisplayValue<String> {
    tracing::field::display(value.to_string())
}

/// Events if `RUST_LOG` says which, in the form of the agent's.
fn voice() -> Voice {
    if std::env::var_os(EnvFilter::DEFAULT_ENV).is_none_or(|level| level.is_empty()) {
        return Voice::Words;
    }
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(Paint::of(&std::io::stderr()) == Paint::Colours)
        .init();
    Voice::Events
}
