//! The command line's end of the control socket. Blocking: a command has nothing else to do.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::protocol::{Command, MAX_REPLY, Reply, decode_reply, encode_command};

/// The daemon cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no daemon answers at {0}")]
    NotRunning(PathBuf),
    /// We may not open the socket.
    #[error("we may not open {0}")]
    Forbidden(PathBuf),
    /// Somebody listens and says nothing.
    #[error("the daemon does not answer")]
    Timeout,
    /// The connection broke.
    #[error("the connection to the daemon broke: {0}")]
    Io(#[from] io::Error),
    /// The answer is not understood.
    #[error("the daemon's answer is not understood: {0}")]
    Protocol(String),
}

impl ClientError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotRunning(_) => {
                "is it running? systemctl status vipsec, or sudo vipsec run; another socket: --socket PATH"
            }
            Self::Forbidden(_) => "the control socket belongs to root: try sudo",
            Self::Timeout | Self::Io(_) => "look at its log: journalctl -u vipsec -e",
            Self::Protocol(_) => "the vipsec command and the daemon must be of the same version",
        }
    }
}

/// An open control connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon at `path`. No later step takes longer than `patience`.
    ///
    /// # Errors
    /// [`ClientError`], with [`ClientError::hint`].
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        let opened = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // On a Unix socket the send timeout bounds `connect` too.
            socket.set_write_timeout(Some(patience))?;
            socket.set_read_timeout(Some(patience))?;
            socket.connect(&SockAddr::unix(path)?)?;
            Ok::<_, io::Error>(socket)
        };
        let socket = opened().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(path.to_owned())
            }
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(path.to_owned()),
            _ => plain(error),
        })?;
        let stream = UnixStream::from(std::os::fd::OwnedFd::from(socket));
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal by the daemon is an answer, not an error.
    pub fn call(&mut self, command: &Command) -> Result<Reply, ClientError> {
        self.stream
            .get_mut()
            .write_all(&encode_command(command))
            .map_err(plain)?;
        let mut line = Vec::new();
        let mut bounded = (&mut self.stream).take(MAX_REPLY as u64);
        bounded.read_until(b'\n', &mut line).map_err(plain)?;
        if line.last() != Some(&b'\n') {
            return Err(ClientError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        decode_reply(&line).map_err(ClientError::Protocol)
    }
}

fn plain(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Timeout,
        _ => ClientError::Io(error),
    }
}
