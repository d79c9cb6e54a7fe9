//! Label filters, `drop`, `keep`, errors and `unwrap`.

use super::*;

const NOT_NUMBER: &str =
    r#"__error__=LabelFilterErr __error_details__=strconv.ParseFloat: parsing "x": invalid syntax"#;

#[test]
fn label_filters_compare_texts() {
    check_labels(&[
        (r#"| app="web""#, "l", ""),
        (r#"| app!="web""#, "l", "-"),
        (r#"| app=~"w.b""#, "l", ""),
        (r#"| app=~"w""#, "l", "-"),
        (r#"| app!~"x|y""#, "l", ""),
        (r#"| nope="""#, "l", ""),
        (r#"| nope!="""#, "l", "-"),
        (r#"| nope!="x""#, "l", ""),
        (r#"| logfmt | a="1" and b="2""#, "a=1 b=2", "a=1 b=2"),
        (r#"| logfmt | a="1" , b="3""#, "a=1 b=2", "-"),
        (r#"| logfmt | a="1" or b="3""#, "a=1 b=2", "a=1 b=2"),
        (r#"| logfmt | (a="9" or b="2") a="1""#, "a=1 b=2", "a=1 b=2"),
        (r#"| logfmt | a="9" or b="2" and a="2""#, "a=1 b=2", "-"),
    ]);
}

#[test]
fn label_filters_compare_quantities() {
    check_labels(&[
        ("| logfmt | a > 1", "a=2", "a=2"),
        ("| logfmt | a > 2", "a=2", "-"),
        ("| logfmt | a >= 2", "a=2.0", "a=2.0"),
        ("| logfmt | a == 2", "a=2.0", "a=2.0"),
        ("| logfmt | a = 2", "a=2.0", "a=2.0"),
        ("| logfmt | a != 2", "a=3", "a=3"),
        ("| logfmt | a < -1", "a=-2", "a=-2"),
        ("| logfmt | a <= 1e3", "a=1000", "a=1000"),
        ("| logfmt | a > 1", "b=2", "-"),
        ("| logfmt | a > 1", "a=x", &format!("{NOT_NUMBER} a=x")),
        ("| logfmt | a > 1s", "a=1500ms", "a=1500ms"),
        ("| logfmt | a <= 1m30s", "a=91s", "-"),
        (
            "| logfmt | a > 1s",
            "a=5",
            r#"__error__=LabelFilterErr __error_details__=time: missing unit in duration "5" a=5"#,
        ),
        ("| logfmt | a > 1KB", "a=1001", "a=1001"),
        ("| logfmt | a == 1KiB", "a=1024B", "a=1024B"),
        ("| logfmt | a < 1MB", "a=2MB", "-"),
        (
            "| logfmt | a > 1KB",
            "a=5x",
            "__error__=LabelFilterErr __error_details__=unhandled size name: x a=5x",
        ),
        ("| logfmt | a > 1 or b > 1", "a=0 b=2", "a=0 b=2"),
        ("| logfmt | a > 1 and b > 1", "a=2 b=0", "-"),
        ("| logfmt | a > 1 | b > 100", "a=x b=1", "-"),
    ]);
}

#[test]
fn label_filters_match_addresses() {
    check_labels(&[
        (
            r#"| logfmt | a=ip("10.0.0.0/8")"#,
            "a=10.1.2.3",
            "a=10.1.2.3",
        ),
        (r#"| logfmt | a=ip("10.0.0.0/8")"#, "a=11.1.2.3", "-"),
        (
            r#"| logfmt | a!=ip("10.0.0.0/8")"#,
            "a=11.1.2.3",
            "a=11.1.2.3",
        ),
        (r#"| logfmt | a!=ip("10.0.0.0/8")"#, "b=11.1.2.3", "-"),
        (
            r#"| logfmt | a=ip("10.0.0.1-10.0.0.9") or b="1""#,
            "a=1.1.1.1 b=1",
            "a=1.1.1.1 b=1",
        ),
    ]);
}

#[test]
fn errors_can_be_filtered_and_dropped() {
    check_labels(&[
        (r#"| json | __error__="""#, "x", "-"),
        (r#"| json | __error__="""#, "{}", ""),
        (
            r#"| json | __error__="JSONParserErr" | drop __error__, __error_details__"#,
            "x",
            "",
        ),
        (
            r#"| json | __error__!="" | drop __error_details__"#,
            "x",
            "__error__=JSONParserErr",
        ),
        (
            r#"| json | __error__=~"JSON.*" | drop __error__=~"JSON.*", __error_details__"#,
            "x",
            "",
        ),
        (
            r#"| json | drop __error__="other", __error_details__"#,
            "x",
            "__error__=JSONParserErr",
        ),
        (
            r#"| json | __error_details__="" | drop __error__, __error_details__"#,
            "x",
            "",
        ),
        (
            r#"| json | keep nope"#,
            "x",
            "__error__=JSONParserErr __error_details__=Value looks like object, but can't find closing '}' symbol",
        ),
        (
            r#"| json | logfmt --strict"#,
            "=",
            "__error__=LogfmtParserErr __error_details__=logfmt syntax error at pos 1 : unexpected '='",
        ),
        (
            r#"| json | a > 5"#,
            r#"{"a":"y""#,
            "__error__=JSONParserErr __error_details__=Value is array, but can't find closing ']' symbol a=y",
        ),
        (r#"| json | a > 5"#, "x", "-"),
    ]);
}

#[test]
fn drop_and_keep_choose_labels() {
    check_labels(&[
        ("| logfmt | drop a", "a=1 b=2", "b=2"),
        ("| logfmt | drop a, b", "a=1 b=2", ""),
        (r#"| logfmt | drop a="1", b="9""#, "a=1 b=2", "b=2"),
        (r#"| logfmt | drop a=~"[0-9]", b!="2""#, "a=1 b=2", "b=2"),
        ("| logfmt | keep a, app, pod", "a=1 b=2", "a=1"),
        (r#"| logfmt | keep a="1", b="1""#, "a=1 b=2", "a=1"),
        (r#"| logfmt | keep a!~"1""#, "a=1 b=2", ""),
        ("| drop app | logfmt", "app=x", "app_extracted=x"),
    ]);
    let pairs = |stages: &str| {
        let pipeline = compile(stages);
        let mut runner = pipeline.runner(&LabelNeed::All);
        runner.stream(&stream());
        let output = runner.run(AT, b"a=1", &[("m", "2")]).unwrap();
        let pairs: Vec<String> = output
            .labels
            .to_pairs()
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        pairs.join(" ")
    };
    assert_eq!(pairs("| drop app"), "m=2 pod=p-1");
    assert_eq!(pairs("| drop app, m"), "pod=p-1");
    assert_eq!(pairs("| keep app"), "app=web");
    assert_eq!(pairs("| logfmt | keep m, a"), "a=1 m=2");
}

#[test]
fn labels_come_in_three_kinds() {
    let pipeline = compile("| logfmt | label_format p=a");
    let mut runner = pipeline.runner(&LabelNeed::All);
    runner.stream(&stream());
    let output = runner.run(AT, b"a=1 m=3 app=4", &[("m", "2")]).unwrap();
    let text = |pairs: Vec<(&str, &str)>| format!("{pairs:?}");
    assert_eq!(
        text(output.labels.stream().collect()),
        r#"[("app", "web"), ("pod", "p-1")]"#
    );
    assert_eq!(text(output.labels.metadata().collect()), r#"[("m", "2")]"#);
    assert_eq!(
        text(output.labels.parsed().collect()),
        r#"[("m_extracted", "3"), ("app_extracted", "4"), ("p", "1")]"#
    );
    assert!(!output.labels.is_plain());
    assert_eq!(output.labels.get("p"), Some("1"));
    assert_eq!(output.labels.get("a"), None);
    let names = |names: &[&str]| -> Vec<String> { names.iter().map(|n| (*n).to_owned()).collect() };
    let key = output.labels.distinct_key(&names(&["p", "app"]));
    assert_eq!(key, output.labels.distinct_key(&names(&["p", "app"])));
    assert_ne!(key, output.labels.distinct_key(&names(&["app", "p"])));
}

#[test]
fn unwrap_takes_a_number() {
    let unwrap = |stages: &str, line: &str| {
        let pipeline = compile_range(stages);
        let mut runner = pipeline.runner(&LabelNeed::Without(Vec::new()));
        runner.stream(&stream());
        let output = runner.run(AT, line.as_bytes(), &[])?;
        Some((output.value.unwrap(), output.labels.error().to_owned()))
    };
    let failed = Some((0.0, "SampleExtractionErr".to_owned()));
    let good = |value: f64| Some((value, String::new()));
    for (stages, line, want) in [
        ("| logfmt | unwrap a", "a=1.5", good(1.5)),
        ("| logfmt | unwrap a", "b=1.5", None),
        ("| logfmt --keep-empty | unwrap a", "a=", None),
        ("| logfmt | unwrap a", "a=x", failed.clone()),
        (r#"| logfmt | unwrap a | __error__="""#, "a=x", None),
        (r#"| logfmt | unwrap a | __error__="""#, "a=2", good(2.0)),
        ("| logfmt | unwrap bytes(a)", "a=2KB", good(2000.0)),
        ("| logfmt | unwrap bytes(a)", "a=1KiB", good(1024.0)),
        ("| logfmt | unwrap duration(a)", "a=1m30s", good(90.0)),
        (
            "| logfmt | unwrap duration_seconds(a)",
            "a=250ms",
            good(0.25),
        ),
        ("| logfmt | unwrap duration(a)", "a=10", failed.clone()),
        (r#"| logfmt | unwrap a | b="1""#, "a=2 b=2", None),
        ("| logfmt | unwrap a | b > 1", "a=2 b=2", good(2.0)),
        ("| json | unwrap a", r#"{"a":-3e2}"#, good(-300.0)),
        ("| unwrap app", "x", failed),
    ] {
        assert_eq!(unwrap(stages, line), want, "{stages} over {line}");
    }
}
