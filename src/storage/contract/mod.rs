//! What every store does: one suite, run against all of them. Each is opened again in the middle of
//! its tests, the one in memory after a loss of power.

mod data;
mod lists;
mod model;
mod parts;
mod records;

use std::sync::Arc;

use tempfile::TempDir;

use super::file::FileStore;
use super::folder::DataFolder;
use super::memory::MemoryStore;
use super::sled::SledStore;
use super::{DataStore, Durability, RecordStore};
use crate::protocol::id::UploadId;

/// A place for a store of records. What was opened before is dropped before it is opened again.
trait RecordPlace: Default {
    fn records(&mut self) -> Arc<dyn RecordStore>;
}

/// A place for a store of bytes.
trait DataPlace: Default {
    fn data(&mut self) -> Arc<dyn DataStore>;
}

#[derive(Default)]
struct Memory(MemoryStore);

impl Memory {
    fn after_power_loss(&mut self) -> Arc<MemoryStore> {
        self.0 = self.0.crash(1);
        Arc::new(self.0.clone())
    }
}

impl RecordPlace for Memory {
    fn records(&mut self) -> Arc<dyn RecordStore> {
        self.after_power_loss()
    }
}

impl DataPlace for Memory {
    fn data(&mut self) -> Arc<dyn DataStore> {
        self.after_power_loss()
    }
}

struct Folder(TempDir);

impl Default for Folder {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

#[derive(Default)]
struct Sled(Folder);

impl RecordPlace for Sled {
    fn records(&mut self) -> Arc<dyn RecordStore> {
        let folder = DataFolder::open(self.0.0.path()).unwrap();
        Arc::new(SledStore::open(&folder, Durability::PowerLoss).unwrap())
    }
}

#[derive(Default)]
struct Files(Folder);

impl DataPlace for Files {
    fn data(&mut self) -> Arc<dyn DataStore> {
        let folder = DataFolder::open(self.0.0.path()).unwrap();
        Arc::new(FileStore::open(&folder, Durability::PowerLoss, 0).unwrap())
    }
}

/// Makes one test of each rule, for one store.
macro_rules! contract {
    ($store:ident, $place:ident, $rules:ident, [$($rule:ident),* $(,)?]) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    super::$rules::$rule::<super::$place>().await;
                }
            )*
        }
    };
}

macro_rules! records_contract {
    ($store:ident, $place:ident) => {
        contract!(
            $store,
            $place,
            records,
            [
                a_record_is_loaded_as_it_was_saved,
                a_save_over_another_version_is_refused_and_changes_nothing,
                of_savers_of_the_same_version_one_wins,
                a_deleted_record_is_no_longer_there,
                due_tells_the_earliest_and_no_more_than_asked_for,
                a_record_is_due_only_at_its_last_wake,
                pages_of_a_list_cover_all_records_in_order,
                complete_uploads_are_found_by_their_digests,
                a_dropped_save_leaves_the_record_as_it_was_or_as_it_will_be,
            ]
        );
    };
}

macro_rules! data_contract {
    ($store:ident, $place:ident) => {
        contract!(
            $store,
            $place,
            data,
            [
                committed_bytes_are_read_as_they_were_written,
                a_writer_cuts_off_scratch,
                a_writer_that_rests_goes_on_where_it_was,
                a_writer_behind_the_bytes_that_are_there_is_refused,
                a_range_is_read_byte_for_byte,
                a_reader_of_bytes_that_are_not_there_is_refused,
                an_empty_range_needs_no_bytes,
                a_dropped_read_skips_nothing,
                scratch_does_not_disturb_a_reader,
                removed_bytes_are_gone_but_for_who_reads_them,
                there_is_room,
            ]
        );
    };
}

macro_rules! parts_contract {
    ($store:ident, $place:ident) => {
        contract!(
            $store,
            $place,
            parts,
            [
                parts_are_read_as_one,
                parts_outlive_the_uploads_they_come_from,
                joined_parts_are_one_piece,
                a_part_that_is_not_there_is_named,
                parts_that_are_not_there_are_not_joined,
                one_part_is_joined_without_harm_to_where_it_comes_from,
                equal_uploads_share_their_bytes,
            ]
        );
    };
}

macro_rules! lists_contract {
    ($store:ident, $place:ident) => {
        contract!(
            $store,
            $place,
            lists,
            [
                a_list_has_what_was_written_to_it,
                lists_do_not_touch_each_other_and_go_with_the_bytes,
            ]
        );
    };
}

records_contract!(memory_records, Memory);
records_contract!(sled_records, Sled);
data_contract!(memory_data, Memory);
data_contract!(file_data, Files);
parts_contract!(memory_parts, Memory);
parts_contract!(file_parts, Files);
lists_contract!(memory_lists, Memory);
lists_contract!(file_lists, Files);

fn id(number: u8) -> UploadId {
    UploadId::from_bytes([number; 16])
}
