//! The settings as a whole: which source wins, what a refusal says, and that the file in
//! `config/` is that of the table.

use std::fs;
use std::time::Duration;

use crate::storage::Durability;

use super::*;
use crate::protocol::limits::Limits;

const EXAMPLE: &str = include_str!("../../config/resumed.toml");

/// A folder with a settings file in it, and the path of that file.
fn settings_file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

fn resolve(
    flags: &[(&str, &str)],
    environment: &[(&str, &str)],
) -> Result<Settings, SettingsError> {
    let flags = flags.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    Settings::resolve(&flags, environment.iter().map(|(key, text)| (key.into(), text.into())))
}

fn refusal(flags: &[(&str, &str)], environment: &[(&str, &str)]) -> String {
    resolve(flags, environment).unwrap_err().to_string()
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let settings = resolve(&[], &[]).unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.listening.address, "127.0.0.1:1080".parse().unwrap());
    assert_eq!(settings.listening.base_path.as_str(), "/files/");
    assert_eq!(settings.storage.data_dir.to_str(), Some("./data"));
    assert_eq!(settings.storage.durability, Durability::PowerLoss);
    assert_eq!(settings.uploads.expire_after, Some(Duration::from_secs(86_400)));
    assert_eq!(settings.uploads.limits, Limits::default());
    assert_eq!(settings.cors, Some(Cors { origins: Origins::Any, allows_credentials: false }));
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let (_folder, path) = settings_file("max-length = 1\nmax-parts = 1\nidle-timeout = '1s'\n");
    let environment = [
        ("RESUMED_CONFIG", path.as_str()),
        ("RESUMED_MAX_LENGTH", "2"),
        ("RESUMED_MAX_PARTS", "2"),
    ];
    let settings = resolve(&[("max-length", "3")], &environment).unwrap();
    assert_eq!(settings.uploads.limits.max_length, Some(3));
    assert_eq!(settings.uploads.limits.max_parts, 2);
    assert_eq!(settings.connections.idle_timeout, Duration::from_secs(1));
    assert_eq!(settings.connections.header_timeout, Duration::from_secs(30));
}

#[test]
fn the_config_flag_wins_over_its_variable() {
    let (_folder, path) = settings_file("tree = false\n");
    let flags = [("config", path.as_str())];
    let settings = resolve(&flags, &[("RESUMED_CONFIG", "/nowhere.toml")]).unwrap();
    assert!(!settings.uploads.keeps_tree);
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let environment = [("RESUMED_MAX_LENGTH", ""), ("RESUMED_CONFIG", "")];
    assert_eq!(resolve(&[], &environment).unwrap(), Settings::default());
}

#[test]
fn an_empty_flag_is_a_value_and_wrong() {
    let text = refusal(&[("data-dir", "")], &[]);
    assert_eq!(
        text,
        "data-dir is \"\" (from the flag --data-dir): the path of a folder, which must not be empty"
    );
}

#[test]
fn a_refusal_names_the_key_the_value_the_source_and_what_is_allowed() {
    let (_folder, path) = settings_file("\nmax-length = '10 giraffes'\n");
    let allowed = "a size is a whole number of bytes with an optional unit, such as 1048576, \
                   64K, 64KiB (the same) or 10GiB; or none";
    for (flags, environment, from) in [
        (vec![("max-length", "10 giraffes")], vec![], "the flag --max-length".to_owned()),
        (
            vec![],
            vec![("RESUMED_MAX_LENGTH", "10 giraffes")],
            "the environment, RESUMED_MAX_LENGTH".to_owned(),
        ),
        (vec![("config", path.as_str())], vec![], format!("{path}, line 2")),
    ] {
        let expected = format!("max-length is \"10 giraffes\" (from {from}): {allowed}");
        assert_eq!(refusal(&flags, &environment), expected);
    }
}

#[test]
fn every_key_refuses_a_wrong_value_by_its_name() {
    // No form takes this text: paths hold no NUL, lists have no empty member.
    for key in keys() {
        let text = refusal(&[(key.name, ",\0")], &[]);
        assert!(text.starts_with(&format!("{} is \",\\0\" (from the flag ", key.name)), "{text}");
    }
}

#[test]
fn a_list_is_for_keys_that_take_one() {
    let (_folder, path) =
        settings_file("cors-origins = ['https://a.example', 'https://b.example']\n");
    let settings = resolve(&[("config", &path)], &[]).unwrap();
    let origins = settings.cors.unwrap().origins;
    assert!(origins.allow("https://a.example") && origins.allow("https://b.example"));
    let (_folder, path) = settings_file("data-dir = ['data']\n");
    assert!(refusal(&[("config", &path)], &[]).starts_with("data-dir is \"data\" (from "));
}

