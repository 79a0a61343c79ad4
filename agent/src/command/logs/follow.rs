//! `agent logs --follow`: looks at the files again and again; needs no agent. A log that is full and begins anew is
//! followed, and so are the requests, from slot to slot.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use state::text::Escaped;
use tokio::time::MissedTickBehavior;

use super::{LogsArgs, last_lines, path};
use crate::command::{Exit, runtime};
use crate::deployment::record::{Guard, Record};
use crate::layout::ServiceLayout;
use crate::runner::previous_log;
use crate::slot::Slot;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The longest line; what is longer is shown in pieces, so that no service fills the memory of who looks on.
const LONGEST: usize = 64 << 10;

pub(super) fn follow(
    args: &LogsArgs,
    layout: &ServiceLayout,
    record: Record,
) -> anyhow::Result<Exit> {
    let work = async {
        tokio::select! {
            shown = show(args, layout, record) => shown,
            interrupted = tokio::signal::ctrl_c() => interrupted,
        }
    };
    match runtime()?.block_on(work) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot follow the log")
        }
        _ => Ok(Exit::Well),
    }
}

async fn show(args: &LogsArgs, layout: &ServiceLayout, mut record: Record) -> io::Result<()> {
    let mut tails: Vec<Tail> = Vec::new();
    for slot in [Slot::Blue, Slot::Green] {
        tails.push(Tail::at_the_end(layout.log(slot))?);
    }
    let mut shown = path(args, layout, &record);
    let mut tail = Tail::new(shown.clone());
    let mut lines = last_lines(&previous_log(&shown), args.lines)?.unwrap_or_default();
    lines.push_str(&tail.read()?);
    print(last(&lines, args.lines))?;
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        print(&tail.read()?)?;
        // A record that is damaged or gone says nothing new.
        if let Ok(Some(now)) = Guard::read(&layout.record(), &record.service) {
            record = now;
        }
        let wanted = path(args, layout, &record);
        if wanted != shown {
            eprintln!("-- from here on: '{}'", wanted.display());
            let begun = tails.iter().position(|other| other.path == wanted);
            tail = begun.map_or_else(|| Tail::new(wanted.clone()), |at| tails[at].clone_place());
            shown = wanted;
        }
        // The next one in a slot that is free now begins to print from here on.
        for (slot, other) in [Slot::Blue, Slot::Green].into_iter().zip(&mut tails) {
            if !record.slots.contains_key(&slot) {
                *other = Tail::at_the_end(layout.log(slot))?;
            }
        }
    }
}

/// Writes at once; unlike elsewhere it matters that nobody reads any more.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The last `count` lines of `text`.
fn last(text: &str, count: usize) -> &str {
    let mut begins = text.match_indices('\n').rev().map(|(at, _)| at + 1);
    // The first end of a line is that of the last line.
    let begin = if count == 0 {
        text.len()
    } else {
        begins.nth(count).unwrap_or(0)
    };
    &text[begin..]
}

/// The place in a log up to which it was read.
struct Tail {
    path: PathBuf,
    /// The file and its number, by which a new one at the same path is noticed.
    file: Option<(File, u64)>,
    /// Where to begin in the next file.
    place: Option<(u64, u64)>,
    /// The beginning of a line.
    begun: Vec<u8>,
}

impl Tail {
    /// From the beginning of the log.
    const fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            place: None,
            begun: Vec::new(),
        }
    }

    /// From its end.
    fn at_the_end(path: PathBuf) -> io::Result<Self> {
        let place = match std::fs::metadata(&path) {
            Ok(file) => Some((file.ino(), file.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            place,
            ..Self::new(path)
        })
    }

    /// Another one at the same place.
    fn clone_place(&self) -> Self {
        Self {
            place: self.place,
            ..Self::new(self.path.clone())
        }
    }

    /// The whole lines that were printed since, escaped.
    fn read(&mut self) -> io::Result<String> {
        let mut text = String::new();
        loop {
            if self.file.is_none() && !self.open()? {
                return Ok(text);
            }
            let Some((file, number)) = &mut self.file else {
                return Ok(text);
            };
            // Looked at first: what was written to the old file before there was a new one is read below.
            let now = std::fs::metadata(&self.path).map(|file| file.ino());
            let replaced = now.is_ok_and(|now| now != *number);
            if file.stream_position()? > file.metadata()?.len() {
                file.seek(SeekFrom::Start(0))?;
            }
            let mut bytes = vec![0; 16 << 10];
            loop {
                let length = file.read(&mut bytes)?;
                if length == 0 {
                    break;
                }
                take(&mut self.begun, &bytes[..length], &mut text);
            }
            if !replaced {
                return Ok(text);
            }
            self.file = None;
        }
    }

    /// Opens the file, if there is one.
    fn open(&mut self) -> io::Result<bool> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        let number = file.metadata()?.ino();
        if let Some((known, place)) = self.place.take()
            && known == number
        {
            file.seek(SeekFrom::Start(place))?;
        }
        self.file = Some((file, number));
        Ok(true)
    }
}

/// Adds the lines that `bytes` complete to `text`, and keeps the rest in `begun`.
fn take(begun: &mut Vec<u8>, bytes: &[u8], text: &mut String) {
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        begun.extend_from_slice(piece);
        if begun.ends_with(b"\n") || begun.len() >= LONGEST {
            let line =
                String::from_utf8_lossy(begun.strip_suffix(b"\n").unwrap_or(begun)).into_owned();
            text.push_str(&format!("{}\n", Escaped(&line)));
            begun.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{OpenOptions, rename, write};
    use std::path::Path;

    fn add(path: &Path, bytes: &[u8]) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(bytes).unwrap();
    }

    #[test]
    fn whole_lines_come_once_escaped_and_over_the_end_of_a_full_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blue.log");
        let mut tail = Tail::new(path.clone());
        assert_eq!(tail.read().unwrap(), "", "there is none yet");
        add(&path, b"one\ntw");
        assert_eq!(tail.read().unwrap(), "one\n");
        add(&path, b"o\x1b[2J\n");
        assert_eq!(tail.read().unwrap(), "two\\u{1b}[2J\n");
        add(&path, b"three\n");
        rename(&path, previous_log(&path)).unwrap();
        add(&path, b"four\n");
        assert_eq!(tail.read().unwrap(), "three\nfour\n");
        write(&path, "anew\n").unwrap();
        assert_eq!(
            tail.read().unwrap(),
            "",
            "as long as before: nothing is new"
        );
        write(&path, "a\n").unwrap();
        assert_eq!(tail.read().unwrap(), "a\n", "cut and begun anew");
    }

    #[test]
    fn a_place_that_was_kept_is_gone_on_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("green.log");
        add(&path, b"old\n");
        let end = Tail::at_the_end(path.clone()).unwrap();
        add(&path, b"new\n");
        assert_eq!(end.clone_place().read().unwrap(), "new\n");
    }

    #[test]
    fn a_line_without_end_is_shown_in_pieces() {
        let (mut begun, mut text) = (Vec::new(), String::new());
        for _ in 0..10 {
            take(&mut begun, &vec![b'x'; LONGEST / 4], &mut text);
        }
        assert_eq!(text.lines().count(), 2);
        assert!(begun.len() < LONGEST);
    }

    #[test]
    fn the_last_lines_are_counted_from_the_end() {
        assert_eq!(last("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last("a\nb\n", 9), "a\nb\n");
        assert_eq!(last("a\n", 0), "");
    }
}
