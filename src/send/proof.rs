//! Proves to a server that a file is here that it has, too, so that it need not be sent
//! (`docs/instant-upload.md`).

use std::sync::Arc;

use super::source::SourceFile;
use super::transfer::Link;
use super::tus;
use crate::client::failure::Failure;
use crate::client::{Answer, blocking};
use crate::protocol::fields::{Dictionary, Member};
use crate::protocol::possession::{Challenge, Proof};
use crate::protocol::tree::GROUP_BYTES;
use url::Url;

/// No server that means well asks for more groups.
const MOST_GROUPS: usize = 64;

/// What the answer to a creation asks to be hashed.
pub(super) fn challenge(answer: &Answer) -> Option<Challenge> {
    parse(answer.field(tus::UPLOAD_CHALLENGE)?)
}

fn parse(field: &str) -> Option<Challenge> {
    let dictionary = Dictionary::parse(field)?;
    let key = dictionary.value("key")?.bare()?.as_bytes()?.try_into().ok()?;
    let Member::InnerList(groups, _) = dictionary.value("groups")? else { return None };
    let groups: Option<Vec<u64>> = groups.iter().map(|group| group.bare.as_unsigned()).collect();
    let groups = groups.filter(|groups| groups.len() <= MOST_GROUPS)?;
    Some(Challenge { key, groups })
}

/// Hashes what is asked for. `None` when the file has no such groups. This blocks.
fn prove(file: &SourceFile, challenge: &Challenge) -> Result<Option<Proof>, Failure> {
    let length = file.stamp.length;
    let mut prover = challenge.prover();
    for group in &challenge.groups {
        let mut at = group.saturating_mul(GROUP_BYTES);
        let end = at.saturating_add(GROUP_BYTES).min(length);
        if at >= length {
            return Ok(None);
        }
        while at < end {
            let block = file.read(at, end)?;
            prover.update(&block);
            at = at.saturating_add(u64::try_from(block.len()).unwrap_or(u64::MAX));
        }
    }
    Ok(Some(prover.finish()))
}

impl Link {
    /// Answers a challenge for this upload. Whether it is complete by that; if not the bytes are
    /// sent, whatever the reason.
    ///
    /// # Errors
    /// The file cannot be read, or changed.
    pub(super) async fn prove(
        &self,
        upload: &Url,
        challenge: Challenge,
        file: &Arc<SourceFile>,
    ) -> Result<bool, Failure> {
        let file = Arc::clone(file);
        let Some(proof) = blocking(move || prove(&file, &challenge)).await? else {
            return Ok(false);
        };
        let Some(proof) = proof.to_field() else { return Ok(false) };
        let request = tus::prove(upload, &self.endpoint, &proof);
        match Box::pin(self.client.fetch(&request)).await {
            Ok(answer) => {
                let is_proved = answer.status.is_success();
                answer.finish().await;
                Ok(is_proved)
            }
            Err(_) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn the_example_of_the_documentation_is_proved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, b"abc").unwrap();
        let file = SourceFile::new(File::open(&path).unwrap(), &path).unwrap();
        let key = "key=:YvVcZ4YbIMSvIKG4VUiHzC0UAbMlhIczJk3OsBZC7Xo=:";
        let proved = |groups: &str| {
            let challenge = parse(&format!("{key}, groups=({groups})")).unwrap();
            prove(&file, &challenge).unwrap().and_then(|proof| proof.to_field())
        };
        let expected = ":dichoybGQYLu0kDSgbP789J07X1M1OGuYENl2biuvw0=:";
        assert_eq!(proved("0").as_deref(), Some(expected));
        assert_eq!(proved("1"), None);
        for wrong in ["", "key=:AAAA:, groups=(0)", key, &format!("{key}, groups=(-1)")] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
