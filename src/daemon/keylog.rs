//! Keys for Wireshark: ESP SAs and phase-1 keys, written only when the operator asked for it.
//!
//! The files are Wireshark user-access tables and can be copied into its configuration
//! folder: `esp_sa` and `ikev1_decryption_table`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ipsec_types::{CbcCipher, EspIntegrity, EspSaParams, EspSuite, SecretBytes};

/// Two open tables. Their content is as secret as the tunnels themselves.
pub(super) struct KeyLog {
    directory: PathBuf,
    esp: File,
    ike: File,
}

impl KeyLog {
    /// Opens both tables in `directory`, which is made with mode 0700 when it is missing; the
    /// files have mode 0600 and are appended to.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let table = |name: &str| open_private(&directory.join(name));
        Ok(Self {
            directory: directory.to_owned(),
            esp: table("esp_sa")?,
            ike: table("ikev1_decryption_table")?,
        })
    }

    /// Where the tables are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes one direction of a pair.
    ///
    /// # Errors
    /// Whatever the file system says; the tunnel does not depend on it.
    pub(super) fn esp_sa(&mut self, sa: &EspSaParams) -> io::Result<()> {
        self.esp.write_all(esp_sa_line(sa).as_bytes())
    }

    /// Writes the encryption key of an IKE SA (after the expansion of RFC 2409 Appendix B)
    /// under its initiator's cookie.
    ///
    /// # Errors
    /// Whatever the file system says; the tunnel does not depend on it.
    pub(super) fn ike_sa(
        &mut self,
        initiator_cookie: [u8; 8],
        key: &SecretBytes,
    ) -> io::Result<()> {
        let line = format!("{},{}\n", hex(&initiator_cookie), hex(key.expose()));
        self.ike.write_all(line.as_bytes())
    }
}

/// Opens a file for appending that only we can read. One that is there already is taken over
/// only when it is ours and has no other name, and loses the permissions it may have had.
fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let found = file.metadata()?;
    let is_ours = found.uid() == rustix::process::geteuid().as_raw();
    if !found.is_file() || !is_ours || found.nlink() != 1 {
        return Err(io::Error::other(format!(
            "{} is not a file of our own; remove it or choose another folder",
            path.display()
        )));
    }
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// One line of Wireshark's `esp_sa` table.
fn esp_sa_line(sa: &EspSaParams) -> String {
    let (source, destination) = match sa.direction {
        ipsec_types::Direction::Inbound => (sa.remote.ip(), sa.local.ip()),
        ipsec_types::Direction::Outbound => (sa.local.ip(), sa.remote.ip()),
    };
    let family = if destination.is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    };
    let (encryption, integrity) = wireshark_names(sa.suite);
    format!(
        "\"{family}\",\"{source}\",\"{destination}\",\"{spi}\",\"{encryption}\",\"{encryption_key}\",\"{integrity}\",\"{integrity_key}\"\n",
        spi = sa.spi,
        encryption_key = hex_key(&sa.encryption_key),
        integrity_key = hex_key(&sa.integrity_key),
    )
}

fn wireshark_names(suite: EspSuite) -> (&'static str, &'static str) {
    match suite {
        EspSuite::AesGcm16(_) => ("AES-GCM with 16 octet ICV [RFC4106]", "NULL"),
        EspSuite::CbcHmac(cipher, integrity) => (
            match cipher {
                CbcCipher::Aes(_) => "AES-CBC [RFC3602]",
                CbcCipher::TripleDes => "TripleDES-CBC [RFC2451]",
            },
            match integrity {
                EspIntegrity::HmacMd5_96 => "HMAC-MD5-96 [RFC2403]",
                EspIntegrity::HmacSha1_96 => "HMAC-SHA-1-96 [RFC2404]",
                EspIntegrity::HmacSha256_128 => "HMAC-SHA-256-128 [RFC4868]",
                EspIntegrity::HmacSha384_192 => "HMAC-SHA-384-192 [RFC4868]",
                EspIntegrity::HmacSha512_256 => "HMAC-SHA-512-256 [RFC4868]",
            },
        ),
    }
}

fn hex_key(key: &SecretBytes) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!("0x{}", hex(key.expose()))
    }
}

fn hex(bytes: &[u8]) -> String {
    use core::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipsec_types::{AesKeyBits, Direction, Encapsulation, SelectorPair, Spi, TrafficSelector};

    fn sa(suite: EspSuite) -> EspSaParams {
        let any = TrafficSelector::net("0.0.0.0/0".parse().unwrap());
        EspSaParams {
            spi: Spi::new(0xc0de_0001).unwrap(),
            direction: Direction::Outbound,
            suite,
            encryption_key: SecretBytes::new(vec![0xab; 4]),
            integrity_key: SecretBytes::new(vec![0xcd; suite.integrity_key_len().min(2)]),
            esn: false,
            selectors: SelectorPair {
                local: any,
                remote: any,
            },
            encapsulation: Encapsulation::Esp,
            local: "192.0.2.1:0".parse().unwrap(),
            remote: "192.0.2.2:0".parse().unwrap(),
        }
    }

    #[test]
    fn a_gcm_line_is_what_wireshark_reads() {
        assert_eq!(
            esp_sa_line(&sa(EspSuite::AesGcm16(AesKeyBits::Aes256))),
            "\"IPv4\",\"192.0.2.1\",\"192.0.2.2\",\"0xc0de0001\",\
             \"AES-GCM with 16 octet ICV [RFC4106]\",\"0xabababab\",\"NULL\",\"\"\n"
        );
    }

    #[test]
    fn a_cbc_line_names_the_integrity_transform() {
        let suite = EspSuite::CbcHmac(
            CbcCipher::Aes(AesKeyBits::Aes128),
            EspIntegrity::HmacSha1_96,
        );
        assert!(esp_sa_line(&sa(suite)).ends_with(
            "\"AES-CBC [RFC3602]\",\"0xabababab\",\"HMAC-SHA-1-96 [RFC2404]\",\"0xcdcd\"\n"
        ));
        let suite = EspSuite::CbcHmac(CbcCipher::TripleDes, EspIntegrity::HmacMd5_96);
        assert!(esp_sa_line(&sa(suite)).ends_with(
            "\"TripleDES-CBC [RFC2451]\",\"0xabababab\",\"HMAC-MD5-96 [RFC2403]\",\"0xcdcd\"\n"
        ));
    }
}
