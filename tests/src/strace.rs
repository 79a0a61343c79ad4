//! Kills a program before any one of the system calls by which it changes something, as `strace` sees them.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;

use crate::program;

/// The calls by which a program of ours changes files: all that `strace -c` shows of them, and their siblings. A `?`
/// stands before those that not every machine has.
const CALLS: &str = "openat,write,pwrite64,ftruncate,fallocate,fchmod,fchmodat,fsync,fdatasync,syncfs,mkdirat,\
    linkat,unlinkat,renameat,renameat2,?mkdir,?rmdir,?link,?unlink,?rename,?chmod,?creat,?open";

/// One call of a program that does the same each time.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which system call.
    call: String,
    /// How many there were of it, with this one.
    number: usize,
    /// How strace shows it.
    pub shown: String,
}

impl Step {
    /// Says whether files get other names by it, or what was written outlasts the machine.
    pub fn is_durable(&self) -> bool {
        let kinds = ["sync", "link", "rename"];
        kinds.iter().any(|kind| self.call.contains(kind))
    }
}

/// Why nothing can be traced here; `None` where it can.
pub fn unable() -> Option<String> {
    let tried = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("strace: {error}")),
    }
}

/// Runs `policy` with `args` in `folder` to its end, and returns every call that changed something, in order.
///
/// A file is opened to be written to with `O_CREAT` only; what it says to its caller is no change. The state before a
/// step is the one after the step before it: killed before each of them, it is met in every state. Only its first thread
/// is looked at, which makes all changes, and no program that it starts.
///
/// # Panics
/// When it fails.
pub fn steps(folder: &Path, args: &[&str]) -> Vec<Step> {
    let trace = tempfile::NamedTempFile::new().expect("a file for the trace");
    let path = trace.path().to_str().expect("a path");
    let calls = format!("trace={CALLS}");
    let output = strace(
        folder,
        &["-o", path, "-e", &calls, "-e", "signal=none"],
        args,
    )
    .output()
    .expect("strace");
    assert!(output.status.success(), "{output:?}");
    let trace = std::fs::read_to_string(trace.path()).expect("the trace");
    let mut counts = BTreeMap::new();
    let mut steps = Vec::new();
    for shown in trace.lines() {
        let Some((call, arguments)) = shown.split_once('(') else {
            continue; // how it ended
        };
        let number = counts.entry(call).or_insert(0);
        *number += 1;
        let failed = shown.contains(" = -1 E");
        let reads = call == "openat" && !arguments.contains("O_CREAT");
        let speaks =
            call == "write" && (arguments.starts_with("1,") || arguments.starts_with("2,"));
        if failed || reads || speaks {
            continue;
        }
        let (call, number, shown) = (call.to_owned(), *number, shown.to_owned());
        steps.push(Step {
            call,
            number,
            shown,
        });
    }
    steps
}

/// Starts the same, to be killed before `step`.
///
/// # Panics
/// When strace cannot be started.
pub fn start(folder: &Path, args: &[&str], step: &Step) -> Child {
    let trace = format!("trace={}", step.call);
    let inject = format!("inject={}:signal=SIGKILL:when={}", step.call, step.number);
    let mut strace = strace(
        folder,
        &["-o", "/dev/null", "-e", &trace, "-e", &inject],
        args,
    );
    strace.spawn().expect("strace")
}

/// Says whether it was killed, which strace says by ending the same way.
pub fn was_killed(output: &Output) -> bool {
    output.status.signal() == Some(Signal::KILL.as_raw())
}

fn strace(folder: &Path, options: &[&str], args: &[&str]) -> Command {
    let mut strace = program::command("strace", folder);
    strace
        .args(options)
        .arg("--")
        .arg(program::binary("policy"))
        .args(args)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    strace
}
