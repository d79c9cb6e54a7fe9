//! `detected_level`.

use super::*;

#[test]
fn levels_are_found_in_metadata_labels_fields_and_words() {
    let none: &[(&str, &str)] = &[];
    let labels = Labels::default();
    for (line, metadata, want) in [
        ("x", &[("level", "WARN")][..], "warn"),
        ("x", &[("severity_text", "Error")], "error"),
        ("x", &[("severity_number", "9")], "info"),
        ("x", &[("lvl", "dbg")], "debug"),
        ("x", &[("level", "strange")], "unknown"),
        (r#"{"msg":"an error","level":"info"}"#, none, "info"),
        (r#"{"msg":"x","lvl":"ERR"}"#, none, "error"),
        (r#"{"severity":"CRITICAL"}"#, none, "critical"),
        (r#"{"msg":"failed with error"}"#, none, "error"),
        ("ts=1 level=debug msg=\"error x\"", none, "debug"),
        ("ts=1 level=\"warning\" msg=x", none, "warn"),
        ("2024 ERROR could not", none, "error"),
        ("2024 Warning: careful", none, "warn"),
        ("FATAL: gone", none, "fatal"),
        ("errors everywhere", none, "unknown"),
        ("an info about an error", none, "error"),
        ("[err] x", none, "error"),
        ("INFO started", none, "info"),
        ("TRACE started", none, "trace"),
        ("nothing to see", none, "unknown"),
        ("", none, "unknown"),
    ] {
        assert_eq!(
            level::detect(line.as_bytes(), &labels, metadata),
            want,
            "{line} {metadata:?}"
        );
    }
    let labels = Labels::new([("level", "error")]).unwrap();
    assert_eq!(level::detect(b"info", &labels, none), "error");
}

#[test]
fn the_level_is_added_where_somebody_looks_at_it() {
    let pipeline = compile("").with_detected_level(true);
    assert_eq!(
        run_with(&pipeline, b"WARN x", &[]).unwrap(),
        "WARN x | detected_level=warn"
    );
    assert_eq!(
        run_with(&pipeline, b"WARN x", &[("detected_level", "info")]).unwrap(),
        "WARN x | detected_level=info"
    );
    let by = |name: &str| LabelNeed::Only(vec![name.to_owned()]);
    assert_eq!(pipeline.columns(&by("detected_level")).0, LineColumn::Bytes);
    assert_eq!(pipeline.columns(&by("app")).0, LineColumn::None);
    let mut runner = pipeline.runner(&by("detected_level"));
    runner.stream(&stream());
    let sample = runner.sample(AT, b"ERROR", &[]).unwrap();
    assert_eq!(&*runner.series(sample.series).labels[0].1, "error");
    let filtered = compile(r#"| detected_level="error""#).with_detected_level(true);
    assert_eq!(run_with(&filtered, b"INFO", &[]), None);
    assert_eq!(filtered.columns(&by("app")).0, LineColumn::Bytes);
}
