use super::*;

const NOW: Timestamp = 1_700_000_000_000_000_000;

fn params(text: &str) -> Params {
    Params::decode(&[text.as_bytes()])
}

#[test]
fn times_are_read_by_their_form() {
    let cases = [
        ("1", 1_000_000_000),
        ("1700000000", NOW),
        ("1700000000000000000", NOW),
        ("17000000001", 17_000_000_001),
        ("1700000000.5", NOW + 500_000_000),
        ("1700000000.1234", NOW + 123_000_000),
        ("-5", -5_000_000_000),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T23:13:20.000000001+01:00", NOW + 1),
        ("0001-01-01T00:00:00Z", Timestamp::MIN),
        ("2300-01-01T00:00:00Z", Timestamp::MAX),
    ];
    for (text, want) in cases {
        assert_eq!(parse_timestamp(text), Ok(want), "{text}");
    }
    for text in ["abc", "1x", "2023-11-14", "1e5", "", "99999999999999999999"] {
        assert!(parse_timestamp(text).is_err(), "{text}");
    }
    assert_eq!(
        parse_timestamp("abc").unwrap_err().to_string(),
        "strconv.ParseInt: parsing \"abc\": invalid syntax"
    );
}

#[test]
fn a_range_grows_to_multiples_of_its_step() {
    let aligned = |start: i64, end: i64| {
        let text = format!("start={start}&end={end}&step=60");
        let asked = params(&text).range_query(NOW).unwrap().aligned();
        (asked.start, asked.end)
    };
    let nanos = |start: i64, end: i64| (start * NANOS_PER_SECOND, end * NANOS_PER_SECOND);
    assert_eq!(aligned(120, 180), nanos(120, 180));
    assert_eq!(aligned(121, 181), nanos(120, 240));
    assert_eq!(aligned(179, 239), nanos(120, 240));
    assert_eq!(aligned(121, 122), nanos(120, 180));
}

#[test]
fn bounds_default_to_the_hour_before_end_or_now() {
    let hour = 3600 * NANOS_PER_SECOND;
    assert_eq!(params("").bounds(NOW), Ok((NOW - hour, NOW)));
    assert_eq!(
        params("since=5m").bounds(NOW),
        Ok((NOW - 300 * NANOS_PER_SECOND, NOW))
    );
    let future = params("end=1800000000").bounds(NOW).unwrap();
    assert_eq!(future, (NOW - hour, 1_800_000_000 * NANOS_PER_SECOND));
    let past = params("end=1600000000&since=1h").bounds(NOW).unwrap();
    assert_eq!(past.0, 1_600_000_000 * NANOS_PER_SECOND - hour);
    assert_eq!(
        params("start=x").bounds(NOW).unwrap_err().to_string(),
        "could not parse 'start' parameter: strconv.ParseInt: parsing \"x\": invalid syntax"
    );
}

#[test]
fn steps_are_numbers_of_seconds_or_durations() {
    let cases = [
        ("step=15", 15 * NANOS_PER_SECOND),
        ("step=0.5", NANOS_PER_SECOND / 2),
        ("step=1m30s", 90 * NANOS_PER_SECOND),
        ("step=5000ms", 5 * NANOS_PER_SECOND),
        ("", 14 * NANOS_PER_SECOND),
        ("start=1699999990", NANOS_PER_SECOND),
    ];
    for (text, want) in cases {
        assert_eq!(params(text).range_query(NOW).unwrap().step, want, "{text}");
    }
}

#[test]
fn bad_parameters_are_refused_in_lokis_words() {
    let cases = [
        ("limit=0", "limit must be a positive value"),
        ("limit=-1", "limit must be a positive value"),
        ("limit=x", "strconv.Atoi: parsing \"x\": invalid syntax"),
        ("direction=up", "invalid direction 'up'"),
        ("start=2&end=1", END_BEFORE_START),
        ("step=0", STEP_NOT_POSITIVE),
        ("step=-1", STEP_NOT_POSITIVE),
        ("step=x", "cannot parse \"x\" to a valid duration"),
        (
            "step=1e300",
            "cannot parse \"1e300\" to a valid duration. It overflows int64",
        ),
        ("step=0.1", TOO_MANY_POINTS),
        ("interval=-1", "interval must be >= 0"),
    ];
    for (text, want) in cases {
        let error = params(text).range_query(NOW).unwrap_err();
        assert_eq!(error.to_string(), want, "{text}");
    }
    let most = params("start=0&end=11000&step=1").range_query(NOW);
    assert!(most.is_ok());
}

#[test]
fn forms_are_decoded_and_the_first_of_a_name_wins() {
    let params = Params::decode(&[
        b"query=%7Ba%3D%22x+y%22%7D&a=1",
        b"a=2&match[]=m&match%5B%5D=n",
    ]);
    assert_eq!(params.query(), "{a=\"x y\"}");
    assert_eq!(params.get("a"), Some("1"));
    assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["m", "n"]);
    assert_eq!(Params::decode(&[b"a=%zz"]).get("a"), Some("%zz"));
}
