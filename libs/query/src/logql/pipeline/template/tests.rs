//! Limits of a rendering.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::names::Names;
use super::value::Value;
use super::{AlertData, AlertTemplate, Body, LINE, Template, run};
use crate::{Budget, Halt};

/// Runs a template over one label, `text`.
fn render(template: &str, text: &str) -> Result<String, String> {
    let template = Template::compile(template, LINE, &mut Names::default()).unwrap();
    let Body::Go(program) = &template.body else {
        panic!("only templates that run");
    };
    let labels = BTreeMap::from([(Arc::from("text"), Arc::from(text))]);
    let (mut out, halt) = (String::new(), Halt::default());
    run::run(program, &Value::Labels(Arc::new(labels)), &halt, &mut out).map(|()| out)
}

#[track_caller]
fn check_fails(template: &str, text: &str, problem: &str) {
    let error = render(template, text).unwrap_err();
    assert!(error.ends_with(problem), "{template}: {error}");
}

const LONG_RESULT: &str = ": result of more than 16777216 bytes";

#[test]
fn no_call_makes_more_than_may_be_held() {
    for call in ["print $x $x", "println $x $x", "printf `%s%s` $x $x"] {
        let template =
            format!("{{{{$x := `aaaa`}}}}{{{{range 40}}}}{{{{$x = {call}}}}}{{{{end}}}}");
        check_fails(&template, "", LONG_RESULT);
    }
    let (texts, lines) = ("a".repeat(1 << 15), "\n".repeat(1 << 15));
    for (call, text) in [
        ("replace `a` .text .text", &texts),
        ("Replace .text `a` .text -1", &texts),
        ("regexReplaceAll `a` .text .text", &texts),
        ("regexReplaceAll `a+` .text (repeat 600 `$0`)", &texts),
        ("regexReplaceAllLiteral `a` .text .text", &texts),
        ("indent 1000 .text", &lines),
        ("nindent 1000 .text", &lines),
    ] {
        check_fails(&format!("{{{{{call}}}}}"), text, LONG_RESULT);
    }
    check_fails("{{html .text}}", &"<".repeat(5 << 20), LONG_RESULT);
    let odd = "\u{1}".repeat(6 << 20);
    for call in [
        "js .text",
        "urlquery .text",
        "urlencode .text",
        "b64enc (print .text .text .text | b64enc)",
    ] {
        check_fails(&format!("{{{{{call}}}}}"), &odd, LONG_RESULT);
    }
}

