//! Groups 19, 20 and 21: ECP groups of RFC 5903. The KE payload is x | y without a format
//! byte; the shared secret is x of the common point.

use ipsec_types::SecretBytes;
use p256::elliptic_curve::ecdh::EphemeralSecret;
use p256::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use p256::elliptic_curve::{AffinePoint, CurveArithmetic, FieldBytesSize, Generate, PublicKey};
use rand_core::CryptoRng;

use super::DhError;

/// SEC 1 §2.3.3: an uncompressed point follows.
const UNCOMPRESSED: u8 = 4;

pub(super) fn generate<C>(rng: &mut dyn CryptoRng) -> (EphemeralSecret<C>, Vec<u8>)
where
    C: CurveArithmetic,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    let secret = EphemeralSecret::<C>::generate_from_rng(rng);
    let point = secret.public_key().to_sec1_point(false);
    let coordinates = point.as_bytes().get(1..).unwrap_or_default().to_vec();
    (secret, coordinates)
}

pub(super) fn agree<C>(secret: &EphemeralSecret<C>, peer: &[u8]) -> Result<SecretBytes, DhError>
where
    C: CurveArithmetic,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    let encoded = [&[UNCOMPRESSED], peer].concat();
    let peer = PublicKey::<C>::from_sec1_bytes(&encoded).map_err(|_| DhError::NotOnCurve)?;
    let shared = secret.diffie_hellman(&peer);
    Ok(SecretBytes::from(&shared.raw_secret_bytes()[..]))
}