#[test]
fn an_unknown_key_in_the_file_is_refused_with_the_nearest() {
    for (text, shown) in [
        ("\nmax-lenght = 1", "line 2); the nearest is max-length"),
        ("max_length = 1", "line 1); the nearest is max-length"),
        ("giraffes = 10", "line 1); `resumed serve --help` lists all"),
    ] {
        let (_folder, path) = settings_file(text);
        let error = refusal(&[("config", &path)], &[]);
        assert!(error.contains(" is not a setting (from ") && error.ends_with(shown), "{error}");
    }
}

#[test]
fn a_misspelled_variable_is_refused_and_one_of_others_is_not() {
    assert_eq!(
        refusal(&[], &[("RESUMED_MAX_LENGHT", "1")]),
        "RESUMED_MAX_LENGHT is not a setting (from the environment, RESUMED_MAX_LENGHT); the \
         nearest is RESUMED_MAX_LENGTH"
    );
    let others = ["RESUMED_PORT", "RESUMED_SERVICE_HOST", "RESUMED_PORT_1080_TCP", "RUSTED_LOG"];
    for name in others {
        assert!(resolve(&[], &[(name, "tcp://10.0.0.1:1080")]).is_ok(), "{name}");
    }
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let text = refusal(&[("config", "/nowhere/a.toml")], &[]);
    let start = "cannot read the settings file \"/nowhere/a.toml\" (from the flag --config): ";
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn credentials_for_every_origin_are_refused() {
    let text = refusal(&[("cors-credentials", "on")], &[]);
    assert!(text.starts_with("cors-credentials is \"on\" (from the flag "), "{text}");
    let flags = [("cors-credentials", "on"), ("cors-origins", "https://a.example")];
    assert!(resolve(&flags, &[]).unwrap().cors.unwrap().allows_credentials);
    let flags = [("cors-credentials", "on"), ("cors", "off")];
    assert_eq!(resolve(&flags, &[]).unwrap().cors, None);
}

#[test]
fn every_key_is_a_flag() {
    let mut arguments = vec!["serve".to_owned()];
    for key in keys() {
        arguments.extend([key.flag(), key.default.to_owned()]);
    }
    let matches = flags::serve_command().get_matches_from(arguments);
    let given = flags::given(&matches);
    assert_eq!(given.len(), keys().len());
    assert_eq!(Settings::resolve(&given, []).unwrap(), Settings::default());
    flags::serve_command().debug_assert();
}

#[test]
fn the_upload_url_is_one_that_can_be_opened() {
    let settings = resolve(&[], &[]).unwrap();
    for (bound, url) in [
        ("127.0.0.1:1080", "http://127.0.0.1:1080/files/"),
        ("0.0.0.0:80", "http://localhost:80/files/"),
        ("[::1]:1080", "http://[::1]:1080/files/"),
    ] {
        assert_eq!(settings.upload_url(bound.parse().unwrap()), url);
    }
    let settings = resolve(&[("public-url", "https://a.example/up/")], &[]).unwrap();
    assert_eq!(settings.upload_url("127.0.0.1:1".parse().unwrap()), "https://a.example/up/");
}

#[test]
fn the_ready_line_says_where_the_data_lies() {
    let settings = resolve(&[("data-dir", "/srv/uploads")], &[]).unwrap();
    assert_eq!(
        settings.ready_line("127.0.0.1:1080".parse().unwrap()).unwrap(),
        "resumed is ready: upload to http://127.0.0.1:1080/files/, data in /srv/uploads"
    );
}

/// The lines of the example that set something, each behind a `#`.
fn example_lines() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = EXAMPLE.lines().filter_map(|line| line.strip_prefix('#'));
    lines.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_once(" = "))
}

#[test]
fn the_example_names_every_key_once_with_its_default() {
    let named: Vec<_> = example_lines().map(|(key, _)| key).collect();
    let expected: Vec<_> = keys().iter().map(|key| key.name).collect();
    assert_eq!(named, expected);
    let text: String = example_lines().map(|(key, value)| format!("{key} = {value}\n")).collect();
    let (_folder, path) = settings_file(&text);
    assert_eq!(resolve(&[("config", &path)], &[]).unwrap(), Settings::default());
    let (_folder, path) = settings_file(EXAMPLE);
    assert_eq!(resolve(&[("config", &path)], &[]).unwrap(), Settings::default());
}

#[test]
fn the_example_says_what_the_help_says() {
    let mut expected = String::new();
    let mut heading = "";
    for key in keys() {
        if heading != key.heading {
            heading = key.heading;
            expected += &format!("\n## {heading}\n");
        }
        let also = if key.also.is_empty() { String::new() } else { format!(", {}", key.also) };
        let is_plain = key.placeholder == "NUMBER" || key.default.parse::<u64>().is_ok();
        let quote = if is_plain { "" } else { "\"" };
        expected += &format!("\n# {}.\n# {}{also}\n", key.help, key.placeholder);
        expected += &format!("#{} = {quote}{}{quote}\n", key.name, key.default);
    }
    let (_introduction, settings) = EXAMPLE.split_at(EXAMPLE.find("\n## ").unwrap_or(0));
    assert!(settings == expected, "after its introduction the file should go on:\n{expected}");
}
