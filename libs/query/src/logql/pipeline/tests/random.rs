//! Parsers that leave labels out agree with parsers that do not, and no stage panics.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;

const NAMES: [&str; 6] = ["a", "b", "c_d", "app", "c", "m"];

/// Stages that all at once may meet any line.
const EVERY_STAGE: [&str; 16] = [
    "| json",
    r#"| json x="a.b[0]", y="c""#,
    "| logfmt",
    "| logfmt --strict --keep-empty",
    r#"| logfmt x="a", y="b""#,
    r"| regexp `(?P<a>\w+)=(?P<b>.*)`",
    "| pattern `<a> <_>=<b>`",
    "| unpack",
    r#"|> "<_>=<_>" or "a<_>""#,
    r#"|= ip("10.0.0.0/8") or "a""#,
    r#"| a > 1 or b < 1s or c = 1KB or app=ip("::1") or m!="x""#,
    "| line_format `{{.a}}{{__line__}}`",
    "| label_format a=`{{ .a | trunc 3 | upper }}`, b=a",
    "| decolorize",
    r#"| drop a, b="1""#,
    "| keep a, m",
];

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9 \"\\\\é]{0,6}".prop_map(|text| format!("{text:?}")
            .replace("\\u{", "\\u00")
            .replace('}', "")),
        (0..100i32).prop_map(|n| n.to_string()),
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("[1,{\"a\":2}]".to_owned()),
    ]
}

/// An object whose flattened names are all different.
fn object() -> impl Strategy<Value = String> {
    (
        proptest::sample::subsequence(vec!["a", "b", "app", "m", "e f"], 0..5),
        proptest::collection::vec(scalar(), 8),
        any::<bool>(),
    )
        .prop_map(|(keys, values, nested)| {
            let mut members: Vec<String> = keys
                .iter()
                .zip(&values)
                .map(|(key, value)| format!("\"{key}\":{value}"))
                .collect();
            if nested {
                members.insert(
                    members.len() / 2,
                    format!("\"c\":{{\"d\":{},\"x\":{}}}", values[6], values[7]),
                );
            }
            format!("{{{}}}", members.join(","))
        })
}

fn pairs() -> impl Strategy<Value = String> {
    let value = prop_oneof!["[a-z0-9]{0,4}", "\"[a-z ]{0,4}\""];
    (
        proptest::sample::subsequence(NAMES.to_vec(), 0..6),
        proptest::collection::vec(value, 6),
    )
        .prop_map(|(keys, values)| {
            let pairs: Vec<String> = keys
                .iter()
                .zip(&values)
                .map(|(k, v)| format!("{k}={v}"))
                .collect();
            pairs.join(" ")
        })
}

fn labels_of(
    pipeline: &Pipeline,
    need: &LabelNeed,
    line: &str,
    names: &[&str],
) -> Vec<Option<String>> {
    let mut runner = pipeline.runner(need);
    runner.stream(&stream());
    let output = runner
        .run(AT, line.as_bytes(), &[("m", "meta"), ("n", "1")])
        .unwrap();
    names
        .iter()
        .map(|name| output.labels.get(name).map(str::to_owned))
        .collect()
}

fn check_hints(stages: &str, line: &str, wanted: &[&str]) -> Result<(), TestCaseError> {
    let pipeline = compile(stages);
    let need = LabelNeed::Only(wanted.iter().map(|n| (*n).to_owned()).collect());
    prop_assert_eq!(
        labels_of(&pipeline, &need, line, wanted),
        labels_of(&pipeline, &LabelNeed::All, line, wanted),
        "{} over {}",
        stages,
        line
    );
    Ok(())
}

fn wanted() -> impl Strategy<Value = Vec<&'static str>> {
    let names = vec![
        "a",
        "b",
        "c_d",
        "c_x",
        "app",
        "app_extracted",
        "m",
        "m_extracted",
        "e_f",
        "n",
    ];
    proptest::sample::subsequence(names, 1..5)
}

