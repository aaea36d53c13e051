//! `resumed check`: opens the data folder of a server that does not run, and checks it.

use std::error::Error;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use resumed::check::{self, Form, Mode, Options, Report, Store, Summary};
use resumed::clock::Clock;
use resumed::settings::{Settings, flags};
use resumed::storage::blocking::BlockingRecords;
use resumed::storage::file::survey::Survey;
use resumed::storage::folder::DataFolder;
use resumed::storage::sled::SledStore;

/// Something was found, be it repaired or not.
const EXIT_FINDINGS: u8 = 1;
/// It could not be checked; as for a wrong command line.
const EXIT_FAILED: u8 = 2;

const ABOUT: &str =
    "Check that the records and the data of a server fit each other, and repair them";

const AFTER_HELP: &str = "\
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
        .arg(switch("json", "Print one JSON object a line"));
    flags::with_settings(command, |name| name == "data-dir").after_help(AFTER_HELP)
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let settings = match super::settings(matches) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match check(&settings, matches) {
        Ok(Summary { findings: 0, .. }) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_FINDINGS),
        Err(error) => {
            eprintln!("resumed: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn check(settings: &Settings, matches: &ArgMatches) -> Result<Summary, Box<dyn Error>> {
    let path = &settings.storage.data_dir;
    see_that_it_is_a_data_folder(path)?;
    let folder = DataFolder::open(path)?;
    let records = SledStore::open(&folder, settings.storage.durability)?;
    let records = BlockingRecords::new(Arc::new(records))?;
    let survey = Survey::new(folder.uploads());
    let mode = if matches.get_flag("repair") {
        let is_forced = matches.get_flag("force");
        let lost_and_found = folder.lost_and_found();
        Mode::Repair { lost_and_found, is_forced }
    } else {
        Mode::Offline
    };
    let options = Options { is_deep: matches.get_flag("deep"), now: Clock::System.now(), mode };
    let form = if matches.get_flag("json") { Form::Json } else { Form::Text };
    let mut output = BufWriter::new(io::stdout().lock());
    let store = Store { records: &records, survey: &survey };
    let checked = check::run(&store, &options, &mut Report::new(&mut output, form));
    output.flush()?;
    Ok(checked?)
}

/// A check makes no data folder, and takes none that lost its records for an empty one.
fn see_that_it_is_a_data_folder(path: &Path) -> Result<(), String> {
    if path.join("records").is_dir() {
        return Ok(());
    }
    let shown = path.display();
    Err(if path.join("uploads").is_dir() {
        format!("the records in {shown} are not there; put them back from a copy")
    } else {
        format!("{shown} is no data folder of resumed; name it with --data-dir")
    })
}
