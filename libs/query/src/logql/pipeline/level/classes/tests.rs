use proptest::prelude::*;

use super::*;

/// Values that matter somewhere, and some that look as if they did.
const NASTY: [&str; 52] = [
    "error",
    "ERROR",
    "Err",
    "err",
    "errors",
    "xerror",
    "warn",
    "Warning",
    "info",
    "INF",
    "information",
    "fatal",
    "CRITICAL",
    "trc",
    "dbg",
    "trace",
    "debug",
    "level",
    "LEVEL",
    "Level",
    "lEvel",
    "mylevel",
    "log",
    "LOG",
    "severity",
    "SeverityText",
    "severityText",
    "severity_text",
    "SEVERITY_TEXT",
    "lvl",
    "lvL",
    "true",
    "false",
    "null",
    "True",
    "1",
    "12ms",
    "007",
    "1e5",
    "_5",
    "x",
    "n",
    "nerror",
    "u00e9",
    "u00e",
    "uD83D",
    "ud83dx",
    "udE00",
    "ubc",
    "b",
    "dead",
    "\u{e9}",
];

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::sample::select(&NASTY[..]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::sample::select(vec![
            &b"\xff"[..], b"\xc3", b"level\xff", b"1\xff", b"n\xff", b"u00e9\xff",
            "\u{fffd}".as_bytes(), "info\u{e9}".as_bytes(),
        ])
        .prop_map(<[u8]>::to_vec),
        1 => "[a-zA-Z0-9_]{1,14}".prop_map(String::into_bytes),
    ]
}

/// Texts of templates: `$` is a slot.
fn template() -> impl Strategy<Value = String> {
    let whole = prop::sample::select(
        &[
            r#"{"$":"$","$":$,"$":"$"}"#,
            r#"{"msg":"a $ \$","level":"$"}"#,
            r#"{"$":{"$":"$","a":{"level":"$"}},"n":$}"#,
            r#"{"a":$.$,"b":-$,"level":"$"}"#,
            r#"{"a":"$","b":[$,"$",{"level":"$"}],"$":"$"}"#,
            r#"{"a":"\$\$","\$\$x":1,"level":"$"}"#,
            r#"{"a":$"$ $","level":"$"}"#,
            r#"{"log.level":"$","$.$":"$"}"#,
            r#"{"a":$, "$": "$" } $"#,
            "{ \"a\" : $ , \"level\" : \"$\" }",
            "$=$ $=\"$ $\" msg=\"$\\$\" level=$",
            "ts=$ $ level=$ msg=$",
            "$.$=$ $=$",
            "$ $ $: $",
            "[$] ($) <$> $-$ '$'",
            "$",
            "a=\"$\\u$\" level=error",
            "a=\"\\$\\$\" $=$",
            "$ $\"$ level=info",
            r#"{"a":1"x,"b":$,"m":"info","level":"fatal"}"#,
            r#"{"a":$"x,"b":$,"m":"info","level":"fatal"}"#,
            r#"{"a":1:"x,"b ":$,"m":"info","level":"fatal"}"#,
            r#"{"a":-{"x,"b{":$,"m":"info","level":"fatal"}"#,
            r#"{"a":$["x,"b ":$,"m":"info","level":"fatal"}"#,
            r#"{"a":1 :"x,"b ":$,"m":"info","level":"$"}"#,
            r#"{"m":"info","log.$":"fatal"}"#,
            "info log.$=fatal",
            "info $.$=fatal $.x $! $, $/$ $;",
        ][..],
    );
    let piece = prop::sample::select(
        &[
            "{",
            "}",
            "[",
            "]",
            "\"",
            "\"",
            ":",
            ",",
            " ",
            "=",
            "\\",
            ".",
            "-",
            "\t",
            "\n",
            "\r",
            "\u{b}",
            "\u{1}",
            "'",
            "|",
            "(",
            ")",
            "!",
            "<",
            "/",
            ";",
            "$",
            "$",
            "$",
            "\"$\":",
            "\"$\"",
            "{\"level\":\"$\"",
            "level=",
            "\"level\":",
            "$=$",
            "error",
            "info",
        ][..],
    );
    let pieces = || prop::collection::vec(piece.clone(), 0..14).prop_map(|pieces| pieces.concat());
    prop_oneof![
        2 => whole.prop_map(str::to_owned),
        2 => members(),
        1 => pieces(),
        1 => pieces().prop_map(|inner| format!("{{{inner}}}")),
        1 => pieces().prop_map(|inner| format!("{{\"a\":$,{inner},\"level\":\"$\"}}")),
    ]
}

