//! Line filters and `decolorize`.

use super::*;

#[test]
fn line_filters_search_the_line() {
    check_labels(&[
        (r#"|= "err""#, "an error", ""),
        (r#"|= "err""#, "an ERROR", "-"),
        (r#"|= """#, "x", ""),
        (r#"!= "err""#, "an error", "-"),
        (r#"!= "err""#, "fine", ""),
        (r#"!= """#, "x", "-"),
        (r#"|~ "e.r""#, "an err", ""),
        (r#"|~ "(?i)ERR""#, "an err", ""),
        (r#"|~ "^an""#, "an err", ""),
        (r#"|~ "^err""#, "an err", "-"),
        (r#"!~ "e.r""#, "an err", "-"),
        (r#"|= "a" or "b""#, "b", ""),
        (r#"|= "a" or "b""#, "c", "-"),
        (r#"!= "a" or "b""#, "b", "-"),
        (r#"!= "a" or "b""#, "c", ""),
        (r#"|~ "a." or "b.""#, "bx", ""),
        (r#"|= "a" != "b" |~ "c""#, "ac", ""),
        (r#"|= "a" != "b" |~ "c""#, "abc", "-"),
    ]);
}

#[test]
fn pattern_filters_match_to_the_end_of_the_line() {
    check_labels(&[
        ("|> `<_> b <_>`", "a b c", ""),
        ("|> `<_> b <_>`", "b c", "-"),
        ("|> `a <_>`", "a b", ""),
        ("|> `a <_>`", "xa b", ""),
        ("|> `a b`", "a b c", "-"),
        ("|> `a <_>`", "a ", "-"),
        ("|> `<_> b`", "a b", ""),
        ("|> `<_> b`", "a b c", "-"),
        ("|> `a b`", "a b", ""),
        ("|> `<_>`", "x", ""),
        ("|> `<_>`", "", "-"),
        ("|> `a<_>b<_>c`", "a1b2c", ""),
        ("|> `a<_>b<_>c`", "ab2c", "-"),
        ("!> `a <_>`", "a b", "-"),
        ("!> `a <_>`", "b", ""),
        ("|> `a <_>` or `b <_>`", "b 1", ""),
        ("!> `a <_>` or `b <_>`", "b 1", "-"),
    ]);
}

#[test]
fn ip_filters_find_addresses_in_the_line() {
    check_labels(&[
        (r#"|= ip("10.0.0.1")"#, "from 10.0.0.1:80", ""),
        (r#"|= ip("10.0.0.1")"#, "from 10.0.0.10", "-"),
        (r#"|= ip("10.0.0.1")"#, "from 110.0.0.1", "-"),
        (r#"|= ip("10.0.0.0/8")"#, "x 10.255.1.2 y", ""),
        (r#"|= ip("10.0.0.0/8")"#, "x 11.0.0.1 10.1.1.1", ""),
        (r#"|= ip("10.0.0.0/8")"#, "x 11.0.0.1 y", "-"),
        (r#"|= ip("0.0.0.0/0")"#, "x 11.0.0.1 y", ""),
        (r#"|= ip("10.0.0.1-10.0.0.5")"#, "10.0.0.5", ""),
        (r#"|= ip("10.0.0.1-10.0.0.5")"#, "10.0.0.6", "-"),
        (r#"!= ip("10.0.0.0/8")"#, "10.0.0.6", "-"),
        (r#"!= ip("10.0.0.0/8")"#, "no address", ""),
        (r#"|= ip("::1")"#, "from [::1]:80", ""),
        (r#"|= ip("2001:db8::/32")"#, "2001:db8:1::5 x", ""),
        (r#"|= ip("2001:db8::/32")"#, "2001:db9:1::5 x", "-"),
        (r#"|= ip("2001:db8::1-2001:db8::8")"#, "at 2001:db8::4", ""),
        (
            r#"|= ip("2001:db8::1-2001:db8::8")"#,
            "at 2001:db8::4.",
            "-",
        ),
        (r#"|= ip("10.0.0.1")"#, "10.0.0.1.", "-"),
        (r#"|= ip("10.0.0.1")"#, "10.0.0.2,10.0.0.1", ""),
        (r#"|= ip("10.0.0.1")"#, "1.1 10.0.0.1", ""),
        (r#"|= ip("10.0.0.1")"#, "version 1.2 at 10:20:30", "-"),
        (r#"|= ip("10.0.0.1") or "x""#, "x", ""),
    ]);
    for bad in [
        "",
        "x",
        "10.0.0.1/33",
        "10.0.0.5-10.0.0.1",
        "10.0.0.1-::1",
        "::1/129",
    ] {
        assert!(ip::IpPattern::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn line_filters_are_pushed_down_until_a_stage_changes_the_line() {
    let pushed = |stages: &str| compile(stages).pushed_line_filter().clauses.len();
    assert_eq!(pushed(r#"|= "a" | json |~ "b.c" | x="1" != "d""#), 3);
    assert_eq!(pushed(r#"|= "a" | line_format "x" |= "x""#), 1);
    assert_eq!(pushed(r#"|= "a" | unpack |= "x""#), 1);
    assert_eq!(pushed(r#"| decolorize |= "x""#), 1);
    assert_eq!(pushed(r#"| decolorize | a="" |= "x""#), 0);
    assert_eq!(pushed(r#"|= "" |~ ".*""#), 0);
    check_all(&[
        (r#"| line_format "x" |= "x""#, "a", "x |"),
        (r#"| line_format "x" |= "a""#, "a", "-"),
    ]);
}

#[test]
fn decolorize_takes_escape_sequences_out() {
    check_all(&[
        ("| decolorize", "\u{1b}[31mred\u{1b}[0m text", "red text |"),
        ("| decolorize", "\u{1b}[1;32;4mx\u{1b}[m", "x |"),
        ("| decolorize", "plain é", "plain é |"),
        ("| decolorize", "", " |"),
        ("| decolorize", "\u{1b}[38;5;196mx", "x |"),
        (
            "| decolorize | logfmt",
            "\u{1b}[36ma\u{1b}[0m=1",
            "a=1 | a=1",
        ),
    ]);
}
