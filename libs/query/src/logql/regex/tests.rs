use super::*;

#[track_caller]
fn finds(expression: &str, line: &str, expected: bool) {
    let regex = compile(expression).unwrap();
    assert_eq!(regex.is_match(line), expected, "{expression} on {line:?}");
    let test = LineRegex::new(expression).unwrap();
    assert_eq!(
        test.is_match(line.as_bytes()),
        expected,
        "{expression} on bytes of {line:?}"
    );
    let tests = line_tests(expression).unwrap();
    let simplified = tests.iter().any(|t| t.is_match(line.as_bytes()));
    assert_eq!(simplified, expected, "{expression} simplified on {line:?}");
    if let Some(stretches) = test.in_text() {
        let found = stretches.find(line.as_bytes(), 0);
        assert_eq!(found.is_some(), expected, "{expression} in {line:?}");
        if stretches.is_of_tokens() {
            let of_tokens = line_tokens(line).any(|token| test.is_match(token.as_bytes()));
            assert_eq!(of_tokens, expected, "{expression} on tokens of {line:?}");
        }
    }
    if expected {
        for literal in required_literals(expression) {
            let literal = String::from_utf8(literal.into()).unwrap();
            assert!(line.contains(&literal), "{expression} needs {literal:?}");
        }
    }
}

fn line_tokens(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_')
}

#[test]
fn it_is_known_whether_finds_are_short_and_free_and_inside_of_tokens() {
    for (expression, expected) in [
        ("[x-z][0-9][x-z][0-9]", Some(true)),
        ("(?i)error", Some(true)),
        ("(?:a|b)7", Some(true)),
        (r"\d{3}", Some(true)),
        (r"é[^\x00-\x7f]", Some(true)),
        ("a.b", Some(false)),
        ("a b", Some(false)),
        ("[^a]7", Some(false)),
        ("^a7", None),
        (r"\ba7", None),
        ("a*", None),
        ("a+7", None),
        ("a7|", None),
        ("a{257}", None),
    ] {
        let regex = LineRegex::new(expression).unwrap();
        let found = regex.in_text().map(TextMatcher::is_of_tokens);
        assert_eq!(found, expected, "{expression}");
    }
    for line in [
        "x1y2",
        "x1-y2",
        "a 77 7b8",
        "ERRor",
        "err or",
        "aé\u{fc}",
        "z9x12",
        "_x1y_2",
        "",
    ] {
        for expression in ["[x-z][0-9][x-z][0-9]", "(?i)error", r"[\d_]{2}", "é.?|7+"] {
            let expected = compile(expression).unwrap().is_match(line);
            finds(expression, line, expected);
        }
    }
}

#[test]
fn what_re2_takes_means_the_same() {
    for (expression, line, expected) in [
        ("a{", "a{", true),
        ("{\"a\":1}", "x {\"a\":1}", true),
        ("a{,2}", "a{,2}", true),
        ("^a{2,3}$", "aa", true),
        ("^a{2,3}$", "a", false),
        (r"\Qa.b\E.", "a.bc", true),
        (r"\Qa.b", "axb", false),
        ("[[]", "[", true),
        ("[a&&b]", "&", true),
        ("[+--]", ",", true),
        ("[]a]", "]", true),
        ("[a-]", "-", true),
        (r"[\d-]", "-", true),
        (r"\d", "٣", false),
        (r"\w", "é", false),
        (r"[^\W]", "_", true),
        (r"\bfoo\b", "a foo b", true),
        (r"\bfoo\b", "éfooé", true),
        (r"o\B", "foo", true),
        (r"\<a\>", "<a>", true),
        (r"\_", "_", true),
        (r"\x41\x{1F600}\101\07", "A😀A\u{7}", true),
        ("(?i)ERROR", "an error", true),
        ("(?i:E)R", "eR", true),
        ("a.b", "a\nb", false),
        ("(?s)a.b", "a\nb", true),
        ("(?m)^b$", "a\nb\nc", true),
        ("a$", "a\n", false),
        (r"a\z", "a", true),
        (r"\p{Greek}\pL\PN\p{^Latin}", "αaa1", true),
        ("(?P<n>a)(?<m>b)", "ab", true),
        ("(?P<1>a)(?P<2b>b)", "ab", true),
        ("[[:digit:]x]", "7", true),
        ("[[:^digit:]]", "7", false),
        ("(?U)a+b", "aab", true),
        ("a|b|c", "xbx", true),
        (".*a.*", "xay", true),
        (".*", "", true),
        ("a+?b*?", "a", true),
        ("(abc)+d", "abcabcd", true),
        ("(?:)", "", true),
        ("", "x", true),
        ("#  x", "#  x", true),
    ] {
        finds(expression, line, expected);
    }
}

#[test]
fn what_re2_refuses_is_refused_in_its_words() {
    for (expression, message) in [
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
        ("[a", "missing closing ]: `[a`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\y", r"invalid escape sequence: `\y`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("(?P<>a)", "invalid named capture: `(?P<>`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
    ] {
        let error = compile(expression).unwrap_err().to_string();
        assert_eq!(error, format!("error parsing regexp: {message}"));
    }
}

#[test]
fn an_expression_too_large_or_too_deep_is_refused() {
    assert!(compile("((a{1000}){1000}){1000}").is_err());
    assert!(compile(&"(".repeat(10_000)).is_err());
    assert!(compile(&format!("{}{}", "(".repeat(300), ")".repeat(300))).is_err());
}

#[test]
fn label_values_match_as_a_whole_and_over_line_breaks() {
    let pattern = ValueRegex::new("a.*|b").unwrap();
    assert!(pattern.is_match("a\nx") && pattern.is_match("b"));
    assert!(!pattern.is_match("bb") && !pattern.is_match("xa"));
    let pattern = ValueRegex::new("dev|prod|").unwrap();
    assert!(pattern.is_match("prod") && pattern.is_match("") && !pattern.is_match("prods"));
    assert_eq!(pattern.values().map(<[_]>::len), Some(3));
}

#[test]
fn required_literals_are_the_runs_between_what_varies() {
    let literals = |text| {
        let found = required_literals(text);
        let texts = found
            .iter()
            .map(|l| String::from_utf8_lossy(l).into_owned());
        texts.collect::<Vec<_>>()
    };
    assert_eq!(literals("status=5.. path=/api"), [" path=/api", "status=5"]);
    assert_eq!(literals("(a|b)"), Vec::<String>::new());
    assert_eq!(literals("(?i)error 500"), [" 500"]);
    assert_eq!(literals("x(?:yz)+w"), ["xyz", "yzw"]);
    assert_eq!(literals("a?b"), ["b"]);
    assert_eq!(literals("^ab$"), ["ab"]);
    assert_eq!(literals("("), Vec::<String>::new());
}

#[test]
fn expressions_that_are_only_substrings_are_recognised() {
    let plain = |text| match &line_tests(text).unwrap()[..] {
        [LineTest::Matches(_)] => None,
        tests => Some(tests.len()),
    };
    assert_eq!(plain("error"), Some(1));
    assert_eq!(plain(".*error.*"), Some(1));
    assert_eq!(plain("error|warn|x y"), Some(3));
    assert_eq!(plain("^error"), None);
    assert_eq!(plain("(?i)error"), None);
    assert_eq!(LineRegex::new(".*").unwrap().always(), Some(true));
    assert_eq!(LineRegex::new("a*").unwrap().always(), Some(true));
    assert_eq!(LineRegex::new("^").unwrap().always(), None);
}
