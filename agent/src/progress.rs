//! What a person at a terminal sees while services are deployed: one line each. Elsewhere the log says it.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use state::name::ServiceName;
use state::text::Escaped;

/// Shows what services are doing.
#[derive(Debug, Default)]
pub struct Progress {
    bars: Option<Mutex<Bars>>,
}

#[derive(Debug, Default)]
struct Bars {
    screen: MultiProgress,
    lines: BTreeMap<ServiceName, ProgressBar>,
}

impl Progress {
    /// Shows progress if standard error is a terminal that can move its cursor.
    pub fn on_terminal() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let bars = (std::io::stderr().is_terminal() && !dumb).then(Mutex::default);
        Self { bars }
    }

    /// Says what `service` is doing now.
    pub fn say(&self, service: &ServiceName, what: &str) {
        self.with(service, |line| {
            line.set_message(format!("{service}: {}", Escaped(what)));
        });
    }

    /// Says how far what `service` is doing has come; `line` is the last that its command printed.
    pub fn line(&self, service: &ServiceName, phase: &str, line: &str) {
        self.with(service, |bar| {
            let shown: String = Escaped(line).to_string().chars().take(60).collect();
            bar.set_message(format!("{service}: {phase}  {shown}"));
        });
    }

    /// Leaves the last word about `service` on the screen.
    pub fn done(&self, service: &ServiceName, what: &str) {
        let Some(bars) = &self.bars else { return };
        let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = bars.lines.remove(service) {
            line.finish_and_clear();
            bars.screen.remove(&line);
        }
        // A terminal that is gone misses nothing that the log lacks.
        let _ = bars.screen.println(format!("{service}: {}", Escaped(what)));
    }

    fn with(&self, service: &ServiceName, show: impl FnOnce(&ProgressBar)) {
        let Some(bars) = &self.bars else { return };
        let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
        let Bars { screen, lines } = &mut *bars;
        let line = lines.entry(service.clone()).or_insert_with(|| {
            let line = screen.add(ProgressBar::new_spinner());
            line.set_style(ProgressStyle::default_spinner());
            line.enable_steady_tick(Duration::from_millis(100));
            line
        });
        show(line);
    }
}
