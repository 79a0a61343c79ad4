//! Whoever attacks in `tests/run.sh escape`: does one thing that an attacker would do, with the rights it was started
//! with, and says what came of it.
//!
//! `intruder ACTION ARGUMENT…` prints what it got, or why not on standard error. With PORT in its environment and no
//! arguments it is a service that does what it is asked for in requests: an argument a line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, RenameFlags, fstatfs, mkdirat, mknodat, openat, renameat_with,
};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, getegid, geteuid, kill_process, pidfd_getfd,
    pidfd_open,
};

/// The most that is read of anything.
const MOST: u64 = 1 << 20;

/// How often a race is tried at least, and how long at most: a slot that still answers the request to race is not
/// replaced before its answer.
const LEAST: u64 = 1000;
const LONGEST: Duration = Duration::from_secs(12);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        return match serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    match act(&arguments) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the first word says with the others.
fn act(words: &[String]) -> io::Result<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["read", path] => read(path),
        ["write", path, text] => fs::write(path, text).map(done),
        ["link", from, to] => fs::hard_link(from, to).map(done),
        ["symlink", to, path] => symlink(to, path).map(done),
        ["remove", path] => fs::remove_file(path).map(done),
        ["setuid", program, path] => leave_setuid(program, path).map(done),
        ["fifo", path] => node(path, FileType::Fifo, 0).map(done),
        ["device", path] => {
            node(path, FileType::CharacterDevice, rustix::fs::makedev(1, 3)).map(done)
        }
        ["sparse", path, bytes] => File::create(path)?.set_len(number(bytes)?).map(done),
        ["fill", path, bytes] => fill(path, number(bytes)?),
        ["nest", path, depth] => nest(path, number(depth)?).map(done),
        ["run", program, ..] => run(program, &words[2..]),
        ["account"] => Ok(format!("{} {}", geteuid().as_raw(), getegid().as_raw())),
        ["signal", pid] => kill_process(process(pid)?, Signal::STOP)
            .map(done)
            .map_err(Into::into),
        ["memory", pid] => memory(pid),
        ["descriptor", pid] => descriptor(process(pid)?),
        ["lock", path, seconds] => lock(path, seconds_of(seconds)?),
        ["connect", path] => UnixStream::connect(path).map(done),
        ["crowd", path, count, seconds] => crowd(path, number(count)?, seconds_of(seconds)?),
        ["call", address] => TcpStream::connect(address).map(done),
        ["listen", port] => TcpListener::bind(format!("127.0.0.1:{port}")).map(done),
        ["environment"] => Ok(std::env::vars()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect()),
        ["descriptors"] => descriptors(),
        ["plant", target, stop, ..] => race(&words[3..], target, stop, Race::Plant),
        ["swap", target, stop, ..] => race(&words[3..], target, stop, Race::Swap),
        ["flip", target, path] => flip(target, Path::new(path)),
        _ => Err(io::Error::other(format!("no such action: {words:?}"))),
    }
}

fn done<T>(_: T) -> String {
    "done".to_owned()
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(io::Error::other)
}

fn seconds_of(text: &str) -> io::Result<Duration> {
    number(text).map(Duration::from_secs)
}

fn process(text: &str) -> io::Result<Pid> {
    let pid = text.parse().map_err(io::Error::other)?;
    Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn read(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    // Not waiting: a pipe without a writer has nothing to read.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).replace('\0', "\n"))
}

fn node(path: &str, kind: FileType, device: u64) -> io::Result<()> {
    Ok(mknodat(
        CWD,
        path,
        kind,
        Mode::from_raw_mode(0o666),
        device,
    )?)
}

fn leave_setuid(program: &str, path: &str) -> io::Result<()> {
    fs::copy(program, path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o4755))
}

/// What the kernel calls a file system that lies in memory.
const TMPFS: i64 = 0x0102_1994;

fn fill(path: &str, bytes: u64) -> io::Result<String> {
    let mut file = File::create(path)?;
    let block = vec![1; 1 << 20];
    for _ in 0..bytes >> 20 {
        file.write_all(&block)?;
    }
    Ok(match fstatfs(&file)?.f_type == TMPFS {
        true => format!("{bytes} bytes of memory"),
        false => format!("{bytes} bytes of disk"),
    })
}

