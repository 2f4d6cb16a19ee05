//! The built command: what it prints, its exit codes, and how it talks to a daemon. The
//! daemon here is a thread that answers from a list.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

/// A folder of this test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vipsec-cli-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn vipsec(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vipsec"))
        .args(arguments)
        .env_remove("VIPSEC_LOG")
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A daemon that answers each request with the next line of its list, and at the end says
/// what it was asked.
struct FakeDaemon {
    socket: String,
    asked: JoinHandle<Vec<String>>,
    _folder: Folder,
}

impl FakeDaemon {
    fn answering(answers: Vec<String>) -> Self {
        let folder = Folder::new();
        let path = folder.path("s");
        let listener = UnixListener::bind(&path).unwrap();
        let asked = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(stream.try_clone().unwrap())
                    .read_line(&mut line)
                    .unwrap();
                asked.push(line.trim_end().to_owned());
                stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
            }
            asked
        });
        Self {
            socket: path.to_str().unwrap().to_owned(),
            asked,
            _folder: folder,
        }
    }

    fn asked(self) -> Vec<String> {
        self.asked.join().unwrap()
    }
}

fn done(line: &str) -> String {
    format!(r#"{{"v":1,"reply":"done","data":"{line}"}}"#)
}

fn refused(message: &str, hint: &str) -> String {
    format!(
        r#"{{"v":1,"reply":"refused","data":{{"kind":"unknown-connection","message":"{message}","hint":"{hint}"}}}}"#
    )
}

/// A status with one connection.
fn status(state: &str, error: &str) -> String {
    format!(
        r#"{{"v":1,"reply":"status","data":{{"gateway":"gw-a","version":"0.1.0","uptime_secs":60,"revision":"0123456789abcdef","workers":2,
        "connections":[{{"name":"azure","state":"{state}","state_secs":1,"local":"203.0.113.1","remote":"198.51.100.7","local_id":"203.0.113.1",
        "peer_id":"198.51.100.7","ike_sas":[],"esp_sas":[],"last_error":{error},"vti":{{"device":"vti-azure","mtu":1400,"addresses":[],"routes":[]}}}}]}}}}"#
    )
    .replace('\n', "")
}

const CONFIG: &str = "\
[[connection]]
name = \"azure\"
local = \"203.0.113.1\"
remote = \"198.51.100.7\"
psk_file = \"azure.psk\"
";

const KEY: &str = "8f0a5c3be19d2746f0b3d8e5a1c97204e6b1f38d05a7c294\n";

fn check(folder: &Folder, more: &[&str]) -> Output {
    let config = folder.path("vipsec.toml");
    let mut arguments = vec!["check", "-c", config.to_str().unwrap()];
    arguments.extend(more);
    vipsec(&arguments)
}

/// Whoever has seen enough closes the pipe.
#[test]
fn a_bench_that_nobody_reads_any_more_ends_quietly() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_vipsec"))
        .args(["bench", "crypto", "--quick"])
        .args(["--suites", "aes128gcm16", "--sizes", "64"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(bench.stdout.take());
    let output = bench.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(&output), 0, "{complaint}");
    assert!(!complaint.contains("panicked"), "{complaint}");
}

