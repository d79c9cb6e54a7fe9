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
        ("x", &[("severity_number", "24")], "fatal"),
        ("error", &[("severity_number", "0")], "unknown"),
        ("error", &[("severity_number", "99")], "unknown"),
        ("error", &[("severity_number", "many")], "info"),
        ("error", &[("severity_number", "")], "error"),
        ("x", &[("severity_number", "9"), ("lvl", "dbg")], "debug"),
        ("x", &[("lvl", "dbg")], "debug"),
        ("x", &[("lvl", "dbg"), ("level", "Err")], "error"),
        ("x", &[("level", "strange")], "strange"),
        ("error", &[("log_level", "info")], "error"),
        (r#"{"msg":"an error","level":"info"}"#, none, "info"),
        (r#"{"msg":"x","lvl":"ERR"}"#, none, "error"),
        (r#"{"severity":"CRITICAL"}"#, none, "critical"),
        (r#"{"msg":"failed with error"}"#, none, "error"),
        (r#"{"msg":"x","a":{"Level":"wrn"}} "#, none, "warn"),
        (r#"{"a":{"b":{"level":"inf"}}}"#, none, "unknown"),
        (r#"{"a":{"level":"inf"},"level":"wrn"}"#, none, "info"),
        (r#"{"level":3,"lvl":"inf"}"#, none, "info"),
        (r#"{"LeVel":"info"}"#, none, "info"),
        (r#"{"LeVel":"inf"}"#, none, "unknown"),
        (r#"{"level":"strange","w":"error"}"#, none, "error"),
        (r#"{"level":"inf"} tail"#, none, "unknown"),
        (r#"{"w":"ERROR","lv":"debug"}"#, none, "error"),
        ("ts=1 level=debug msg=\"error x\"", none, "debug"),
        ("severity=error level=inf", none, "info"),
        ("severity=inf lvl=wrn", none, "info"),
        ("LEVEL=inf level=wrn", none, "info"),
        ("LOG.level=trc x", none, "trace"),
        ("bad\"x level=inf", none, "unknown"),
        ("level=strange severity=trc", none, "unknown"),
        ("sublevel=inf", none, "unknown"),
        ("ts=1 level=\"warning\" msg=x", none, "warn"),
        ("2024 ERROR could not", none, "error"),
        ("2024 Warning: careful", none, "warn"),
        ("FATAL: gone", none, "fatal"),
        ("errors everywhere", none, "unknown"),
        ("an info about an error", none, "info"),
        ("java.lang.Error: boom", none, "unknown"),
        ("misc:error x", none, "unknown"),
        ("error, then debug", none, "error"),
        ("error. then debug", none, "debug"),
        ("xerror error", none, "error"),
        ("|warning|", none, "warn"),
        ("error\r", none, "unknown"),
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
    let labels = Labels::new([("level", "Error")]).unwrap();
    assert_eq!(level::detect(b"info", &labels, none), "error");
    let told: &[(&str, &str)] = &[("level", "warn")];
    assert_eq!(level::detect(b"info", &labels, told), "error");
    let labels = Labels::new([("lvl", "loud"), ("severity_number", "1")]).unwrap();
    assert_eq!(level::detect(b"info", &labels, told), "loud");
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
    assert_eq!(
        run_with(&pipeline, b"WARN x", &[("detected_level", "ERR")]).unwrap(),
        "WARN x | detected_level=error"
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
