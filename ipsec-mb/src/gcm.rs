//! One key, and packets sealed and opened in place with it.
#![expect(
    unsafe_code,
    reason = "this file owns the calls of the library's AES-GCM"
)]

use core::mem::MaybeUninit;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use crate::Library;
use crate::library::{Crypt, Functions};

/// Bytes of a nonce (NIST SP 800-38D §8.2.1).
pub const NONCE_LEN: usize = 12;
/// Bytes of a tag: never cut.
pub const TAG_LEN: usize = 16;

/// Longest body in bytes. GCM ends a little below 2³⁶; nobody has packets half as long.
const MAX_BODY_LEN: usize = u32::MAX as usize;

/// `struct gcm_key_data`: 1,008 bytes in 1.3, 1,264 in 2.0.
#[repr(C, align(64))]
pub(crate) struct ExpandedKey([u8; 2048]);

/// `struct gcm_context_data`: 88 bytes in all known versions.
#[repr(C, align(64))]
pub(crate) struct Context([u8; 256]);

/// The library or its caller refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GcmError {
    /// A body of 4 GiB or more.
    #[error("the body is too long for AES-GCM")]
    TooLong,
    /// The tag is not the one of these bytes.
    #[error("the tag is wrong")]
    WrongTag,
}

/// An expanded AES key; wiped when it is dropped.
pub struct GcmKey {
    expanded: Box<ExpandedKey>,
    functions: Functions,
}

impl GcmKey {
    /// Expands a key of 16, 24 or 32 bytes; nothing for other lengths.
    #[must_use]
    pub fn new(library: &'static Library, key: &[u8]) -> Option<Self> {
        let functions = match key.len() {
            16 => library.aes128,
            24 => library.aes192,
            32 => library.aes256,
            _ => return None,
        };
        let mut expanded = Box::new(ExpandedKey([0; 2048]));
        // SAFETY: `key` has the length that this function reads, and `expanded` has the
        // alignment of the library's structure and more than its length.
        unsafe { (functions.expand)(key.as_ptr(), &raw mut *expanded) };
        Some(Self {
            expanded,
            functions,
        })
    }

    /// Encrypts `body` in place and returns the tag of `aad` and `body`.
    ///
    /// A nonce must never be used twice with one key.
    ///
    /// # Errors
    /// [`GcmError::TooLong`]; `body` is as it was.
    #[inline]
    pub fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        body: &mut [u8],
    ) -> Result<[u8; TAG_LEN], GcmError> {
        self.crypt(self.functions.encrypt, nonce, aad, body)
    }

    /// Decrypts `body` in place if `tag` is the one of `aad` and `body`.
    ///
    /// # Errors
    /// [`GcmError::WrongTag`]: `body` is wiped. [`GcmError::TooLong`].
    #[inline]
    pub fn open(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), GcmError> {
        let right = self.crypt(self.functions.decrypt, nonce, aad, body)?;
        // As numbers: byte by byte it takes a quarter of the time of a small packet.
        let [right, tag] = [right, *tag].map(u128::from_ne_bytes);
        if right.ct_eq(&tag).into() {
            Ok(())
        } else {
            // What nobody has vouched for is not to be read by anybody.
            body.fill(0);
            Err(GcmError::WrongTag)
        }
    }

    #[inline]
    fn crypt(
        &self,
        crypt: Crypt,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        body: &mut [u8],
    ) -> Result<[u8; TAG_LEN], GcmError> {
        // The library would do nothing and say so in a variable that all threads share.
        if body.len() > MAX_BODY_LEN {
            return Err(GcmError::TooLong);
        }
        let mut context = MaybeUninit::<Context>::uninit();
        let mut tag = [0; TAG_LEN];
        // SAFETY: key and context have the library's alignment and more than its lengths; the
        // context is written before it is read. Input and output may be the same bytes. No
        // pointer is null, as the library asks, not even those of empty slices. All bytes are
        // ours for the call, and it keeps none of the pointers.
        unsafe {
            crypt(
                &raw const *self.expanded,
                context.as_mut_ptr(),
                body.as_mut_ptr(),
                body.as_ptr(),
                body.len() as u64,
                nonce.as_ptr(),
                aad.as_ptr(),
                aad.len() as u64,
                tag.as_mut_ptr(),
                TAG_LEN as u64,
            );
        }
        Ok(tag)
    }
}

impl Drop for GcmKey {
    fn drop(&mut self) {
        self.expanded.0.zeroize();
    }
}

impl core::fmt::Debug for GcmKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("GcmKey(redacted)")
    }
}
