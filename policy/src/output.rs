//! What people read: colours on a terminal only, untrusted text escaped, one line a verdict, a remedy under an error.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};

use state::Refusal;
use state::digest::ReleaseId;
use state::manifest::{Hold, Manifest};
use state::render::Holds;
use state::text::Escaped;

use crate::judge::Judged;
use crate::rule::Verdict;

/// As `print!`, but a reader that went away (`policy log | head`) ends the printing and not the program.
macro_rules! out {
    ($($arg:tt)*) => {
        $crate::output::write(&mut std::io::stdout(), format_args!($($arg)*))
    };
}

/// [`out!`] with a line break.
macro_rules! outln {
    ($($arg:tt)*) => { out!("{}\n", format_args!($($arg)*)) };
}

/// [`out!`] to standard error: of a hook, what the pusher reads.
macro_rules! err {
    ($($arg:tt)*) => {
        $crate::output::write(&mut std::io::stderr(), format_args!($($arg)*))
    };
}

/// [`err!`] with a line break.
macro_rules! errln {
    ($($arg:tt)*) => { err!("{}\n", format_args!($($arg)*)) };
}

/// Writes to a stream that may have lost its reader.
pub(crate) fn write(stream: &mut dyn io::Write, text: fmt::Arguments<'_>) {
    let _ = stream.write_fmt(text);
}

/// Whether colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// As a terminal shows them.
    Colours,
    /// Plain text.
    Plain,
}

/// A colour of the sixteen that every terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Refused, removed.
    Red,
    /// Admitted, added.
    Green,
    /// Waits.
    Yellow,
    /// Headings.
    Bold,
}

impl Paint {
    /// Colours if `stream` is a terminal and the user did not set `NO_COLOR`.
    pub fn of(stream: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if stream.is_terminal() && !refused {
            Self::Colours
        } else {
            Self::Plain
        }
    }

    /// `text` in `colour`.
    pub fn paint<T: fmt::Display>(self, colour: Colour, text: T) -> String {
        let code = match colour {
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Bold => 1,
        };
        match self {
            Self::Colours => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Plain => text.to_string(),
        }
    }
}

/// An error and its remedy, two lines.
pub fn refusal(refusal: &Refusal, paint: Paint) -> String {
    let error = paint.paint(Colour::Red, "error:");
    format!("{error} {refusal}\nremedy: {}\n", refusal.remedy())
}

/// One aligned line for each change: verdict, environment, service, old → new; the reason and the remedy below it.
pub fn verdicts(judged: &[Judged], paint: Paint) -> String {
    let width =
        |text: fn(&Judged) -> &str| judged.iter().map(|one| text(one).len()).max().unwrap_or(0);
    let environments = width(|one| one.change.environment.as_str());
    let subjects = width(|one| one.change.subject.as_str());
    let mut out = String::new();
    for Judged { change, verdict } in judged {
        let (word, colour) = match verdict {
            Verdict::Admit => ("admit ", Colour::Green),
            Verdict::Wait { .. } => ("wait  ", Colour::Yellow),
            Verdict::Refuse(_) => ("refuse", Colour::Red),
        };
        let _ = write!(
            out,
            "{} {:environments$}  {:subjects$}  {}",
            paint.paint(colour, word),
            change.environment,
            change.subject,
            transition(change.from, change.to).trim_end(),
        );
        let _ = match verdict {
            Verdict::Admit => writeln!(out),
            Verdict::Wait { until, why } => match until {
                Some(until) => writeln!(out, "  until {until}: {why}"),
                None => writeln!(out, "  {why}\n       remedy: {}", why.remedy()),
            },
            Verdict::Refuse(why) => writeln!(out, "  {why}\n       remedy: {}", why.remedy()),
        };
    }
    out
}

/// What one manifest admitted, in one line.
pub fn admission(manifest: &Manifest, paint: Paint) -> String {
    let names: Vec<_> = manifest
        .changes
        .iter()
        .map(|change| format!("{} {}", change.environment, change.subject))
        .collect();
    let title = paint.paint(Colour::Bold, format!("admitted as {}:", manifest.sequence));
    let names = match names.as_slice() {
        [] => "holds".to_owned(),
        names => names.join(", "),
    };
    format!("{title} {names}\n")
}

/// One line for each hold in force, with the reason that its author gives in `authors`.
pub fn holds(holds: &[Hold], authors: &Holds, paint: Paint) -> String {
    let mut out = String::new();
    for hold in holds {
        let (environment, subject) = hold.place();
        let word = paint.paint(Colour::Yellow, "held  ");
        let mut authors = authors.iter();
        let author = authors.find(|((environment, service), _)| hold.holds(environment, service));
        let author = match author {
            Some((_, reason)) if hold.reason == Hold::AUTHOR => format!(": {}", Escaped(reason)),
            _ => String::new(),
        };
        let reason = &hold.reason;
        let _ = writeln!(out, "{word} {environment}  {subject}  {reason}{author}");
    }
    out
}

/// `old -> new` in short ids; `-` for what is not there.
pub fn transition(from: Option<ReleaseId>, to: Option<ReleaseId>) -> String {
    let short = |id: Option<ReleaseId>| id.map_or_else(|| "-".to_owned(), |id| id.short());
    format!("{:>12} -> {:<12}", short(from), short(to))
}
