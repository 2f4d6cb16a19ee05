//! Finds the library, and in it the functions for this CPU.
//!
//! The library's interface for AES-GCM are pointers in its *manager* (`IMB_MGR`): asked for a
//! manager, it looks at the CPU and fills in what is the fastest there. Of that structure only
//! the place of these pointers is known here. It is the same in all versions from 1.0 to 2.0;
//! others are refused.
#![expect(unsafe_code, reason = "this file owns the calls that load the library")]

use core::ffi::{CStr, c_char, c_uint, c_void};
use std::error::Error as _;
use std::sync::OnceLock;

use crate::gcm::{Context, ExpandedKey};

/// Newest first: 2.0 seals packets of 64 bytes in two thirds of the time that 1.3 takes.
const FILES: [&str; 2] = ["libIPSec_MB.so.2", "libIPSec_MB.so.1"];

/// `IMB_VERSION(1, 0, 0)` and the one after 2.0.
const KNOWN_VERSIONS: core::ops::Range<c_uint> = 0x1_00_00..0x2_01_00;
/// `IMB_VERSION(2, 0, 0)`.
const TWO: c_uint = 0x2_00_00;

/// `aes_gcm_enc_dec_t` of `intel-ipsec-mb.h`.
pub(crate) type Crypt = unsafe extern "C" fn(
    key: *const ExpandedKey,
    context: *mut Context,
    output: *mut u8,
    input: *const u8,
    len: u64,
    nonce: *const u8,
    aad: *const u8,
    aad_len: u64,
    tag: *mut u8,
    tag_len: u64,
);

/// `aes_gcm_pre_t` of `intel-ipsec-mb.h`.
pub(crate) type Expand = unsafe extern "C" fn(key: *const u8, expanded: *mut ExpandedKey);

/// Why the library cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUsable {
    /// Its file is not on this machine, or the loader refuses it.
    #[error("{0}")]
    NotLoaded(String),
    /// It has been loaded, and lacks a function.
    #[error("{file} has no {function}")]
    NoFunction {
        /// The library's file.
        file: &'static str,
        /// The function that it lacks.
        function: &'static str,
    },
    /// Where its functions stand is known only for some versions.
    #[error("{file} is version {version}; versions 1.0 to 2.0 are known")]
    Version {
        /// The library's file.
        file: &'static str,
        /// As the library says it.
        version: String,
    },
    /// It gives no manager, or one without AES-GCM, as on a CPU without AES instructions.
    #[error("{file} offers no AES-GCM on this CPU")]
    NoGcm {
        /// The library's file.
        file: &'static str,
    },
    /// Intel's library is for x86-64.
    #[error("it is for x86-64 only")]
    Architecture,
}

/// The library, loaded for as long as the program runs.
#[derive(Debug)]
pub struct Library {
    version: String,
    pub(crate) aes128: Functions,
    pub(crate) aes192: Functions,
    pub(crate) aes256: Functions,
}

/// What there is for one key length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Functions {
    pub(crate) expand: Expand,
    pub(crate) encrypt: Crypt,
    pub(crate) decrypt: Crypt,
}

