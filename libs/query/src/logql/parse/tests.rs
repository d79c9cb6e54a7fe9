use super::*;

#[track_caller]
fn prints(text: &str, printed: &str) {
    let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(expr.to_string(), printed);
    assert_eq!(parse(printed).as_ref(), Ok(&expr), "{printed}");
}

#[test]
fn what_is_printed_is_what_was_parsed() {
    prints(r#"{a="b"}"#, r#"{a="b"}"#);
    prints(
        "sum(rate({a=\"b\"} |= `x` [5m])) by (c) > 1 # why",
        r#"(sum by (c)(rate({a="b"} |= "x"[5m])) > 1)"#,
    );
    prints(
        r#"sum_over_time({a="b"}[1h30m] offset -5m | json | unwrap bytes(size) | __error__="")"#,
        r#"sum_over_time({a="b"} | json | unwrap bytes(size) | __error__=""[1h30m] offset -5m0s)"#,
    );
    prints(
        r#"max_over_time((sum(rate({a="b"}[1m])) + 1)[1h:5m] offset 1m)"#,
        r#"max_over_time((sum(rate({a="b"}[1m])) + 1)[1h:5m] offset 1m0s)"#,
    );
    prints("1 + 2 * 3 ^ 2", "19");
    prints(
        r#"{a="b"} | c="d" or e>5, f=10KB g!=1m"#,
        r#"{a="b"} | ( c="d" or ( e>5 , ( f==10kB , g!=1m0s ) ) )"#,
    );
}
