//! Reads the archive in which a node returns the administrator's kubeconfig.

use std::io::{self, Read};

/// More than any kubeconfig and its archive have, in bytes.
const LIMIT: u64 = 1 << 20;

/// Returns the content of the file `kubeconfig` in a tar.gz archive.
///
/// # Errors
/// When the file is missing, the archive is damaged, or the file exceeds [`LIMIT`].
pub(super) fn kubeconfig_in(archive: &[u8]) -> io::Result<String> {
    // The guest is not trusted: a small archive may unpack to any size.
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive).take(LIMIT));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path().is_ok_and(|path| path.ends_with("kubeconfig")) {
            let (mut text, size) = (String::new(), entry.size());
            // The gaps of a sparse file are not in the archive: what is read of the entry needs a limit of its own.
            Read::by_ref(&mut entry).take(LIMIT).read_to_string(&mut text)?;
            if (text.len() as u64) < size {
                let why = format!("kubeconfig should have {size} bytes and has {}", text.len());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
            return Ok(text);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "it contains no file kubeconfig"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn archive(name: &str, content: &[u8]) -> Vec<u8> {
        let mut archive =
            tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).expect("append");
        archive.into_inner().and_then(flate2::write::GzEncoder::finish).expect("archive")
    }

    #[test]
    fn the_file_of_that_name_is_taken() {
        assert_eq!(kubeconfig_in(&archive("kubeconfig", b"kind: Config")).expect("read"), "kind: Config");
        let error = kubeconfig_in(&archive("other", b"kind: Config")).expect_err("other").to_string();
        assert_eq!(error, "it contains no file kubeconfig");
    }

    #[test]
    fn what_unpacks_without_end_is_an_error() {
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut header = tar::Header::new_ustar();
        header.set_path("kubeconfig").expect("path");
        header.set_size(1 << 40);
        header.set_cksum();
        bomb.write_all(header.as_bytes()).expect("write");
        (0..64).for_each(|_| bomb.write_all(&[b'x'; 1 << 20]).expect("write"));
        let found = kubeconfig_in(&bomb.finish().expect("finish")).map(|text| text.len());
        let error = found.expect_err("endless").to_string();
        assert!(error.starts_with("kubeconfig should have 1099511627776 bytes and has 1"), "{error}");
    }

    proptest! {
        #[test]
        fn damage_and_truncation_end_without_a_panic(at in 0_usize..200, byte: u8, keep in 0_usize..200) {
            let mut bytes = archive("kubeconfig", b"kind: Config");
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(keep);
            let _ = kubeconfig_in(&bytes);
        }
    }
}
