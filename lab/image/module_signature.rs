//! The signature that the kernel's build appends to a module, and whether a kernel accepts it.
//!
//! Format: a CMS message (RFC 5652) of a detached signature, `struct module_signature` and a text that marks the end
//! (Linux include/linux/module_signature.h). The kernel looks for the signer among its keys by issuer and serial number
//! or by key identifier, and verifies the signature (crypto/asymmetric_keys/pkcs7_verify.c, pkcs7_trust.c). It refuses
//! signed attributes in modules. ENOKEY becomes "module signature … unavailable", and with enforced signatures "Key was
//! rejected by service".

use cms::{
    content_info::ContentInfo,
    signed_data::{SignedData, SignerIdentifier, SignerInfo},
};
use der::{
    Decode, Encode,
    oid::{
        ObjectIdentifier,
        db::rfc5912::{
            ID_EC_PUBLIC_KEY, ID_SHA_1, ID_SHA_256, ID_SHA_384, ID_SHA_512, RSA_ENCRYPTION, SECP_256_R_1,
            SECP_384_R_1,
        },
    },
};
use lab_model::visible;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::kernel_facts::{TrustedKey, hex_of};

/// The end of a signed module.
const MARK: &[u8] = b"~Module signature appended~\n";
/// The size of `struct module_signature`.
const STRUCT: usize = 12;
/// The kind "CMS" of a signature (`PKEY_ID_PKCS7`).
const KIND_CMS: u8 = 2;
/// The largest signature, in bytes.
const SIGNATURE_LIMIT: usize = 64 << 10;

/// A signature of a module.
#[derive(Clone, Debug)]
pub struct ModuleSignature {
    signer: SignerInfo,
}

/// The judgement of a kernel on the signature of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The module has no signature.
    Unsigned,
    /// The signature is valid, by this key of the kernel.
    Valid { key: String },
    /// The kernel has the key of the signer. The lab does not know the algorithm and has not verified the signature.
    NotVerified { key: String, algorithm: String },
    /// The kernel has no key of this signer.
    UnknownSigner { signer: String },
    /// The signature is damaged, or it is not one of this content.
    Invalid { why: String },
}

/// Splits a module into its content and its signature.
///
/// # Errors
/// Returns a description of a damaged signature.
pub fn split_signature(module: &[u8]) -> Result<(&[u8], Option<ModuleSignature>), String> {
    let Some(rest) = module.strip_suffix(MARK) else { return Ok((module, None)) };
    let (rest, about) = rest.split_last_chunk::<STRUCT>().ok_or("its signature has no header")?;
    let [_, _, kind, _, _, _, _, _, size @ ..] = about;
    if *kind != KIND_CMS {
        return Err(format!("its signature has the kind {kind}; the kernel accepts CMS ({KIND_CMS})"));
    }
    let size = u32::from_be_bytes(*size) as usize;
    if size == 0 || size > SIGNATURE_LIMIT || size > rest.len() {
        return Err(format!("its signature claims {size} bytes"));
    }
    let (content, message) = rest.split_at(rest.len() - size);
    Ok((content, Some(ModuleSignature::parse(message)?)))
}

impl ModuleSignature {
    fn parse(message: &[u8]) -> Result<Self, String> {
        let wrong = |error: der::Error| format!("its signature is not a CMS message: {error}");
        let message = ContentInfo::from_der(message).map_err(wrong)?;
        let signed: SignedData = message.content.decode_as().map_err(wrong)?;
        let mut signers = signed.signer_infos.0.into_vec();
        match (signers.pop(), signers.len()) {
            (Some(signer), 0) if signer.signed_attrs.is_some() => {
                Err("its signature has signed attributes, which the kernel refuses in modules".to_owned())
            }
            (Some(signer), 0) => Ok(Self { signer }),
            (_, others) => Err(format!("its signature has {} signers", others + 1)),
        }
    }

    /// Judges the signature of `content` as a kernel with `keys` does.
    pub fn judge(&self, content: &[u8], keys: &[TrustedKey]) -> Trust {
        let Some(key) = keys.iter().find(|key| self.is_of(key)) else {
            return Trust::UnknownSigner { signer: self.signer_name() };
        };
        let info = &key.certificate.tbs_certificate.subject_public_key_info;
        let Some(algorithm) = self.algorithm(info) else {
            let digest = self.signer.digest_alg.oid;
            let algorithm = format!("{} with {digest}", info.algorithm.oid);
            return Trust::NotVerified { key: key.name(), algorithm };
        };
        let public = UnparsedPublicKey::new(algorithm, info.subject_public_key.raw_bytes());
        match public.verify(content, self.signer.signature.as_bytes()) {
            Ok(()) => Trust::Valid { key: key.name() },
            Err(_) => {
                let why = format!("the signature by {} is not one of this content", key.name());
                Trust::Invalid { why }
            }
        }
    }

    fn is_of(&self, key: &TrustedKey) -> bool {
        let about = &key.certificate.tbs_certificate;
        match &self.signer.sid {
            SignerIdentifier::IssuerAndSerialNumber(signer) => {
                signer.issuer == about.issuer && signer.serial_number == about.serial_number
            }
            SignerIdentifier::SubjectKeyIdentifier(id) => key.key_id.as_deref() == Some(id.0.as_bytes()),
        }
    }

