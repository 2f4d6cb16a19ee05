//! strongSwan as a black box: charon with its userspace ESP, one per host.
//!
//! Facts that shape it: Debian ships the `kernel-libipsec` plugin switched off; its ESP always
//! travels in UDP 4500; its device is `ipsec0` with an MTU of 1400; with 0.0.0.0/0 selectors its
//! own ESP would loop into that device unless marked packets are exempt (`fwmark`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::config::{self, Connection};
use super::vici_text;
use crate::LabError;
use crate::lab::{Background, Host, Output, wait_for};
use crate::need::{self, find_program};

/// charon is ready after 0.3 s; a loaded machine gets more.
const READY: Duration = Duration::from_secs(15);

/// Settings of a charon that differ between scenarios.
#[derive(Debug, Clone)]
pub struct StrongSwan {
    /// Further lines of the `charon` section of strongswan.conf.
    pub extra: String,
    /// Log level of IKE and of child SAs: 1 tells events, 2 tells decisions.
    pub log_level: u8,
}

impl Default for StrongSwan {
    fn default() -> Self {
        Self {
            extra: String::new(),
            log_level: 2,
        }
    }
}

/// A running charon.
#[derive(Debug)]
pub struct Charon {
    host: Host,
    process: Background,
    swanctl: PathBuf,
    uri: String,
    /// What is loaded besides the running configuration file, by name.
    settings: PathBuf,
}

/// One IKE SA in the words of strongSwan.
#[derive(Debug, Clone)]
pub struct IkeSa {
    /// Name of the connection.
    pub name: String,
    /// `ESTABLISHED`, `CONNECTING`, …
    pub state: String,
    /// Initiator's cookie, in hexadecimal.
    pub initiator_cookie: String,
    /// Responder's cookie, in hexadecimal.
    pub responder_cookie: String,
    /// Child SAs.
    pub children: Vec<ChildSa>,
}

/// One phase-2 SA in the words of strongSwan.
#[derive(Debug, Clone, Default)]
pub struct ChildSa {
    /// Name of the child configuration.
    pub name: String,
    /// `INSTALLED`, `REKEYED`, …
    pub state: String,
    /// SPI of the SA towards strongSwan.
    pub spi_in: u32,
    /// SPI of the SA away from strongSwan.
    pub spi_out: u32,
    /// Payload bytes opened.
    pub bytes_in: u64,
    /// Payload bytes sealed.
    pub bytes_out: u64,
    /// Cipher, key bits and integrity, such as `AES_GCM_16-256`.
    pub suite: String,
}

impl StrongSwan {
    /// Starts charon on a host with the connections loaded, and waits until it listens.
    ///
    /// # Errors
    /// When it does not start, or refuses the configuration.
    pub fn start(&self, host: &Host, connections: &[Connection]) -> Result<Charon, LabError> {
        // AppArmor on Debian and Ubuntu confines the programs at their installed paths to the
        // system's own files; copies of them are free to use the lab's.
        let charon = copy(Path::new(need::CHARON), host)?;
        let swanctl = find_program("swanctl").unwrap_or_else(|| PathBuf::from("swanctl"));
        let swanctl = copy(&swanctl, host)?;
        let uri = format!("unix://{}/vici", host.directory().display());
        let settings = host.write("strongswan.conf", &self.settings(&uri))?;
        let mut command = host.command(charon);
        command.env("STRONGSWAN_CONF", &settings);
        let mut process = host.spawn("charon", command)?;
        let socket = host.directory().join("vici");
        wait_for("charon's vici socket", READY, || {
            process.must_run()?;
            Ok(socket.exists().then_some(()))
        })?;
        // Selectors of 0.0.0.0/0 route everything into charon's device, the host's own LAN
        // included. What is on a link stays there.
        for family in ["-4", "-6"] {
            // A charon that was here before may have left the rule; there is one then.
            host.attempt(&format!("ip {family} rule del priority 100"))?;
            host.ip(&format!(
                "{family} rule add priority 100 lookup main suppress_prefixlength 0"
            ))?;
        }
        let mut charon = Charon {
            host: host.clone(),
            process,
            swanctl,
            uri,
            settings,
        };
        charon.load(connections)?;
        Ok(charon)
    }

    fn settings(&self, uri: &str) -> String {
        let level = self.log_level;
        let extra = &self.extra;
        format!(
            "charon {{
    # Which plugins, and in which order: OpenSSL is the fastest where it can do the job.
    load = random nonce openssl aes sha1 sha2 md5 hmac gcm kdf curve25519 gmp pem pkcs1 x509 \
             pubkey constraints counters kernel-libipsec kernel-netlink socket-default vici
    # The lab's processes come and go; nothing may be kept open for a quarter of a minute.
    delete_rekeyed_delay = 1
    i_dont_care_about_security_and_use_aggressive_mode_psk = yes
    filelog {{
        stderr {{
            time_format = %H:%M:%S
            time_add_ms = yes
            flush_line = yes
            default = 1
            ike = {level}
            chd = {level}
        }}
    }}
    {extra}
    plugins {{
        vici {{ socket = {uri} }}
        kernel-libipsec {{ allow_peer_ts = yes }}
        kernel-netlink {{ fwmark = !0x42 }}
        socket-default {{ fwmark = 0x42 }}
    }}
}}
"
        )
    }
}

impl Charon {
    /// Replaces the loaded connections; established SAs stay as they are.
    ///
    /// # Errors
    /// When strongSwan refuses one.
    pub fn load(&mut self, connections: &[Connection]) -> Result<(), LabError> {
        let file = self
            .host
            .write("swanctl.conf", &config::render(connections))?;
        self.process.must_run()?;
        self.run(&format!("--load-all --clear --file {}", file.display()))?;
        Ok(())
    }