/// Makes `depth` folders, each in the one before.
fn nest(path: &str, depth: u64) -> io::Result<()> {
    fs::create_dir(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, path, flags, Mode::empty())?;
    for _ in 1..depth {
        mkdirat(&at, "d", Mode::RWXU)?;
        at = openat(&at, "d", flags, Mode::empty())?;
    }
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

/// Reads the first bytes of what a process has in memory, as a debugger would.
fn memory(pid: &str) -> io::Result<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let start = maps.split('-').next().unwrap_or_default();
    let start = u64::from_str_radix(start, 16).map_err(io::Error::other)?;
    let mut memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/{pid}/mem"))?;
    memory.seek(SeekFrom::Start(start))?;
    let mut bytes = [0; 4];
    memory.read_exact(&mut bytes)?;
    Ok(format!("read {bytes:?}"))
}

/// Takes a descriptor out of another process.
fn descriptor(pid: Pid) -> io::Result<String> {
    let pid = pidfd_open(pid, PidfdFlags::empty())?;
    let taken = pidfd_getfd(&pid, 1, PidfdGetfdFlags::empty())?;
    Ok(format!("took {taken:?}"))
}

/// What this process was given beside its standard streams.
fn descriptors() -> io::Result<String> {
    let mut found = String::new();
    for entry in fs::read_dir("/proc/self/fd")?.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        found += &format!("{} {}\n", entry.file_name().display(), target.display());
    }
    Ok(found)
}

/// Holds the lock of a file that may only be read.
fn lock(path: &str, time: Duration) -> io::Result<String> {
    let file = File::open(path)?;
    file.lock()?;
    println!("held");
    thread::sleep(time);
    Ok("released".to_owned())
}

/// Opens many connections and says nothing.
fn crowd(path: &str, count: u64, time: Duration) -> io::Result<String> {
    let connections = (0..count).map_while(|_| UnixStream::connect(path).ok());
    let connections: Vec<_> = connections.collect();
    if connections.is_empty() {
        UnixStream::connect(path)?;
    }
    println!("held");
    thread::sleep(time);
    Ok(format!("{} connections", connections.len()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Race {
    /// Puts a link where nothing is.
    Plant,
    /// Exchanges a folder for a link.
    Swap,
}

/// Tries again and again to have each of `paths` lead to `target`, until the file `stop` is there. Where there was
/// nothing to attack, nothing was tried.
fn race(paths: &[&str], target: &str, stop: &str, how: Race) -> io::Result<String> {
    let end = Instant::now() + LONGEST;
    let (mut tries, mut won, mut last) = (0_u64, 0_u64, None);
    while Instant::now() < end && (tries < LEAST || !Path::new(stop).exists()) {
        for path in paths {
            let tried = match how {
                Race::Plant => symlink(target, path),
                Race::Swap => swap(Path::new(path), target, won),
            };
            match tried {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Ok(()) => won += 1,
                Err(error) => last = Some(error),
            }
            tries += 1;
        }
    }
    let last = last.map_or_else(String::new, |error| format!(", else {error}"));
    Ok(format!("{tries} tries, {won} won{last}"))
}

/// Has a folder of its own be a link to `target` and a folder again in turn, until it is killed; says so once it has
/// done it often enough.
fn flip(target: &str, path: &Path) -> io::Result<String> {
    let aside = path.with_extension("aside");
    symlink(target, &aside)?;
    for tries in 1.. {
        renameat_with(CWD, &aside, CWD, path, RenameFlags::EXCHANGE)?;
        if tries == LEAST {
            println!("{tries} tries");
        }
    }
    Ok(String::new())
}

/// Exchanges a folder for a link, which takes the `number`th new name first.
fn swap(path: &Path, target: &str, number: u64) -> io::Result<()> {
    if !path.symlink_metadata()?.is_dir() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let aside = path.with_extension(format!("aside-{number}"));
    match symlink(target, &aside) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    Ok(renameat_with(
        CWD,
        &aside,
        CWD,
        path,
        RenameFlags::EXCHANGE,
    )?)
}

/// Answers health checks, and does what a request asks for.
fn serve() -> io::Result<()> {
    let port = std::env::var("PORT").map_err(io::Error::other)?;
    for stream in TcpListener::bind(format!("127.0.0.1:{port}"))?
        .incoming()
        .flatten()
    {
        thread::spawn(move || answer(stream));
    }
    Ok(())
}

fn answer(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            stream.read_line(&mut header)?;
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let words: Vec<String> = String::from_utf8_lossy(&body)
            .lines()
            .map(str::to_owned)
            .collect();
        let (status, said) = match words.is_empty() {
            true => (
                "200 OK",
                fs::read_to_string("behaviour").unwrap_or_default(),
            ),
            false => match act(&words) {
                Ok(said) => ("200 OK", said),
                Err(error) => ("403 Forbidden", error.to_string()),
            },
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            said.len()
        );
        stream
            .get_mut()
            .write_all(format!("{head}{said}").as_bytes())?;
    }
}