proptest! {
    #![proptest_config(Config { cases: 256, failure_persistence: None, ..Config::default() })]

    #[test]
    fn json_finds_the_same_labels_when_it_looks_for_some(line in object(), wanted in wanted()) {
        check_hints("| json", &line, &wanted)?;
        check_hints("| json | label_format b=a", &line, &wanted)?;
    }

    #[test]
    fn logfmt_finds_the_same_labels_when_it_looks_for_some(line in pairs(), wanted in wanted()) {
        check_hints("| logfmt", &line, &wanted)?;
        check_hints("| logfmt --strict --keep-empty", &line, &wanted)?;
        check_hints("| pattern `<a>=<b> <c_d>=<_>`", &line, &wanted)?;
        check_hints(r"| regexp `(?P<b>\w+)=(?P<app>\w*)`", &line, &wanted)?;
    }

    #[test]
    fn the_group_of_a_row_is_made_of_its_labels(line in pairs(), wanted in wanted()) {
        let pipeline = compile("| logfmt");
        let need = LabelNeed::Only(wanted.iter().map(|n| (*n).to_owned()).collect());
        let mut runner = pipeline.runner(&need);
        runner.stream(&stream());
        let sample = runner.sample(AT, line.as_bytes(), &[("m", "meta")]).unwrap();
        let series = Arc::clone(&runner.series(sample.series).labels);
        let mut full = pipeline.runner(&LabelNeed::All);
        full.stream(&stream());
        let output = full.run(AT, line.as_bytes(), &[("m", "meta")]).unwrap();
        let mut want: Vec<(Box<str>, Box<str>)> = wanted
            .iter()
            .filter_map(|name| Some(((*name).into(), output.labels.get(name)?.into())))
            .collect();
        want.sort();
        prop_assert_eq!(&series[..], &want[..]);
    }

    #[test]
    fn no_stage_panics_on_any_bytes(
        line in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..80),
            object().prop_map(String::into_bytes),
            pairs().prop_map(String::into_bytes),
            "[\\[\\]{}\",:=\\\\a-c0-2. \u{1b}é-]{0,60}".prop_map(String::into_bytes),
        ],
        order in proptest::sample::subsequence(EVERY_STAGE.to_vec(), 1..6),
    ) {
        let pipeline = compile(&order.join(" "));
        let mut runner = pipeline.runner(&LabelNeed::Without(Vec::new()));
        runner.stream(&stream());
        let _ = pipeline.pushed_line_filter().is_match(&line);
        let _ = runner.sample(AT, &line, &[("m", "x")]);
        let _ = level::detect(&line, &stream(), &[]);
    }

    #[test]
    fn no_template_function_panics(
        text in "[a-zA-Z0-9éü %+:. _-]{0,12}",
        other in "[a-zA-Z0-9 ()$.:-]{0,8}",
        number in -20i64..20,
    ) {
        use crate::logql::ast::Stage;
        let text = format!("{text:?}");
        let other = format!("{other:?}");
        for call in [
            format!("trunc {number} {text}"),
            format!("substr {number} 3 {text}"),
            format!("substr 2 {number} {text}"),
            format!("alignLeft {number} {text}"),
            format!("alignRight {number} {text}"),
            format!("indent {number} {text}"),
            format!("repeat {number} {text}"),
            format!("toDate {other} {text}"),
            format!("toDateInZone {other} \"Europe/Berlin\" {text}"),
            format!("date {other} {number}"),
            format!("unixToTime {text}"),
            format!("regexReplaceAll {other} {text} {other}"),
            format!("round {text} {number}"),
            format!("divf {number} {text}"),
            format!("mulf {number} {text}"),
            format!("div {number} {text}"),
            format!("urldecode {text}"),
            format!("b64dec {text}"),
            format!("bytes {text}"),
            format!("duration {text}"),
            format!("printf {text} {number} {other}"),
            format!("title {text}"),
            format!("slice {text} {number}"),
        ] {
            let template = format!("{{{{ {call} }}}}");
            let Ok(pipeline) = Pipeline::compile(&[Stage::LineFormat(template.clone())], None) else {
                continue;
            };
            let out = run_with(&pipeline, b"x", &[]).unwrap();
            prop_assert!(!out.contains("panic"), "{}: {}", template, out);
        }
    }
}