#[test]
fn calls_that_make_little_give_what_they_gave() {
    for (call, want) in [
        (r#"replace "" "-" "ab""#, "-a-b-"),
        (r#"Replace "aaa" "a" "b" 2"#, "bba"),
        (r#"Replace "aaa" "a" "b" -1"#, "bbb"),
        (
            r#"regexReplaceAll "(a+)(x?)" "aabax" "<${1}$2>""#,
            "<aa>b<ax>",
        ),
        (r#"regexReplaceAll "x*" "axb" "-""#, "-a-b-"),
        (r#"regexReplaceAllLiteral "a" "bab" "$0""#, "b$0b"),
        (r#"indent 2 "a\nb\n""#, "  a\n  b\n  "),
        (r#"nindent 1 "a""#, "\n a"),
    ] {
        assert_eq!(render(&format!("{{{{{call}}}}}"), "").as_deref(), Ok(want));
    }
}

#[test]
fn all_calls_together_make_only_so_much() {
    let problem = "calls make more than 134217728 bytes";
    let text = "a".repeat(1 << 20);
    let loop_of =
        |turns: usize| format!("{{{{range {turns}}}}}{{{{$x := print $.text `b`}}}}{{{{end}}}}");
    assert_eq!(render(&loop_of(100), &text).as_deref(), Ok(""));
    check_fails(&loop_of(130), &text, problem);
    let json = format!("[{}0]", "0,".repeat(3 << 20));
    check_fails("{{$x := fromJson .text}}", &json, problem);
    let json = format!("[{}0]", "0,".repeat(1 << 16));
    let slices = "{{$x := fromJson .text}}{{range 200}}{{$y := slice $x 1}}{{end}}";
    check_fails(slices, &json, problem);
}

#[test]
fn one_rendering_does_only_so_much() {
    let problem = "more than 1000000 steps";
    let mut calls = r#"{{define "t0"}}{{end}}"#.to_owned();
    for at in 1..60 {
        let below = at - 1;
        calls.push_str(&format!(
            r#"{{{{define "t{at}"}}}}{{{{template "t{below}"}}}}{{{{template "t{below}"}}}}{{{{end}}}}"#
        ));
    }
    check_fails(&format!(r#"{calls}{{{{template "t59"}}}}"#), "", problem);
    // Long texts that are only looked at, expressions, members.
    let long = "a".repeat(1 << 20);
    let looks = "{{range 2000}}{{$x := contains `b` $.text}}{{end}}";
    check_fails(looks, &long, problem);
    let compiles = "{{range 20000}}{{$x := count `a` $.text}}{{end}}";
    check_fails(compiles, "a", problem);
    let many = "(len $.text) ".repeat(500);
    check_fails(
        &format!("{{{{range 2000}}}}{{{{$x := print {many}}}}}{{{{end}}}}"),
        "a",
        problem,
    );
    let members = ".UTC".repeat(500);
    let template = format!("{{{{range 5000}}}}{{{{$x := (now){members}}}}}{{{{end}}}}");
    check_fails(&template, "", problem);
    let variables = "{{$a := 1}}".repeat(6_400);
    let template =
        format!("{{{{$z := 1}}}}{variables}{{{{range 20000}}}}{{{{$y := $z}}}}{{{{end}}}}");
    check_fails(&template, "", problem);
}

#[test]
fn loops_of_as_many_turns_as_may_be_end_by_themselves() {
    let template = "{{range 100000}}{{if eq . 99999}}{{.}}{{end}}{{end}}";
    assert_eq!(render(template, "").as_deref(), Ok("99999"));
}

/// Runs on a thread with as little stack as any has.
fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(test).unwrap().join().unwrap();
}

fn nested(open: &str, inner: &str, levels: usize) -> String {
    format!("{}{inner}{}", open.repeat(levels), "{{end}}".repeat(levels))
}

#[test]
fn branches_inside_of_templates_count_as_depth() {
    on_small_stack(|| {
        let problem = "exceeded maximum template depth (2000)";
        for open in [
            "{{if .text}}",
            "{{range 1}}",
            "{{with .}}",
            "{{if .none}}{{else}}",
        ] {
            let calls = nested(open, r#"{{template "t" $}}"#, 90);
            let template = format!(r#"{{{{define "t"}}}}{calls}{{{{end}}}}{{{{template "t" .}}}}"#);
            check_fails(&template, "a", problem);
        }
    });
}

#[test]
fn all_that_may_be_nested_fits_a_small_stack() {
    on_small_stack(|| {
        let problem = "exceeded maximum template depth (2000)";
        for open in [
            "{{if .text}}",
            "{{range 1}}",
            "{{with $}}",
            "{{if .none}}{{else}}",
        ] {
            let template = nested(open, "x", 97);
            assert_eq!(render(&template, "a").as_deref(), Ok("x"), "{open}");
        }
        // As deep as it goes, with a call of a template, a branch and calls in parentheses.
        let parens = format!("{}`a`{}", "(print ".repeat(40), ")".repeat(40));
        let json = format!("{}{}", "[".repeat(120), "]".repeat(120));
        for levels in [1, 300, 1_100] {
            let call = format!(
                r#"{{{{define "t"}}}}{{{{if lt (len .) {levels}}}}}{{{{template "t" (print . `a`)}}}}{{{{else}}}}{{{{print {parens}}}}}{{{{printf "%d" (fromJson `{json}`)}}}}{{{{end}}}}{{{{end}}}}{{{{template "t" ``}}}}"#
            );
            match render(&call, "") {
                Ok(text) => assert!(text.starts_with("a[["), "{levels}: {text}"),
                Err(error) => assert!(error.ends_with(problem), "{levels}: {error}"),
            }
        }
    });
}

#[test]
fn a_chain_of_conditions_is_not_deep() {
    let chain: String = (0..90)
        .map(|at| format!("{{{{else if eq .text `{at}`}}}}{at}"))
        .collect();
    let template = format!("{{{{if eq .text `x`}}}}x{chain}{{{{else}}}}none{{{{end}}}}");
    for (text, want) in [("x", "x"), ("89", "89"), ("90", "none")] {
        assert_eq!(render(&template, text).as_deref(), Ok(want));
    }
}

#[test]
fn regular_expressions_that_are_kept_are_not_mistaken_for_one_another() {
    let calls: String = ["a", "b+", "[ab]", "c", "^", "(b)(c)", "a"]
        .iter()
        .map(|of| format!("{{{{regexReplaceAll `{of}` .text `<$0>`}}}}{{{{count `{of}` .text}}}} "))
        .collect();
    let want = "<a>bbc1 a<bb>c1 <a><b><b>c3 abb<c>1 <>abbc1 ab<bc>1 <a>bbc1 ";
    for _ in 0..2 {
        assert_eq!(render(&calls, "abbc").as_deref(), Ok(want));
    }
    for _ in 0..2 {
        check_fails("{{count `(` .text}}", "a", "missing closing ): `(`");
    }
}

#[test]
fn a_rendering_ends_when_its_query_does() {
    let budget = Budget::unlimited();
    let template = AlertTemplate::parse(
        "a",
        "{{ query \"q\" }}{{ range $x := query \"q\" }}{{ printf \"%v\" $x }}{{ end }}",
    );
    let asked = Cell::new(0);
    let queries = |_: &str| {
        asked.set(asked.get() + 1);
        budget.cancel();
        Ok(vec![(BTreeMap::new(), 1.0); 5_000])
    };
    let data = AlertData {
        labels: BTreeMap::new(),
        value: 0.0,
        external_url: "".into(),
    };
    let until = |halt| {
        template
            .as_ref()
            .unwrap()
            .expand_until(&data, &queries, halt)
    };
    let error = until(budget.halt()).unwrap_err();
    assert!(error.ends_with("the query is over"), "{error}");
    assert_eq!(asked.get(), 2);
    // Nor does another begin.
    until(budget.halt()).unwrap_err();
    assert_eq!(asked.get(), 2);
    until(&Halt::default()).unwrap();
}

#[test]
fn times_know_where_they_are_shown() {
    let berlin = r#"(toDateInZone "2006-01-02 15:04" "Europe/Berlin" "2024-07-01 10:00")"#;
    let plain = r#"(toDate "2006-01-02" "2024-03-01")"#;
    for (action, want) in [
        (format!("{berlin}.Location"), "Europe/Berlin"),
        (format!("{berlin}.IsDST"), "true"),
        (format!("{plain}.Location.String"), "Local"),
        (format!("{plain}.UTC.Location"), "UTC"),
        (
            format!("{plain}.In {berlin}.Location"),
            "2024-03-01 01:00:00 +0100 CET",
        ),
        // Into winter time: the clock shows the same hour.
        (
            format!("{berlin}.AddDate 0 6 0"),
            "2025-01-01 10:00:00 +0100 CET",
        ),
        (
            format!("{berlin}.GoString"),
            "time.Date(2024, time.July, 1, 10, 0, 0, 0, time.Location(\"Europe/Berlin\"))",
        ),
        (
            format!("printf `%s %T` {plain}.MarshalText {plain}.MarshalText"),
            "2024-03-01T00:00:00Z []uint8",
        ),
        (
            format!("printf `%s` ({plain}.AppendFormat nil `2006`)"),
            "2024",
        ),
        (format!("{plain}.AppendFormat nil `2`"), "[49]"),
    ] {
        let rendered = render(&format!("{{{{{action}}}}}"), "");
        assert_eq!(rendered.as_deref(), Ok(want), "{action}");
    }
}
