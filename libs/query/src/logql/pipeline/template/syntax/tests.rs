use super::*;

fn refused(source: &str) -> String {
    let knows = |name: &str| matches!(name, "upper" | "add");
    match refusal("line", source, &knows) {
        Some((line, problem)) => format!("{line}: {problem}"),
        None => String::new(),
    }
}

#[test]
fn what_go_takes_is_taken() {
    for source in [
        "",
        "a {{- .a -}} b",
        "{{/* {{ */}}{{- /* x */ -}}",
        "{{if .a}}1{{else if .b}}2{{else}}3{{end}}",
        "{{with $x := .a}}{{$x}}{{else with .b}}{{.}}{{end}}",
        "{{range $i, $e := .a}}{{break}}{{continue}}{{end}}",
        "{{define \"t\"}}{{.}}{{end}}{{template \"t\" .a}}{{block `b` .}}x{{end}}",
        "{{(.a).b.c | upper | add 1 (add 2 0x1F)}}",
        "{{.a .b}}{{upper}}{{.a|}}{{1i}}{{1_0}}{{.5}}{{'\\''}}{{\"\\u00e9\"}}",
        "{{$x := 1}}{{$x = 2}}{{$x}}",
        "}} {",
    ] {
        assert_eq!(refused(source), "", "{source}");
    }
}

#[test]
fn what_go_refuses_is_refused_in_its_words() {
    for (source, want) in [
        ("{{", "1: unclosed action"),
        ("a\n{{if}}", "2: missing value for if"),
        ("{{}}", "1: missing value for command"),
        ("{{if .a}}x", "1: unexpected EOF"),
        ("{{end}}", "1: unexpected {{end}}"),
        (
            "{{if .a}}{{else}}{{else}}{{end}}",
            "1: expected end; found {{else}}",
        ),
        ("{{.a-b}}", "1: bad character U+002D '-'"),
        ("{{.a + 1}}", "1: illegal number syntax: \"+\""),
        ("{{.a && .b}}", "1: unexpected \"&\" in operand"),
        ("{{foo .a}}", "1: function \"foo\" not defined"),
        ("{{$x}}", "1: undefined variable \"$x\""),
        (
            "{{if .a}}{{$x := 1}}{{end}}{{$x}}",
            "1: undefined variable \"$x\"",
        ),
        ("{{$a, $b := .x}}", "1: too many declarations in command"),
        (
            "{{range $a, 1 := .x}}",
            "1: range can only initialize variables",
        ),
        (
            "{{.a | 1}}",
            "1: non executable command in pipeline stage 2",
        ),
        ("{{(.a}}", "1: unclosed left paren"),
        ("{{.a)}}", "1: unexpected right paren"),
        ("{{()}}", "1: missing value for parenthesized pipeline"),
        ("{{\"a\".b}}", "1: unexpected . after term \"\\\"a\\\"\""),
        ("{{\"\\z\"}}", "1: invalid syntax"),
        ("{{'ab'}}", "1: malformed character constant: 'ab'"),
        ("{{08}}", "1: integer overflow: \"08\""),
        ("{{1a}}", "1: bad number syntax: \"1a\""),
        ("{{break}}", "1: {{break}} outside {{range}}"),
        ("{{template x}}", "1: unexpected \"x\" in template clause"),
        (
            "{{template somelongname}}",
            "1: unexpected \"somelongna\"... in template clause",
        ),
        (
            "{{if .a}}{{define \"b\"}}{{end}}{{end}}",
            "1: unexpected <define> in command",
        ),
        (
            "{{define \"x\"}}1{{end}}{{define \"x\"}}2{{end}}",
            "1: template: multiple definition of template \"x\"",
        ),
        ("{{.a\n", "2: unclosed action started at line:1"),
        ("{{/* x }}", "1: unclosed comment"),
    ] {
        assert_eq!(refused(source), want, "{source}");
    }
}

#[test]
fn of_templates_that_nest_too_deeply_nothing_is_said() {
    let deep = format!("{{{{{}", "(".repeat(100_000));
    assert_eq!(refused(&deep), "");
    assert_eq!(refused(&"{{if .a}}".repeat(100_000)), "");
    let chain = "{{else if .a}}".repeat(100_000);
    assert_eq!(refused(&format!("{{{{if .a}}}}{chain}{{{{end}}}}")), "");
}
