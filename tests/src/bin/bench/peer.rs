//! Programs that run beside each other in a benchmark.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tests::fleet::free_port;
use tests::wait;

use crate::cost::cpu_ms;

/// A server that listens on a port; ends with the value.
pub(crate) struct Peer {
    child: Child,
    pub(crate) port: u16,
}

impl Peer {
    fn start(command: &mut Command, port: u16) -> Result<Self> {
        let program = command.get_program().to_owned();
        let command = command.stdin(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn();
        let child = child.with_context(|| format!("{} does not start", program.display()))?;
        let peer = Self { child, port };
        wait::until("a peer listens", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Ok(peer)
    }

    /// nginx in one process, with `location` for all that is asked.
    pub(crate) fn nginx(dir: &Path, name: &str, location: &str) -> Result<Self> {
        let port = free_port();
        let file = dir.join(format!("{name}.conf"));
        let dir = dir.display();
        std::fs::write(
            &file,
            format!(
                "daemon off; master_process off; pid {dir}/{name}.pid; error_log /dev/null;\n\
                 events {{ worker_connections 8192; }}\n\
                 http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
                 types {{ text/html html; text/css css; text/javascript js; }}\n\
                 server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {location} }} }} }}\n"
            ),
        )?;
        let mut command = Command::new("/usr/sbin/nginx");
        Self::start(command.arg("-c").arg(file).arg("-e").arg("/dev/null"), port)
    }

    /// HAProxy with two threads in front of `backend`.
    pub(crate) fn haproxy(dir: &Path, backend: u16) -> Result<Self> {
        let port = free_port();
        let file = dir.join("haproxy.cfg");
        std::fs::write(
            &file,
            format!(
                "global\n  nbthread 2\n  maxconn 8000\n\
                 defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  option forwardfor\n\
                 frontend in\n  bind 127.0.0.1:{port} backlog 4096\n  default_backend out\n\
                 backend out\n  server one 127.0.0.1:{backend}\n"
            ),
        )?;
        let mut command = Command::new("/usr/sbin/haproxy");
        Self::start(command.arg("-q").arg("-f").arg(file), port)
    }

    /// `agent proxy` with two threads in front of `backend`.
    pub(crate) fn proxy(root: &Path, backend: u16) -> Result<Self> {
        let port = free_port();
        let routes = root.join("var/lib/writ/routes");
        std::fs::create_dir_all(&routes)?;
        std::fs::create_dir_all(root.join("run/writ"))?;
        let table = serde_json::json!({
            "format": 1, "service": "web", "listen": format!("127.0.0.1:{port}"), "generation": 1,
            "slots": { "blue": {
                "address": { "tcp": format!("127.0.0.1:{backend}") }, "weight": 100, "role": "stable",
            } },
        });
        std::fs::write(routes.join("web.json"), table.to_string())?;
        let mut command = Command::new(tests::program::binary("agent"));
        let command = command.arg("--root").arg(root).arg("proxy");
        Self::start(command.env("TOKIO_WORKER_THREADS", "2"), port)
    }

    /// `agent static` on a folder.
    pub(crate) fn site(folder: &Path) -> Result<Self> {
        let port = free_port();
        let mut command = Command::new(tests::program::binary("agent"));
        let command = command.arg("static").arg(folder);
        let command = command
            .env("PORT", port.to_string())
            .env("RELEASE_ID", "07".repeat(32));
        Self::start(command, port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time so far, in milliseconds.
    pub(crate) fn cpu_ms(&self) -> u64 {
        cpu_ms(&self.pid().to_string()).0
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
