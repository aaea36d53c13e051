//! What clients do in one run of `tests/crash.rs`.

use std::sync::Arc;

use bytes::Bytes;
use resumed::engine::{Fault, InstantUpload};
use resumed::protocol::digest::Blake3Digest;
use resumed::protocol::id::UploadId;
use resumed::protocol::operation::{Append, Completion};
use resumed::protocol::refusal::Refusal;
use resumed::protocol::repr_digests::ReprDigests;
use resumed::protocol::upload::{Final, Kind};

use super::{HOUR, Known, PIECE, PIECES, Run, bytes_of, content};

/// The length of uploads that are equal: enough for them to share their bytes.
const ALIKE: usize = 70_000;

/// The flows of one run.
#[derive(Clone, Copy)]
pub(crate) enum Flows {
    Usual,
    Alike,
    Announced,
    Declared,
}

impl Flows {
    pub(crate) fn instant_upload(self) -> InstantUpload {
        match self {
            Self::Usual | Self::Alike | Self::Announced => InstantUpload::Owner,
            Self::Declared => InstantUpload::Everyone,
        }
    }
}

impl Run {
    pub(crate) async fn go_through(&mut self, flows: Flows) -> Result<(), Fault> {
        match flows {
            Flows::Usual => self.go().await,
            Flows::Alike => self.go_alike().await,
            Flows::Announced => self.go_announced().await,
            Flows::Declared => self.go_declared().await,
        }
    }

    /// All flows, one after the other.
    async fn go(&mut self) -> Result<(), Fault> {
        let plain = self.create(Kind::Single, bytes_of(1, PIECE * PIECES)).await?;
        self.append(plain, PIECE / 2, false).await?;
        self.append(plain, PIECE * 3, true).await?;
        let empty = self.create(Kind::Single, Bytes::new()).await?;
        let one = self.create(Kind::Partial, bytes_of(2, PIECE)).await?;
        let two = self.create(Kind::Partial, bytes_of(3, PIECE + 1)).await?;
        self.append(one, PIECE, false).await?;
        let parts: Arc<[UploadId]> = [one, two, one].map(|index| self.known[index].id).into();
        let made_of = |index: usize| self.known[index].bytes.clone();
        let joined: Bytes = [made_of(one), made_of(two), made_of(one)].concat().into();
        let kind = Kind::Final(Final { parts, as_sent: "final;…".into() });
        let waiting = self.create(kind.clone(), joined.clone()).await?;
        self.append(two, PIECE + 1, true).await?;
        let upload = self.engine.retrieve_offset(self.known[waiting].id).await?;
        self.known[waiting].learn(&upload);
        let ready = self.create(kind, joined).await?;
        self.cancel(one).await?;
        self.append(plain, PIECE * PIECES, false).await?;
        let expiring = self.create(Kind::Single, bytes_of(4, 10)).await?;
        // Lets the joins in the background have their turn.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        self.cancel(ready).await?;
        self.clock.advance(HOUR * 2);
        self.known[expiring].may_be_cancelled = true;
        while self.engine.sweep().await? > 0 {
            tokio::task::yield_now().await;
        }
        let _ = empty;
        Ok(())
    }

    /// Equal uploads: one that is sent, one that is sent too, and one that need not be.
    async fn go_alike(&mut self) -> Result<(), Fault> {
        let bytes = bytes_of(5, ALIKE);
        let declared = ReprDigests::from(Some(Blake3Digest::of(&bytes)));
        let first = self.create(Kind::Single, bytes.clone()).await?;
        self.append(first, ALIKE, false).await?;
        let twin = self.create(Kind::Single, bytes.clone()).await?;
        self.append(twin, ALIKE, false).await?;
        let instant = self.create_declared(Kind::Single, bytes, declared).await?;
        assert!(self.known[instant].is_complete);
        self.cancel(first).await?;
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        let late = self.create(Kind::Single, self.known[twin].bytes.clone()).await?;
        self.append(late, ALIKE, true).await?;
        self.cancel(twin).await?;
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Uploads whose clients are told of them at once, and say when they are complete.
    async fn go_announced(&mut self) -> Result<(), Fault> {
        self.announce(bytes_of(6, PIECE * PIECES), PIECE * PIECES).await?;
        let begun = self.announce(bytes_of(7, PIECE * 2), PIECE).await?;
        self.append(begun, PIECE * 2, false).await?;
        let voided = self.announce(bytes_of(8, PIECE), PIECE / 2).await?;
        let append = Append {
            offset: self.known[voided].acknowledged,
            length: None,
            content_length: None,
            completion: Completion::Later,
            checksum: None,
            max_bytes: None,
        };
        self.known[voided].may_be_cancelled = true;
        let (id, too_much) = (self.known[voided].id, content(&bytes_of(8, PIECE)));
        match self.engine.append(id, append.into(), too_much).await {
            Err(Fault::Refused(Refusal::BeyondLength { .. })) => {}
            other => return other.map(|_| ()),
        }
        self.known[voided].is_cancelled = true;
        Ok(())
    }

    /// Uploads whose digest is declared: one whose client proves that it has the bytes, and one that
    /// is made of parts.
    async fn go_declared(&mut self) -> Result<(), Fault> {
        let bytes = bytes_of(9, ALIKE);
        let declared = |bytes: &[u8]| ReprDigests::from(Some(Blake3Digest::of(bytes)));
        let first = self.create(Kind::Single, bytes.clone()).await?;
        self.append(first, ALIKE, false).await?;
        let digest = declared(&bytes);
        let proven = self.create_declared(Kind::Single, bytes, digest).await?;
        self.prove(proven).await?;
        self.cancel(first).await?;
        let part = self.create(Kind::Partial, bytes_of(10, 10)).await?;
        self.append(part, 10, false).await?;
        let parts: Arc<[UploadId]> = [self.known[part].id; 2].into();
        let joined: Bytes = self.known[part].bytes.repeat(2).into();
        let (kind, digest) =
            (Kind::Final(Final { parts, as_sent: "final;…".into() }), declared(&joined));
        let whole = self.create_declared(kind, joined, digest).await?;
        self.cancel(part).await?;
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        let upload = self.engine.retrieve_offset(self.known[whole].id).await?;
        self.known[whole].learn(&upload);
        Ok(())
    }

    /// Proves that the client of a new upload has its bytes, which are one group.
    async fn prove(&mut self, index: usize) -> Result<(), Fault> {
        let Known { id, bytes, .. } = self.known[index].clone();
        let upload = self.engine.retrieve_offset(id).await?;
        let mut prover = self.engine.challenge(&upload).expect("it is new").prover();
        prover.update(&bytes);
        let given = self.engine.prove(id, prover.finish()).await?.ok_or(Refusal::NotFound)?;
        self.known[index].learn(&given);
        Ok(())
    }
}
