//! What the bytes have to be: pinned by the person, promised by the server, or known group by group.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::part::PartFile;
use super::plan::Spans;
use crate::client::failure::Failure;
use crate::client::{Client, Request};
use crate::protocol::checksum::{Algorithm, Checksum, Checksummer};
use crate::protocol::digest::Blake3Digest;
use crate::protocol::tree::{GROUP_BYTES, GroupList, VerifiedGroups, groups_of, list_bytes};

/// Reads `blake3:HEX`, `sha256:HEX` or `sha512:HEX`.
///
/// # Errors
/// What is allowed, in words.
pub fn parse_expected(text: &str) -> Result<Checksum, String> {
    let allowed = || "a digest is blake3:HEX, sha256:HEX or sha512:HEX".to_owned();
    let (name, hex) = text.split_once(':').ok_or_else(allowed)?;
    let algorithm = Algorithm::parse(name).filter(|algorithm| {
        matches!(algorithm, Algorithm::Blake3 | Algorithm::Sha256 | Algorithm::Sha512)
    });
    let digits: Option<Vec<u8>> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok().filter(|_| !pair.starts_with('+'))
        })
        .collect();
    let algorithm = algorithm.ok_or_else(allowed)?;
    Checksum::new(algorithm, digits.ok_or_else(allowed)?).map_err(|_| {
        format!("a {name} digest has {} hexadecimal digits", algorithm.digest_bytes() * 2)
    })
}

/// A digest in the form that [`parse_expected`] reads.
pub fn in_words(checksum: &Checksum) -> String {
    let hex: String = checksum.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{hex}", checksum.algorithm())
}

/// The BLAKE3 digest, if that is what this is.
pub fn as_blake3(checksum: &Checksum) -> Option<Blake3Digest> {
    (checksum.algorithm() == Algorithm::Blake3)
        .then(|| checksum.digest().try_into().ok().map(Blake3Digest::from_bytes))
        .flatten()
}

/// Fetches the list of the groups of the upload that this request is for, and checks it against the
/// root. `None` when the server has none.
///
/// # Errors
/// A failure of the network, or a list that is not that of this root.
pub async fn fetch_groups(
    client: &Client,
    upload: &Request,
    root: Blake3Digest,
    length: u64,
) -> Result<Option<VerifiedGroups>, Failure> {
    let mut request = upload.clone();
    request.url.set_path(&format!("{}/tree", upload.url.path()));
    let mut answer = client.fetch(&request).await?;
    if !answer.status.is_success() {
        let failure = answer.failure(client.clock());
        answer.finish().await;
        return if failure.is_transient() { Err(failure) } else { Ok(None) };
    }
    let most = usize::try_from(list_bytes(length)).unwrap_or(usize::MAX);
    let list = answer.content.collect(most).await?;
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::verification(format!("the tree of {root} cannot be used: {why}"))
    };
    let list = GroupList::decode(&list).map_err(|error| wrong(&error))?;
    if list.length() != length {
        return Err(wrong(&format_args!("it is of {} bytes, not {length}", list.length())));
    }
    list.check(root).map(Some).map_err(|error| wrong(&error))
}

/// Looks for groups in a local file and adds those that match to `present`: in place, or copied to
/// `part`. What is present already is not looked at. This blocks.
///
/// # Errors
/// The disk; or `stop` became true.
pub fn matching_groups(
    groups: &VerifiedGroups,
    path: &Path,
    (part, present): (Option<&PartFile>, &mut Spans),
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let failed = |error| Failure::disk("read", path, error);
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut buffer = vec![0; usize::try_from(GROUP_BYTES).unwrap_or_default()];
    for index in 0..groups.groups() {
        unless_stopped(stop)?;
        let Some(range) = groups.group_range(index).filter(|range| range.end <= length) else {
            break;
        };
        if present.contains(range.clone()) {
            continue;
        }
        let bytes = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or_default();
        let bytes = &mut buffer[..bytes];
        file.read_exact_at(bytes, range.start).map_err(failed)?;
        if groups.verify(index, bytes) {
            if let Some(part) = part {
                part.write(range.start, &[bytes::Bytes::copy_from_slice(bytes)])?;
            }
            present.insert(range);
        }
    }
    Ok(())
}

/// Whether a local file has all groups, and nothing else. This blocks.
///
/// # Errors
/// The disk; or `stop` became true.
pub fn is_whole(
    groups: &VerifiedGroups,
    path: &Path,
    stop: &AtomicBool,
) -> Result<(bool, Spans), Failure> {
    let metadata = path.metadata().map_err(|error| Failure::disk("look at", path, error))?;
    let mut spans = Spans::default();
    matching_groups(groups, path, (None, &mut spans), stop)?;
    let whole = metadata.len() == groups.length() && spans.contains(0..groups.length());
    // Of no bytes there are no groups, but the root.
    Ok((whole && (groups.groups() > 0 || groups_of(metadata.len()) == 0), spans))
}

/// Compares the first `length` bytes of a file with their digests. This blocks.
///
/// # Errors
/// The disk, or a digest that differs; or `stop` became true.
pub fn check_digests(
    path: &Path,
    length: u64,
    digests: &[Checksum],
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let mut running: Vec<Checksummer> =
        digests.iter().map(|digest| Checksummer::new(digest.algorithm())).collect();
    if running.is_empty() {
        return Ok(());
    }
    let failed = |error| Failure::disk("read", path, error);
    let file = File::open(path).map_err(failed)?;
    let mut buffer = vec![0; usize::try_from(GROUP_BYTES).unwrap_or_default()];
    let mut at = 0;
    while at < length {
        unless_stopped(stop)?;
        let bytes = length.saturating_sub(at).min(GROUP_BYTES);
        let buffer = &mut buffer[..usize::try_from(bytes).unwrap_or_default()];
        file.read_exact_at(buffer, at).map_err(failed)?;
        running.iter_mut().for_each(|running| running.update(buffer));
        at = at.saturating_add(bytes);
    }
    compare(running, digests)
}

fn unless_stopped(stop: &AtomicBool) -> Result<(), Failure> {
    if stop.load(Ordering::Relaxed) { Err(Failure::interrupted()) } else { Ok(()) }
}

/// Compares finished digests with those that were expected.
///
/// # Errors
/// The first one that differs.
pub fn compare(running: Vec<Checksummer>, digests: &[Checksum]) -> Result<(), Failure> {
    for (running, expected) in running.into_iter().zip(digests) {
        let own = running.finish();
        if own != *expected {
            let (own, expected) = (in_words(&own), in_words(expected));
            return Err(Failure::verification(format!("the bytes are {own}, not {expected}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Blake3Digest::of(b"abc").to_string();
        let read = parse_expected(&format!("blake3:{digest}")).unwrap();
        assert_eq!(as_blake3(&read), Some(Blake3Digest::of(b"abc")));
        assert_eq!(in_words(&read), format!("blake3:{digest}"));
        let sha256 = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(in_words(&parse_expected(&sha256).unwrap()), sha256);
        for wrong in ["", "abc", "md5:00", "sha256:00", "sha256:", "blake3:zz", "crc32c:00000000"] {
            assert!(parse_expected(wrong).is_err(), "{wrong}");
        }
        assert!(parse_expected(&format!("sha256:{}", "+f".repeat(32))).is_err());
        assert!(parse_expected(&format!("sha256:{}", "é".repeat(32))).is_err());
    }
}
