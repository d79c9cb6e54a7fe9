//! `json`, `logfmt`, `regexp`, `pattern`, `unpack`.

use super::*;

#[test]
fn json_makes_labels_of_all_members() {
    check_labels(&[
        ("| json", r#"{"a":"x","b":1}"#, "a=x b=1"),
        ("| json", r#"{"a":{"b":{"c":"x"}}}"#, "a_b_c=x"),
        ("| json", r#"{"a":[1,2,{"b":3}],"c":1}"#, "c=1"),
        (
            "| json",
            r#"{"a":true,"b":false,"c":null}"#,
            "a=true b=false",
        ),
        (
            "| json",
            r#"{"a":1.50,"b":1e3,"c":-0.1}"#,
            "a=1.50 b=1e3 c=-0.1",
        ),
        (
            "| json",
            r#"{"a-b":"1","c.d":"2","é":"3"}"#,
            "_=3 a_b=1 c_d=2",
        ),
        ("| json", r#"{"1a":"x"}"#, "_1a=x"),
        ("| json", r#"{"a":{"1b":"x"}}"#, "a_1b=x"),
        ("| json", r#"{"a":{"b-c":"x"}}"#, "a_b_c=x"),
        ("| json", r#"{"a":""}"#, "a="),
        ("| json", r#"{}"#, ""),
        ("| json", r#" { "a" : "x" , "b" : 2 } "#, "a=x b=2"),
        ("| json", r#"{"a":"q\"\\\/\n\u00e9"}"#, "a=q\"\\/\né"),
        ("| json", r#"{"a":"\ud83d\ude00"}"#, "a=😀"),
        ("| json", r#"{"a":"\ud83d"}"#, "a="),
        ("| json", r#"{"a":"x"} and more"#, "a=x"),
        ("| json", r#"{"app":"x"}"#, "app_extracted=x"),
        ("| json | json", r#"{"a":"x"}"#, "a=x"),
        ("| json", r#"{"a":"1","a":"2"}"#, "a=1"),
        ("| json | logfmt", r#"{"a":"1"} a=2 b=3"#, "a=1 b=3"),
        ("| label_format a=`x` | json", r#"{"a":"1"}"#, "a=x"),
        ("| json | drop a | json", r#"{"a":"1"}"#, ""),
    ]);
}

#[test]
fn json_that_is_wrong_is_an_error_and_keeps_what_was_read() {
    const ARRAY: &str = "__error__=JSONParserErr __error_details__=Value is array, but can't find closing ']' symbol";
    const MALFORMED: &str = "__error__=JSONParserErr __error_details__=Malformed JSON error";
    const OBJECT: &str = "__error__=JSONParserErr __error_details__=Value looks like object, but can't find closing '}' symbol";
    check_labels(&[
        ("| json", "text", OBJECT),
        ("| json", "", OBJECT),
        ("| json", "[1]", OBJECT),
        ("| json", r#"{"a":"x";"#, &format!("{OBJECT} a=x")),
        ("| json", r#"{"a":{"b":"x"}"#, &format!("{ARRAY} a_b=x")),
        ("| json", r#"{"a":{"b":"x""#, OBJECT),
        ("| json", r#"{"a":1"#, &format!("{ARRAY} a=1")),
        ("| json", r#"{"a":"x","#, &format!("{ARRAY} a=x")),
        ("| json", "{", MALFORMED),
        ("| json", r#"{"a"#, MALFORMED),
        ("| json", r#"{"a" 1}"#, MALFORMED),
        ("| json", r#"{"":"x"," ":{"b":1},"c":{"":2}}"#, "b=1 c=2"),
        (
            "| json",
            r#"{"a":"x","b":nope}"#,
            "__error__=JSONParserErr __error_details__=Unknown value type a=x",
        ),
        (
            "| json",
            r#"{"a":"x","b":"un"#,
            "__error__=JSONParserErr __error_details__=Value is string, but can't find closing '\"' symbol a=x",
        ),
    ]);
}

#[test]
fn json_with_parameters_takes_these_alone() {
    let line = r#"{"a":{"b":[{"c d":"x"},2]},"n":1.0,"t":true,"z":null,"o":{"k":"v"}}"#;
    check_labels(&[
        (r#"| json x="a.b[0][\"c d\"]""#, line, "x=x"),
        (r#"| json x="a.b[1]""#, line, "x=2"),
        (r#"| json x="a.b""#, line, r#"x=[{"c d":"x"},2]"#),
        (r#"| json o"#, line, r#"o={"k":"v"}"#),
        (r#"| json o="o.k""#, line, "o=v"),
        (r#"| json n, t, z"#, line, "n=1.0 t=true z="),
        (r#"| json x="nope""#, line, "x="),
        (r#"| json x="a.b[7]""#, line, "x="),
        (r#"| json x="n.b""#, line, "x="),
        (r#"| json x="[\"a\"].b[1]""#, line, "x=2"),
        (r#"| json app="n""#, line, "app_extracted=1.0"),
        (r#"| json x="a""#, "text", "__error__=JSONParserErr"),
        (r#"| json x="a""#, "", ""),
    ]);
}

#[test]
fn logfmt_makes_labels_of_pairs() {
    check_labels(&[
        ("| logfmt", "a=1 b=two", "a=1 b=two"),
        ("| logfmt", r#"a="x y" b="q\"n""#, "a=x y b=q\"n"),
        ("| logfmt", "a= b c=1", "c=1"),
        ("| logfmt --keep-empty", "a= b c=1", "a= b= c=1"),
        ("| logfmt", r#"a="""#, ""),
        ("| logfmt --keep-empty", r#"a="""#, "a="),
        ("| logfmt", "a.b=1 c-d=2 1e=3", "_1e=3 a_b=1 c_d=2"),
        ("| logfmt", "app=x", "app_extracted=x"),
        ("| logfmt", "", ""),
        ("| logfmt", "just some text", ""),
        ("| logfmt", "a=1 a=2", "a=1"),
        ("| logfmt", r#"a="x\q" b=1"#, "b=1"),
        ("| logfmt", r#"a="x\'y\ud83d""#, "a=x'y "),
        ("| logfmt", "=x a=1", "a=1"),
        ("| logfmt", "a=b=c d=1", "d=1"),
        ("| logfmt", r#"a="un b=1"#, ""),
        ("| logfmt", r#"a=x"y b=1"#, "b=1"),
        ("| logfmt", "a=1\tb=2\nc=3", "a=1 b=2 c=3"),
        ("| logfmt", "größe=1", "gr__e=1"),
    ]);
}

#[test]
fn strict_logfmt_stops_at_the_first_wrong_pair() {
    check_labels(&[
        ("| logfmt --strict", "a=1 b=2", "a=1 b=2"),
        (
            "| logfmt --strict",
            "a=1 =x b=2",
            "__error__=LogfmtParserErr __error_details__=logfmt syntax error at pos 5 : unexpected '=' a=1",
        ),
        (
            "| logfmt --strict",
            "a=b=c",
            "__error__=LogfmtParserErr __error_details__=logfmt syntax error at pos 4 : unexpected '='",
        ),
        (
            "| logfmt --strict",
            r#"a="x"#,
            "__error__=LogfmtParserErr __error_details__=logfmt syntax error at pos 5 : unterminated quoted value",
        ),
        ("| logfmt --strict --keep-empty", "a b=1", "a= b=1"),
    ]);
}

#[test]
fn logfmt_with_parameters_takes_these_alone() {
    check_labels(&[
        (r#"| logfmt x="a""#, "a=1 b=2", "x=1"),
        (r#"| logfmt a, y="b""#, "a=1 b=2 c=3", "a=1 y=2"),
        (r#"| logfmt x="z""#, "a=1", "x="),
        (r#"| logfmt app="a""#, "a=1", "app_extracted=1"),
        (
            r#"| logfmt --strict x="a""#,
            "a=1 =",
            "__error__=LogfmtParserErr __error_details__=logfmt syntax error at pos 5 : unexpected '=' x=1",
        ),
    ]);
}

#[test]
fn regexp_makes_labels_of_named_groups() {
    check_labels(&[
        (
            r"| regexp `(?P<verb>\w+) (?P<path>\S+)`",
            "GET /x 200",
            "path=/x verb=GET",
        ),
        (r"| regexp `(?P<a>\d+)(?P<b>x)?`", "7", "a=7 b="),
        (r"| regexp `(?P<a>\d+)`", "none", ""),
        (r"| regexp `(?P<app>\d+)`", "7", "app_extracted=7"),
        (r"| regexp `(\w) (?P<a>\w)`", "x y", "a=y"),
    ]);
}

#[test]
fn pattern_makes_labels_of_named_captures() {
    check_labels(&[
        (r#"| pattern "<a> <b>""#, "x y z", "a=x b=y z"),
        (r#"| pattern "<_> <b>""#, "x y", "b=y"),
        (r#"| pattern "[<a>] <_>""#, "[x] y", "a=x"),
        (r#"| pattern "[<a>] <_>""#, "x [x] y", ""),
        (
            r#"| pattern "<a> - <b> \"<c>\"""#,
            r#"1 - 2 "3" 4"#,
            "a=1 b=2 c=3",
        ),
        (r#"| pattern "<a>;<b>""#, "xy", "a=xy"),
        (r#"| pattern "<a>x""#, "", ""),
        (r#"| pattern "<app>x""#, "1x", "app_extracted=1"),
        (r#"| pattern "<<a>>""#, "<1>", "a=1"),
    ]);
}

#[test]
fn unpack_restores_line_and_labels() {
    check_all(&[
        (
            "| unpack",
            r#"{"a":"1","app":"x","_entry":"the \"line\""}"#,
            r#"the "line" | a=1 app_extracted=x"#,
        ),
        ("| unpack", r#"{"a":"1"}"#, r#"{"a":"1"} |"#),
        ("| unpack", r#"{"a":1,"_entry":"x"}"#, "x |"),
        ("| unpack", "", " |"),
        (
            "| unpack",
            "text",
            "text | __error__=JSONParserErr __error_details__=expecting json object(6), but it is not",
        ),
        ("| unpack | logfmt", r#"{"_entry":"k=v"}"#, "k=v | k=v"),
    ]);
}

#[test]
fn bytes_that_are_no_text_become_blanks_in_labels() {
    let run = |stages: &str, line: &[u8]| run_with(&compile(stages), line, &[]).unwrap();
    assert!(run("| json", b"{\"a\":\"x\xff\"}").ends_with("| a=x "));
    assert!(run("| logfmt", b"a=x\xff b=1").ends_with("| a=x  b=1"));
    assert!(run("| pattern `<a> <_>`", b"x\xff y").ends_with("| a=x "));
}

#[test]
fn metadata_and_stream_labels_keep_their_name_before_parsed_ones() {
    let run = |stages: &str, line: &str, metadata: &[(&str, &str)]| {
        run_with(&compile(stages), line.as_bytes(), metadata).unwrap()
    };
    assert_eq!(
        run("| logfmt", "m=2", &[("m", "1")]),
        "m=2 | m=1 m_extracted=2"
    );
    assert_eq!(run("", "x", &[("app", "1")]), "x | app_extracted=1");
    assert_eq!(run("", "x", &[("m", "")]), "x | m=");
    assert_eq!(
        run("| json", r#"{"m":"2"}"#, &[("m", "1")]),
        r#"{"m":"2"} | m=1 m_extracted=2"#
    );
}

#[test]
fn parsers_that_make_no_sense_do_not_compile() {
    use crate::logql::ast::{Extraction, Stage};
    let error = |stage: Stage| Pipeline::compile(&[stage], None).unwrap_err().to_string();
    let json = |path: &str| {
        Stage::Json(vec![Extraction {
            label: "x".into(),
            path: path.into(),
        }])
    };
    for path in [
        "", ".", "a.", ".a", "a[", "a[x]", "a b", "[\"x\"", "a..b", "1", "a-b",
    ] {
        assert!(Pipeline::compile(&[json(path)], None).is_err(), "{path}");
    }
    assert_eq!(
        error(Stage::Regexp("a".into())),
        "at least one named capture must be supplied"
    );
    assert!(error(Stage::Regexp("(?P<a>x)(?P<a>y)".into())).contains("dup"));
    assert!(
        error(Stage::Pattern("<a><b>".into())).starts_with("found consecutive capture '<a><b>'")
    );
    assert!(error(Stage::Pattern("abc".into())).starts_with("at least one capture is required"));
    assert!(error(Stage::Pattern("<a> <a>".into())).starts_with("duplicate capture name (a)"));
    assert!(error(Stage::LineFormat("{{.a".into())).contains("template"));
}
