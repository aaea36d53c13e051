//! `resumed import`: takes over the uploads of another server into a data folder whose server does
//! not run.

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use resumed::clock::Clock;
use resumed::import::{self, Import, Summary, Way};
use resumed::settings::{Settings, flags};
use resumed::storage::DataStore as _;
use resumed::storage::blocking::BlockingRecords;
use resumed::storage::file::FileStore;
use resumed::storage::file::survey::Survey;
use resumed::storage::folder::DataFolder;
use resumed::storage::sled::SledStore;

/// Some uploads were not taken over.
const EXIT_SKIPPED: u8 = 1;
/// Nothing could be taken over, or not all was looked at; as for a wrong command line.
const EXIT_FAILED: u8 = 2;

const ABOUT: &str = "Take over the uploads of tusd, finished or not; clients go on at the same ids";

const AFTER_HELP: &str = "\
Stop both servers first. What is in the data folder already is left alone, so it may be done again.
Finished uploads are taken by hard link where that can be done, unfinished ones are always copied:
tusd could write to them. Nothing in DIR is changed.

Exit codes: 0 all were taken over, 1 some were not (each is named), 2 it could not be done.
Settings are found where `resumed serve` finds them.";

/// The settings that matter here; the others are read all the same.
const SETTINGS: [&str; 5] =
    ["data-dir", "base-path", "expire-after", "expire-complete-after", "tree"];

pub(crate) fn command() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
    };
    let command = Command::new("import")
        .about(ABOUT)
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("SERVER")
                .help("Whose uploads they are: those of tusd, kept in its -upload-dir")
                .value_parser(["tusd"])
                .required(true),
        )
        .arg(
            Arg::new("folder")
                .value_name("DIR")
                .help("The folder of the uploads")
                .value_parser(value_parser!(PathBuf))
                .required(true),
        )
        .arg(switch("link", "Take no finished upload but by a hard link").conflicts_with("copy"))
        .arg(switch("copy", "Copy finished uploads too"));
    flags::with_settings(command, |name| SETTINGS.contains(&name)).after_help(AFTER_HELP)
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let settings = match super::settings(matches) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match import(&settings, matches) {
        Ok(Summary { skipped: 0, .. }) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_SKIPPED),
        Err(error) => {
            eprintln!("resumed: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn import(settings: &Settings, matches: &ArgMatches) -> Result<Summary, Box<dyn Error>> {
    let from = matches.get_one::<PathBuf>("folder").map_or(Path::new("."), PathBuf::as_path);
    if !from.is_dir() {
        return Err(format!("{} is no folder", from.display()).into());
    }
    let storage = &settings.storage;
    let folder = DataFolder::open(&storage.data_dir)?;
    let records = SledStore::open(&folder, storage.durability)?;
    let records = BlockingRecords::new(Arc::new(records))?;
    let data = FileStore::open(&folder, storage.durability, storage.min_free_bytes)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let way = match (matches.get_flag("link"), matches.get_flag("copy")) {
        (true, _) => Way::Link,
        (false, true) => Way::Copy,
        (false, false) => Way::LinkOrCopy,
    };
    let import = Import {
        records: &records,
        survey: &Survey::new(folder.uploads()),
        lost_and_found: folder.layout().lost_and_found(),
        policy: &settings.uploads,
        base_path: settings.listening.base_path.to_string(),
        way,
        room: &|| runtime.block_on(data.room()),
        now: Clock::System.now(),
    };
    let mut output = BufWriter::new(io::stdout().lock());
    let imported = import::from_tusd(&import, from, &mut output);
    if let Ok(summary) = &imported {
        tell(summary, &mut output)?;
    }
    output.flush()?;
    Ok(imported?)
}

fn tell(summary: &Summary, output: &mut dyn Write) -> io::Result<()> {
    if *summary == Summary::default() {
        return writeln!(output, "there is no info file of tusd in this folder");
    }
    let Summary { finished, unfinished, linked, known, skipped } = summary;
    writeln!(
        output,
        "took over {finished} finished and {unfinished} unfinished uploads, {linked} by a link; \
         {known} were here already, {skipped} skipped"
    )
}
