//! The proof that a client has the bytes whose digest it knows. A digest alone must not give a file
//! away: it stands in logs, manifests and mails that never had the file with them.
//!
//! The server draws a key and some groups of 1 MiB; the client hashes the bytes of those groups with
//! that key. The key comes from the id of the upload, which the server drew at random and the client
//! did not know before, so nothing can be computed ahead, and nothing has to be kept.
//!
//! What it is worth: with all groups but a part p, one passes with a chance of (1 − p)^64: 4 in
//! 100 when 5 % are missing, 1 in 1000 when 10 % are. Of at most 64 MiB all has to be there. One
//! proof costs the server 64 MiB to read.

use blake3::Hasher;

use super::fields::{BareItem, Dictionary, Item, Member, Parameters};
use super::id::UploadId;
use super::tree::groups_of;

/// The most groups that a challenge asks for.
const MAX_GROUPS: usize = 64;
/// Says what the key is for, so that it is never the same as one made for something else.
const CONTEXT: &str = "resumed 2026-11-21 proof of possession v1";

/// What a client has to hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The key of the hash.
    pub key: [u8; 32],
    /// The groups of 1 MiB, in their order.
    pub groups: Vec<u64>,
}

impl Challenge {
    /// The challenge for a new upload of `length` bytes.
    pub fn new(id: UploadId, length: u64) -> Self {
        let mut derived = Hasher::new_derive_key(CONTEXT);
        derived.update(&id.to_bytes()).update(&length.to_le_bytes());
        let mut random = derived.finalize_xof();
        let mut key = [0; 32];
        random.fill(&mut key);
        let count = groups_of(length);
        let wanted = usize::try_from(count).map_or(MAX_GROUPS, |count| count.min(MAX_GROUPS));
        let mut groups: Vec<u64> = if wanted < MAX_GROUPS { (0..count).collect() } else { vec![] };
        while groups.len() < wanted {
            let mut number = [0; 8];
            random.fill(&mut number);
            let group = u64::from_le_bytes(number).checked_rem(count).unwrap_or_default();
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups.sort_unstable();
        Self { key, groups }
    }

    /// What takes the bytes of the groups, one after another.
    pub fn prover(&self) -> Prover {
        Prover(Box::new(Hasher::new_keyed(&self.key)))
    }

    /// The challenge as the value of `Upload-Challenge`: `key=:…:, groups=(0 5 9)`.
    pub fn to_field(&self) -> Option<String> {
        let mut dictionary = Dictionary::default();
        dictionary.insert("key", BareItem::Bytes(self.key.to_vec()));
        let groups = self.groups.iter().map(|group| BareItem::unsigned(*group).map(Item::from));
        let groups = Member::InnerList(groups.collect::<Option<_>>()?, Parameters::default());
        dictionary.insert("groups", groups);
        dictionary.to_field()
    }
}

/// Hashes the groups that a challenge asks for.
#[derive(Clone, Debug)]
pub struct Prover(Box<Hasher>);

impl Prover {
    /// Takes the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The proof.
    pub fn finish(&self) -> Proof {
        Proof(self.0.finalize())
    }
}

/// A proof. Comparing two takes the same time wherever they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof(blake3::Hash);

impl Proof {
    /// Reads the value of `Upload-Proof`, a Byte Sequence of 32 bytes: `:…:`.
    pub fn parse(field: &str) -> Option<Self> {
        let item = Item::parse(field)?;
        let bytes: [u8; 32] = item.bare.as_bytes()?.try_into().ok()?;
        Some(Self(bytes.into()))
    }

    /// The value of `Upload-Proof`.
    pub fn to_field(&self) -> Option<String> {
        Item::from(BareItem::Bytes(self.0.as_bytes().to_vec())).to_field()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tree::GROUP_BYTES;

    fn id() -> UploadId {
        UploadId::from_bytes([9; 16])
    }

    #[test]
    fn a_short_upload_is_asked_for_whole_and_a_long_one_for_64_groups() {
        for (length, count) in
            [(1, 1), (GROUP_BYTES, 1), (GROUP_BYTES + 1, 2), (63 * GROUP_BYTES, 63)]
        {
            let challenge = Challenge::new(id(), length);
            assert_eq!(challenge.groups, (0..count).collect::<Vec<_>>(), "{length}");
        }
        for count in [64, 65, 1 << 20, 1 << 43] {
            let Challenge { groups, .. } = Challenge::new(id(), count * GROUP_BYTES);
            assert_eq!(groups.len(), 64);
            assert!(groups.is_sorted_by(|one, other| one < other));
            assert!(groups.iter().all(|group| *group < count));
        }
    }

    #[test]
    fn each_upload_has_a_challenge_of_its_own() {
        let other = UploadId::from_bytes([8; 16]);
        let length = 1000 * GROUP_BYTES;
        let (one, other) = (Challenge::new(id(), length), Challenge::new(other, length));
        assert!(one.key != other.key && one.groups != other.groups);
        assert_eq!(one, Challenge::new(id(), length));
    }

    /// The form that others write clients for; `docs/instant-upload.md` shows it.
    #[test]
    fn a_challenge_and_its_proof_are_as_documented() {
        let challenge = Challenge::new(UploadId::from_bytes([0; 16]), 3);
        let mut prover = challenge.prover();
        prover.update(b"a");
        prover.update(b"bc");
        let documented = include_str!("../../docs/instant-upload.md");
        for field in [challenge.to_field().unwrap(), prover.finish().to_field().unwrap()] {
            assert!(documented.contains(&field), "the documentation has to say {field}");
        }
        let proof = prover.finish();
        assert_eq!(Proof::parse(&proof.to_field().unwrap()), Some(proof));
        for wrong in ["", "abc", ":AAAA:", "?1"] {
            assert_eq!(Proof::parse(wrong), None, "{wrong}");
        }
    }
}
