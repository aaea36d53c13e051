//! The form of a record in a store: versioned JSON, readable by a person.
//!
//! ```text
//! {"v":1,"version":7,"upload":{"id":"…","state":{"is":"receiving",…},…}}
//! ```
//!
//! `v` is the version of the form, `version` counts the saves of the record.

use serde::{Deserialize, Serialize};

use super::{Failure, Stored, Version};
use crate::protocol::upload::Upload;

/// The form that is written. A store of a later one is not guessed at.
const FORM: u32 = 1;
/// The bytes of most records beside their metadata, and some more.
const TYPICAL_BYTES: usize = 512;

#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    version: u64,
    upload: &'a Upload,
}

#[derive(Deserialize)]
struct Form {
    v: u32,
}

#[derive(Deserialize)]
struct Read {
    v: u32,
    version: u64,
    upload: Upload,
}

/// Writes a record down.
///
/// # Errors
///
/// [`Failure::Damaged`] when it has no JSON form, which no upload is known to cause.
pub fn encode(upload: &Upload, version: Version) -> Result<Vec<u8>, Failure> {
    let bytes = upload.metadata().as_str().len().saturating_add(TYPICAL_BYTES);
    let mut record = Vec::with_capacity(bytes);
    serde_json::to_writer(&mut record, &Written { v: FORM, version: version.0, upload })
        .map_err(|error| Failure::Damaged(error.to_string()))?;
    Ok(record)
}

/// Reads a record.
///
/// # Errors
///
/// [`Failure::Damaged`] when the bytes are no record, one that cannot be ([`Upload::check`]), or
/// one of a form that is not known here.
pub fn decode(bytes: &[u8]) -> Result<Stored, Failure> {
    match serde_json::from_slice(bytes) {
        Ok(Read { v: FORM, version, upload }) => {
            upload.check().map_err(Failure::Damaged)?;
            Ok(Stored { upload, version: Version(version) })
        }
        Ok(Read { v, .. }) => Err(of_another_form(v)),
        // One of a later form may have anything in it.
        Err(error) => Err(match serde_json::from_slice(bytes) {
            Ok(Form { v }) if v != FORM => of_another_form(v),
            Ok(_) | Err(_) => Failure::Damaged(error.to_string()),
        }),
    }
}

fn of_another_form(v: u32) -> Failure {
    Failure::Damaged(format!(
        "it has form {v} and this program knows form {FORM}; use a newer version of resumed"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::digest::Blake3Digest;
    use crate::protocol::id::UploadId;
    use crate::protocol::metadata::Metadata;
    use crate::protocol::operation::Completion;
    use crate::protocol::tree::Frontier;
    use crate::protocol::units::{MAX_LENGTH, Timestamp};
    use crate::protocol::upload::{Admission, Final, GoneReason, Kind};

    fn upload(length: Option<u64>) -> Upload {
        let metadata = Metadata::parse("filename d29ybGQ=,flag").unwrap();
        Upload::new(UploadId::from_bytes([9; 16]), length, metadata, Timestamp(5))
    }

    #[test]
    fn a_later_form_is_not_guessed_at() {
        let Err(Failure::Damaged(why)) = decode(br#"{"v":2,"anything":[]}"#) else {
            panic!("a form that is not known was read");
        };
        assert!(why.contains("form 2"), "{why}");
    }

    #[test]
    fn a_record_whose_numbers_do_not_fit_is_damaged() {
        let bytes = encode(&upload(Some(1)).with_tree(Some(Frontier::default())), Version(1));
        let text = String::from_utf8(bytes.unwrap()).unwrap();
        assert!(decode(text.as_bytes()).is_ok());
        let wrong = text.replace(r#""offset":0"#, r#""offset":5000000"#);
        assert_ne!(wrong, text);
        assert!(matches!(decode(wrong.as_bytes()), Err(Failure::Damaged(_))));
    }

    #[test]
    fn a_record_cut_anywhere_is_damaged() {
        let bytes = encode(&upload(Some(1)), Version(1)).unwrap();
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    /// Every state an upload can come to, by its transitions.
    fn uploads() -> impl Strategy<Value = Upload> {
        let times = (0..u64::MAX, any::<u64>(), proptest::option::of(any::<u64>()));
        let lengths = prop::collection::vec(0..1_u64 << 40, 0..4);
        (any::<[u8; 16]>(), 0..7_u8, "[!-+\\--~]{1,9}", times, lengths, 0..=MAX_LENGTH).prop_map(
            |(id, state, key, (created, at, expires), lengths, offset)| {
                let metadata = Metadata::parse(&key).unwrap();
                let new = Upload::new(UploadId::from_bytes(id), None, metadata, Timestamp(created));
                let digest = Some(Blake3Digest::of(&id));
                let now = Timestamp(at);
                let of_parts = || {
                    let parts = lengths.iter().map(|_| UploadId::from_bytes(id)).collect();
                    let kind = Kind::Final(Final { parts, as_sent: format!("final;{key}").into() });
                    new.clone().of_kind(kind)
                };
                let upload = match state {
                    0 => new.of_kind(Kind::Partial).with_tree(Some(Frontier::default())),
                    1 | 2 => {
                        let (ceiling, length) = (u64::MAX, Some(offset));
                        let completion = Completion::AtEnd;
                        let admission =
                            Admission { offset: 0, ceiling, length, completion, max_bytes: None };
                        let received = new.received(&admission, offset, None, None);
                        if state == 1 { received } else { received.completed(digest, now) }
                    }
                    3 => of_parts().waiting(Some(offset), now),
                    4 => of_parts().concatenated(lengths.clone().into(), now),
                    5 => of_parts().concatenated(lengths.clone().into(), now).joined(digest),
                    _ => new.gone(GoneReason::Lost, now),
                };
                upload.expiring(expires.map(Timestamp))
            },
        )
    }

    proptest! {
        #[test]
        fn any_upload_is_read_as_it_was_written(upload in uploads(), version in any::<u64>()) {
            let stored = Stored { upload, version: Version(version) };
            let bytes = encode(&stored.upload, stored.version).unwrap();
            prop_assert_eq!(decode(&bytes).unwrap(), stored);
        }

        #[test]
        fn a_record_with_changed_bytes_is_read_without_a_panic(
            upload in uploads(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = encode(&upload, Version(1)).unwrap();
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = decode(&bytes);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
