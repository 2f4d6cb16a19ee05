//! Pre-shared keys and the pair secret: who may read them, what may stand in them, and
//! whether they can be guessed (RFC 2409 with a weak key is open to one active man in the middle, CVE-2018-5389).

use std::ops::Range;
use std::path::{Path, PathBuf};

use ha_keepalive::PairSecret;
use ipsec_types::SecretBytes;

use super::fault::{Fault, SecretKind};
use super::files::Files;
use super::problem::Findings;

/// Below this estimate a key draws a warning.
const ENOUGH_BITS: u32 = 80;

/// Reads the key that `path` names and judges it. `None` when it cannot be used; every
/// reason is in `findings`.
pub(super) fn load(
    kind: SecretKind,
    path: &Path,
    files: &dyn Files,
    span: &Range<usize>,
    findings: &mut Findings,
) -> Option<SecretBytes> {
    let path = path.to_owned();
    let file = match files.read_secret(&path) {
        Ok(file) => file,
        Err(error) => {
            let reason = plain_reason(&error);
            findings.add(span, Fault::PskUnreadable { kind, path, reason });
            return None;
        }
    };
    if !file.regular || file.truncated {
        let what = if file.truncated {
            "too large for a key"
        } else {
            "not a regular file"
        };
        findings.add(span, Fault::PskNotAFile { kind, path, what });
        return None;
    }
    let mut usable = true;
    if file.mode & 0o077 != 0 {
        let mode = file.mode;
        findings.add(
            span,
            Fault::PskPermissions {
                path: path.clone(),
                mode,
            },
        );
        usable = false;
    }
    let us = files.user();
    if file.owner != 0 && file.owner != us {
        let owner = file.owner;
        findings.add(
            span,
            Fault::PskOwner {
                path: path.clone(),
                owner,
                us,
            },
        );
        usable = false;
    }
    let key = without_newline(file.content.expose());
    match refuse_content(key, &path) {
        Some(fault) => {
            findings.add(span, fault);
            usable = false;
        }
        None => warn_of_weakness(kind, key, path, span, findings),
    }
    usable.then(|| SecretBytes::from(key))
}

/// What a user understands better than `os error 13`.
pub(super) fn plain_reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "we may not read it".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

/// Editors end a file with a newline, and no user means it as part of the key.
fn without_newline(content: &[u8]) -> &[u8] {
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    content.strip_suffix(b"\r").unwrap_or(content)
}

fn refuse_content(key: &[u8], path: &Path) -> Option<Fault> {
    let path = path.to_owned();
    if key.is_empty() {
        return Some(Fault::PskEmpty { path });
    }
    let odd = key.iter().position(|byte| !(b' '..=b'~').contains(byte))?;
    Some(Fault::PskNotPrintable {
        path,
        position: odd + 1,
    })
}

fn warn_of_weakness(
    kind: SecretKind,
    key: &[u8],
    path: PathBuf,
    span: &Range<usize>,
    findings: &mut Findings,
) {
    let bits = entropy_bits(key);
    // What is too short is refused, and needs no advice on top.
    let refused = kind == SecretKind::PairSecret && key.len() < PairSecret::MIN_LEN;
    if bits < ENOUGH_BITS && !refused {
        findings.add(span, Fault::PskWeak { kind, path, bits });
    }
}

/// A rough upper estimate of what guessing costs, in bits: characters that tell something
/// new, times the bits of the alphabet they come from. A repetition of the character before,
/// a step up or down from it, and everything after the first period of a periodic key tell
/// nothing new.
fn entropy_bits(key: &[u8]) -> u32 {
    let unit = key.get(..period(key)).unwrap_or(key);
    let mut news: f64 = 0.0;
    let mut before: Option<u8> = None;
    for &byte in unit {
        let follows = before.is_some_and(|last| byte.abs_diff(last) <= 1);
        if !follows {
            news += 1.0;
        }
        before = Some(byte);
    }
    let has = |class: fn(&u8) -> bool| unit.iter().any(class);
    let mut alphabet = 0.0;
    let hexadecimal = unit.iter().all(u8::is_ascii_hexdigit);
    if hexadecimal {
        alphabet = 16.0;
    } else {
        for (present, size) in [
            (has(u8::is_ascii_lowercase), 26.0),
            (has(u8::is_ascii_uppercase), 26.0),
            (has(u8::is_ascii_digit), 10.0),
            (has(|byte| !byte.is_ascii_alphanumeric()), 33.0),
        ] {
            if present {
                alphabet += size;
            }
        }
    }
    let bits: f64 = news * f64::log2(f64::max(alphabet, 2.0));
    // At most MAX_SECRET_BYTES characters of less than 7 bits each.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 <= bits < 4096 * 7"
    )]
    let bits = bits as u32;
    bits
}

/// The length of the shortest piece of which `key` is a repetition.
fn period(key: &[u8]) -> usize {
    (1..=key.len() / 2)
        .find(|&length| key.iter().zip(key.iter().skip(length)).all(|(a, b)| a == b))
        .unwrap_or(key.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates() {
        assert_eq!(entropy_bits(b""), 0);
        // One character, however often.
        assert!(entropy_bits(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa") < 10);
        assert!(entropy_bits(b"abcabcabcabcabcabcabcabcabcabc") < 10);
        assert!(entropy_bits(b"abcdefghijklmnopqrstuvwxyz0123456789") < 20);
        assert!(entropy_bits(b"Summer2026!") < ENOUGH_BITS);
        assert!(entropy_bits(b"xK4v-9wQ2m+R7pZ1") >= ENOUGH_BITS);
        // openssl rand -hex 32
        let hex = b"8f0a5c3be19d2746f0b3d8e5a1c97204e6b1f38d05a7c2946be8d3f1027a5c9e";
        assert!(entropy_bits(hex) > 180, "{}", entropy_bits(hex));
    }

    #[test]
    fn one_newline_is_not_part_of_the_key() {
        assert_eq!(without_newline(b"abc\n"), b"abc");
        assert_eq!(without_newline(b"abc\r\n"), b"abc");
        assert_eq!(without_newline(b"abc\n\n"), b"abc\n");
        assert_eq!(without_newline(b"\n"), b"");
    }
}
