use super::*;

fn streams() -> Streams {
    let limits = Limits {
        label_names_max: 3,
        label_name_bytes_max: 12,
        label_value_bytes_max: 12,
        ..Limits::default()
    };
    Streams::new(limits, 7)
}

fn of_text(streams: &Streams, text: &[u8]) -> Result<Stream, StreamRefusal> {
    of_tenant(streams, &TenantId::default(), text)
}

fn of_tenant(streams: &Streams, tenant: &TenantId, text: &[u8]) -> Result<Stream, StreamRefusal> {
    streams.of_text(streams.text_hasher(tenant, 4), tenant, text)
}

#[test]
fn the_service_is_taken_from_the_first_label_that_can_tell_it() {
    let streams = streams();
    for (text, want) in [
        (r#"{x="y"}"#, r#"{service_name="unknown_service", x="y"}"#),
        (
            r#"{service_name="s",app="a"}"#,
            r#"{app="a", service_name="s"}"#,
        ),
        (
            r#"{job="j",app="a"}"#,
            r#"{app="a", job="j", service_name="a"}"#,
        ),
        (r#"{app="",job="j"}"#, r#"{job="j", service_name="j"}"#),
        (r#"{ job = `j`, }"#, r#"{job="j", service_name="j"}"#),
        (r#"{a=""}"#, r#"{service_name="unknown_service"}"#),
        ("{}", r#"{service_name="unknown_service"}"#),
        ("", r#"{service_name="unknown_service"}"#),
    ] {
        let stream = of_text(&streams, text.as_bytes()).unwrap();
        assert_eq!(stream.labels.to_string(), want, "{text}");
    }
}

#[test]
fn without_labels_to_take_it_from_no_service_is_added() {
    let limits = Limits {
        service_labels: Vec::new(),
        ..Limits::default()
    };
    let streams = Streams::new(limits, 7);
    let stream = of_text(&streams, br#"{app="a"}"#).unwrap();
    assert_eq!(stream.labels.to_string(), r#"{app="a"}"#);
    let tenant = TenantId::default();
    let hasher = streams.text_hasher(&tenant, 4);
    let unlabelled = streams.of_pairs(hasher, &tenant, &[], true, &mut Vec::new());
    for refusal in [
        unlabelled.unwrap_err(),
        of_text(&streams, b"{}").unwrap_err(),
    ] {
        assert_eq!(refusal.reason, Reason::MissingLabels);
        let want = "stream '{}' has no labels: at least one is required";
        assert_eq!(refusal.message, want);
    }
}

#[test]
fn bad_label_sets_are_refused_with_their_reason() {
    let streams = streams();
    for (text, reason, message) in [
        (
            " ",
            Reason::InvalidLabels,
            "error parsing labels ' ' with error: 1:2: parse error: unexpected end, want '{'",
        ),
        (
            r#"{a="1",b="2",c="3",d="4"}"#,
            Reason::TooManyLabels,
            r#"stream '{a="1", b="2", c="3", d="4"}' has 4 label names; limit 3"#,
        ),
        (
            r#"{abcdefghijklm="1"}"#,
            Reason::LabelNameTooLong,
            r#"stream '{abcdefghijklm="1"}' has label name too long: 'abcdefghijklm' has 13 bytes, limit 12"#,
        ),
        (
            r#"{a="1234567890123"}"#,
            Reason::LabelValueTooLong,
            r#"stream '{a="1234567890123"}' has label value too long: '1234567890123' of 'a' has 13 bytes, limit 12"#,
        ),
        (
            r#"{a="1",a="2"}"#,
            Reason::DuplicateLabelNames,
            r#"stream '{a="1", a="2"}' has duplicate label name: 'a'"#,
        ),
    ] {
        let refusal = of_text(&streams, text.as_bytes()).unwrap_err();
        let message = message.to_owned();
        assert_eq!(refusal, StreamRefusal { reason, message }, "{text}");
    }
    let refusal = of_text(&streams, b"{a=\"\xff\"}").unwrap_err();
    assert_eq!(refusal.reason, Reason::InvalidUtf8);
    assert!(refusal.message.ends_with("not valid UTF-8 at byte 4"));
    of_text(&streams, br#"{a="1",b="2",c="3",service_name="4"}"#)
        .expect("service_name does not count");
}

#[test]
fn ten_thousand_labels_are_refused_with_a_short_message() {
    let pairs: Vec<String> = (0..10_000).map(|n| format!("l{n}=\"v\"")).collect();
    let text = format!("{{{}}}", pairs.join(","));
    let refusal = of_text(&streams(), text.as_bytes()).unwrap_err();
    assert_eq!(refusal.reason, Reason::TooManyLabels);
    assert!(refusal.message.len() < 500, "{}", refusal.message);
}

#[test]
fn the_same_labels_are_the_same_stream_however_they_are_written() {
    let streams = streams();
    let tenant = TenantId::default();
    let one = of_text(&streams, br#"{a="1", b="2"}"#).unwrap();
    let again = of_text(&streams, br#"{a="1", b="2"}"#).unwrap();
    assert!(
        Arc::ptr_eq(&one.labels, &again.labels),
        "found in the cache"
    );
    let other = of_text(&streams, br#"{b="2",a="1"}"#).unwrap();
    let pairs = [("b", "0"), ("a", "1"), ("b", "2")];
    let pairs = streams
        .of_pairs(
            streams.text_hasher(&tenant, 4),
            &tenant,
            &pairs,
            false,
            &mut Vec::new(),
        )
        .unwrap();
    assert_eq!((one.id, one.id), (other.id, pairs.id));
    let team = TenantId::new("team").unwrap();
    let foreign = of_tenant(&streams, &team, br#"{a="1", b="2"}"#).unwrap();
    assert_ne!(one.id, foreign.id);
}

#[test]
fn streams_are_looked_up_together_as_far_as_they_are_known() {
    let streams = streams();
    let texts: Vec<String> = (0..200).map(|n| format!("{{n=\"{n}\"}}")).collect();
    for text in texts.iter().step_by(3) {
        of_text(&streams, text.as_bytes()).unwrap();
    }
    let hasher = streams.text_hasher(&TenantId::default(), 4);
    let wanted: Vec<&[u8]> = texts[..STREAMS_AHEAD]
        .iter()
        .map(|t| t.as_bytes())
        .collect();
    let mut found: Vec<Option<Stream>> = Vec::new();
    streams.of_texts(hasher, &wanted, &mut found);
    assert_eq!(found.len(), STREAMS_AHEAD);
    for (n, stream) in found.iter().enumerate() {
        assert_eq!(stream.is_some(), n % 3 == 0, "{n}");
        let shown = stream.as_ref().map(|stream| stream.labels.to_string());
        let want = format!("{{n=\"{n}\", service_name=\"unknown_service\"}}");
        assert!(shown.is_none_or(|shown| shown == want));
    }
}

#[test]
fn pairs_without_labels_are_taken_only_where_the_protocol_has_none() {
    let streams = streams();
    let tenant = TenantId::default();
    let of = |pairs: &[(&str, &str)], unlabelled| {
        let hasher = streams.text_hasher(&tenant, 4);
        streams.of_pairs(hasher, &tenant, pairs, unlabelled, &mut Vec::new())
    };
    let stream = of(&[], true).unwrap();
    assert_eq!(
        stream.labels.to_string(),
        r#"{service_name="unknown_service"}"#
    );
    assert_eq!(of(&[], false).unwrap_err().reason, Reason::MissingLabels);
    let refusal = of(&[("a-b", "c")], false).unwrap_err();
    assert_eq!(refusal.reason, Reason::InvalidLabels);
    assert!(refusal.message.contains("invalid label name: 'a-b'"));
}

#[test]
fn streams_that_were_remembered_before_shards_were_raised_measure_their_heat_then() {
    let (streams, tenant) = (streams(), TenantId::default());
    let find = |shards| {
        let hasher = streams.text_hasher(&tenant, shards);
        let text = streams.of_text(hasher, &tenant, br#"{a="1"}"#).unwrap();
        let pairs = streams
            .of_pairs(hasher, &tenant, &[("a", "1")], false, &mut Vec::new())
            .unwrap();
        assert_eq!(text.id, pairs.id);
        (text.heat, pairs.heat)
    };
    let alone = find(1);
    assert!(alone.0.is_none() && alone.1.is_none());
    let (of_four, of_eight) = (find(4), find(8));
    let same = |a: &Option<Arc<Heat>>, b: &Option<Arc<Heat>>| {
        Arc::ptr_eq(a.as_ref().unwrap(), b.as_ref().unwrap())
    };
    assert!(same(&of_four.0, &of_eight.0) && same(&of_four.1, &of_eight.1));
}