/// Objects of members that are nearly well-formed: what is no string, object or array may have quotes
/// inside, and keys end in what could stand before a string.
fn members() -> impl Strategy<Value = String> {
    let plain = || {
        prop::sample::select(
            &[
                "1",
                "-$",
                "$",
                "true",
                "{",
                "[",
                "\"$\"",
                "1:\"x",
                "$:\"x",
                "1{\"x",
                "1[\"x",
                "-:\"a $",
                "1:\"x\"y",
                "$\"x",
                "{\"a\":1:\"$\"}",
                "[\"a,$\"]",
                "\"a\":\"$\"",
            ][..],
        )
    };
    let key = prop::sample::select(
        &[
            "\"b \"",
            "\"b\"",
            "\"b:\"",
            "\"b{\"",
            "\"b[\"",
            "\"b,\"",
            "\"$\"",
            "\"a\\\"b \"",
            "b\"",
            "\" \"",
        ][..],
    );
    let value = prop_oneof![
        2 => prop::sample::select(&["$", "\"$\"", "-$", "\"$ $\"", "\" $ \"", "\"a: $\""][..]),
        1 => plain(),
    ];
    let comma = prop::sample::select(&[",", ",", ", ", " , ", ":", " ", ""][..]);
    let colon = prop::sample::select(&[":", ": ", " :", " : "][..]);
    let member = (comma, key, colon, value)
        .prop_map(|(comma, key, colon, value)| [comma, key, colon, value].concat());
    let members = prop::collection::vec(member, 1..4).prop_map(|members| members.concat());
    let end = prop::sample::select(&["\"fatal\"", "\"$\""][..]);
    (plain(), members, end).prop_map(|(first, members, end)| {
        format!("{{\"a\":{first}{members},\"m\":\"info\",\"level\":{end}}}")
    })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// A line in parts, and its values; slots that are no whole tokens are left out.
fn parts(template: &str, values: &[Vec<u8>]) -> (Vec<u8>, Vec<u32>, Vec<Vec<u8>>) {
    let pieces: Vec<&str> = template.split('$').collect();
    let (mut text, mut slots, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for (at, piece) in pieces.iter().enumerate() {
        text.extend_from_slice(piece.as_bytes());
        let after = pieces.get(at + 1);
        let is_free = |byte: Option<&u8>| byte.is_none_or(|byte| !is_token(*byte));
        let next = after.and_then(|after| after.bytes().next());
        // Two slots have something between them.
        let is_new = slots.last() != Some(&(text.len() as u32));
        let ends = after.is_some() && (next.is_some() || at + 2 == pieces.len());
        if ends && is_new && is_free(text.last()) && is_free(next.as_ref()) {
            slots.push(text.len() as u32);
            taken.push(values[taken.len() % values.len()].clone());
        }
    }
    (text, slots, taken)
}

fn line<'a>(text: &[u8], slots: &[u32], values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut line = Vec::new();
    let mut at = 0;
    for (slot, value) in slots.iter().zip(values) {
        line.extend_from_slice(&text[at..*slot as usize]);
        line.extend_from_slice(value);
        at = *slot as usize;
    }
    line.extend_from_slice(&text[at..]);
    line
}

fn byte_bits(value: &[u8]) -> u64 {
    let bit = |byte: &u8| match byte {
        b'a'..=b'z' => 1 << (byte - b'a'),
        b'A'..=b'Z' => 1 << (26 + byte - b'A'),
        b'0'..=b'9' => DIGITS,
        b'_' => 1 << 53,
        _ => REST,
    };
    value.iter().map(bit).fold(0, |all, bit: u64| all | bit)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_line_has_the_level_of_the_line_of_stand_ins(
        template in template(),
        values in prop::collection::vec(value(), 1..6),
    ) {
        let (text, slots, values) = parts(&template, &values);
        let mut places = Vec::new();
        LineLevel.places(&text, &slots, &mut places);
        prop_assert_eq!(places.len(), slots.len());
        let stand_ins: Vec<&[u8]> = places
            .iter()
            .zip(&values)
            .map(|(place, value)| match LineLevel.class(*place, value) {
                Some(class) => LineLevel.stand_in(class),
                None => value,
            })
            .collect();
        let whole = line(&text, &slots, values.iter().map(Vec::as_slice));
        let abstracted = line(&text, &slots, stand_ins.iter().copied());
        let shown = String::from_utf8_lossy(&whole).into_owned();
        let other = String::from_utf8_lossy(&abstracted).into_owned();
        prop_assert_eq!(of_line(&whole), of_line(&abstracted), "{} as {}", shown, other);
    }

    #[test]
    fn the_class_of_all_is_that_of_each(
        values in prop::collection::vec(value(), 1..5),
        place in 0u8..5,
    ) {
        let length = |value: &Vec<u8>| value.len() as u32;
        let bounds = ValueBounds {
            bytes: values.iter().map(|value| byte_bits(value)).fold(0, |all, bits| all | bits),
            shortest: values.iter().map(length).min().unwrap_or(0),
            longest: values.iter().map(length).max().unwrap_or(0),
        };
        if let Some(class) = LineLevel.class_of_all(place, &bounds) {
            for value in &values {
                prop_assert_eq!(LineLevel.class(place, value), Some(class), "{:?}", value);
            }
        }
    }
}

#[test]
fn numbers_ids_and_words_that_tell_nothing_are_of_one_class() {
    let bounds = |values: &[&[u8]]| ValueBounds {
        bytes: byte_bits(&values.concat()),
        shortest: values
            .iter()
            .map(|value| value.len() as u32)
            .min()
            .unwrap_or(0),
        longest: values
            .iter()
            .map(|value| value.len() as u32)
            .max()
            .unwrap_or(0),
    };
    let plain = Some(number(PLAIN));
    for values in [
        &[&b"127"[..], b"0"][..],
        &[b"00ff12", b"dead"],
        &[b"blk_1", b"xyz"],
    ] {
        assert_eq!(
            LineLevel.class_of_all(Place::Open as u8, &bounds(values)),
            plain
        );
    }
    for values in [&[&b"error"[..]][..], &[b"terror", b"x"], &[b"\xff"]] {
        assert_eq!(
            LineLevel.class_of_all(Place::Open as u8, &bounds(values)),
            None
        );
    }
    let number = Some(number(NUMBER));
    assert_eq!(
        LineLevel.class_of_all(Place::Bare as u8, &bounds(&[b"12", b"5"])),
        number
    );
    assert_eq!(
        LineLevel.class_of_all(Place::Bare as u8, &bounds(&[b"12", b"x"])),
        None
    );
}

#[test]
fn every_class_is_that_of_its_stand_in() {
    for class in 0..(TELLING_COUNT + CLASSES.len()) as u8 {
        let stand_in = LineLevel.stand_in(class);
        let places = [Place::Open, Place::Bare, Place::Escape];
        let mut classes = places
            .iter()
            .map(|place| LineLevel.class(*place as u8, stand_in));
        assert!(
            class == number(UNCLEAN) || classes.any(|found| found == Some(class)),
            "{class}"
        );
    }
}

#[test]
fn inside_of_strings_numbers_are_no_values_of_json() {
    let places = |text: &str| {
        let (text, slots, _) = parts(text, &[b"x".to_vec()]);
        let mut places = Vec::new();
        LineLevel.places(&text, &slots, &mut places);
        places
    };
    let (open, bare) = (Place::Open as u8, Place::Bare as u8);
    assert_eq!(places(r#"{"a":"took $","b":$}"#), [open, bare]);
    assert_eq!(places(r#"{"a":$"$ $"}"#)[2], bare);
    assert_eq!(places(r#"{"a":"\$" $"}"#), [Place::Escape as u8, bare]);
    assert_eq!(places("a: $"), [open]);
}

#[test]
fn every_text_that_tells_something_passes_the_quick_look_and_has_a_class_of_its_own() {
    let all: Vec<&str> = telling().collect();
    assert_eq!(all.len(), TELLING_COUNT);
    let words = super::super::WORDS.iter().map(|(word, _)| *word);
    for text in all.iter().copied().chain(words).chain(DOTTED) {
        assert!(looks_telling(text.as_bytes()), "{text}");
        assert!(
            !matches!(is_telling(text.as_bytes()), Telling::No),
            "{text}"
        );
    }
    let classes: std::collections::BTreeSet<u8> = all
        .iter()
        .filter_map(|text| match is_telling(text.as_bytes()) {
            Telling::Class(class) => Some(class),
            _ => None,
        })
        .collect();
    assert!(
        classes
            .iter()
            .all(|class| usize::from(*class) < TELLING_COUNT)
    );
    assert!(classes.len() > SPELLINGS_COUNT);
}