#[test]
fn check_accepts_a_right_file() {
    let folder = Folder::new();
    folder.write("vipsec.toml", CONFIG, 0o644);
    folder.write("azure.psk", KEY, 0o600);
    let output = check(&folder, &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let path = folder.path("vipsec.toml");
    let expected = format!("ok {}: 1 connection, revision ", path.display());
    assert!(
        stdout(&output).starts_with(&expected),
        "{}",
        stdout(&output)
    );
    assert_eq!(stderr(&output), "");

    let explained = stdout(&check(&folder, &["--explain"]));
    assert!(explained.contains("\nazure  route-based\n"), "{explained}");
    assert!(
        explained.contains("  phase1.lifetime           = \"8h\""),
        "{explained}"
    );
}

#[test]
fn check_refuses_with_3_and_says_everything() {
    let folder = Folder::new();
    folder.write(
        "vipsec.toml",
        &format!("{CONFIG}start = \"on-boot\"\ncolour = 1\n"),
        0o644,
    );
    folder.write("azure.psk", KEY, 0o644);
    let output = check(&folder, &[]);
    assert_eq!(code(&output), 3);
    assert_eq!(stdout(&output), "");
    let complaint = stderr(&output);
    for part in [
        "vipsec.toml:6:9\n",
        "start cannot be \"on-boot\"",
        "unknown key \"colour\" in [[connection]]",
        "may be read by others (mode 0644)",
        "vipsec: the configuration has 3 errors\n",
    ] {
        assert!(complaint.contains(part), "{part} is not in\n{complaint}");
    }
    assert!(!complaint.contains('\u{1b}'), "colours in a pipe");
}

#[test]
fn a_pipe_or_a_folder_as_a_key_does_not_hold_the_loader() {
    let folder = Folder::new();
    folder.write("vipsec.toml", CONFIG, 0o644);
    let made = Command::new("mkfifo")
        .arg("-m")
        .arg("600")
        .arg(folder.path("azure.psk"))
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("SKIPPED: mkfifo is not here");
        assert!(std::env::var_os("CI").is_none(), "mkfifo is not here");
        return;
    }
    let output = check(&folder, &[]);
    assert_eq!(code(&output), 3);
    assert!(
        stderr(&output).contains("is not a regular file"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn run_refuses_what_check_refuses() {
    let output = vipsec(&["run", "-c", "/nonexistent/vipsec.toml"]);
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).starts_with("error: cannot read the file: there is no such file\n"));
}

#[test]
fn a_wrong_command_line_is_2() {
    assert_eq!(code(&vipsec(&["explode"])), 2);
    assert_eq!(code(&vipsec(&["up"])), 2);
    assert_eq!(code(&vipsec(&[])), 2);
    assert_eq!(code(&vipsec(&["--help"])), 0);
}

#[test]
fn no_daemon_is_4_with_advice() {
    for arguments in [
        &["status"][..],
        &["up", "azure"],
        &["reload"],
        &["switchover"],
        &["watch"],
        &["keylog", "off"],
    ] {
        let mut line = vec!["--socket", "/nonexistent/s"];
        line.extend(arguments);
        let output = vipsec(&line);
        assert_eq!(code(&output), 4, "{arguments:?}");
        assert_eq!(
            stderr(&output),
            "vipsec: no daemon answers at /nonexistent/s\n        is it running? systemctl status vipsec, or sudo \
             vipsec run; another socket: --socket PATH\n"
        );
    }
}

#[test]
fn status_is_text_or_json() {
    let daemon = FakeDaemon::answering(vec![status("up", "null"), status("up", "null")]);
    let text = vipsec(&["status", "azure", "--socket", &daemon.socket]);
    assert_eq!(code(&text), 0, "{}", stderr(&text));
    assert!(
        stdout(&text)
            .starts_with("gw-a  vipsec 0.1.0, running for 1m, 2 workers, config 0123456789ab\n")
    );
    assert!(stdout(&text).contains("\nazure  UP for 1s\n"));
    let json = vipsec(&["status", "--json", "--socket", &daemon.socket]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value.pointer("/connections/0/state").unwrap(), "up");
    assert_eq!(
        daemon.asked(),
        [
            r#"{"cmd":"status","connection":"azure","v":1}"#,
            r#"{"cmd":"status","v":1}"#
        ]
    );
}

#[test]
fn a_refusal_is_1_with_its_hint() {
    let daemon = FakeDaemon::answering(vec![refused(
        "there is no connection azzure",
        "configured: azure",
    )]);
    let output = vipsec(&["down", "azzure", "--socket", &daemon.socket]);
    assert_eq!(code(&output), 1);
    assert_eq!(
        stderr(&output),
        "vipsec: there is no connection azzure\n        configured: azure\n"
    );
    assert_eq!(
        daemon.asked(),
        [r#"{"cmd":"down","connection":"azzure","v":1}"#]
    );
}

#[test]
fn a_refused_configuration_is_shown_in_full() {
    let daemon = FakeDaemon::answering(vec![
        r#"{"v":1,"reply":"refused","data":{"kind":"config","message":"error: start cannot be \"x\"\n --> a:1:1","hint":"nothing was changed"}}"#
            .to_owned(),
    ]);
    let output = vipsec(&["reload", "--socket", &daemon.socket]);
    assert_eq!(code(&output), 3);
    assert_eq!(
        stderr(&output),
        "error: start cannot be \"x\"\n --> a:1:1\n\nvipsec: the daemon refused the configuration\n        nothing was changed\n"
    );
    daemon.asked();
}

#[test]
fn up_waits_until_it_is() {
    let daemon = FakeDaemon::answering(vec![
        done("started"),
        status("connecting", "null"),
        status("connecting", "null"),
        status("up", "null"),
    ]);
    let output = vipsec(&["up", "azure", "--socket", &daemon.socket]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stdout(&output).starts_with("azure is up after 0."),
        "{}",
        stdout(&output)
    );
    assert_eq!(daemon.asked().len(), 4);
}

#[test]
fn up_says_why_it_failed() {
    let error = r#"{"text":"no common proposal: the peer offers modp1024 only","ago_secs":0}"#;
    let daemon = FakeDaemon::answering(vec![done("started"), status("failed", error)]);
    let output = vipsec(&["up", "azure", "--socket", &daemon.socket]);
    assert_eq!(code(&output), 1);
    assert_eq!(
        stderr(&output),
        "vipsec: azure did not come up: no common proposal: the peer offers modp1024 only\n        \
         the whole story: vipsec status, and journalctl -u vipsec -e\n"
    );
    daemon.asked();
}

/// A status of one node of a pair: its state now, and the transition that led there.
fn pair_status(role: &str, state: &str, transition: &str) -> String {
    format!(
        r#"{{"v":1,"reply":"status","data":{{"gateway":"gw-a","version":"0.1.0","uptime_secs":60,"revision":"0123456789abcdef","workers":2,
        "pair":{{"member":"a","role":"{role}","serving":true,"state":"{state}","since_secs":0,"why":"a test","epoch":3,"failed":[],"fit":true,
        "partner":{{"role":"active","epoch":4,"heard_ms_ago":5,"fit":true,"same_config":true,"dead":false}},"in_sync":true,
        "takeover":{{"hot":true,"reasons":[]}},"config_revision_short":"0123456789ab","addresses":[],"transitions":[{transition}],"last_change":[]}},
        "connections":[]}}}}"#
    )
    .replace('\n', "")
}