    /// Starts a child SA and waits until it is up.
    ///
    /// # Errors
    /// [`LabError::Command`] with strongSwan's account of the failure.
    pub fn initiate(&self, child: &str) -> Result<Output, LabError> {
        self.run(&format!("--initiate --timeout 20 --child {child}"))
    }

    /// Like [`Charon::initiate`], where the failure is what is to be seen.
    ///
    /// # Errors
    /// When swanctl cannot start.
    pub fn try_initiate(&self, child: &str, seconds: u32) -> Result<Output, LabError> {
        self.swanctl(&format!("--initiate --timeout {seconds} --child {child}"))
    }

    /// Deletes the IKE SAs of a connection and waits until they are gone.
    ///
    /// # Errors
    /// When there are none.
    pub fn terminate(&self, connection: &str) -> Result<(), LabError> {
        self.run(&format!("--terminate --timeout 10 --ike {connection}"))?;
        Ok(())
    }

    /// Rekeys a child SA now.
    ///
    /// # Errors
    /// When there is none.
    pub fn rekey_child(&self, child: &str) -> Result<(), LabError> {
        self.run(&format!("--rekey --child {child}"))?;
        Ok(())
    }

    /// Replaces an IKE SA by a new one now (IKEv1 knows re-authentication only).
    ///
    /// # Errors
    /// When there is none.
    pub fn reauthenticate(&self, connection: &str) -> Result<(), LabError> {
        self.run(&format!("--rekey --reauth --ike {connection}"))?;
        Ok(())
    }

    /// All IKE SAs.
    ///
    /// # Errors
    /// When swanctl prints something unexpected.
    pub fn sas(&self) -> Result<Vec<IkeSa>, LabError> {
        let output = self.run("--list-sas --raw")?;
        output
            .stdout
            .lines()
            .filter(|line| line.starts_with("list-sa event"))
            .map(|line| {
                vici_text::parse(line)
                    .as_ref()
                    .and_then(ike_sa)
                    .ok_or_else(|| LabError::unreadable("swanctl --list-sas", line))
            })
            .collect()
    }

    /// The child SAs that carry traffic.
    ///
    /// # Errors
    /// As [`Charon::sas`].
    pub fn installed(&self) -> Result<Vec<ChildSa>, LabError> {
        let sas = self.sas()?.into_iter().flat_map(|sa| sa.children);
        Ok(sas.filter(|child| child.state == "INSTALLED").collect())
    }

    /// Waits until `count` child SAs carry traffic.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn wait_installed(
        &self,
        count: usize,
        patience: Duration,
    ) -> Result<Vec<ChildSa>, LabError> {
        let what = format!("{count} child SAs in strongSwan");
        wait_for(&what, patience, || {
            let children = self.installed()?;
            Ok((children.len() == count).then_some(children))
        })
    }

    /// The shell words that start a child SA, for other programs' hooks.
    #[must_use]
    pub fn initiate_command(&self, child: &str) -> String {
        let swanctl = self.swanctl.display();
        format!(
            "{swanctl} --initiate --timeout 5 --child {child} --uri {}",
            self.uri
        )
    }

    /// The daemon's process: log, signals, CPU time.
    pub fn process(&mut self) -> &mut Background {
        &mut self.process
    }

    /// All it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    fn run(&self, words: &str) -> Result<Output, LabError> {
        self.swanctl(words)?
            .or_fail(self.host.name(), &format!("swanctl {words}"))
    }

    fn swanctl(&self, words: &str) -> Result<Output, LabError> {
        let mut command = self.host.command(&self.swanctl);
        command.env("STRONGSWAN_CONF", &self.settings);
        command.args(words.split_whitespace());
        command.args(["--uri", &self.uri]);
        Output::of(command, words)
    }
}

fn copy(program: &Path, host: &Host) -> Result<PathBuf, LabError> {
    let name = program.file_name().unwrap_or_default();
    let to = host.directory().join(name);
    if !to.exists() {
        fs::copy(program, &to).map_err(LabError::at(format!("copy {}", program.display())))?;
    }
    Ok(to)
}

fn ike_sa(tree: &Value) -> Option<IkeSa> {
    let (name, sa) = tree.as_object()?.iter().next()?;
    let children = sa.get("child-sas").and_then(Value::as_object);
    Some(IkeSa {
        name: name.clone(),
        state: text(sa, "state"),
        initiator_cookie: text(sa, "initiator-spi"),
        responder_cookie: text(sa, "responder-spi"),
        children: children
            .map(|children| children.values().map(child_sa).collect())
            .unwrap_or_default(),
    })
}

fn child_sa(sa: &Value) -> ChildSa {
    let spi = |key| u32::from_str_radix(&text(sa, key), 16).unwrap_or(0);
    let number = |key| text(sa, key).parse().unwrap_or(0);
    let suite: Vec<String> = ["encr-alg", "encr-keysize", "integ-alg", "dh-group", "esn"]
        .into_iter()
        .map(|key| text(sa, key))
        .filter(|word| !word.is_empty())
        .collect();
    ChildSa {
        name: text(sa, "name"),
        state: text(sa, "state"),
        spi_in: spi("spi-in"),
        spi_out: spi("spi-out"),
        bytes_in: number("bytes-in"),
        bytes_out: number("bytes-out"),
        suite: suite.join("-"),
    }
}

fn text(tree: &Value, key: &str) -> String {
    tree.get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
