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
    version: u64,
    upload: Upload,
}

/// Writes a record down.
///
/// # Errors
///
/// [`Failure::Damaged`] when it has no JSON form, which no upload is known to cause.
pub fn encode(upload: &Upload, version: Version) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(&Written { v: FORM, version: version.0, upload })
        .map_err(|error| Failure::Damaged(error.to_string()))
}

/// Reads a record.
///
/// # Errors
///
/// [`Failure::Damaged`] when the bytes are no record, or one of a form that is not known here.
pub fn decode(bytes: &[u8]) -> Result<Stored, Failure> {
    let damaged = |error: serde_json::Error| Failure::Damaged(error.to_string());
    let form: Form = serde_json::from_slice(bytes).map_err(damaged)?;
    if form.v != FORM {
        return Err(Failure::Damaged(format!(
            "it has form {} and this program knows form {FORM}; use a newer version of resumed",
            form.v
        )));
    }
    let read: Read = serde_json::from_slice(bytes).map_err(damaged)?;
    Ok(Stored { upload: read.upload, version: Version(read.version) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::id::UploadId;
    use crate::protocol::metadata::Metadata;
    use crate::protocol::tree::Frontier;
    use crate::protocol::units::Timestamp;
    use crate::protocol::upload::GoneReason;

    fn upload(length: Option<u64>) -> Upload {
        let metadata = Metadata::parse("filename d29ybGQ=,flag").unwrap();
        Upload::new(UploadId::from_bytes([9; 16]), length, metadata, Timestamp(5))
    }

    #[test]
    fn every_state_is_read_as_it_was_written() {
        let receiving = upload(None).with_tree(Some(Frontier::default()));
        let gone = upload(Some(3)).gone(GoneReason::Expired, Timestamp(6));
        let empty = upload(Some(0)).expiring(Some(Timestamp(7))).completed(None, Timestamp(8));
        for upload in [receiving, gone, empty] {
            let stored = Stored { upload, version: Version(4) };
            let bytes = encode(&stored.upload, stored.version).unwrap();
            assert_eq!(decode(&bytes).unwrap(), stored);
        }
    }

    #[test]
    fn a_later_form_is_not_guessed_at() {
        let Err(Failure::Damaged(why)) = decode(br#"{"v":2,"anything":[]}"#) else {
            panic!("a form that is not known was read");
        };
        assert!(why.contains("form 2"), "{why}");
    }

    #[test]
    fn a_record_cut_anywhere_is_damaged() {
        let bytes = encode(&upload(Some(1)), Version(1)).unwrap();
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
