//! The part of the table of settings that says what uploads may be: each is one line here, as
//! in [`super::table`].

use super::error::SettingsError;
use super::forms::{choice, count, duration, memory_size, size, switch};
use super::reader::Reader;
use crate::engine::{InstantUpload, Policy};
use crate::protocol::limits::Limits;

pub(super) fn read(table: &mut Reader<'_>) -> Result<Policy, SettingsError> {
    table.heading("Uploads");
    let kept = || duration().between("1s", "36500d").or("never");
    Ok(Policy {
        limits: Limits {
            max_length: table.read(
                "max-length",
                "none",
                &size().or("none"),
                "Largest upload that is accepted",
            )?,
            min_length: table.read(
                "min-length",
                "0",
                &size(),
                "Smallest upload that is accepted by the IETF protocol, when its length is told \
                 beforehand",
            )?,
            max_append: table.read(
                "max-append",
                "none",
                &size().between("1", "1024TiB").or("none"),
                "Most bytes in one request of the IETF protocol, which tells its clients so",
            )?,
            min_append: table.read(
                "min-append",
                "0",
                &size(),
                "Fewest bytes in one request of the IETF protocol, unless it completes the upload",
            )?,
            max_metadata_bytes: table.read(
                "max-metadata-bytes",
                "16KiB",
                &memory_size().between("0", "1MiB"),
                "Largest metadata of an upload, as the client wrote it",
            )?,
            max_parts: table.read(
                "max-parts",
                "1000",
                &count().between("1", "100000"),
                "Most partial uploads that one final upload may join",
            )?,
            // Follows from expire-after; the engine knows.
            max_age: None,
        },
        expire_after: table.read(
            "expire-after",
            "24h",
            &kept(),
            "How long an incomplete upload is kept after its last append",
        )?,
        expire_complete_after: table.read(
            "expire-complete-after",
            "never",
            &kept(),
            "How long a complete upload is kept",
        )?,
        keeps_tree: keeps_tree(table)?,
        keeps_sha256: keeps_sha256(table)?,
        keeps_pieces: keeps_pieces(table)?,
        instant_upload: instant_upload(table)?,
    })
}

fn keeps_tree(table: &mut Reader<'_>) -> Result<bool, SettingsError> {
    table.read(
        "tree",
        "on",
        &switch(),
        "Hash uploads with BLAKE3 as they arrive, for ETags and verified downloads",
    )
}

fn keeps_sha256(table: &mut Reader<'_>) -> Result<bool, SettingsError> {
    table.read(
        "sha256",
        "off",
        &switch(),
        "Hash uploads with SHA-256 too as they arrive, for Repr-Digest and Metalink files",
    )
}

fn keeps_pieces(table: &mut Reader<'_>) -> Result<bool, SettingsError> {
    table.read(
        "sha256-pieces",
        "off",
        &switch(),
        "With sha256, keep that of each MiB too, so that Metalink downloaders can repair",
    )
}

fn instant_upload(table: &mut Reader<'_>) -> Result<InstantUpload, SettingsError> {
    table.read(
        "instant-upload",
        "owner",
        &choice(
            "off|owner|everyone",
            [InstantUpload::Off, InstantUpload::Owner, InstantUpload::Everyone],
        ),
        "Who need not send an upload whose declared digest is here already: nobody, the owner of \
         such an upload (without authentication: whoever knows its digest), or everyone who \
         proves to have the bytes",
    )
}
