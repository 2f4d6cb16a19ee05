//! The protocol to the letter, and both ends of a real socket.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::protocol::{MAX_REQUEST, decode_command, decode_reply, encode_command, encode_reply};
use super::*;
use crate::status::Counters;

fn text(line: Vec<u8>) -> String {
    String::from_utf8(line).unwrap()
}

#[test]
fn commands_on_the_wire() {
    for (command, wire) in [
        (
            Command::Status { connection: None },
            r#"{"cmd":"status","v":1}"#,
        ),
        (
            Command::Status {
                connection: Some("azure".into()),
            },
            r#"{"cmd":"status","connection":"azure","v":1}"#,
        ),
        (
            Command::Up {
                connection: "a".into(),
            },
            r#"{"cmd":"up","connection":"a","v":1}"#,
        ),
        (
            Command::Down {
                connection: "a".into(),
            },
            r#"{"cmd":"down","connection":"a","v":1}"#,
        ),
        (Command::Reload, r#"{"cmd":"reload","v":1}"#),
        (
            Command::Switchover {
                force: false,
                dry_run: true,
            },
            r#"{"cmd":"switchover","dry_run":true,"force":false,"v":1}"#,
        ),
        (Command::Counters, r#"{"cmd":"counters","v":1}"#),
        (
            Command::KeylogOn {
                directory: "/var/keys".into(),
            },
            r#"{"cmd":"keylog-on","directory":"/var/keys","v":1}"#,
        ),
        (Command::KeylogOff, r#"{"cmd":"keylog-off","v":1}"#),
    ] {
        assert_eq!(text(encode_command(&command)), format!("{wire}\n"));
        assert_eq!(decode_command(wire.as_bytes()).unwrap(), command);
    }
}

#[test]
fn replies_on_the_wire() {
    let refusal = Refusal::unknown_connection("azzure", ["azure", "branch"]);
    for (reply, wire) in [
        (
            Reply::Done("started".into()),
            r#"{"data":"started","reply":"done","v":1}"#,
        ),
        (
            Reply::Counters(Counters::new()),
            r#"{"data":{},"reply":"counters","v":1}"#,
        ),
        (
            Reply::Refused(refusal),
            r#"{"data":{"hint":"configured: azure, branch","kind":"unknown-connection","message":"there is no connection \"azzure\""},"reply":"refused","v":1}"#,
        ),
    ] {
        assert_eq!(text(encode_reply(&reply)), format!("{wire}\n"));
        assert_eq!(decode_reply(wire.as_bytes()).unwrap(), reply);
    }
}

#[test]
fn a_switchover_that_would_lose_packets_says_why() {
    let refusal = Refusal::not_ready(["the standby is not in sync", "the standby is not heard"]);
    assert_eq!(refusal.kind, RefusalKind::NotReady);
    assert_eq!(
        refusal.message,
        "a switchover now would lose packets: the standby is not in sync; the standby is not heard"
    );
    assert!(refusal.hint.unwrap().contains("--force"));
    let short = decode_command(br#"{"v":1,"cmd":"switchover"}"#).unwrap();
    let plain = Command::Switchover {
        force: false,
        dry_run: false,
    };
    assert_eq!(short, plain);
}

#[test]
fn requests_that_are_refused() {
    for (line, kind, message) in [
        ("", RefusalKind::BadRequest, "not JSON"),
        ("status", RefusalKind::BadRequest, "not JSON"),
        ("[1]", RefusalKind::BadRequest, "not a JSON object"),
        (
            r#"{"cmd":"status"}"#,
            RefusalKind::Version,
            "the daemon speaks version 1, not none",
        ),
        (
            r#"{"v":2,"cmd":"status"}"#,
            RefusalKind::Version,
            "the daemon speaks version 1, not 2",
        ),
        (
            r#"{"v":"1","cmd":"status"}"#,
            RefusalKind::Version,
            "the daemon speaks version 1, not \"1\"",
        ),
        (r#"{"v":1}"#, RefusalKind::BadRequest, "missing field `cmd`"),
        (
            r#"{"v":1,"cmd":"explode"}"#,
            RefusalKind::BadRequest,
            "unknown variant `explode`",
        ),
        (
            r#"{"v":1,"cmd":"up"}"#,
            RefusalKind::BadRequest,
            "missing field `connection`",
        ),
        (
            r#"{"v":1,"cmd":"up","connection":1}"#,
            RefusalKind::BadRequest,
            "invalid type",
        ),
        (
            r#"{"v":1,"cmd":"status","conection":"a"}"#,
            RefusalKind::BadRequest,
            "unknown field `conection`",
        ),
    ] {
        let refusal = decode_command(line.as_bytes()).unwrap_err();
        assert_eq!(refusal.kind, kind, "{line}");
        assert!(
            refusal.message.contains(message),
            "{line}: {}",
            refusal.message
        );
    }
}

/// A folder of this test's own; its path is short enough for a socket.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vipsec-ctl-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("run/vipsec.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

/// Serves at `path` with a daemon that answers each command with its own debug text, while
/// `client` runs on a thread of its own.
fn with_server<T: Send + 'static>(
    path: PathBuf,
    client: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let server = Server::bind(&path).unwrap();
        let (calls, mut incoming) = mpsc::channel::<Call>(4);
        let serving = tokio::spawn(server.serve(calls));
        let (done, mut finished) = tokio::sync::oneshot::channel();
        let thread_path = path.clone();
        std::thread::spawn(move || {
            let _ = done.send(client(thread_path));
        });
        let result = loop {
            tokio::select! {
                Some(call) = incoming.recv() => {
                    let answer = Reply::Done(format!("{:?}", call.command));
                    let _ = call.reply.send(answer);
                }
                result = &mut finished => break result.unwrap(),
            }
        };
        drop(incoming);
        serving.await.unwrap();
        assert!(!path.exists(), "the socket's file stayed behind");
        result
    })
}

#[test]
fn a_client_gets_one_answer_for_each_command() {
    let folder = Folder::new();
    let answers = with_server(folder.socket(), |path| {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut client = Client::connect(&path, PATIENCE).unwrap();
        [
            Command::Reload,
            Command::Up {
                connection: "a".into(),
            },
        ]
        .map(|command| client.call(&command).unwrap())
    });
    assert_eq!(
        answers,
        [
            Reply::Done("Reload".into()),
            Reply::Done("Up { connection: \"a\" }".into())
        ]
    );
}

#[test]
fn nonsense_is_answered_and_the_line_stays_open() {
    let folder = Folder::new();
    let answer = with_server(folder.socket(), |path| {
        let mut stream = StdStream::connect(path).unwrap();
        stream
            .write_all(b"hello\n{\"v\":1,\"cmd\":\"reload\"}\n")
            .unwrap();
        let mut answer = String::new();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines.len(), 2, "{answer}");
    assert!(lines[0].contains("\"bad-request\""), "{answer}");
    assert_eq!(lines[1], r#"{"data":"Reload","reply":"done","v":1}"#);
}

#[test]
fn an_endless_line_is_cut_off() {
    let folder = Folder::new();
    let answer = with_server(folder.socket(), |path| {
        let mut stream = StdStream::connect(path).unwrap();
        stream.write_all(&[b'x'; MAX_REQUEST]).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(
        answer.contains("a request is at most 4096 bytes"),
        "{answer}"
    );
}

#[test]
fn many_clients_who_say_nothing_do_not_shut_the_others_out_for_ever() {
    let folder = Folder::new();
    let answer = with_server(folder.socket(), |path| {
        let silent: Vec<StdStream> = (0..40)
            .map(|_| StdStream::connect(&path).unwrap())
            .collect();
        drop(silent);
        Client::connect(&path, PATIENCE)
            .unwrap()
            .call(&Command::Reload)
            .unwrap()
    });
    assert_eq!(answer, Reply::Done("Reload".into()));
}

#[test]
fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let folder = Folder::new();
    let path = folder.socket();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    with_server(path, |path| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let refused = Server::bind(&path).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "another daemon answers at {}; stop it first: systemctl stop vipsec",
                path.display()
            )
        );
    });
}

#[test]
fn a_file_in_the_way_is_left_alone() {
    let folder = Folder::new();
    let path = folder.0.join("vipsec.sock");
    std::fs::write(&path, "precious").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    assert!(matches!(Server::bind(&path), Err(BindError::InTheWay(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_client_without_a_daemon_knows_what_to_do() {
    let folder = Folder::new();
    let error = Client::connect(&folder.socket(), PATIENCE).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no daemon answers at {}", folder.socket().display())
    );
    assert!(
        error
            .hint()
            .starts_with("is it running? systemctl status vipsec")
    );
}

#[test]
fn a_daemon_that_hangs_is_given_up() {
    let folder = Folder::new();
    let path = folder.0.join("vipsec.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut client = Client::connect(&path, Duration::from_millis(50)).unwrap();
    assert!(matches!(
        client.call(&Command::Reload),
        Err(ClientError::Timeout)
    ));
}
