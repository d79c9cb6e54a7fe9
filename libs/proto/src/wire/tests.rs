use super::*;

#[test]
fn numbers_of_every_length_are_read() {
    for (bytes, want) in [
        (&[0x00][..], 0),
        (&[0x7f], 127),
        (&[0x80, 0x01], 128),
        (
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            u64::MAX,
        ),
    ] {
        assert_eq!(Reader::new(bytes).varint(), Ok(want));
    }
}

/// What is written seven bits at a time is read, be it at the end of the message or before more.
#[test]
fn numbers_of_every_length_are_read_wherever_they_stand() {
    for bits in 0..=64 {
        for pattern in [
            u64::MAX,
            0x0123_4567_89ab_cdef,
            0xaaaa_aaaa_aaaa_aaaa,
            1 << 63 | 1,
        ] {
            let want = pattern.checked_shr(64 - bits).unwrap_or(0);
            let mut bytes = Vec::new();
            let mut left = want;
            while left >= 0x80 {
                bytes.push(left as u8 | 0x80);
                left >>= 7;
            }
            bytes.push(left as u8);
            let length = bytes.len();
            for more in 0..10 {
                bytes.truncate(length);
                bytes.resize(length + more, 0xff);
                let mut reader = Reader::new(&bytes);
                assert_eq!(reader.varint(), Ok(want), "{bits} bits of {pattern:x}");
                assert_eq!(reader.offset(), length);
            }
        }
    }
}

#[test]
fn bad_numbers_say_where_they_start() {
    let mut reader = Reader::new(&[0x01, 0x80]);
    reader.varint().unwrap();
    assert_eq!(reader.varint().unwrap_err().offset, 1);
    let long = [0xff; 11];
    let error = Reader::new(&long).varint().unwrap_err();
    assert_eq!(error.problem, "number longer than 64 bits");
    let overflow = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
    assert!(Reader::new(&overflow).varint().is_err());
}

#[test]
fn a_length_cannot_leave_its_message() {
    // Field 1 holds two bytes, of which the second is a length that reaches beyond them.
    let body = [0x0a, 0x02, 0x0a, 0x05, 1, 2, 3, 4, 5];
    let mut outer = Reader::new(&body);
    outer.field().unwrap();
    let mut inner = outer.message().unwrap();
    inner.field().unwrap();
    let error = inner.bytes().unwrap_err();
    assert_eq!(error.offset, 3);
}

#[test]
fn unknown_fields_of_every_layout_are_skipped() {
    let mut body = vec![0x10, 0x05]; // 2: varint
    body.extend([0x19, 1, 2, 3, 4, 5, 6, 7, 8]); // 3: fixed64
    body.extend([0x22, 1, 9]); // 4: bytes
    body.extend([0x2b, 0x33, 0x34, 0x10, 1, 0x2c]); // 5: group with group 6 and a varint
    body.extend([0x3d, 1, 2, 3, 4]); // 7: fixed32
    let mut reader = Reader::new(&body);
    let mut seen = Vec::new();
    while let Some((number, wire_type)) = reader.field().unwrap() {
        seen.push(number);
        reader.skip(number, wire_type).unwrap();
    }
    assert_eq!(seen, [2, 3, 4, 5, 7]);
}

#[test]
fn groups_must_match_and_must_not_nest_for_ever() {
    let skip = |body: &[u8]| {
        let mut reader = Reader::new(body);
        let (number, wire_type) = reader.field().unwrap().unwrap();
        reader.skip(number, wire_type).unwrap_err().problem
    };
    assert_eq!(skip(&[0x0b]), "the message ends inside a group");
    assert_eq!(skip(&[0x0b, 0x14]), "a group ends that never began");
    assert_eq!(skip(&[0x0b; 100]), "groups nest too deeply");
}

#[test]
fn wire_types_6_and_7_and_field_0_are_refused() {
    for body in [[0x0e], [0x0f], [0x00]] {
        assert!(Reader::new(&body).field().is_err());
    }
}
