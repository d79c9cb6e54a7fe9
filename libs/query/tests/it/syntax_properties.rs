//! What must hold for every expression and every text: printing loses nothing, and no text makes
//! the parser panic.

use proptest::prelude::*;
use query::logql::engine::Params;
use query::logql::{format, parse};
use testkit::MemorySource;

use crate::engine::{SECOND, at, labels, run, show};
use crate::expressions::expr;

/// Checks a text that may be no query: if it is one, it prints to an equal one.
fn survives(text: &str) -> Result<(), TestCaseError> {
    match parse(text) {
        Ok(expr) => {
            let printed = expr.to_string();
            let again =
                parse(&printed).map_err(|e| TestCaseError::fail(format!("{printed}: {e}")))?;
            // NaN is not equal to itself, its text is.
            prop_assert_eq!(again.to_string(), printed);
        }
        Err(error) => prop_assert!(error.to_string().starts_with("parse error")),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_printed_expression_parses_to_itself(expr in expr()) {
        let printed = expr.to_string();
        prop_assert_eq!(parse(&printed), Ok(expr), "{}", printed);
    }

    #[test]
    fn a_formatted_expression_parses_to_itself(expr in expr()) {
        let pretty = format::pretty(&expr);
        prop_assert_eq!(parse(&pretty), Ok(expr), "{}", pretty);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        survives(&text)?;
    }

    #[test]
    fn texts_of_tokens_are_parsed_or_refused(words in prop::collection::vec(word(), 0..24)) {
        survives(&words.concat())?;
    }

    #[test]
    fn damaged_queries_are_parsed_or_refused(
        expr in expr(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..4, word()), 1..3),
    ) {
        let mut text: Vec<char> = expr.to_string().chars().collect();
        for (at, removed, added) in cuts {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, added.chars());
        }
        survives(&text.into_iter().collect::<String>())?;
    }
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        ",",
        "=",
        "=~",
        "!=",
        "|",
        "|=",
        "|~",
        "!>",
        "+",
        "-",
        "^",
        "%",
        ">",
        "a",
        "b",
        "\"",
        "\"x\"",
        "`",
        "`y`",
        "5",
        "1.5e3",
        "5m",
        "[5m]",
        "[1h:1m]",
        "10KB",
        " ",
        "\n",
        "#",
        "by",
        "without",
        "and",
        "or",
        "unless",
        "sum",
        "rate",
        "topk",
        "count_over_time",
        "json",
        "logfmt",
        "--strict",
        "unwrap",
        "offset",
        "ip",
        "sort",
        "distinct",
        "label_replace",
        "label_format",
        "line_format",
        "drop",
        "keep",
        "bool",
        "on",
        "group_left",
        "\\",
        "é",
        "{a=\"b\"}",
        "count_over_time({a=\"b\"}[5m])",
    ])
}

#[test]
fn nesting_without_end_is_refused_and_does_not_exhaust_the_stack() {
    for (open, close) in [
        ("(", ")"),
        ("sum(", ")"),
        ("1^", ""),
        ("-", ""),
        ("1+(", ")"),
    ] {
        let text = format!("{}1{}", open.repeat(5_000), close.repeat(5_000));
        assert!(parse(&text).is_err(), "{open}");
    }
    let filters = format!(
        "{{a=\"b\"}} | {}c=1{}",
        "(".repeat(5_000),
        ")".repeat(5_000)
    );
    assert!(parse(&filters).is_err());
    assert!(parse(&format!("vector(1){}", " + vector(1)".repeat(5_000))).is_err());
    assert!(parse(&format!("{{a=\"b\"}} | c=1{}", " or c=1".repeat(5_000))).is_err());
}

/// Does all that is done with the query, on a thread with little stack.
#[expect(
    clippy::unwrap_used,
    reason = "a helper of tests: a panic is the failure of the test"
)]
fn lives_on_a_small_stack(text: String) {
    let work = move || {
        let expr = parse(&text).unwrap();
        let printed = expr.to_string();
        assert!(parse(&printed).unwrap() == expr.clone());
        // Indented, it is far longer than a query may be.
        assert!(format::pretty(&expr).len() > text.len());
        let mut source = MemorySource::new();
        source.push(&labels(&[("a", "b")]), SECOND, "c=1 d=2", &[]);
        let whole = Params {
            end: 2 * SECOND,
            step: SECOND,
            ..at(0)
        };
        let answer = run(&source, &text, &whole).unwrap();
        assert!(!show(&answer.value).is_empty());
    };
    let small = std::thread::Builder::new().stack_size(1 << 20);
    small.spawn(work).unwrap().join().unwrap();
}

#[test]
fn two_thousand_terms_nest_as_deep_as_they_like() {
    let n = 2_000;
    for text in [
        format!("vector(1){}", " + vector(1)".repeat(n)),
        format!("vector(1){}", " ^ vector(1)".repeat(n)),
        format!("{}vector(1){}", "(1 + ".repeat(n), ")".repeat(n)),
        format!("{}vector(1){}", "sum(".repeat(n), ")".repeat(n)),
        format!("{{a=\"b\"}} | logfmt | c=2{} or d=2", " or c=2".repeat(n)),
        format!("{{a=\"b\"}} | logfmt | c=1{}", " and c=1".repeat(n)),
        format!("{{a=\"b\"}} | logfmt | c=1{}", ", c=1".repeat(n)),
        format!("{{a=\"b\"}} | logfmt | c=1{}", ", c=1 or d=3".repeat(n / 2)),
    ] {
        lives_on_a_small_stack(text);
    }
}

#[test]
fn long_texts_are_refused_by_their_length() {
    let text = format!("{{a=\"{}\"}}", "x".repeat(131_072));
    let error = parse(&text).unwrap_err().to_string();
    assert_eq!(error, "parse error : input size too long (131078 > 131072)");
}

#[test]
fn texts_of_line_filters_may_be_many() {
    let texts = " or \"x\"".repeat(2_000);
    for op in ["|=", "!=", "|>"] {
        let text = format!("{{a=\"b\"}} {op} \"y\"{texts}");
        assert!(parse(&text).is_ok(), "{op}");
    }
}

#[test]
fn too_many_regular_expressions_are_refused_before_they_cost_time() {
    let text = format!("{{a=\"b\"}} {}", "|~ `a.*b`".repeat(600));
    let error = parse(&text).unwrap_err().to_string();
    assert_eq!(
        error,
        "parse error : more than 512 regular expressions in one query"
    );
    assert!(parse(&format!("{{a=\"b\"}} {}", "|~ `\\pL{1000}`".repeat(600))).is_err());
}