#[test]
fn a_switchover_waits_until_the_role_has_changed() {
    let moved =
        r#"{"ago_secs":0.0,"from":"released","to":"standby","reason":"the partner is active"}"#;
    let daemon = FakeDaemon::answering(vec![
        pair_status("active", "active", ""),
        done("offered to the partner"),
        pair_status("active", "handing-over", ""),
        pair_status("standby", "standby", moved),
    ]);
    let output = vipsec(&["switchover", "--socket", &daemon.socket]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("this node is standby after 0."), "{text}");
    assert!(text.ends_with("  the partner is active\n"), "{text}");
    assert!(
        stderr(&output).ends_with(" s: handing-over\n"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        daemon.asked()[1],
        r#"{"cmd":"switchover","dry_run":false,"force":false,"v":1}"#
    );
}

#[test]
fn a_switchover_that_is_refused_says_why_and_what_to_do() {
    let daemon = FakeDaemon::answering(vec![
        pair_status("active", "active", ""),
        refused(
            "a switchover now would lose packets: x; y",
            "vipsec switchover --force",
        ),
    ]);
    let output = vipsec(&["switchover", "--socket", &daemon.socket]);
    assert_eq!(code(&output), 1);
    assert_eq!(
        stderr(&output),
        "vipsec: a switchover now would lose packets: x; y\n        vipsec switchover --force\n"
    );
    daemon.asked();

    let lonely = FakeDaemon::answering(vec![status("up", "null")]);
    let output = vipsec(&["switchover", "--force", "--socket", &lonely.socket]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).starts_with("vipsec: this gateway has no partner\n"));
    lonely.asked();
}

