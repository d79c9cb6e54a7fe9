//! `line_format`, `label_format` and the template functions.

use super::*;

/// Renders a template over labels that a logfmt line gives.
#[track_caller]
fn check_templates(labels: &str, cases: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (template, want) in cases {
        let pipeline = compile(&format!("| logfmt --keep-empty | line_format `{template}`"))
            .with_now(1_609_459_200_000_000_000);
        let mut runner = pipeline.runner(&LabelNeed::All);
        runner.stream(&stream());
        let output = runner.run(AT, labels.as_bytes(), &[]).unwrap();
        let got = match output.labels.has_error() {
            true => format!(
                "{}: {}",
                output.labels.error(),
                output.labels.error_details()
            ),
            false => String::from_utf8_lossy(output.line).into_owned(),
        };
        let same = match want.strip_suffix("...") {
            Some(start) => got.starts_with(start),
            None => got == *want,
        };
        if !same {
            wrong.push_str(&format!("\n{template}\n  got  {got}\n  want {want}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn line_format_writes_the_line_from_labels() {
    check_all(&[
        (r#"| line_format "{{.app}}: {{__line__}}""#, "x", "web: x |"),
        (r#"| line_format "a{{.nope}}b""#, "x", "ab |"),
        (r#"| line_format "a{{.nope | ToUpper}}b""#, "x", "ab |"),
        (r#"| line_format "a{{ index . \"nope\" }}b""#, "x", "ab |"),
        (
            r#"| logfmt | line_format "{{.a}}-{{.b}}""#,
            "a=1 b=2",
            "1-2 | a=1 b=2",
        ),
        (
            r#"| line_format "{{if .app}}y{{else}}n{{end}}""#,
            "x",
            "y |",
        ),
        (
            r#"| line_format "{{if eq .app `web`}}y{{end}}""#,
            "x",
            "y |",
        ),
        (
            r#"| line_format "{{range $k, $v := .}}{{$k}}={{$v}};{{end}}""#,
            "x",
            "app=web;pod=p-1; |",
        ),
        (r#"| line_format "{{.}}""#, "x", "map[app:web pod:p-1] |"),
        (
            r#"| json | line_format "{{.__error__}}!""#,
            "x",
            "JSONParserErr! | __error__=JSONParserErr __error_details__=Value looks like object, but can't find closing '}' symbol",
        ),
        (
            r#"| json | line_format "{{.__error__}}""#,
            "x",
            " | __error__=JSONParserErr __error_details__=Value looks like object, but can't find closing '}' symbol",
        ),
        (
            r#"| line_format "{{define `t`}}<{{.app}}>{{end}}{{template `t` .}}""#,
            "x",
            "<web> |",
        ),
        (r#"| line_format """#, "x", " |"),
        (
            r#"| line_format "{{ with .app }}[{{.}}]{{ end }}""#,
            "x",
            "[web] |",
        ),
        (
            r#"| line_format "{{ $a := .app }}{{ $a }}{{ $.pod }}""#,
            "x",
            "webp-1 |",
        ),
        (r#"| line_format "{{- .app -}} x""#, "x", "webx |"),
    ]);
    let query = |text: &str| {
        Pipeline::compile(&[crate::logql::ast::Stage::LineFormat(text.into())], None)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert!(query("{{ nofunc .a }}").contains("function \"nofunc\" not defined"));
    assert!(query("{{ .a ").contains("invalid template: template: line:1"));
}

#[test]
fn templates_that_fail_leave_the_line_and_set_an_error() {
    let pipeline = compile("| line_format `{{ div 1 0 }}`");
    let out = run_with(&pipeline, b"x", &[]).unwrap();
    assert!(
        out.starts_with("x | __error__=TemplateFormatErr __error_details__="),
        "{out}"
    );
    assert!(out.contains("integer divide by zero"), "{out}");
    let pipeline = compile("| label_format a=`{{ urldecode \"%zz\" }}`, b=`ok`");
    let out = run_with(&pipeline, b"x", &[]).unwrap();
    assert!(out.contains("__error__=TemplateFormatErr"), "{out}");
    assert!(out.ends_with("b=ok"), "{out}");
}

#[test]
fn label_format_renames_and_sets() {
    check_labels(&[
        ("| logfmt | label_format b=a", "a=1", "b=1"),
        ("| logfmt | label_format b=a", "a=1 b=2", "b=1"),
        ("| logfmt | label_format b=nope", "a=1 b=2", "a=1 b=2"),
        ("| label_format x=`{{.app}}/{{.pod}}`", "l", "x=web/p-1"),
        (
            "| logfmt | label_format a=`{{.b}}`, c=`{{.a}}`",
            "a=1 b=2",
            "a=2 b=2 c=1",
        ),
        ("| logfmt | label_format a=`{{.a}}!`", "a=1", "a=1!"),
        ("| label_format x=``", "l", "x="),
        ("| label_format x=`{{__line__}}`", "l", "x=l"),
        (
            "| logfmt | label_format a_b=`{{.a}}`, x=b",
            "a=1 b=2",
            "a=1 a_b=1 x=2",
        ),
    ]);
    let out = run_with(&compile("| label_format other=app"), b"l", &[]).unwrap();
    assert_eq!(out, "l | other=web");
    let pipeline = compile("| label_format other=app");
    let mut runner = pipeline.runner(&LabelNeed::All);
    runner.stream(&stream());
    let output = runner.run(AT, b"l", &[]).unwrap();
    let stream: Vec<_> = output.labels.stream().collect();
    assert_eq!(stream, [("pod", "p-1")]);
    let parsed: Vec<_> = output.labels.parsed().collect();
    assert_eq!(parsed, [("other", "web")]);
}

#[test]
fn templates_of_one_stage_see_the_labels_before_the_first_of_them() {
    check_labels(&[(
        "| logfmt | label_format c=a, x=`{{.c}}`, d=b, y=`{{.b}}{{.d}}{{.x}}`",
        "a=1 b=2",
        "c=1 d=2 x=1 y=2",
    )]);
}

#[test]
fn go_text_functions() {
    check_templates(
        r#"s="Hello World" t="  x  " p="aXbXc" u="a b&c=d/é" q=-- e="#,
        &[
            ("{{ ToLower .s }}", "hello world"),
            ("{{ .s | ToUpper }}", "HELLO WORLD"),
            ("{{ Replace .p \"X\" \"-\" -1 }}", "a-b-c"),
            ("{{ Replace .p \"X\" \"-\" 1 }}", "a-bXc"),
            ("{{ Trim .q \"-\" }}", ""),
            ("{{ Trim .p \"ac\" }}", "XbX"),
            ("{{ TrimLeft .p \"aX\" }}", "bXc"),
            ("{{ TrimRight .p \"cX\" }}", "aXb"),
            ("{{ TrimPrefix .p \"aX\" }}", "bXc"),
            ("{{ TrimSuffix .p \"Xc\" }}", "aXb"),
            ("[{{ TrimSpace .t }}]", "[x]"),
            (
                "{{ regexReplaceAll \"(X)(.)\" .p \"<$2$1>\" }}",
                "a<bX><cX>",
            ),
            ("{{ regexReplaceAll \"X\" .p \"${0}${0}\" }}", "aXXbXXc"),
            ("{{ regexReplaceAllLiteral \"X\" .p \"$0\" }}", "a$0b$0c"),
            (
                "{{ regexReplaceAll \"(\" .p \"\" }}",
                "TemplateFormatErr...",
            ),
            ("{{ count \"X.\" .p }}", "2"),
            ("{{ .p | count \"z\" }}", "0"),
            ("{{ urlencode .u }}", "a+b%26c%3Dd%2F%C3%A9"),
            ("{{ .u | urlencode | urldecode }}", "a b&c=d/é"),
            ("{{ urldecode \"%4\" }}", "TemplateFormatErr..."),
            ("{{ bytes \"2 KB\" }}", "2000"),
            ("{{ bytes \"1.5MiB\" }}", "1.572864e+06"),
            ("{{ bytes \"x\" }}", "TemplateFormatErr..."),
            ("{{ duration \"1m30s\" }}", "90"),
            ("{{ duration_seconds \"1500ms\" }}", "1.5"),
            ("{{ duration \"1x\" }}", "TemplateFormatErr..."),
            ("{{ alignLeft 5 .p }}|", "aXbXc|"),
            ("{{ alignLeft 7 .p }}|", "aXbXc  |"),
            ("{{ alignLeft 2 .p }}|", "aX|"),
            ("{{ alignRight 7 .p }}|", "  aXbXc|"),
            ("{{ alignRight 2 .p }}|", "Xc|"),
            ("{{ alignLeft -1 .p }}|", "aXbXc|"),
            ("{{ .s | b64enc }}", "SGVsbG8gV29ybGQ="),
            ("{{ b64dec \"SGVsbG8=\" }}", "Hello"),
            (
                "{{ b64dec \"SG!sbG8=\" }}",
                "illegal base64 data at input byte 2",
            ),
            ("{{ ToLower 1 }}", "TemplateFormatErr..."),
        ],
    );
}

#[test]
fn sprig_text_functions() {
    check_templates(
        r#"s="hello world" p="aXbXc" m="a\nb" t="  x " e= u=héé"#,
        &[
            ("{{ lower \"AB\" }}{{ upper .p }}", "abAXBXC"),
            ("{{ title .s }}", "Hello World"),
            ("{{ title \"foo-bar_baz 1x\" }}", "Foo-Bar_baz 1x"),
            ("{{ trunc 3 .p }}", "aXb"),
            ("{{ trunc -3 .p }}", "bXc"),
            ("{{ trunc 30 .p }}", "aXbXc"),
            ("{{ trunc -30 .p }}", "aXbXc"),
            ("{{ substr 1 3 .p }}", "Xb"),
            ("{{ substr -1 2 .p }}", "aX"),
            ("{{ substr 2 -1 .p }}", "bXc"),
            ("{{ substr 2 99 .p }}", "bXc"),
            ("{{ substr 9 99 .p }}", "TemplateFormatErr..."),
            ("{{ substr 0 -5 .p }}", "aXbXc"),
            ("{{ contains \"X\" .p }}", "true"),
            ("{{ hasPrefix \"b\" .p }}", "false"),
            ("{{ hasSuffix \"c\" .p }}", "true"),
            ("{{ if hasPrefix \"a\" .p }}y{{ end }}", "y"),
            ("{{ indent 2 .m }}", "  a\n  b"),
            ("{{ nindent 1 .m }}", "\n a\n b"),
            ("{{ replace \"X\" \"-\" .p }}", "a-b-c"),
            ("{{ repeat 3 \"ab\" }}", "ababab"),
            ("{{ repeat 0 \"ab\" }}", ""),
            ("{{ repeat -1 \"ab\" }}", "TemplateFormatErr..."),
            ("{{ repeat 999999999 \"ab\" }}", "TemplateFormatErr..."),
            ("[{{ trim .t }}]", "[x]"),
            ("{{ trimAll \"ac\" .p }}", "XbX"),
            ("{{ trimSuffix \"c\" .p }}", "aXbX"),
            ("{{ trimPrefix \"a\" .p }}", "XbXc"),
            ("{{ default \"-\" .e }}", "-"),
            ("{{ .nope | default \"-\" }}", "-"),
            ("{{ default \"-\" .p }}", "aXbXc"),
            ("{{ default 3 0 }}", "3"),
            ("{{ trunc 2 .u }}", "h "),
        ],
    );
}

#[test]
fn sprig_arithmetic() {
    check_templates(
        r#"i=7 f=2.5 neg=-7 w=x z=0 d=12.00"#,
        &[
            ("{{ add .i 1 2 }}", "10"),
            ("{{ add 1.9 1 }}", "2"),
            ("{{ sub .i 10 }}", "-3"),
            ("{{ mul .i 2 3 }}", "42"),
            ("{{ div .i 2 }}", "3"),
            ("{{ div .neg 2 }}", "-3"),
            ("{{ div .i .z }}", "TemplateFormatErr..."),
            ("{{ mod .i 4 }}", "3"),
            ("{{ mod .neg 4 }}", "-3"),
            ("{{ mod .i 0 }}", "TemplateFormatErr..."),
            ("{{ int .f }}", "2"),
            ("{{ int 2.9 }}", "2"),
            ("{{ int .d }}", "12"),
            ("{{ addf \"Inf\" 1 }}", "TemplateFormatErr..."),
            ("{{ int 1 2 }}", "TemplateFormatErr..."),
            ("{{ int .w }}", "0"),
            ("{{ int \"0x10\" }}", "16"),
            ("{{ int true }}", "1"),
            ("{{ float64 .f }}", "2.5"),
            ("{{ float64 .w }}", "0"),
            ("{{ addf 0.1 0.2 }}", "0.3"),
            ("{{ addf .f .f 1 }}", "6"),
            ("{{ subf .f 3 }}", "-0.5"),
            ("{{ subf 0.3 0.1 }}", "0.2"),
            ("{{ mulf .f 4 }}", "10"),
            ("{{ mulf 1.1 1.1 }}", "1.21"),
            ("{{ divf .i 2 }}", "3.5"),
            ("{{ divf 1 3 }}", "0.3333333333333333"),
            ("{{ divf 2 3 }}", "0.6666666666666667"),
            ("{{ divf -2 3 }}", "-0.6666666666666667"),
            ("{{ divf 1 0 }}", "TemplateFormatErr..."),
            ("{{ max 1 .i 3 }}", "7"),
            ("{{ min 1 .neg }}", "-7"),
            ("{{ maxf 1 .f }}", "2.5"),
            ("{{ minf 1 .f }}", "1"),
            ("{{ ceil .f }}", "3"),
            ("{{ floor .f }}", "2"),
            ("{{ round .f 0 }}", "3"),
            ("{{ round 123.5555 3 }}", "123.556"),
            ("{{ round 2.4 0 }}", "2"),
            ("{{ round 2.6 0 0.7 }}", "2"),
            ("{{ round -1.4 0 }}", "-2"),
            ("{{ mulf 1000000 1000000 }}", "1e+12"),
            (
                "{{ addf 999999 0.5 }} {{ divf 1 100000 }} {{ divf 1 10000 }}",
                "999999.5 1e-05 0.0001",
            ),
            ("{{ printf \"%v %s\" 1e7 \"a\" }}", "1e+07 a"),
            ("{{ mulf .f 4000000 | printf \"%s=%v\" .w }}", "x=1e+07"),
            ("{{ print 1e7 2 .w }}", "1e+07 2x"),
            ("{{ $x := mulf 1e6 10 }}{{ $x }}", "1e+07"),
            ("{{ printf \"%.2f\" (float64 .f) }}", "2.50"),
            ("{{ printf \"%d\" (int .i) }}", "7"),
            (
                "{{ printf \"%05d|%-4s|%4s|%x|%q\" 7 \"a\" \"b\" 255 \"c\" }}",
                "00007|a   |   b|ff|\"c\"",
            ),
            ("{{ printf \"%s %v\" .f .i }}", "2.5 7"),
            ("{{ printf \"%d\" .i }}", "%!d(string=7)"),
            ("{{ if gt (int .i) 5 }}y{{ end }}", "y"),
            ("{{ if and (lt 1 2) (not false) }}y{{ end }}", "y"),
            ("{{ len .i }}", "1"),
        ],
    );
}

#[test]
fn json_in_templates() {
    check_templates(
        r#"j="{\"a\":[1,2.5,\"x\"],\"b\":{\"c\":true},\"n\":null}" w=x"#,
        &[
            ("{{ range (fromJson .j).a }}[{{.}}]{{ end }}", "[1][2.5][x]"),
            ("{{ $j := fromJson .j }}{{ $j.b.c }}", "true"),
            ("{{ (fromJson .j).n }}", "<no value>"),
            ("{{ range fromJson .w }}x{{ else }}none{{ end }}", "none"),
            (
                "{{ range $k, $v := (fromJson .j).b }}{{$k}}={{$v}}{{ end }}",
                "c=true",
            ),
            ("{{ index (fromJson .j).a 2 }}", "x"),
        ],
    );
}

#[test]
fn times_in_templates() {
    check_templates(
        "ts=1609459200 ms=1609459200123 d=2021-03-04",
        &[
            (
                "{{ __timestamp__ }}",
                "2023-11-14 22:13:20.123456789 +0000 UTC",
            ),
            (
                "{{ __timestamp__ | date \"2006-01-02T15:04:05.00Z-07:00\" }}",
                "2023-11-14T22:13:20.12Z+00:00",
            ),
            ("{{ __timestamp__.Unix }}", "1700000000"),
            ("{{ sub now.Unix __timestamp__.Unix }}", "-90540800"),
            ("{{ (unixToTime .ts).Format \"Jan 2\" }}", "Jan 1"),
            (
                "{{ (toDate \"2006-01-02\" .d).Year }}-{{ (toDate \"2006-01-02\" .d).Weekday }}",
                "2021-Thursday",
            ),
            ("{{ (fromJson \"{\\\"Day\\\":5}\").Day }}", "5"),
            ("{{ __timestamp__ | unixEpoch }}", "1700000000"),
            ("{{ __timestamp__ | unixEpochMillis }}", "1700000000123"),
            (
                "{{ __timestamp__ | unixEpochNanos }}",
                "1700000000123456789",
            ),
            ("{{ now | date \"2006\" }}", "2021"),
            ("{{ now | unixEpoch }}", "1609459200"),
            ("{{ unixToTime .ts }}", "2021-01-01 00:00:00 +0000 UTC"),
            (
                "{{ unixToTime .ms | date \"Mon Jan _2 03:04:05.000 PM 06\" }}",
                "Fri Jan  1 12:00:00.123 AM 21",
            ),
            ("{{ unixToTime \"12\" }}", "TemplateFormatErr..."),
            (
                "{{ unixToTime \"18628\" | date \"2006-01-02\" }}",
                "2021-01-01",
            ),
            (
                "{{ toDate \"2006-01-02\" .d }}",
                "2021-03-04 00:00:00 +0000 UTC",
            ),
            ("{{ toDate \"2006-01-02\" .d | unixEpoch }}", "1614816000"),
            (
                "{{ toDate \"2006-01-02\" \"x\" }}",
                "0001-01-01 00:00:00 +0000 UTC",
            ),
            (
                "{{ toDate \"2006-01-02\" \"2021-02-30\" }}",
                "0001-01-01 00:00:00 +0000 UTC",
            ),
            (
                "{{ toDateInZone \"2006-01-02 15:04\" \"Europe/Berlin\" \"2021-07-01 12:00\" }}",
                "2021-07-01 12:00:00 +0200 CEST",
            ),
            (
                "{{ toDateInZone \"2006-01-02 15:04\" \"Europe/Berlin\" \"2021-07-01 12:00\" | unixEpoch }}",
                "1625133600",
            ),
            (
                "{{ toDateInZone \"2006-01-02\" \"No/Where\" .d | unixEpoch }}",
                "1614816000",
            ),
            (
                "{{ toDate \"2006-01-02T15:04:05Z07:00\" \"2021-03-04T05:06:07.5+02:00\" }}",
                "2021-03-04 05:06:07.5 +0200 +0200",
            ),
            (
                "{{ toDate \"Monday, 02 January 2006 3:04PM MST\" \"Thursday, 04 March 2021 5:06PM UTC\" }}",
                "2021-03-04 17:06:00 +0000 UTC",
            ),
            (
                "{{ date \"2006-01-02 002 Jan January Mon Monday 1 2 3 4 5 pm -0700 MST\" 1614816000 }}",
                "2021-03-04 063 Mar March Thu Thursday 3 4 12 0 0 am +0000 UTC",
            ),
            (
                "{{ date \"15:04:05.999 .000000 2006.\" 1614816000 }}",
                "00:00:00 .000000 2021.",
            ),
        ],
    );
}

#[test]
fn times_have_the_methods_that_they_have_in_go() {
    check_templates(
        "day=2024-03-01 ts=1700000000",
        &[
            (r#"{{ (toDate "2006-01-02" .day).Year }}"#, "2024"),
            (r#"{{ (toDate "2006-01-02" .day).Month }}"#, "March"),
            (r#"{{ (toDate "2006-01-02" .day).Month | int }}"#, "3"),
            (
                r#"{{ (toDate "2006-01-02" .day).Weekday | printf "%d %s" 5 }}"#,
                "5 Friday",
            ),
            (
                r#"{{ (toDate "2006-01-02" .day).AddDate 0 -1 30 }}"#,
                "2024-03-02 00:00:00 +0000 UTC",
            ),
            (
                r#"{{ (toDate "2006-01-02" .day).Add 5400000000000 }}"#,
                "2024-03-01 01:30:00 +0000 UTC",
            ),
            (
                r#"{{ ((toDate "2006-01-02" .day).Sub (unixToTime .ts)).Hours }}"#,
                "2569.777777777778",
            ),
            (
                r#"{{ (toDate "2006-01-02" .day).Sub (unixToTime .ts) }}"#,
                "2569h46m40s",
            ),
            (
                r#"{{ (toDate "2006-01-02" .day).After (unixToTime .ts) }}"#,
                "true",
            ),
            (
                r#"{{ (unixToTime .ts).Truncate 3600000000000 }}"#,
                "2023-11-14 22:00:00 +0000 UTC",
            ),
            (
                r#"{{ with unixToTime .ts }}{{ .Format "15:04" }} {{ .Unix }}{{ end }}"#,
                "22:13 1700000000",
            ),
            (r#"{{ $t := unixToTime .ts }}{{ $t.YearDay }}"#, "318"),
            (r#"{{ unixToTime .ts | printf "%T" }}"#, "time.Time"),
            (
                r#"{{ (unixToTime .ts).Format }}"#,
                r#"TemplateFormatErr: template: line:1:15: executing "line" at <.ts>: wrong number of args for Format: want 1 got 0"#,
            ),
            (
                r#"{{ .day.Year }}"#,
                r#"TemplateFormatErr: template: line:1:7: executing "line" at <.day.Year>: can't evaluate field Year in type string"#,
            ),
            (
                r#"{{ unixToTime .ts | ToUpper }}"#,
                r#"TemplateFormatErr: template: line:1:20: executing "line" at <ToUpper>: wrong type for value; expected string; got time.Time"#,
            ),
        ],
    );
}

#[test]
fn values_have_the_types_that_they_have_in_go() {
    check_templates(
        "n=5 s=hello",
        &[
            (r#"{{ add .n 1 | printf "%T" }}"#, "int64"),
            (r#"{{ len .s | printf "%T" }}"#, "int"),
            (
                r#"{{ trunc (add .n 1) .s }}"#,
                r#"TemplateFormatErr: template: line:1:17: executing "line" at <1>: wrong type for value; expected int; got int64"#,
            ),
            (r#"{{ trunc (int .n) "a long text" }}"#, "a lon"),
            (
                r#"{{ eq .n 5 }}"#,
                r#"TemplateFormatErr: template: line:1:3: executing "line" at <eq .n 5>: error calling eq: incompatible types for comparison: string and int"#,
            ),
            (
                r#"{{ (fromJson "{\"a\":1}").a.b }}"#,
                "TemplateFormatErr: ...",
            ),
            (
                r#"{{ printf "%d %5.1f|%-4s|" 1.5 2.25 .s }}"#,
                "%!d(float64=1.5)   2.2|hello|",
            ),
            (r#"{{ range 3 }}{{ . }}{{ end }}"#, "012"),
            (
                r#"{{ range $i, $e := fromJson "[1,2,3]" }}{{ if eq $i 1 }}{{ continue }}{{ end }}{{ $e }}{{ end }}"#,
                "13",
            ),
            (
                r#"{{ define "t" }}<{{ . }}>{{ end }}{{ template "t" .s }}"#,
                "<hello>",
            ),
        ],
    );
}

#[test]
fn templates_that_go_would_not_parse_are_refused() {
    for template in [
        "{{ end }}",
        "a{{ else }}b",
        "{{ break }}",
        "{{ $x }}",
        "{{ if $x := .a }}{{ end }}{{ $x }}",
        "{{ nothing .a }}",
        "{{ (.a }}",
    ] {
        let stage = crate::logql::ast::Stage::LineFormat(template.to_owned());
        assert!(Pipeline::compile(&[stage], None).is_err(), "{template}");
    }
}
