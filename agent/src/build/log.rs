//! The log of a build or a test: all of it to the file up to a size, line by line to whoever watches, its end in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use state::unit::Bytes;

use super::job::Progress;

/// The longest line that is watched and remembered, in bytes.
const MAX_LINE: usize = 4 << 10;
/// How many lines are remembered.
const LAST: usize = 50;

/// A log that is being written.
pub(super) struct Log<'a> {
    file: File,
    limit: Bytes,
    room: u64,
    is_cut: bool,
    line: Vec<u8>,
    last: VecDeque<String>,
    progress: Progress<'a>,
}

impl<'a> Log<'a> {
    /// Begins a new log at `path`. What a command prints beyond `limit` is not kept, and the build goes on.
    pub(super) fn create(path: &Path, limit: Bytes, progress: Progress<'a>) -> io::Result<Self> {
        Ok(Self {
            file: File::create(path)?,
            limit,
            room: limit.0,
            is_cut: false,
            line: Vec::new(),
            last: VecDeque::new(),
            progress,
        })
    }

    /// Adds what a command printed. A log that cannot be written does not fail the build: want of space is noticed
    /// elsewhere.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let room = usize::try_from(self.room).unwrap_or(usize::MAX);
        let kept = &bytes[..bytes.len().min(room)];
        let _ = self.file.write_all(kept);
        if kept.len() < bytes.len() && !self.is_cut {
            let _ = write!(
                self.file,
                "\n[the log is cut here: build.limits.log is {}]\n",
                self.limit
            );
            self.is_cut = true;
        }
        self.room -= kept.len() as u64;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part
                .strip_suffix(b"\n")
                .map_or((part, false), |text| (text, true));
            let space = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(space)]);
            if ends {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        (self.progress)(&line);
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// The last lines, oldest first.
    pub(super) fn into_last(mut self) -> Vec<String> {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.last.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::Mutex;

    #[test]
    fn a_flood_is_cut_in_the_file_and_its_end_is_still_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("build.log");
        let watched = Mutex::new(0);
        let progress = |_: &str| *watched.lock().unwrap() += 1;
        let mut log = Log::create(&path, Bytes(1 << 20), &progress).unwrap();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..1124 {
            log.write(&line);
        }
        log.write(b"the end, with");
        log.write(b"out a line feed");

        let last = log.into_last();
        assert_eq!(last.len(), LAST);
        assert_eq!(last[LAST - 1], "the end, without a line feed");
        assert_eq!(*watched.lock().unwrap(), 1125);
        let written = fs::read(&path).unwrap();
        let cut = b"\n[the log is cut here: build.limits.log is 1MiB]\n";
        assert_eq!(written.len(), (1 << 20) + cut.len());
        assert!(written.ends_with(cut));
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(&folder.path().join("l"), Bytes(1 << 20), &|_| {}).unwrap();
        for _ in 0..100 {
            log.write(&[b'x'; 1024]);
        }
        assert_eq!(log.into_last(), ["x".repeat(MAX_LINE)]);
    }
}
