//! The process `agent static`: serves the files of a folder at PORT or SOCKET, as the release RELEASE_ID.

use std::path::Path;

use state::Refusal;

/// Serves `folder` until SIGTERM, then ends what was begun.
#[allow(clippy::todo, clippy::unused_async, reason = "being written")]
pub async fn serve(folder: &Path) -> Result<(), Refusal> {
    todo!("{}", folder.display())
}
