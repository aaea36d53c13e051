//! Makes a base of the journal now and then, from what the database tells: then the frames before
//! it can go. Writing it takes a thread of its own; the committer goes on meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

use super::committer::{Committer, Message};
use super::index::{decode, records};
use super::recover::REMEDY;
use super::replay::no_record;
use crate::storage::journal::write_base;
use crate::storage::{Failure, StorageError};

/// The thread that writes a base.
pub(super) struct BaseWriter {
    thread: JoinHandle<Result<u64, Failure>>,
    is_cancelled: Arc<AtomicBool>,
}

impl BaseWriter {
    /// Ends the thread, before the base is made if it is not yet.
    pub(super) fn cancel(self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }

    #[cfg(test)]
    pub(super) fn of(thread: JoinHandle<Result<u64, Failure>>) -> Self {
        Self { thread, is_cancelled: Arc::default() }
    }
}

/// Tells the committer that a base has ended, however that came about: it begins no other one
/// before.
pub(super) struct Ending(pub(super) mpsc::WeakSender<Message>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(messages) = self.0.upgrade() {
            // Without a committer there is nobody to tell.
            let _ = messages.blocking_send(Message::BaseEnded);
        }
    }
}

impl Committer {
    /// Begins a base when it is time, and takes note when one is done: then the frames that have to
    /// be looked through after a crash can be fewer, too.
    pub(super) fn look_after_base(&mut self, has_ended: bool) -> Result<(), StorageError> {
        if let Some(base) = self.base.take_if(|_| has_ended) {
            match base.thread.join() {
                Ok(Ok(bytes)) => {
                    self.journal.base_is_made(bytes);
                    self.make_sure()?;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the journal of the records could not be shortened");
                    self.journal.base_has_failed();
                }
                Err(_) => self.journal.base_has_failed(),
            }
        }
        if self.is_base_due() {
            match self.begin_base() {
                Ok(base) => self.base = Some(base),
                Err(error) => {
                    tracing::warn!(%error, "the journal of the records could not be shortened");
                    self.journal.base_has_failed();
                }
            }
        }
        Ok(())
    }

    pub(super) fn is_base_due(&self) -> bool {
        self.base.is_none() && self.journal.is_base_due()
    }

    /// Makes sure that the database has all up to now: less has to be looked through at the next
    /// start. An error has closed it.
    fn make_sure(&self) -> Result<(), StorageError> {
        let last = self.journal.last();
        let settled = self.known.pending.settle(&self.database);
        if let Err(error) = settled.and_then(|()| self.database.flush()) {
            tracing::warn!(%error, "the records could not be flushed; the next start may take longer");
            return Ok(());
        }
        self.database.reopen(&self.records, last)?;
        if let Err(error) = self.mark.open(last) {
            tracing::warn!(%error, "the next start may take longer");
        }
        Ok(())
    }

    fn begin_base(&mut self) -> std::io::Result<BaseWriter> {
        // It stands for all frames before it.
        self.known.pending.settle(&self.database).map_err(std::io::Error::other)?;
        let point = self.journal.begin_base()?;
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let (database, cancelled) = (Arc::clone(&self.database), Arc::clone(&is_cancelled));
        let (folder, durability) = (self.folder.clone(), self.durability);
        let messages = self.messages.clone();
        let thread = thread::Builder::new().name("records-base".to_owned()).spawn(move || {
            // Made here: should the thread not start, there is nothing to be told.
            let _ending = Ending(messages);
            database.with(|database| {
                let records = records(database).map(|found| {
                    let (id, record) = found?;
                    if cancelled.load(Ordering::Relaxed) {
                        return Err(Failure::Closed);
                    }
                    // The frames that have it as it was saved would go.
                    decode(id, &record).map_err(|why| {
                        Failure::Damaged(format!("{}; {REMEDY}", no_record(id, &why)))
                    })?;
                    Ok((id, record))
                });
                write_base(&folder, point, records, durability)
            })
        })?;
        Ok(BaseWriter { thread, is_cancelled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_that_ends_in_a_panic_is_told_as_ended() {
        let (messages, mut queue) = mpsc::channel(1);
        let ending = Ending(messages.downgrade());
        let base = thread::spawn(move || {
            let _ending = ending;
            panic!("planned");
        });
        assert!(base.join().is_err());
        assert!(matches!(queue.try_recv(), Ok(Message::BaseEnded)));
    }
}