#[test]
fn a_dry_run_asks_once_and_changes_nothing() {
    let daemon = FakeDaemon::answering(vec![done("ready: nothing would be lost")]);
    let output = vipsec(&["switchover", "--dry-run", "--socket", &daemon.socket]);
    assert_eq!(
        (code(&output), stdout(&output).as_str()),
        (0, "ready: nothing would be lost\n")
    );
    assert_eq!(
        daemon.asked(),
        [r#"{"cmd":"switchover","dry_run":true,"force":false,"v":1}"#]
    );
}

#[test]
fn status_shows_the_pair() {
    let answer = pair_status("standby", "standby", "");
    let daemon = FakeDaemon::answering(vec![answer]);
    let output = vipsec(&["status", "--socket", &daemon.socket]);
    let headline = "\nSTANDBY for 0s, in sync, ready to take over without loss\n";
    assert!(stdout(&output).contains(headline), "{}", stdout(&output));
    daemon.asked();
}

#[test]
fn check_explains_the_pair() {
    let folder = Folder::new();
    let pair = "[pair]\nmember = \"a\"\nsecret_file = \"pair.secret\"\nconnections = \"connections.toml\"\n\
        [[pair.path]]\nlocal = \"192.0.2.1\"\npeer = \"192.0.2.2\"\n\
        [[pair.address]]\naddress = \"203.0.113.1/24\"\nlink = \"wan0\"\nside = \"wan\"\n";
    folder.write("vipsec.toml", pair, 0o644);
    folder.write("connections.toml", CONFIG, 0o644);
    folder.write("azure.psk", KEY, 0o600);
    folder.write("pair.secret", KEY, 0o600);
    let output = check(&folder, &["--explain"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("a cut of this one cable makes two active nodes"));
    let text = stdout(&output);
    assert!(
        text.contains("\n[pair]  this node\n  member          = \"a\""),
        "{text}"
    );
    assert!(text.contains("\nazure  route-based\n"), "{text}");

    // A complaint about the other file names that file.
    folder.write("connections.toml", &format!("{CONFIG}colour = 1\n"), 0o644);
    let output = check(&folder, &[]);
    assert_eq!(code(&output), 3);
    assert!(
        stderr(&output).contains("/connections.toml:6:1\n"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn up_without_waiting_prints_what_the_daemon_says() {
    let daemon = FakeDaemon::answering(vec![done("azure is starting")]);
    let output = vipsec(&["up", "azure", "--no-wait", "--socket", &daemon.socket]);
    assert_eq!(
        (code(&output), stdout(&output).as_str()),
        (0, "azure is starting\n")
    );
    daemon.asked();
}

#[test]
fn a_key_log_folder_is_named_from_the_root() {
    let daemon = FakeDaemon::answering(vec![done("keys go to a folder")]);
    let output = vipsec(&["keylog", "on", "keys", "--socket", &daemon.socket]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("whoever reads this folder reads your traffic"));
    let folder = std::env::current_dir().unwrap().join("keys");
    let asked = daemon.asked().remove(0);
    let expected = format!(
        r#"{{"cmd":"keylog-on","directory":"{}","v":1}}"#,
        folder.display()
    );
    assert_eq!(asked, expected);
}

#[test]
fn an_answer_of_another_version_is_not_guessed_at() {
    let daemon = FakeDaemon::answering(vec![r#"{"v":2,"reply":"done","data":"x"}"#.to_owned()]);
    let output = vipsec(&["reload", "--socket", &daemon.socket]);
    assert_eq!(code(&output), 4);
    assert!(
        stderr(&output).contains("must be of the same version"),
        "{}",
        stderr(&output)
    );
    daemon.asked();
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = vipsec(&["completions", shell]);
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("vipsec"), "{shell}");
    }
}

#[test]
fn man_pages_for_every_command() {
    let folder = Folder::new();
    let output = vipsec(&["man", folder.0.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let page =
        |name: &str| fs::read_to_string(folder.path(name)).unwrap_or_else(|_| panic!("{name}"));
    assert!(page("vipsec.1").contains("Exit codes"));
    for name in [
        "vipsec-run.1",
        "vipsec-check.1",
        "vipsec-status.1",
        "vipsec-switchover.1",
        "vipsec-up.1",
    ] {
        assert!(page(name).starts_with(".ie"), "{name}");
    }
    assert!(
        !Path::new(&folder.path("vipsec-man.1")).exists(),
        "a hidden command has a page"
    );
}

#[test]
fn the_version() {
    let expected = format!("vipsec {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stdout(&vipsec(&["version"])), expected);
    assert_eq!(stdout(&vipsec(&["--version"])), expected);
}
