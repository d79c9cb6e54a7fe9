use std::time::Duration;

use clap::{Args, Command, FromArgMatches};

use super::*;
// The macro names this crate from outside, as its users do.
use crate as runtime;

options! {
    /// A group for the tests below.
    struct Demo / DemoRaw {
        /// How much.
        /// Two lines.
        demo_bytes_max: u64 as ByteText = "64MiB",
        /// How long.
        demo_wait: Duration as DurationText = "2m",
        /// A plain number.
        demo_count: u32 = "3",
    }
}

fn parse(arguments: &[&str]) -> Result<DemoRaw, clap::Error> {
    let command = with_environment(DemoRaw::augment_args(Command::new("demo")));
    let matches = command.try_get_matches_from([&["demo"], arguments].concat())?;
    DemoRaw::from_arg_matches(&matches)
}

#[test]
fn defaults_are_what_the_declaration_says() {
    let demo = Demo::default();
    assert_eq!(demo.demo_bytes_max, 64 << 20);
    assert_eq!(demo.demo_wait, Duration::from_secs(120));
    assert_eq!(demo.demo_count, 3);
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let flags = parse(&["--demo-bytes-max", "1KB"]).unwrap();
    let file: DemoRaw = serde_saphyr::from_str("demo_bytes_max: 2KB\ndemo_wait: 1h30m\n").unwrap();
    let demo = flags.or(file).resolve();
    assert_eq!(demo.demo_bytes_max, 1_000);
    assert_eq!(demo.demo_wait, Duration::from_secs(5_400));
    assert_eq!(demo.demo_count, 3);
}

#[test]
fn every_flag_has_an_environment_variable() {
    let command = with_environment(DemoRaw::augment_args(Command::new("demo")));
    let variables: Vec<_> = command
        .get_arguments()
        .filter_map(|a| a.get_env())
        .collect();
    assert_eq!(
        variables,
        [
            "PHAROS_DEMO_BYTES_MAX",
            "PHAROS_DEMO_WAIT",
            "PHAROS_DEMO_COUNT"
        ]
    );
}

#[test]
fn help_shows_no_values_of_variables() {
    let command = with_environment(DemoRaw::augment_args(Command::new("demo")));
    assert!(
        command
            .get_arguments()
            .filter(|a| a.get_env().is_some())
            .all(|a| a.is_hide_env_values_set())
    );
}

#[test]
fn the_reference_comes_from_the_declaration() {
    let reference = DemoRaw::reference();
    assert_eq!(reference[0].name, "demo_bytes_max");
    assert_eq!(reference[0].default, "64MiB");
    assert_eq!(reference[0].help, "How much. Two lines.");
}

#[test]
fn bad_values_and_unknown_keys_are_refused_with_words() {
    let error = parse(&["--demo-wait", "soon"]).unwrap_err().to_string();
    assert!(error.contains("is not a length of time"), "{error}");
    let error = serde_saphyr::from_str::<DemoRaw>("demo_typo: 1").unwrap_err();
    assert!(error.to_string().contains("demo_typo"), "{error}");
}

#[test]
fn byte_and_duration_texts_are_read_as_people_write_them() {
    for (text, bytes) in [
        ("0", 0),
        ("10", 10),
        ("1.5Ki", 1536),
        ("2 GB", 2_000_000_000),
    ] {
        assert_eq!(text.parse(), Ok(ByteText(bytes)), "{text}");
    }
    for (text, millis) in [
        ("0", 0),
        ("500ms", 500),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
    ] {
        assert_eq!(
            text.parse(),
            Ok(DurationText(Duration::from_millis(millis))),
            "{text}"
        );
    }
    for text in ["", "x", "1y2", "-3MiB", "99999999999TiB"] {
        assert!(text.parse::<ByteText>().is_err(), "{text}");
        assert!(text.parse::<DurationText>().is_err(), "{text}");
    }
}
