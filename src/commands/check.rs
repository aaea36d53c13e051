//! `resumed check`: checks a data folder. While a server has it, it reads the journal of the records
//! beside the server; else it has the folder for itself, and may repair.

use std::error::Error;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use resumed::check::{self, Form, Mode, Options, Report, Store, Summary};
use resumed::clock::Clock;
use resumed::settings::{Storage, flags};
use resumed::storage::blocking::BlockingRecords;
use resumed::storage::file::survey::Survey;
use resumed::storage::folder::{DataFolder, Layout};
use resumed::storage::journal::JournalView;
use resumed::storage::sled::{REMEDY, SledStore, rebuild};
use resumed::storage::{Failure, RecordStore, StorageError};

/// Something was found, be it repaired or not.
const EXIT_FINDINGS: u8 = 1;
/// It could not be checked; as for a wrong command line.
const EXIT_FAILED: u8 = 2;

const ABOUT: &str =
    "Check that the records and the data of a server fit each other, and repair them";

const AFTER_HELP: &str = "\
While a server runs, it looks only: what is being written is left out and counted. To repair or
rebuild, stop the server first.

Exit codes: 0 clean, 1 something was found (also when it was repaired), 2 it could not be checked.
Settings are found where `resumed serve` finds them.";

pub(crate) fn command() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
    };
    let command = Command::new("check")
        .about(ABOUT)
        .arg(switch("deep", "Read all bytes and compare them with the digests of the uploads"))
        .arg(switch(
            "repair",
            "Repair what can be: an upload whose acknowledged bytes are not there becomes lost, \
             data that has no record goes to lost+found in the data folder, left-over parts are \
             removed",
        ))
        .arg(
            switch("force", "Repair also when most of the data or of the records seems missing")
                .requires("repair"),
        )
        .arg(switch(
            "rebuild",
            "First make the records anew from all that can be read; the old ones are kept as \
             records.damaged and journal.damaged",
        ))
        .arg(switch("json", "Print one JSON object a line"));
    flags::with_settings(command, |name| name == "data-dir").after_help(AFTER_HELP)
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let settings = match super::settings(matches) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let form = if matches.get_flag("json") { Form::Json } else { Form::Text };
    let mut output = BufWriter::new(io::stdout().lock());
    let checked = Request { matches, storage: &settings.storage, form }.check(&mut output);
    match checked.and_then(|is_clean| Ok(output.flush().map(|()| is_clean)?)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FINDINGS),
        Err(error) => {
            eprintln!("resumed: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// What was asked for on the command line.
struct Request<'a> {
    matches: &'a ArgMatches,
    storage: &'a Storage,
    form: Form,
}

impl Request<'_> {
    fn has(&self, flag: &str) -> bool {
        self.matches.get_flag(flag)
    }

    /// Checks the folder; whether nothing was found.
    fn check(&self, output: &mut dyn Write) -> Result<bool, Box<dyn Error>> {
        let path = &self.storage.data_dir;
        see_that_it_is_a_data_folder(path)?;
        let looks_only = !self.has("repair") && !self.has("rebuild");
        match DataFolder::open(path) {
            Ok(folder) => self.offline(&folder, output),
            Err(StorageError { failure: Failure::Held { .. }, .. }) if looks_only => {
                self.online(&Layout::of(path), output)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The server may save records meanwhile, so it is looked at them again behind each finding.
    fn online(&self, layout: &Layout, output: &mut dyn Write) -> Result<bool, Box<dyn Error>> {
        let view = open_view(layout)?;
        let refresh = || view.refresh(&layout.journal());
        let mode = Mode::Online { refresh: &refresh };
        Ok(self.compare(view.clone(), layout, mode, output)?.findings == 0)
    }

    fn offline(&self, folder: &DataFolder, output: &mut dyn Write) -> Result<bool, Box<dyn Error>> {
        let layout = folder.layout();
        let is_whole = !self.has("rebuild") || self.rebuild(folder, output)?;
        // Also for a repair: this reads it to its end.
        let view = open_view(layout)?;
        let summary = if self.has("repair") {
            drop(view);
            let records = SledStore::open(folder, self.storage.durability)?;
            let lost_and_found = layout.lost_and_found();
            let mode = Mode::Repair { lost_and_found, is_forced: self.has("force") };
            self.compare(records, layout, mode, output)?
        } else {
            self.compare(view, layout, Mode::Offline, output)?
        };
        Ok(summary.findings == 0 && is_whole)
    }

    fn compare(
        &self,
        records: impl RecordStore,
        layout: &Layout,
        mode: Mode<'_>,
        output: &mut dyn Write,
    ) -> Result<Summary, Box<dyn Error>> {
        let records = BlockingRecords::new(Arc::new(records))?;
        let store = Store { records: &records, survey: &Survey::new(layout.uploads()) };
        let options = Options { is_deep: self.has("deep"), now: Clock::System.now(), mode };
        Ok(check::run(&store, &options, &mut Report::new(output, self.form))?)
    }

    /// Makes the records anew; whether all of them could be read.
    fn rebuild(&self, folder: &DataFolder, output: &mut dyn Write) -> Result<bool, Box<dyn Error>> {
        let rebuilt = rebuild(folder)?;
        Report::new(output, self.form).rebuilt(rebuilt.records, &rebuilt.unreadable)?;
        Ok(rebuilt.unreadable.is_empty())
    }
}

fn open_view(layout: &Layout) -> Result<JournalView, Box<dyn Error>> {
    JournalView::open(&layout.journal()).map_err(|error| match &error.failure {
        Failure::Damaged(_) => format!("{error}; {REMEDY}").into(),
        _ => error.into(),
    })
}

/// A check makes no data folder, and takes none that lost its records for an empty one.
fn see_that_it_is_a_data_folder(path: &Path) -> Result<(), String> {
    let layout = Layout::of(path);
    let has_journal = fs::read_dir(layout.journal()).is_ok_and(|mut files| files.next().is_some());
    if has_journal || layout.records().is_dir() {
        return Ok(());
    }
    let shown = path.display();
    Err(if layout.uploads().is_dir() {
        format!("the records in {shown} are not there; put them back from a copy")
    } else {
        format!("{shown} is no data folder of resumed; name it with --data-dir")
    })
}
