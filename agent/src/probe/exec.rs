//! A command as a probe: run as the slot's process is, in the release's `app` folder.

use std::time::Duration;

use tokio::time::sleep;

use super::{KEPT, Target};
use crate::runner::Exit;
use crate::spawn::{self, Ended};

/// Runs `argv`. The answer is how it ended and the start of what it printed.
pub(super) async fn run(argv: &[String], target: &Target, timeout: Duration) -> (bool, String) {
    let Some((program, arguments)) = argv.split_first() else {
        return (false, "no command".into());
    };
    let mut command = spawn::command(&target.app, program, &target.environment);
    command.args(arguments);
    let mut printed = Vec::new();
    let keep = |bytes: &[u8]| {
        let room = KEPT - printed.len();
        printed.extend_from_slice(&bytes[..bytes.len().min(room)]);
    };
    let ended = spawn::run(command, target.user.as_ref(), |_| sleep(timeout), keep).await;
    let how = match &ended {
        Ok(Ended::Exited(status)) => Exit::from(*status).to_string(),
        Ok(Ended::Stopped(())) => format!("no end within {timeout:?}"),
        Err(error) => format!("cannot start: {error}"),
    };
    let ok = matches!(ended, Ok(Ended::Exited(status)) if status.success());
    (ok, format!("{how}\n{}", String::from_utf8_lossy(&printed)))
}