    /// The signer, for messages.
    fn signer_name(&self) -> String {
        match &self.signer.sid {
            SignerIdentifier::IssuerAndSerialNumber(signer) => {
                let serial = hex_of(signer.serial_number.as_bytes());
                format!("{} (serial {serial})", visible(&signer.issuer.to_string(), 120))
            }
            SignerIdentifier::SubjectKeyIdentifier(id) => format!("the key {}", hex_of(id.0.as_bytes())),
        }
    }

    fn algorithm(
        &self,
        key: &x509_cert::spki::SubjectPublicKeyInfoOwned,
    ) -> Option<&'static dyn VerificationAlgorithm> {
        let digest = self.signer.digest_alg.oid;
        let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.to_der().ok());
        let curve = curve.and_then(|der| ObjectIdentifier::from_der(&der).ok());
        let known: [(
            ObjectIdentifier,
            Option<ObjectIdentifier>,
            ObjectIdentifier,
            &'static dyn VerificationAlgorithm,
        ); 8] = [
            (RSA_ENCRYPTION, None, ID_SHA_1, &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY),
            (RSA_ENCRYPTION, None, ID_SHA_256, &signature::RSA_PKCS1_2048_8192_SHA256),
            (RSA_ENCRYPTION, None, ID_SHA_384, &signature::RSA_PKCS1_2048_8192_SHA384),
            (RSA_ENCRYPTION, None, ID_SHA_512, &signature::RSA_PKCS1_2048_8192_SHA512),
            (ID_EC_PUBLIC_KEY, Some(SECP_256_R_1), ID_SHA_256, &signature::ECDSA_P256_SHA256_ASN1),
            (ID_EC_PUBLIC_KEY, Some(SECP_256_R_1), ID_SHA_384, &signature::ECDSA_P256_SHA384_ASN1),
            (ID_EC_PUBLIC_KEY, Some(SECP_384_R_1), ID_SHA_256, &signature::ECDSA_P384_SHA256_ASN1),
            (ID_EC_PUBLIC_KEY, Some(SECP_384_R_1), ID_SHA_384, &signature::ECDSA_P384_SHA384_ASN1),
        ];
        let fits =
            |(kind, on, hash, _): &&(ObjectIdentifier, Option<ObjectIdentifier>, ObjectIdentifier, _)| {
                *kind == key.algorithm.oid && (on.is_none() || *on == curve) && *hash == digest
            };
        known.iter().find(fits).map(|(.., algorithm)| *algorithm)
    }
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::{SigningKey, kernel_with, module};
    use proptest::prelude::*;

    use super::*;
    use crate::kernel_facts::KernelFacts;

    fn trust(module: &[u8], keys: &[&SigningKey]) -> Trust {
        let kernel = KernelFacts::of(&kernel_with("6.12.5-talos", keys));
        let (content, signature) = split_signature(module).expect("split");
        signature.map_or(Trust::Unsigned, |signature| signature.judge(content, &kernel.keys))
    }

    #[test]
    fn a_module_is_valid_under_its_own_key_alone() {
        let (own, other) = (SigningKey::new("own"), SigningKey::new("other"));
        let plain = module("a", "6.12.5-talos SMP aarch64", &[], &[]);
        let signed = own.sign(&plain);
        assert!(matches!(trust(&signed, &[&other, &own]), Trust::Valid { key } if key.starts_with("CN=own")));
        let refused = trust(&signed, &[&other]);
        assert!(
            matches!(&refused, Trust::UnknownSigner { signer } if signer.starts_with("CN=own")),
            "{refused:?}"
        );
        assert_eq!(trust(&plain, &[&own]), Trust::Unsigned);
    }

    #[test]
    fn a_changed_module_has_an_invalid_signature() {
        let own = SigningKey::new("own");
        let mut signed = own.sign(&module("a", "6.12.5-talos SMP aarch64", &[], &[]));
        signed[0x20] ^= 1;
        assert!(matches!(trust(&signed, &[&own]), Trust::Invalid { .. }));
    }

    #[test]
    fn a_signature_that_claims_more_than_there_is_is_an_error() {
        let own = SigningKey::new("own");
        let mut signed = own.sign(b"content");
        let at = signed.len() - MARK.len() - 4;
        signed[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(split_signature(&signed).expect_err("size"), "its signature claims 4294967295 bytes");
        signed[at - 6] = 1;
        assert!(split_signature(&signed).expect_err("kind").contains("has the kind 1"));
    }

    proptest! {
        #[test]
        fn damage_ends_without_a_panic(at: prop::sample::Index, byte: u8, keep: prop::sample::Index) {
            static SIGNED: std::sync::LazyLock<Vec<u8>> =
                std::sync::LazyLock::new(|| SigningKey::new("a").sign(b"content"));
            let mut signed = SIGNED.clone();
            let length = signed.len();
            signed[at.index(length)] = byte;
            let cut = &signed[keep.index(length)..];
            if let Ok((content, Some(signature))) = split_signature(cut) {
                let _ = signature.judge(content, &[]);
            }
        }
    }
}
