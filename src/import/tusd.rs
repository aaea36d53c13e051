//! What tusd keeps of an upload: `<id>.info`, a JSON object, and what is taken over of it. Pure.
//!
//! - `Offset` is as old as the file: the truth is the length of the data.
//! - Metadata is decoded, and its order is lost.
//! - `Storage.Path` is where the data is, as tusd saw it from its working directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::protocol::id::UploadId;
use crate::protocol::metadata::Metadata;
use crate::protocol::units::MAX_LENGTH;
use crate::protocol::upload::{Final, Kind};

/// An `.info` file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Info {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    size_is_deferred: bool,
    #[serde(default)]
    meta_data: Option<BTreeMap<String, String>>,
    #[serde(default)]
    is_partial: bool,
    #[serde(default)]
    is_final: bool,
    #[serde(default)]
    partial_uploads: Option<Vec<String>>,
    #[serde(default)]
    storage: Option<BTreeMap<String, String>>,
}

/// What an upload becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) id: UploadId,
    pub(super) kind: Kind,
    pub(super) metadata: Metadata,
    /// Names of metadata that no `Upload-Metadata` can carry.
    pub(super) left_out: Vec<String>,
    pub(super) bytes: Bytes,
}

/// What is taken over of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bytes {
    /// All of them: it is complete.
    All(u64),
    /// Those up to here: it can be gone on with.
    UpTo {
        /// The bytes that are there.
        offset: u64,
        /// The bytes there will be, when that is known.
        length: Option<u64>,
    },
    /// None: tusd died while it put the parts together, which is done again.
    OfParts(u64),
}

