//! The text files of OCI artefacts, such as packages of Flux and Helm charts: each layer is a tar archive.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use lab_image::{Compression, unpacked};

use super::{
    bridge::{BUFFER, BlockingReader},
    looker::Looker,
};
use crate::images::{OciError, Reference, Remote, clean, each};

/// The endings of files that name images.
const ENDINGS: [&str; 5] = [".yaml", ".yml", ".json", ".tag", ".tpl"];
/// The largest text file, the size of all of them, and the largest unpacked layer, in bytes.
const TEXT_LIMIT: u64 = 4 << 20;
const TEXTS_LIMIT: u64 = 64 << 20;
const LAYER_LIMIT: u64 = 1 << 30;

/// Returns the text files of an artefact that can name images, with their paths.
///
/// # Errors
/// Returns an error if the artefact cannot be fetched, is damaged, or exceeds a limit.
pub async fn artefact_texts(
    reference: &Reference,
    looker: &Looker,
) -> Result<Vec<(String, String)>, OciError> {
    let remote = Remote::new(reference, looker.manifests())?;
    let top = remote.top().await?;
    let mut found = Vec::new();
    let mut room = TEXTS_LIMIT;
    for layer in remote.layers(&top).await? {
        let damaged =
            |why: String| OciError::Damaged { within: reference.whole(), part: layer.digest.clone(), why };
        let digest = layer.digest().ok_or_else(|| damaged("it is not a sha256 digest".into()))?;
        let (mut out, input) = tokio::io::duplex(BUFFER);
        let mut input = BlockingReader::new(input);
        let reader = tokio::task::spawn_blocking(move || {
            let texts = texts_of(&mut input, &mut room);
            let drained = io::copy(&mut input, &mut io::sink());
            (texts, drained, room)
        });
        let sent = remote.stream(&digest, layer.size, &mut out).await;
        drop(out);
        let read = reader.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        sent?;
        let (texts, drained, left) = read;
        room = left;
        drained.map_err(|error| damaged(error.to_string()))?;
        found.extend(texts.map_err(|error| damaged(error.to_string()))?);
    }
    Ok(found)
}

/// Reads the text files of a tar archive, compressed or not.
fn texts_of(input: impl Read, room: &mut u64) -> io::Result<Vec<(String, String)>> {
    let mut packed = BufReader::with_capacity(64 << 10, input);
    let compression = Compression::detect(packed.fill_buf()?);
    let mut archive = tar::Archive::new(unpacked(compression, packed)?.take(LAYER_LIMIT));
    let mut found = Vec::new();
    each(archive.entries()?, |named, entry| {
        let written = named.path();
        let Some(path) = clean(Path::new(&written)) else {
            return Err(io::Error::other(format!("{written:?} leads out of the artefact")));
        };
        if !entry.header().entry_type().is_file() || !ENDINGS.iter().any(|ending| path.ends_with(ending)) {
            return Ok(());
        }
        let size = entry.size();
        if size > TEXT_LIMIT || size > *room {
            return Err(io::Error::other(format!(
                "{path} has {size} bytes; the texts of a package have less"
            )));
        }
        *room -= size;
        let mut text = Vec::new();
        entry.read_to_end(&mut text)?;
        found.push((path, String::from_utf8_lossy(&text).into_owned()));
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut out = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            out.append_data(&mut header, path, text.as_bytes()).expect("append");
        }
        out.into_inner().expect("tar")
    }

    #[test]
    fn texts_that_can_name_images_are_read_within_their_room() {
        let packed = lab_image_fixtures::gzip(&archive(&[
            ("a/values.yaml", "x: 1"),
            ("logo.png", "x"),
            ("images/a.tag", "y"),
        ]));
        let texts = texts_of(&packed[..], &mut 100).expect("texts");
        assert_eq!(
            texts,
            [("a/values.yaml".to_owned(), "x: 1".to_owned()), ("images/a.tag".to_owned(), "y".to_owned())]
        );
        let error = texts_of(&packed[..], &mut 4).expect_err("room").to_string();
        assert!(error.starts_with("images/a.tag has 1 bytes"), "{error}");
    }
}
