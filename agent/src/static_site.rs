//! The process `agent static`: serves the files of a folder at PORT or SOCKET, as the release RELEASE_ID.

use std::io;
use std::path::Path;

/// Serves `folder` until SIGTERM, then ends what was begun.
#[allow(clippy::todo, reason = "being written")]
pub fn run(folder: &Path) -> io::Result<()> {
    todo!("{}", folder.display())
}