impl Info {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| format!("it is no info file of tusd: {error}"))
    }

    /// The id, if it can be kept.
    pub(super) fn id(&self) -> Result<UploadId, String> {
        UploadId::parse(&self.id).ok_or_else(|| {
            format!(
                "its id is {:?}; only ids of 32 hexadecimal digits can keep their URL, which is \
                 what tusd gives them unless a hook does",
                self.id
            )
        })
    }

    /// Where the data may be, the first of these that is there. `folder` is the upload folder, as
    /// it is reached now; tusd may have reached it by another path.
    pub(super) fn data_paths(&self, folder: &Path) -> Result<Vec<PathBuf>, String> {
        let storage = |key: &str| self.storage.as_ref().and_then(|storage| storage.get(key));
        if let Some(other) = storage("Type").filter(|kind| *kind != "filestore") {
            return Err(format!(
                "its data is in a {other}, and only those of a filestore are taken"
            ));
        }
        let by_id = folder.join(&self.id);
        let Some(path) = storage("Path").filter(|path| !path.is_empty()).map(Path::new) else {
            return Ok(vec![by_id]);
        };
        let mut paths = Vec::new();
        // tusd's own name of the folder: what stands before the id in the path of the info file.
        let info_name = format!("{}.info", self.id);
        let folder_then = storage("InfoPath").and_then(|path| path.strip_suffix(&info_name));
        if let Some(inside) = folder_then.and_then(|then| path.strip_prefix(then).ok()) {
            paths.push(folder.join(inside));
        }
        if path.is_absolute() {
            paths.push(path.to_owned());
        } else if path.file_name() == by_id.file_name() {
            paths.push(by_id);
        }
        Ok(paths)
    }

    /// What is taken over when `found` bytes of data are there. `base_path` is where the parts of
    /// a final upload are for clients.
    pub(super) fn plan(&self, found: u64, base_path: &str) -> Result<Plan, String> {
        let id = self.id()?;
        let length = match u64::try_from(self.size) {
            _ if self.size_is_deferred => None,
            Ok(size) if size <= MAX_LENGTH => Some(size),
            Ok(_) | Err(_) => return Err(format!("its size is {}", self.size)),
        };
        let (metadata, left_out) = self.metadata()?;
        let kind = match (self.is_final, self.is_partial) {
            (true, _) => Kind::Final(self.made_of(base_path)),
            (false, true) => Kind::Partial,
            (false, false) => Kind::Single,
        };
        let bytes = match (length, &kind) {
            (Some(length), _) if length == found => Bytes::All(length),
            (Some(length), _) if found > length => {
                return Err(format!("it has {found} bytes of data and its size is {length}"));
            }
            (None, Kind::Final(_)) => {
                return Err("it is a final upload and its size is not known".to_owned());
            }
            (Some(length), Kind::Final(made_of)) => {
                let parts = self.partial_uploads.as_deref().unwrap_or_default();
                if parts.is_empty() || made_of.parts.len() != parts.len() {
                    let why = "it was not put together, and the ids of its parts cannot be kept";
                    return Err(why.to_owned());
                }
                Bytes::OfParts(length)
            }
            (length, _) => Bytes::UpTo { offset: found, length },
        };
        Ok(Plan { id, kind, metadata, left_out, bytes })
    }

    fn made_of(&self, base_path: &str) -> Final {
        let parts = self.partial_uploads.as_deref().unwrap_or_default();
        let urls: Vec<String> = parts.iter().map(|id| format!("{base_path}{id}")).collect();
        let parts: Vec<UploadId> = parts.iter().filter_map(|id| UploadId::parse(id)).collect();
        Final { parts: parts.into(), as_sent: format!("final;{}", urls.join(" ")).into() }
    }

    fn metadata(&self) -> Result<(Metadata, Vec<String>), String> {
        let mut pairs = Vec::new();
        let mut left_out = Vec::new();
        for (key, value) in self.meta_data.iter().flatten() {
            let can_be_sent = key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
            if key.is_empty() || !can_be_sent {
                left_out.push(key.clone());
            } else if value.is_empty() {
                pairs.push(key.clone());
            } else {
                pairs.push(format!("{key} {}", STANDARD.encode(value)));
            }
        }
        Ok((Metadata::parse(&pairs.join(","))?, left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6bf4c1c1a3f0b5c9d7e8f90a1b2c3d4e";

    fn info(more: &str) -> Info {
        Info::parse(format!(r#"{{"ID":"{ID}",{more}}}"#).as_bytes()).unwrap()
    }

    fn bytes(more: &str, found: u64) -> Bytes {
        info(more).plan(found, "/files/").unwrap().bytes
    }

    #[test]
    fn the_length_of_the_data_is_the_offset_and_not_what_the_info_says() {
        assert_eq!(
            bytes(r#""Size":10,"Offset":10"#, 4),
            Bytes::UpTo { offset: 4, length: Some(10) }
        );
        assert_eq!(bytes(r#""Size":10,"Offset":0"#, 10), Bytes::All(10));
        assert_eq!(bytes(r#""Size":0"#, 0), Bytes::All(0));
        let deferred = r#""Size":0,"SizeIsDeferred":true"#;
        assert_eq!(bytes(deferred, 0), Bytes::UpTo { offset: 0, length: None });
        assert_eq!(bytes(deferred, 7), Bytes::UpTo { offset: 7, length: None });
    }

    #[test]
    fn metadata_is_as_a_client_would_send_it() {
        let meta =
            r#""Size":1,"MetaData":{"filename":"wörld.txt","empty":"","a,b":"x","":"y","ü":"z"}"#;
        let plan = info(meta).plan(1, "/files/").unwrap();
        assert_eq!(plan.metadata.as_str(), "empty,filename d8O2cmxkLnR4dA==");
        assert_eq!(plan.metadata.value("filename").unwrap(), "wörld.txt".as_bytes());
        assert_eq!(plan.left_out, ["", "a,b", "ü"]);
        assert!(info(r#""Size":1,"MetaData":null"#).plan(1, "/").unwrap().metadata.is_empty());
    }

    #[test]
    fn kinds_are_kept_and_parts_are_named_by_their_urls() {
        let partial = info(r#""Size":1,"IsPartial":true"#).plan(1, "/up/").unwrap();
        assert_eq!(partial.kind, Kind::Partial);
        let parts = format!(r#""Size":5,"IsFinal":true,"PartialUploads":["{ID}","{ID}"]"#);
        let whole = info(&parts).plan(5, "/up/").unwrap();
        let Kind::Final(made_of) = whole.kind else { panic!("{:?}", whole.kind) };
        assert_eq!(&*made_of.as_sent, format!("final;/up/{ID} /up/{ID}"));
        assert_eq!((made_of.parts.len(), whole.bytes), (2, Bytes::All(5)));
        assert_eq!(info(&parts).plan(3, "/up/").unwrap().bytes, Bytes::OfParts(5));
        let foreign = r#""Size":5,"IsFinal":true,"PartialUploads":["a/b"]"#;
        assert!(info(foreign).plan(3, "/up/").is_err());
        assert_eq!(bytes(foreign, 5), Bytes::All(5));
    }

    #[test]
    fn what_cannot_be_taken_over_says_why() {
        for (text, found) in [
            (r#"{"ID":"../../etc/passwd","Size":1}"#, 1),
            (r#"{"ID":"6BF4C1C1A3F0B5C9D7E8F90A1B2C3D4E","Size":1}"#, 1),
            (r#"{"ID":"abc+multipart","Size":1}"#, 1),
            (r#"{"ID":"6bf4c1c1a3f0b5c9d7e8f90a1b2c3d4e","Size":-1}"#, 1),
            (r#"{"ID":"6bf4c1c1a3f0b5c9d7e8f90a1b2c3d4e","Size":1}"#, 2),
            (
                r#"{"ID":"6bf4c1c1a3f0b5c9d7e8f90a1b2c3d4e","SizeIsDeferred":true,"IsFinal":true}"#,
                2,
            ),
        ] {
            assert!(Info::parse(text.as_bytes()).unwrap().plan(found, "/").is_err(), "{text}");
        }
        for text in ["", "{", "[]", r#"{"id":"x","offset":1}"#, r#"{"ID":5}"#] {
            assert!(Info::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_data_is_looked_for_where_tusd_put_it() {
        let folder = Path::new("/now");
        let paths = |storage: &str| info(&format!(r#""Storage":{storage}"#)).data_paths(folder);
        let at = |paths: &[&str]| Ok(paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        let by_id = format!("/now/{ID}");
        // Old layouts have no paths.
        assert_eq!(info(r#""Size":1"#).data_paths(folder), at(&[&by_id]));
        assert_eq!(paths("null"), at(&[&by_id]));
        let path = |path: &str, info: &str| {
            paths(&format!(
                r#"{{"Type":"filestore","Path":"{path}","InfoPath":"{info}/{ID}.info"}}"#
            ))
        };
        assert_eq!(path(&format!("data/{ID}"), "data"), at(&[&by_id, &by_id]));
        assert_eq!(path("data/a/b.bin", "data"), at(&["/now/a/b.bin"]));
        // Set by a hook.
        assert_eq!(path("/mnt/b.bin", "data"), at(&["/mnt/b.bin"]));
        // The folder was moved: what lies in it now comes first.
        let then = format!("/then/{ID}");
        assert_eq!(path(&then, "/then"), at(&[&by_id, &then]));
        let of_a_root = format!(r#"{{"Path":"a/{ID}","InfoPath":"{ID}.info"}}"#);
        assert_eq!(paths(&of_a_root), at(&[&format!("/now/a/{ID}"), &by_id]));
        assert_eq!(paths(r#"{"Path":"other/b.bin"}"#), at(&[]));
        assert!(paths(r#"{"Type":"s3store","Key":"k"}"#).is_err());
    }
}
