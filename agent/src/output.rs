//! What people read: colours on a terminal only, untrusted text escaped, ages in one unit, a remedy under an error.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};

use jiff::Timestamp;
use state::Refusal;
use state::text::Escaped;

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
    /// Not well, removed.
    Red,
    /// Well, added.
    Green,
    /// Under way, held.
    Yellow,
    /// Headings.
    Bold,
    /// What is seldom looked at.
    Dim,
}

impl Paint {
    /// Colours if `stream` is a terminal that knows them and the user did not set `NO_COLOR`.
    pub fn of(stream: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if stream.is_terminal() && !refused && !dumb {
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
            Colour::Dim => 2,
        };
        match self {
            Self::Colours => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Plain => text.to_string(),
        }
    }
}

/// Prints `text`; a reader that has seen enough and closed the pipe is no error.
///
/// # Errors
/// What standard output cannot take.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// An error and its remedy, two lines.
pub fn refusal(refusal: &Refusal, paint: Paint) -> String {
    let error = paint.paint(Colour::Red, "error:");
    format!("{error} {refusal}\nremedy: {}\n", refusal.remedy())
}

/// The time between two moments in its largest unit: `12s`, `5m`, `3h`, `20d`.
pub fn age(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long a step took: as [`age`], but below a minute to a tenth of a second.
pub fn took(from: Timestamp, to: Timestamp) -> String {
    match to.duration_since(from).as_millis().max(0) {
        short @ 0..60_000 => format!("{}.{}s", short / 1000, short % 1000 / 100),
        _ => age(from, to),
    }
}

/// Lines of evidence, each behind a bar.
pub fn evidence(lines: &[String], indent: &str, paint: Paint) -> String {
    let mut out = String::new();
    let bar = paint.paint(Colour::Dim, "|");
    for line in lines {
        let _ = writeln!(out, "{indent}{bar} {}", Escaped(line));
    }
    out
}

/// A moment to the second, in UTC.
pub fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit_and_never_is_negative() {
        let after = |seconds: i64| {
            let to = Timestamp::from_second(1_000_000 + seconds).unwrap();
            age(Timestamp::from_second(1_000_000).unwrap(), to)
        };
        assert_eq!(
            [-5, 59, 60, 7200, 172_799, 172_800].map(after),
            ["0s", "59s", "1m", "2h", "47h", "2d"]
        );
        let after = |milliseconds: i64| {
            let to = Timestamp::from_millisecond(1_000_000 + milliseconds).unwrap();
            took(Timestamp::from_millisecond(1_000_000).unwrap(), to)
        };
        assert_eq!(
            [-5, 90, 1999, 59_999, 61_000].map(after),
            ["0.0s", "0.0s", "1.9s", "59.9s", "1m"]
        );
    }
}
