//! A session that is kept while its uploads go on, perhaps several at once.

use std::sync::Arc;

use parking_lot::Mutex;
use url::Url;

use super::session::{Session, Slot};
use crate::client::failure::Failure;
use crate::client::{blocking, without_credentials};

/// A session and where it is written. `None` where nothing can be written.
#[derive(Clone, Debug)]
pub(super) struct Records(Arc<Mutex<(Session, Option<Slot>)>>);

/// The place of one upload in a session.
#[derive(Clone, Debug)]
pub(super) struct Record {
    records: Records,
    part: usize,
}

impl Records {
    pub(super) fn new(session: Session, slot: Option<Slot>) -> Self {
        Self(Arc::new(Mutex::new((session, slot))))
    }

    /// What is written.
    pub(super) fn session(&self) -> Session {
        self.0.lock().0.clone()
    }

    /// The place of the upload with this number.
    pub(super) fn part(&self, part: usize) -> Record {
        Record { records: self.clone(), part }
    }

    /// Writes down where the parts are joined.
    pub(super) async fn joined(&self, url: Option<&Url>) -> Result<(), Failure> {
        let url = url.map(without_credentials);
        self.change(move |session| session.joined = url).await
    }

    /// Forgets the session: it is done.
    pub(super) async fn remove(&self) {
        let records = Arc::clone(&self.0);
        let remove = move || {
            if let Some(slot) = &records.lock().1 {
                slot.remove();
            }
        };
        blocking(remove).await;
    }

    async fn change(
        &self,
        change: impl FnOnce(&mut Session) + Send + 'static,
    ) -> Result<(), Failure> {
        let records = Arc::clone(&self.0);
        blocking(move || {
            let (session, slot) = &mut *records.lock();
            change(session);
            slot.as_ref().map_or(Ok(()), |slot| slot.save(session))
        })
        .await
    }
}

impl Record {
    /// Writes down where this upload is.
    pub(super) async fn part(&self, url: Option<&Url>) -> Result<(), Failure> {
        let (url, number) = (url.map(without_credentials), self.part);
        let change = move |session: &mut Session| {
            if let Some(part) = session.parts.get_mut(number) {
                part.url = url;
            }
        };
        self.records.change(change).await
    }
}
