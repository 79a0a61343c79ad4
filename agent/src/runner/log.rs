//! The log of a slot: what its processes print, in one file and its predecessor, however much they print.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The size at which a log becomes the predecessor, in bytes; a slot takes at most twice as much.
pub(super) const MAX_LOG: u64 = 4 << 20;

/// How much of a log's end is read in search of its last lines.
const TAIL: u64 = 64 << 10;

/// A log that does not grow without end.
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
}

impl Log {
    /// The log at `path`, which is opened by the first write.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            size: 0,
        }
    }

    /// Writes all that `output` brings until its last writer is gone. What cannot be written is dropped: a full disk
    /// must not stop the service.
    pub(super) fn drain(mut self, mut output: impl Read) {
        let mut buffer = vec![0; 16 << 10];
        loop {
            match output.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    if self.write(&buffer[..length]).is_err() {
                        self.file = None;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_some() && self.size >= MAX_LOG {
            fs::rename(&self.path, previous(&self.path))?;
            self.file = None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o640)
                    .open(&self.path)?;
                self.size = file.metadata()?.len();
                self.file.insert(file)
            }
        };
        file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }
}

/// Makes a log that others append to the predecessor once it is full. What they write between the copy and the cut is
/// lost; they need not know of it.
pub(crate) fn rotate(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(log) if log.len() >= MAX_LOG => {}
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => return Ok(()),
    }
    fs::copy(path, previous(path))?;
    File::options().write(true).open(path)?.set_len(0)
}

/// Where the log goes when it is full.
pub(crate) fn previous(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// The last `count` lines of the log at `path`, its predecessor's if it holds none yet.
pub(super) fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let end = [path.to_owned(), previous(path)]
        .iter()
        .find_map(|path| tail(path).ok().filter(|text| !text.is_empty()));
    let text = String::from_utf8_lossy(&end.unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}

/// The last bytes of a file.
fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_fills_two_files_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blue.log");
        let flood = io::repeat(b'x')
            .take(5 * MAX_LOG)
            .chain(&b"\nthe end\n"[..]);
        Log::new(path.clone()).drain(flood);

        let sizes = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len());
        let sizes: Vec<u64> = sizes.collect();
        assert_eq!(sizes.len(), 2);
        assert!(
            sizes.iter().sum::<u64>() < 2 * MAX_LOG + (64 << 10),
            "{sizes:?}"
        );
        assert_eq!(last_lines(&path, 1), ["the end"]);
    }

    #[test]
    fn a_log_that_others_append_to_is_cut_when_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.log");
        rotate(&path).unwrap();
        let options = || OpenOptions::new().create(true).append(true).open(&path);
        let mut other = options().unwrap();
        other.write_all(b"short\n").unwrap();
        rotate(&path).unwrap();
        let flood = vec![b'x'; usize::try_from(MAX_LOG).unwrap()];
        other.write_all(&flood).unwrap();
        rotate(&path).unwrap();
        other.write_all(b"the end\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"the end\n");
        assert!(fs::read(previous(&path)).unwrap().starts_with(b"short\n"));
    }

    #[test]
    fn a_log_goes_on_where_the_last_process_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blue.log");
        Log::new(path.clone()).drain(&b"one\n"[..]);
        Log::new(path.clone()).drain(&b"two\nthree\n"[..]);
        assert_eq!(last_lines(&path, 2), ["two", "three"]);
        assert_eq!(last_lines(&path, 9).len(), 3);
        assert!(last_lines(&folder.path().join("none.log"), 9).is_empty());
    }
}
