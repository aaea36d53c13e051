//! Tells who sends content how far it is safe, while it is still coming: as a 104 (Upload
//! Resumption Supported), with the URL of a new upload first.
//!
//! - RUFH §Upload Creation, §Upload Append, §Draft Version Identification

use std::sync::Arc;

use super::interim::Interim;
use crate::engine::Engine;
use crate::protocol::ietf::{self, Spoken};
use crate::protocol::upload::Upload;

/// Sends the 104s of one request.
pub(super) struct Announcer {
    interim: Interim,
    spoken: Spoken,
    /// The URL of a new upload without its id, until it is told.
    new_at: Option<String>,
    engine: Arc<Engine>,
}

impl Announcer {
    /// One for an append, or with `new_at`, the URL of the collection, for a creation. `None` when
    /// nothing may be told.
    pub(super) fn new(
        interim: &Interim,
        spoken: Spoken,
        new_at: Option<String>,
        engine: &Arc<Engine>,
    ) -> Option<Self> {
        let hears = interim.is_open() && spoken.hears_interim();
        let (interim, engine) = (interim.clone(), Arc::clone(engine));
        hears.then_some(Self { interim, spoken, new_at, engine })
    }

    /// Whether the URL of a new upload is to be told.
    pub(super) fn is_of_creation(&self) -> bool {
        self.new_at.is_some()
    }

    /// Tells what is recorded of the upload.
    pub(super) fn tell(&mut self, upload: &Upload) {
        let location = self.new_at.take().map(|collection| format!("{collection}{}", upload.id()));
        let time = (self.engine.limits(), self.engine.now());
        let head = ietf::encode_interim(self.spoken, upload, location.as_deref(), time);
        if location.is_some() {
            self.interim.announce(&head);
        } else if self.spoken.tells_progress() {
            self.interim.tell_progress(&head);
        }
    }
}
