//! Listening sockets of either kind.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::net::listen;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// How many connections may wait to be accepted; the kernel bounds it by `net.core.somaxconn`, which is 4096. With the
/// 128 that libraries ask for, a client of a burst waits a second for its next attempt.
const BACKLOG: i32 = 4096;

/// The wait after an accept that failed: too many open files, as a rule. Those that are open get some time to end.
const RECOVER: Duration = Duration::from_millis(50);

/// Who connected, and to which address; unknown on a unix socket.
pub(crate) type Peer = Option<(SocketAddr, SocketAddr)>;

/// A connection.
pub(crate) enum Accepted {
    Tcp(TcpStream, Peer),
    Unix(UnixStream),
}

/// Where requests come from.
pub(crate) enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener),
}

impl Listener {
    pub(crate) async fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        deepen(&socket)?;
        Ok(Self::Tcp(socket, address))
    }

    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        let socket = UnixListener::bind(path)?;
        deepen(&socket)?;
        Ok(Self::Unix(socket))
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> Accepted {
        loop {
            let accepted = match self {
                Self::Tcp(socket, address) => socket.accept().await.map(|(stream, client)| {
                    // Only a hint to the kernel: without it answers come late, not wrong.
                    let _ = stream.set_nodelay(true);
                    Accepted::Tcp(stream, Some((client, *address)))
                }),
                Self::Unix(socket) => socket.accept().await.map(|(s, _)| Accepted::Unix(s)),
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept connections");
                    tokio::time::sleep(RECOVER).await;
                }
            }
        }
    }
}

/// Has more connections wait on a socket that listens already.
fn deepen(socket: impl AsFd) -> io::Result<()> {
    Ok(listen(socket, BACKLOG)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_do_not_wait_for_acknowledgements() {
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let Listener::Tcp(socket, _) = &listener else {
            unreachable!("it was bound to TCP")
        };
        let address = socket.local_addr().unwrap();
        let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let Accepted::Tcp(stream, _) = accepted else {
            unreachable!("it came over TCP")
        };
        // Else every second answer over a kept connection is 40 ms late.
        assert!(stream.nodelay().unwrap());
    }
}
