//! What is read for whom, series, and parsers that stop early.

use super::*;

fn only(names: &[&str]) -> LabelNeed {
    LabelNeed::Only(names.iter().map(|n| (*n).to_owned()).collect())
}

fn show(series: &Series) -> String {
    let pairs: Vec<String> = series
        .labels
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect();
    pairs.join(" ")
}

/// The series of one row.
fn series_of(
    pipeline: &Pipeline,
    need: &LabelNeed,
    line: &str,
    metadata: &[(&str, &str)],
) -> String {
    let mut runner = pipeline.runner(need);
    runner.stream(&stream());
    match runner.sample(AT, line.as_bytes(), metadata) {
        Some(sample) => show(runner.series(sample.series)),
        None => "-".to_owned(),
    }
}

#[test]
fn only_what_is_looked_at_is_asked_for() {
    use LineColumn::{Bytes, None};
    for (stages, need, known, want) in [
        (r#"|= "x""#, only(&["app"]), &["app"][..], (None, false)),
        (r#"|= "x""#, only(&["app"]), &[], (None, true)),
        (r#"|= "x""#, only(&[]), &[], (None, false)),
        (r#"|= "x""#, LabelNeed::All, &["app"], (None, true)),
        ("| json", only(&[]), &[], (None, false)),
        ("| json", only(&["a"]), &[], (Bytes, true)),
        ("| json", LabelNeed::All, &[], (Bytes, true)),
        (r#"| app="web""#, only(&[]), &["app"], (None, false)),
        (r#"| trace_id="1""#, only(&[]), &["app"], (None, true)),
        (
            r#"| line_format "{{.app}}""#,
            only(&[]),
            &["app"],
            (None, false),
        ),
        (
            r#"| line_format "{{.}}""#,
            only(&[]),
            &["app"],
            (None, true),
        ),
        (
            r#"| line_format "{{.app}}" |= "x""#,
            only(&[]),
            &["app"],
            (Bytes, false),
        ),
        (
            r#"| label_format x="{{__line__}}""#,
            only(&[]),
            &[],
            (Bytes, false),
        ),
        (
            "",
            LabelNeed::Without(vec!["pod".into()]),
            &["app"],
            (None, true),
        ),
        (r#"| json | __error__="""#, only(&[]), &[], (Bytes, false)),
    ] {
        let pipeline =
            compile(stages).with_guaranteed_labels(known.iter().map(|n| (*n).to_owned()));
        assert_eq!(pipeline.columns(&need), want, "{stages} for {need:?}");
    }
}

#[test]
fn rows_are_counted_under_their_group() {
    let logfmt = compile("| logfmt");
    let without =
        |names: &[&str]| LabelNeed::Without(names.iter().map(|n| (*n).to_owned()).collect());
    for (need, line, metadata, want) in [
        (only(&["app"]), "a=1", &[][..], "app=web"),
        (only(&["a", "app"]), "a=1 b=2", &[], "a=1 app=web"),
        (only(&["a", "a"]), "a=1 b=2", &[], "a=1"),
        (only(&["a"]), "b=2", &[], ""),
        (only(&[]), "b=2", &[], ""),
        (only(&["m"]), "b=2", &[("m", "3"), ("n", "4")], "m=3"),
        (only(&["app_extracted"]), "app=2", &[], "app_extracted=2"),
        (without(&["pod"]), "a=1", &[], "a=1 app=web"),
        (
            without(&[]),
            "a=1",
            &[("m", "2")],
            "a=1 app=web m=2 pod=p-1",
        ),
        (without(&["app", "m"]), "", &[("m", "2")], "pod=p-1"),
    ] {
        assert_eq!(
            series_of(&logfmt, &need, line, metadata),
            want,
            "{need:?} over {line}"
        );
    }
    let unwrap = compile_range("| logfmt | unwrap a");
    assert_eq!(
        series_of(&unwrap, &without(&[]), "a=1 b=2", &[]),
        "app=web b=2 pod=p-1"
    );
    assert_eq!(series_of(&unwrap, &only(&["a"]), "a=1 b=2", &[]), "a=1");
}

#[test]
fn equal_rows_share_a_series_and_others_do_not() {
    let pipeline = compile("| logfmt");
    let mut runner = pipeline.runner(&LabelNeed::Without(Vec::new()));
    runner.stream(&stream());
    let mut id = |line: &str| runner.sample(AT, line.as_bytes(), &[]).unwrap().series.0;
    assert_eq!(
        [
            id("a=1 b=2"),
            id("b=2 a=1"),
            id("a=2 b=1"),
            id(""),
            id("a=1 b=2"),
            id("a=12"),
            id("")
        ],
        [0, 0, 1, 2, 0, 3, 2]
    );
    runner.stream(&Arc::new(Labels::new([("app", "db")]).unwrap()));
    assert_eq!(runner.sample(AT, b"", &[]).unwrap().series.0, 4);
    runner.stream(&stream());
    assert_eq!(runner.sample(AT, b"", &[]).unwrap().series.0, 2);
    assert_eq!(runner.all_series().len(), 5);
}

#[test]
fn rows_with_an_error_keep_all_labels() {
    let pipeline = compile("| json");
    assert_eq!(
        series_of(&pipeline, &only(&["a"]), "x", &[]),
        "__error__=JSONParserErr __error_details__=Value looks like object, but can't find closing '}' symbol app=web pod=p-1"
    );
    // Nobody wants a label, so nobody sees that there are none.
    assert_eq!(series_of(&pipeline, &only(&[]), "x", &[]), "");
    // Who looks at errors gets them counted.
    let looked_at = compile(r#"| json | __error__!="""#);
    let series = series_of(&looked_at, &only(&["a"]), "x", &[]);
    assert!(series.contains("__preserve_error__=true"), "{series}");
    assert!(
        !run_with(&looked_at, b"x", &[])
            .unwrap()
            .contains("preserve")
    );
    let mut runner = pipeline.runner(&only(&["a"]));
    runner.stream(&stream());
    let sample = runner.sample(AT, b"x", &[]).unwrap();
    assert!(runner.series(sample.series).error);
}

#[test]
fn parsers_stop_when_everything_wanted_is_found() {
    let pipeline = compile("| json");
    assert_eq!(
        series_of(&pipeline, &only(&["a"]), r#"{"a":"1", broken"#, &[]),
        "a=1"
    );
    assert_eq!(
        series_of(&pipeline, &only(&["a"]), r#"{"x":{"y":1},"a":"1""#, &[]),
        "a=1"
    );
    assert_eq!(
        series_of(
            &pipeline,
            &only(&["x_y"]),
            r#"{"x":{"z":2,"y":1},"a":"1"}"#,
            &[]
        ),
        "x_y=1"
    );
    let logfmt = compile("| logfmt --strict");
    assert_eq!(series_of(&logfmt, &only(&["a"]), "a=1 =", &[]), "a=1");
}

#[test]
fn streams_whose_rows_need_no_look_have_one_series() {
    let trivial = |stages: &str, need: LabelNeed| {
        let pipeline = compile(stages).with_guaranteed_labels(["app".to_owned()]);
        let mut runner = pipeline.runner(&need);
        runner.stream(&stream());
        runner.stream_series().map(|id| show(runner.series(id)))
    };
    assert_eq!(trivial(r#"|= "x""#, only(&["app"])), Some("app=web".into()));
    assert_eq!(trivial(r#"|= "x""#, only(&[])), Some(String::new()));
    assert_eq!(trivial("", only(&["pod"])), None);
    assert_eq!(trivial("", LabelNeed::Without(Vec::new())), None);
    assert_eq!(trivial("| logfmt", only(&["app"])), None);
}

#[test]
fn a_pipeline_without_stages_gives_what_is_stored() {
    let pipeline = compile("");
    let mut runner = pipeline.runner(&LabelNeed::All);
    runner.stream(&stream());
    let output = runner.run(AT, b"\xff", &[]).unwrap();
    assert_eq!(output.line, b"\xff");
    assert!(output.labels.is_plain());
    assert_eq!(output.value, None);
    assert!(!pipeline.changes_line());
}
