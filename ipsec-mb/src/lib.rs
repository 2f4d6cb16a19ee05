//! AES-GCM by Intel's Multi-Buffer Crypto for IPsec Library, the one that DPDK and VPP use.
//!
//! The library is not linked: [`library`] looks for it at run time. Debian and Ubuntu have it as
//! the package `libipsec-mb1` or `libipsec-mb2`. With AVX-512 it needs 0.6 of the time of the next
//! library for a packet of 1,400 bytes, version 2.0 with VAES and AVX2 two thirds. Where it is not installed, or has a version that this
//! crate does not know, the error says so, and nothing else happens.
//!
//! ```
//! match ipsec_mb::library() {
//!     Ok(library) => {
//!         let key = ipsec_mb::GcmKey::new(library, &[7; 16]).expect("AES-128");
//!         let mut packet = *b"a packet";
//!         let tag = key.seal([0; 12], b"header", &mut packet)?;
//!         key.open([0; 12], b"header", &mut packet, &tag)?;
//!         assert_eq!(&packet, b"a packet");
//!     }
//!     Err(why) => println!("another library has to do it: {why}"),
//! }
//! # Ok::<(), ipsec_mb::GcmError>(())
//! ```
//!
//! Two files: `library.rs` finds the library and its functions, `gcm.rs` calls them. All of the
//! crate's unsafe code is in them.

mod gcm;
mod library;

pub use gcm::{GcmError, GcmKey, NONCE_LEN, TAG_LEN};
pub use library::{Library, NotUsable, library};
