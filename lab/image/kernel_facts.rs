//! What a kernel says about the modules that it loads: its release, its version magic, and the keys that it trusts.
//!
//! The release is in `linux_banner` (Linux init/version.c). The version magic, which each module must repeat, is a text
//! of the kernel's own (`vermagic` in kernel/module/main.c, include/linux/vermagic.h). The keys are DER certificates
//! that the build links in one after another (certs/system_certificates.S). The kernel has no table that an outsider
//! could find without its symbols, so the reader looks for certificates in the whole unpacked image. It also finds
//! certificates that serve other purposes, such as those of the wireless regulatory database; none of them signs modules.

use std::collections::BTreeSet;

use der::Decode;
use lab_model::visible;
use memchr::memmem::find;
use x509_cert::{Certificate, ext::pkix::SubjectKeyIdentifier};

/// The prefix of the banner.
const BANNER: &[u8] = b"Linux version ";
/// The longest release and version magic, in bytes.
const TEXT_LIMIT: usize = 256;
/// The largest certificate, in bytes.
const CERTIFICATE_LIMIT: usize = 16 << 10;
/// Above the number of certificates in any kernel.
const CERTIFICATES_LIMIT: usize = 256;
/// The longest name of a key in messages, in characters.
const NAME_LIMIT: usize = 120;

/// What a kernel says about its modules.
#[derive(Clone, Debug, Default)]
pub struct KernelFacts {
    /// The release, e.g. `6.12.57-talos`.
    pub release: Option<String>,
    /// The version magic, e.g. `6.12.57-talos SMP preempt mod_unload aarch64`.
    pub vermagic: Option<String>,
    /// The certificates in the image.
    pub keys: Vec<TrustedKey>,
}

/// A certificate in a kernel.
#[derive(Clone, Debug)]
pub struct TrustedKey {
    pub(super) certificate: Certificate,
    pub(super) key_id: Option<Vec<u8>>,
}

impl TrustedKey {
    /// Reads a DER certificate.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let identifier = certificate.tbs_certificate.get::<SubjectKeyIdentifier>().ok().flatten();
        Some(Self { key_id: identifier.map(|(_, id)| id.0.as_bytes().to_vec()), certificate })
    }

    /// The subject and the serial number, for messages.
    pub fn name(&self) -> String {
        let about = &self.certificate.tbs_certificate;
        let serial = hex_of(about.serial_number.as_bytes());
        format!("{} (serial {serial})", visible(&about.subject.to_string(), NAME_LIMIT))
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl KernelFacts {
    /// Reads a raw arm64 `Image`.
    pub fn of(raw: &[u8]) -> Self {
        let release = release(raw);
        let vermagic = release.as_deref().and_then(|release| vermagic(raw, release));
        Self { release, vermagic, keys: certificates(raw) }
    }
}

fn release(raw: &[u8]) -> Option<String> {
    let start = find(raw, BANNER)? + BANNER.len();
    let rest = raw.get(start..)?;
    let end = rest.iter().take(TEXT_LIMIT).position(|byte| *byte == b' ')?;
    String::from_utf8(rest.get(..end)?.to_vec()).ok()
}

/// Returns the text between two zeros that begins with the release and ends with the name of the architecture.
fn vermagic(raw: &[u8], release: &str) -> Option<String> {
    let start = [b"\0", release.as_bytes(), b" "].concat();
    let mut from = 0;
    while let Some(at) = find(raw.get(from..)?, &start) {
        let text = raw.get(from + at + 1..)?;
        let end = text.iter().take(TEXT_LIMIT).position(|byte| *byte == 0);
        let text = end.and_then(|end| std::str::from_utf8(text.get(..end)?).ok());
        if let Some(text) = text.filter(|text| text.trim_end().ends_with("aarch64")) {
            return Some(text.trim_end().to_owned());
        }
        from += at + 1;
    }
    None
}

/// Returns the certificates in an image, each once. A certificate is a DER sequence of more than 255 bytes that begins
/// with another sequence (RFC 5280, section 4.1).
fn certificates(raw: &[u8]) -> Vec<TrustedKey> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut at = 0;
    while let Some(next) = raw.get(at..).and_then(|rest| find(rest, &[0x30, 0x82])) {
        at += next;
        let length = match raw.get(at + 2..at + 6) {
            Some(&[high, low, 0x30, 0x81 | 0x82]) => 4 + usize::from(u16::from_be_bytes([high, low])),
            _ => CERTIFICATE_LIMIT + 1,
        };
        let der = raw.get(at..at.saturating_add(length)).filter(|_| length <= CERTIFICATE_LIMIT);
        match der.and_then(|der| Some((der, TrustedKey::parse(der)?))) {
            Some((der, key)) => {
                if seen.insert(der) {
                    found.push(key);
                }
                at += length;
            }
            None => at += 1,
        }
        if found.len() == CERTIFICATES_LIMIT {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::{SigningKey, kernel_with};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn release_version_magic_and_both_keys_are_found() {
        let keys = [SigningKey::new("build key"), SigningKey::new("vendor key")];
        let facts = KernelFacts::of(&kernel_with("6.12.5-talos", &[&keys[0], &keys[1]]));
        assert_eq!(facts.release.as_deref(), Some("6.12.5-talos"));
        assert_eq!(facts.vermagic.as_deref(), Some("6.12.5-talos SMP preempt mod_unload aarch64"));
        let names: Vec<_> = facts.keys.iter().map(TrustedKey::name).collect();
        assert_eq!(names.len(), 2);
        assert!(names[0].starts_with("CN=build key (serial "), "{names:?}");
    }

    #[test]
    fn bytes_that_look_like_the_start_of_a_certificate_are_none() {
        let mut kernel = kernel_with("6.12.5-talos", &[]);
        kernel.extend([0x30, 0x82, 1, 0, 0x30, 0x82, 0, 4]);
        kernel.resize(kernel.len() + 400, 7);
        assert!(KernelFacts::of(&kernel).keys.is_empty());
    }

    proptest! {
        #[test]
        fn damage_ends_without_a_panic(at in 0usize..2000, byte: u8, keep in 0usize..2000) {
            static KERNEL: std::sync::LazyLock<Vec<u8>> =
                std::sync::LazyLock::new(|| kernel_with("6.1", &[&SigningKey::new("a")]));
            let mut kernel = KERNEL.clone();
            let length = kernel.len();
            kernel[at % length] = byte;
            kernel.truncate(keep.max(1));
            let _ = KernelFacts::of(&kernel);
        }
    }
}
