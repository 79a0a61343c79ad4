//! One command run to its end: in a process group of its own, without input, what it prints handed over piece by
//! piece, and killed with all that it started when its time is over or nobody waits for it any more.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::privilege;
use crate::runner::process::{ProcessId, descendants};
use crate::user::User;

/// How long the output of a command that ended may stay open: something that left its group may hold it.
const FLUSH: Duration = Duration::from_secs(1);
/// How long killed processes may take to vanish.
const VANISH: Duration = Duration::from_secs(5);
/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A command of a release or of a checkout, which lies in `folder`: there a program with a slash is looked for, any other
/// in the variable PATH. It gets the variables `environment` and no other.
pub(crate) fn command(
    folder: &Path,
    program: &str,
    environment: &BTreeMap<String, String>,
) -> std::process::Command {
    use std::os::unix::process::CommandExt as _;

    let path = if program.contains('/') {
        folder.join(program)
    } else {
        program.into()
    };
    let mut command = std::process::Command::new(path);
    command
        .arg0(program)
        .env_clear()
        .envs(environment)
        .current_dir(folder);
    command
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended<Why> {
    /// By itself.
    Exited(ExitStatus),
    /// Killed, for the reason that was given.
    Stopped(Why),
}

/// Runs `command`, as `user` if one is given, until it ends or what `stop` makes of its process gives a reason to end it;
/// `output` gets what it prints on both streams.
pub(crate) async fn run<Why, Stop: Future<Output = Why>>(
    mut command: std::process::Command,
    user: Option<&User>,
    stop: impl FnOnce(Option<ProcessId>) -> Stop,
    mut output: impl FnMut(&[u8]),
) -> io::Result<Ended<Why>> {
    use std::os::unix::process::CommandExt as _;

    let (reader, writer) = io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    command.process_group(0);
    // The command is dropped with it, and so is the pipe's other end, whose closing is the end of the output.
    let (mut child, _starter) = match user {
        None => (Command::from(command).spawn()?, None),
        Some(user) => {
            command.uid(user.uid).gid(user.gid);
            let (child, starter) = start_without_rights(command).await?;
            (child, Some(starter))
        }
    };
    let process = child.id().and_then(ProcessId::of);
    let mut tree = Tree(process);

    let mut reader = pipe::Receiver::from_owned_fd(reader.into())?;
    let mut buffer = vec![0; 16 << 10];
    let mut open = true;
    let mut stop = std::pin::pin!(stop(process));
    let status = loop {
        tokio::select! {
            read = reader.read(&mut buffer), if open => match read {
                Ok(length) if length > 0 => output(&buffer[..length]),
                _ => open = false,
            },
            status = child.wait() => break status?,
            why = &mut stop => {
                tree.end().await;
                child.wait().await?;
                return Ok(Ended::Stopped(why));
            }
        }
    };
    tree.end().await;
    let rest = async {
        while let Ok(length) = reader.read(&mut buffer).await
            && length > 0
        {
            output(&buffer[..length]);
        }
    };
    let _ = timeout(FLUSH, rest).await;
    Ok(Ended::Exited(status))
}

/// Starts a command that cannot gain rights: from a thread of its own, because a thread's rights are not the process's.
/// It ends when the sender is dropped; a command that dies with its parent (bubblewrap) dies with the thread that
/// started it.
async fn start_without_rights(
    command: std::process::Command,
) -> io::Result<(Child, std::sync::mpsc::Sender<()>)> {
    let (over, wait) = std::sync::mpsc::channel();
    let (answer, started) = oneshot::channel();
    let runtime = Handle::current();
    let start = move || {
        let _entered = runtime.enter();
        privilege::renounce()?;
        Command::from(command).spawn()
    };
    thread::Builder::new().spawn(move || {
        let _ = answer.send(start());
        let _ = wait.recv();
    })?;
    let child = started.await.map_err(io::Error::other)??;
    Ok((child, over))
}

/// A command and what it started, until it was ended; killed when this is dropped.
struct Tree(Option<ProcessId>);

impl Tree {
    /// Kills everything, once, and gives what was killed.
    fn kill(&mut self) -> Vec<ProcessId> {
        let Some(root) = self.0.take() else {
            return Vec::new();
        };
        let mut processes = Vec::new();
        if root.is_alive() {
            processes = descendants(root.pid);
            processes.push(root);
        }
        for process in &processes {
            let _ = process.signal(Signal::KILL);
        }
        // The group outlives its leader, and with it what the leader left behind.
        if let Some(group) = i32::try_from(root.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        processes
    }

    /// Kills everything and waits until it is gone, so that the folders it used can be deleted.
    async fn end(&mut self) {
        let killed = self.kill();
        let deadline = Instant::now() + VANISH;
        while killed.iter().any(|process| process.is_alive()) && Instant::now() < deadline {
            sleep(LOOK).await;
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Long enough for anything that ends.
    fn patience(_: Option<ProcessId>) -> tokio::time::Sleep {
        sleep(Duration::from_secs(20))
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn both_streams_are_handed_over_in_order() {
        let mut printed: Vec<u8> = Vec::new();
        let ended = run(
            shell("echo a; echo b >&2; echo c; exit 3"),
            None,
            patience,
            |bytes| {
                printed.extend(bytes);
            },
        )
        .await;
        assert!(matches!(ended, Ok(Ended::Exited(status)) if status.code() == Some(3)));
        assert_eq!(printed, b"a\nb\nc\n");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_its_children() {
        let mut printed: Vec<u8> = Vec::new();
        let begun = Instant::now();
        let soon = |_| sleep(Duration::from_millis(300));
        let script = "setsid sleep 60 & echo $!; sleep 60 & echo $!; wait";
        let ended = run(shell(script), None, soon, |bytes| {
            printed.extend(bytes);
        })
        .await
        .unwrap();
        assert_eq!(ended, Ended::Stopped(()));
        assert!(begun.elapsed() < Duration::from_secs(10));
        let pids: Vec<u32> = String::from_utf8(printed)
            .unwrap()
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        assert_eq!(pids.len(), 2);
        for pid in pids {
            assert!(ProcessId::of(pid).is_none_or(|process| !process.is_alive()));
        }
    }

    #[tokio::test]
    async fn a_child_that_keeps_the_output_open_does_not_keep_the_command() {
        let ended = run(shell("sleep 60 & exit 0"), None, patience, |_| {})
            .await
            .unwrap();
        assert!(matches!(ended, Ended::Exited(status) if status.success()));
    }
}