impl Library {
    /// As the library says it, such as `1.3.0`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// The library, looked for at the first call.
///
/// # Errors
/// Why it cannot be used, the same at every call.
pub fn library() -> Result<&'static Library, &'static NotUsable> {
    static LIBRARY: OnceLock<Result<Library, NotUsable>> = OnceLock::new();
    LIBRARY.get_or_init(find).as_ref()
}

fn find() -> Result<Library, NotUsable> {
    if cfg!(not(all(target_arch = "x86_64", target_os = "linux"))) {
        return Err(NotUsable::Architecture);
    }
    let mut not_loaded: Vec<String> = Vec::new();
    let mut unfit = None;
    for file in FILES {
        match load(file) {
            Ok(library) => return Ok(library),
            Err(NotUsable::NotLoaded(why)) => not_loaded.push(why),
            Err(why) => unfit = unfit.or(Some(why)),
        }
    }
    // A library that is there and does not fit says more than one that is not there.
    Err(unfit.unwrap_or_else(|| NotUsable::NotLoaded(not_loaded.join("; "))))
}

fn load(file: &'static str) -> Result<Library, NotUsable> {
    // SAFETY: loading runs the library's initializers, which set up its tables and nothing
    // else; the file is found where the system keeps its libraries, as for every program's own.
    let code = unsafe { libloading::Library::new(file) };
    let code = code.map_err(|error| NotUsable::NotLoaded(loader_says(&error)))?;
    // Its functions are called until the program ends.
    let code: &'static libloading::Library = Box::leak(Box::new(code));
    let (number, version) = version(code, file)?;
    let functions = gcm_functions(code, file)?.ok_or(NotUsable::NoGcm { file })?;
    let wider = if number >= TWO && took_single_blocks(code, file, &functions) {
        vaes_avx2(code, file)
    } else {
        None
    };
    let [aes128, aes192, aes256] = wider.unwrap_or(functions);
    Ok(Library {
        version,
        aes128,
        aes192,
        aes256,
    })
}

/// The loader's own words, which name the file.
fn loader_says(error: &libloading::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

/// As a number and in words.
fn version(code: &libloading::Library, file: &'static str) -> Result<(c_uint, String), NotUsable> {
    // SAFETY: they are declared so in `intel-ipsec-mb.h` of all versions.
    let (number, text) = unsafe {
        (
            function::<extern "C" fn() -> c_uint>(code, file, "imb_get_version")?,
            function::<extern "C" fn() -> *const c_char>(code, file, "imb_get_version_str")?,
        )
    };
    let (number, text) = (number(), text());
    let version = if text.is_null() {
        format!("{number:#x}")
    } else {
        // SAFETY: the library's version is a constant string.
        unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned()
    };
    if KNOWN_VERSIONS.contains(&number) {
        Ok((number, version))
    } else {
        Err(NotUsable::Version { file, version })
    }
}

/// The beginning of `IMB_MGR`.
#[repr(C)]
struct Manager {
    /// Flags, features, architecture, error number: 64 bytes, which versions divide differently.
    state: [u64; 8],
    /// Jobs, key schedules, hashes.
    others: [*const c_void; 24],
    /// Of 128, 192 and 256 bits, like all that follow.
    encrypt: [Option<Crypt>; 3],
    decrypt: [Option<Crypt>; 3],
    /// Packets in parts: begin; continue and finish, each to encrypt and to decrypt.
    in_parts: [[*const c_void; 3]; 5],
    /// Hash keys alone.
    precompute: [*const c_void; 3],
    expand: [Option<Expand>; 3],
}

/// The functions for this CPU; none where the library offers none.
fn gcm_functions(
    code: &libloading::Library,
    file: &'static str,
) -> Result<Option<[Functions; 3]>, NotUsable> {
    type Allocate = extern "C" fn(flags: u64) -> *mut Manager;
    type Initialize = unsafe extern "C" fn(manager: *mut Manager, architecture: *mut c_uint);
    type Free = unsafe extern "C" fn(manager: *mut Manager);
    // SAFETY: they are declared so in `intel-ipsec-mb.h` of the known versions.
    let (allocate, initialize, free) = unsafe {
        (
            function::<Allocate>(code, file, "alloc_mb_mgr")?,
            function::<Initialize>(code, file, "init_mb_mgr_auto")?,
            function::<Free>(code, file, "free_mb_mgr")?,
        )
    };
    let manager = allocate(0);
    if manager.is_null() {
        return Ok(None);
    }
    let mut architecture = 0;
    // SAFETY: the library made the manager, and both pointers are for this call only.
    unsafe { initialize(manager, &raw mut architecture) };
    // SAFETY: it is longer than what we know of it, the known versions have these pointers in
    // these places, and nobody else has it before it is freed.
    let known = unsafe { &*manager };
    let of = |length: usize| {
        Some(Functions {
            expand: (*known.expand.get(length)?)?,
            encrypt: (*known.encrypt.get(length)?)?,
            decrypt: (*known.decrypt.get(length)?)?,
        })
    };
    let functions = match (architecture, of(0), of(1), of(2)) {
        // `IMB_ARCH_NONE`: this CPU has less than the library needs.
        (0, ..) => None,
        (_, Some(aes128), Some(aes192), Some(aes256)) => Some([aes128, aes192, aes256]),
        _ => None,
    };
    // SAFETY: the library made it, and nothing of it is used any more: the functions are the
    // library's, and take no manager.
    unsafe { free(manager) };
    Ok(functions)
}

/// Whether the manager took the code for AVX2 without VAES: one block to a vector.
fn took_single_blocks(
    code: &libloading::Library,
    file: &'static str,
    [aes128, ..]: &[Functions; 3],
) -> bool {
    // SAFETY: it is declared so in `intel-ipsec-mb.h` of 2.0.
    unsafe { function::<Crypt>(code, file, "aes_gcm_enc_128_avx_gen4") }
        .is_ok_and(|narrow| core::ptr::fn_addr_eq(narrow, aes128.encrypt))
}

/// The functions with two blocks to a vector, where this CPU has the instructions.
///
/// The manager takes them from "AVX2 Type 2" on, which asks for GFNI too. They do not use it, and
/// AMD's Zen 3 has VAES without it: 0.21 instead of 0.37 microseconds for 1,400 bytes.
fn vaes_avx2(code: &libloading::Library, file: &'static str) -> Option<[Functions; 3]> {
    #[cfg(target_arch = "x86_64")]
    let usable = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq");
    #[cfg(not(target_arch = "x86_64"))]
    let usable = false;
    let of = |expand, encrypt, decrypt| {
        // SAFETY: in 2.0 they have the types of their siblings in the manager. They are called on
        // CPUs only that have all instructions that they are made of.
        unsafe {
            Some(Functions {
                expand: function(code, file, expand).ok()?,
                encrypt: function(code, file, encrypt).ok()?,
                decrypt: function(code, file, decrypt).ok()?,
            })
        }
    };
    if !usable {
        return None;
    }
    Some([
        of(
            "aes_gcm_pre_128_vaes_avx2",
            "aes_gcm_enc_128_vaes_avx2",
            "aes_gcm_dec_128_vaes_avx2",
        )?,
        of(
            "aes_gcm_pre_192_vaes_avx2",
            "aes_gcm_enc_192_vaes_avx2",
            "aes_gcm_dec_192_vaes_avx2",
        )?,
        of(
            "aes_gcm_pre_256_vaes_avx2",
            "aes_gcm_enc_256_vaes_avx2",
            "aes_gcm_dec_256_vaes_avx2",
        )?,
    ])
}

/// A function of the library.
///
/// # Safety
/// `F` is the type of a pointer to this function.
unsafe fn function<F: Copy>(
    code: &libloading::Library,
    file: &'static str,
    name: &'static str,
) -> Result<F, NotUsable> {
    // SAFETY: the caller knows the type.
    match unsafe { code.get::<F>(name) } {
        Ok(function) => Ok(*function),
        Err(_not_there) => Err(NotUsable::NoFunction {
            file,
            function: name,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let why = load("libIPSec_MB.so.none").unwrap_err();
        assert!(matches!(&why, NotUsable::NotLoaded(_)), "{why}");
        assert!(why.to_string().contains("libIPSec_MB.so.none"), "{why}");
    }

    #[test]
    fn another_library_is_refused_by_name() {
        let why = load("libc.so.6").unwrap_err();
        assert_eq!(why.to_string(), "libc.so.6 has no imb_get_version");
    }

    #[test]
    fn versions_from_1_0_to_2_0_are_known() {
        for known in [0x1_00_00, 0x1_03_00, 0x1_05_00, 0x2_00_00, 0x2_00_02] {
            assert!(KNOWN_VERSIONS.contains(&known), "{known:x}");
        }
        for other in [0x0_37_00, 0x2_01_00, 0x3_00_00] {
            assert!(!KNOWN_VERSIONS.contains(&other), "{other:x}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn zen_3_has_two_blocks_to_a_vector() {
        let has_vaes = is_x86_feature_detected!("vaes") && is_x86_feature_detected!("avx2");
        let Ok(library) = load("libIPSec_MB.so.2") else {
            return eprintln!("not tested: version 2.0 is not installed");
        };
        if !has_vaes || is_x86_feature_detected!("avx512f") {
            return eprintln!("not tested: this CPU has other code");
        }
        // SAFETY: loaded before; `load` would refuse a library without this function.
        let code = unsafe { libloading::Library::new("libIPSec_MB.so.2") }.unwrap();
        for (one, bits) in [library.aes128, library.aes192, library.aes256]
            .iter()
            .zip([128, 192, 256])
        {
            let chosen = |what: &str, chosen: *const c_void| {
                let name = format!("aes_gcm_{what}_{bits}_vaes_avx2");
                // SAFETY: only its address is looked at.
                let exported = unsafe { code.get::<*const c_void>(&name) }.unwrap();
                assert_eq!(chosen, *exported, "{name}");
            };
            chosen("pre", one.expand as *const c_void);
            chosen("enc", one.encrypt as *const c_void);
            chosen("dec", one.decrypt as *const c_void);
        }
    }

    #[test]
    fn the_pointers_stand_where_the_header_has_them() {
        // offsetof(IMB_MGR, ...) with the headers of 1.3.0 and 2.0.0 on x86-64
        assert_eq!(core::mem::offset_of!(Manager, encrypt), 256);
        assert_eq!(core::mem::offset_of!(Manager, decrypt), 280);
        assert_eq!(core::mem::offset_of!(Manager, precompute), 424);
        assert_eq!(core::mem::offset_of!(Manager, expand), 448);
    }
}
