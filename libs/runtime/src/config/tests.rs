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

fn command() -> Command {
    let command = DemoRaw::augment_args(Command::new("demo"));
    with_environment(command, &DemoRaw::reference())
}

fn parse(arguments: &[&str]) -> Result<DemoRaw, clap::Error> {
    let matches = command().try_get_matches_from([&["demo"], arguments].concat())?;
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
    let command = command();
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
    let command = command();
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
fn help_says_defaults() {
    let help = command().render_help().to_string();
    assert!(
        help.contains("How much. Two lines. [default: 64MiB] [env: PHAROS_DEMO_BYTES_MAX]"),
        "{help}"
    );
}

#[test]
fn a_bad_value_is_told_in_plain_words_wherever_it_stands() {
    for (count, want) in [
        ("3x", "\"3x\" is not a whole number"),
        ("-1", "\"-1\" is not a whole number"),
        (
            "9999999999",
            "\"9999999999\" is too large; the most is 4294967295",
        ),
    ] {
        let flag = format!("--demo-count={count}");
        let error = parse(&[&flag]).unwrap_err().to_string();
        assert!(
            error.contains("--demo-count") && error.contains(want),
            "{error}"
        );
        let file = format!("demo_wait: 2m\ndemo_count: {count}\n");
        let error = serde_saphyr::from_str::<DemoRaw>(&file)
            .unwrap_err()
            .to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn options_are_shown_as_they_would_be_written() {
    let raw: DemoRaw = serde_saphyr::from_str("demo_bytes_max: 1536\ndemo_wait: 90s\n").unwrap();
    let shown: Vec<_> = raw
        .shown()
        .into_iter()
        .map(|o| (o.value, o.is_default))
        .collect();
    let text = |text: &str| text.to_owned();
    assert_eq!(
        shown,
        [
            (text("1536"), false),
            (text("1m30s"), false),
            (text("3"), true)
        ]
    );
    let raw: DemoRaw = serde_saphyr::from_str("demo_bytes_max: 65536KiB\ndemo_wait:\n").unwrap();
    assert!(raw.shown().iter().all(|option| option.is_default));
}

#[test]
fn secrets_are_masked() {
    let secret = SecretText::read("hush").unwrap();
    assert_eq!(
        (secret.show(), format!("{secret:?}")),
        ("********".into(), "********".into())
    );
    assert_eq!(String::from(secret), "hush");
    let shown = |url: &str| url.to_owned().show();
    assert_eq!(shown("http://u:p@host/x@y"), "http://u:********@host/x@y");
    assert_eq!(
        shown("http://u:p@a/x, https://v:q,r@b,http://c,d"),
        "http://u:********@a/x, https://v:********@b,http://c,d"
    );
    assert_eq!(shown("s3://bucket/prefix"), "s3://bucket/prefix");
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
