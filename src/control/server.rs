//! The daemon's end of the control socket.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::protocol::{
    Command, MAX_REQUEST, Refusal, RefusalKind, Reply, decode_command, encode_reply,
};

/// Clients served at the same time; the next one waits in the kernel's queue.
const MAX_CLIENTS: usize = 16;

/// How long a client may be silent before it is sent away.
const IDLE: Duration = Duration::from_secs(30);

/// How long the daemon's loop may take for an answer; a reload opens devices and sockets.
const ANSWER: Duration = Duration::from_secs(20);

/// How long a client may take to read its reply.
const WRITE: Duration = Duration::from_secs(5);

/// Pause after an `accept` that failed, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One command on its way to the daemon's loop. Dropping `reply` counts as "busy".
#[derive(Debug)]
pub struct Call {
    /// What the user asks.
    pub command: Command,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
}

/// The control socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("another daemon answers at {0}; stop it first: systemctl stop vipsec")]
    AlreadyRunning(PathBuf),
    /// Something that is no socket is in the way.
    #[error("{0} exists and is not a socket; move it out of the way")]
    InTheWay(PathBuf),
    /// The system refuses.
    #[error("cannot open the control socket {path}: {source}")]
    Io {
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot.
        source: io::Error,
    },
}

/// A bound control socket. Dropping it removes its file.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's file, by name and identity.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another daemon may have put its own in the place since.
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|facts| facts.dev() == self.device && facts.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "control socket not removed");
        }
    }
}

impl Server {
    /// Opens the socket at `path` with mode 0600, makes its folder if need be, and replaces
    /// the socket of a daemon that is gone. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`BindError`], with what to do next.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |source| BindError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .map_err(failed)?;
        }
        refuse_taken(path)?;
        // Bound under another name and moved when its mode is right: at no time can anybody
        // else open it, and nobody finds a name without a listener.
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        let draft = PathBuf::from(draft);
        let _ = fs::remove_file(&draft);
        let listener = UnixListener::bind(&draft).map_err(failed)?;
        let settle = || {
            fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))?;
            let facts = fs::symlink_metadata(&draft)?;
            fs::rename(&draft, path)?;
            Ok(facts)
        };
        let facts = settle().map_err(|error| {
            let _ = fs::remove_file(&draft);
            failed(error)
        })?;
        Ok(Self {
            listener,
            file: SocketFile {
                path: path.to_owned(),
                device: facts.dev(),
                inode: facts.ino(),
            },
        })
    }

    /// Serves clients until the receiver of `calls` is gone.
    pub async fn serve(self, calls: mpsc::Sender<Call>) {
        let mut clients = JoinSet::new();
        loop {
            while clients.try_join_next().is_some() {}
            if clients.len() >= MAX_CLIENTS {
                clients.join_next().await;
                continue;
            }
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = calls.closed() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    clients.spawn(serve_client(stream, calls.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Answers that are on their way may still arrive.
        let _ = timeout(WRITE, async {
            while clients.join_next().await.is_some() {}
        })
        .await;
        drop(self.file);
    }
}

/// A socket that answers, or a file that is none, must not be replaced.
fn refuse_taken(path: &Path) -> Result<(), BindError> {
    let Ok(facts) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !facts.file_type().is_socket() {
        return Err(BindError::InTheWay(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::AlreadyRunning(path.to_owned())),
        Err(_) => Ok(()),
    }
}

async fn serve_client(stream: UnixStream, calls: mpsc::Sender<Call>) {
    if !is_trusted(&stream) {
        tracing::warn!("control socket refuses a client of another user");
        return;
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        let request = tokio::select! {
            request = timeout(IDLE, read_line(&mut reader, &mut line)) => request,
            () = calls.closed() => return,
        };
        let (reply, more) = match request {
            Ok(Ok(Request::Line)) => (answer(&line, &calls).await, true),
            Ok(Ok(Request::TooLong)) => {
                let message = format!("a request is at most {MAX_REQUEST} bytes");
                let refusal = Refusal::new(RefusalKind::BadRequest, message);
                (Reply::Refused(refusal), false)
            }
            Ok(Ok(Request::End) | Err(_)) | Err(_) => return,
        };
        let written = timeout(WRITE, writer.write_all(&encode_reply(&reply))).await;
        if !more || !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

/// The mode of the file says the same; this holds even if somebody changes it.
fn is_trusted(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|credentials| credentials.uid() == 0 || credentials.uid() == ours)
}

/// What came from a client.
enum Request {
    /// A line, in the buffer.
    Line,
    /// More than a request may have.
    TooLong,
    /// Nothing more.
    End,
}

async fn read_line(
    reader: &mut BufReader<OwnedReadHalf>,
    line: &mut Vec<u8>,
) -> io::Result<Request> {
    line.clear();
    let mut bounded = reader.take(MAX_REQUEST as u64);
    bounded.read_until(b'\n', line).await?;
    if line.last() == Some(&b'\n') {
        Ok(Request::Line)
    } else if line.len() >= MAX_REQUEST {
        Ok(Request::TooLong)
    } else {
        Ok(Request::End)
    }
}

async fn answer(line: &[u8], calls: &mpsc::Sender<Call>) -> Reply {
    let command = match decode_command(line) {
        Ok(command) => command,
        Err(refusal) => return Reply::Refused(refusal),
    };
    let (sender, receiver) = oneshot::channel();
    let call = Call {
        command,
        reply: sender,
    };
    let handled = timeout(ANSWER, async {
        calls.send(call).await.ok()?;
        receiver.await.ok()
    });
    match handled.await {
        Ok(Some(reply)) => reply,
        Ok(None) => Reply::Refused(Refusal::new(
            RefusalKind::Busy,
            "the daemon is shutting down",
        )),
        Err(_) => Reply::Refused(
            Refusal::new(RefusalKind::Busy, "the daemon does not answer in time")
                .with_hint("look at its log: journalctl -u vipsec -e"),
        ),
    }
}
