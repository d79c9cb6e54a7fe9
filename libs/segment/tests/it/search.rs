//! Filters and templates leave out what they can, and nothing else.

use std::ops::Range;
use std::sync::Arc;

use model::{
    Columns, Flow, LineClause, LineColumn, LineFilter, LineMatcher, LineTest, Selector, TenantId,
    TextMatcher, TimeRange,
};
use proptest::prelude::*;
use segment::{ReadAt, ScanSpec, Scratch};

use crate::round_trip::records;
use crate::support::{Object, Record, all, as_set, open, record, scan, write};

pub(crate) fn contains(needle: &str) -> LineFilter {
    LineFilter {
        clauses: vec![LineClause {
            negated: false,
            any: vec![LineTest::Contains(needle.as_bytes().into())],
        }],
    }
}

/// `head`, anything, `tail`: as a regular expression with two literals would say.
#[derive(Debug)]
struct Between(Vec<Box<[u8]>>);

impl LineMatcher for Between {
    fn is_match(&self, line: &[u8]) -> bool {
        let find = |line: &[u8], part: &[u8]| {
            (0..=line.len().saturating_sub(part.len())).find(|at| line[*at..].starts_with(part))
        };
        let Some(at) = find(line, &self.0[0]) else {
            return false;
        };
        find(&line[at + self.0[0].len()..], &self.0[1]).is_some()
    }
    fn required_literals(&self) -> &[Box<[u8]>] {
        &self.0
    }
}

/// A digit followed by one of these, as `[0-9][..]` would say: inside of one token, unless a space
/// is among them.
#[derive(Debug)]
pub(crate) struct DigitAnd(pub(crate) &'static [u8]);

impl DigitAnd {
    fn starts(&self, text: &[u8]) -> bool {
        matches!(text, [a, b, ..] if a.is_ascii_digit() && self.0.contains(b))
    }
}

impl LineMatcher for DigitAnd {
    fn is_match(&self, line: &[u8]) -> bool {
        self.find(line, 0).is_some()
    }
    fn in_text(&self) -> Option<&dyn TextMatcher> {
        Some(self)
    }
}

impl TextMatcher for DigitAnd {
    fn find(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        let start = (from..text.len()).find(|at| self.starts(&text[*at..]))?;
        Some(start..start + 2)
    }
    fn is_of_tokens(&self) -> bool {
        !self.0.contains(&b' ')
    }
}

/// A xorshift generator: ids that look random, the same in every run.
pub(crate) fn ids(count: usize) -> Vec<String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..count)
        .map(|_| format!("{:016x}{:016x}", next(), next()))
        .collect()
}

fn traced(count: usize) -> (Vec<String>, Vec<Record>) {
    let ids = ids(count);
    let records = ids.iter().enumerate().map(|(at, id)| {
        record(
            "a",
            at as i64,
            &format!("request done trace_id={id} in {at} ms"),
        )
    });
    let records = records.collect();
    (ids, records)
}

fn find(records: &[Record], needle: &str) -> (usize, usize) {
    let (object, _) = write(records, 64 << 10);
    let filter = contains(needle);
    let found = scan(
        &object,
        "default",
        &Selector::default(),
        TimeRange::ALL,
        &filter,
    )
    .unwrap();
    let wanted = records.iter().filter(|r| filter.is_match(&r.line)).count();
    assert_eq!(found.records.len(), wanted, "{needle}");
    (found.chunks, wanted)
}

#[test]
fn a_whole_id_and_a_part_of_one_touch_few_chunks() {
    let (ids, records) = traced(20_000);
    let (chunks, _) = find(&records, "request done");
    assert!(chunks > 15, "{chunks}");
    let absent: String = ids[5].chars().rev().collect();
    // An id in every line is the worst case for the filters, which are kept to 2 % of the text:
    // the fewer windows a part has, the more chunks stay.
    for (needle, most) in [
        (&ids[1234][..], 6),
        (&ids[1234][5..27], 12),
        (&ids[9][..15], 19),
        (&absent, 6),
        (&format!("trace_id={}", ids[7]), 6),
    ] {
        let (chunks, _) = find(&records, needle);
        assert!(chunks <= most, "{needle}: {chunks}");
    }
    assert_eq!(find(&records, "no such text").0, 0);
    assert_eq!(find(&records, &ids[77][..6]).1, 1);
}

#[test]
fn a_count_decided_by_templates_reads_nothing_at_all() {
    let records: Vec<Record> = (0..100)
        .map(|n| record("a", n, &format!("error in step {n}")))
        .collect();
    let (object, _) = write(&records, 1024);
    let segment = open(&object).unwrap();
    let columns = Columns {
        timestamps: false,
        lines: LineColumn::None,
        metadata: false,
    };
    let tenant = TenantId::default();
    for (filter, wanted) in [(contains("error"), 100), (LineFilter::default(), 100)] {
        let plan = segment.plan(&ScanSpec {
            tenant: &tenant,
            selector: &Selector::default(),
            range: TimeRange::ALL,
            line_filter: &filter,
        });
        let mut rows = 0;
        for chunk in plan.chunks() {
            assert_eq!(plan.reads(chunk, columns), []);
            plan.decode(chunk, columns, &[], &mut Scratch::default(), &mut |block| {
                rows += block.rows;
                Flow::Continue
            })
            .unwrap();
        }
        assert_eq!(rows, wanted);
    }
}

#[test]
fn a_text_that_only_words_can_hold_reads_no_other_values() {
    let records: Vec<Record> = (0..2_000)
        .map(|n| {
            record(
                "a",
                n,
                &format!("user{n} took {} of {:x}", n * 7, n * 77_777),
            )
        })
        .collect();
    let (object, _) = write(&records, 1 << 20);
    let segment = open(&object).unwrap();
    let read = |needle: &str, lines: LineColumn| -> u64 {
        let plan = segment.plan(&ScanSpec {
            tenant: &TenantId::default(),
            selector: &Selector::default(),
            range: TimeRange::ALL,
            line_filter: &contains(needle),
        });
        let columns = Columns {
            timestamps: false,
            lines,
            metadata: false,
        };
        let chunks = plan.chunks().iter();
        let reads = chunks.flat_map(|chunk| plan.reads(chunk, columns));
        reads.map(|range| range.end - range.start).sum()
    };
    let (words, all) = (
        read("user1", LineColumn::None),
        read("user1", LineColumn::Bytes),
    );
    assert!(words < all * 2 / 3, "{words} of {all}");
    // A find that goes over a separator is made on lines, of which any part may be needed.
    assert_eq!(read("user1 took 7", LineColumn::None), all);
    for needle in ["user1", "ser19", "user1 took 7", "7 of 2", " 7 of", "=7 "] {
        find(&records, needle);
    }
}

#[test]
fn a_text_between_separators_is_found_in_lines_that_are_stored_whole() {
    // Punctuation that no two lines share.
    let separated = |id: &String| -> String {
        let of = |byte: u8| [' ', '=', '-', '/', ':', ',', ';', '.'][usize::from(byte % 8)];
        let pairs = id.as_bytes().chunks(2);
        let parts = pairs.map(|pair| format!("{}{}", pair[0] as char, of(pair[1])));
        parts.collect()
    };
    let lines: Vec<String> = ids(1_500).iter().map(separated).collect();
    let records: Vec<Record> = lines
        .iter()
        .enumerate()
        .map(|(at, line)| record("a", at as i64, line))
        .collect();
    for line in lines.iter().step_by(50) {
        for needle in [&line[1..8], &line[2..9], &line[7..15], &line[8..]] {
            find(&records, needle);
        }
    }
}

#[test]
fn a_part_of_a_token_is_found_whether_few_values_have_it_or_all() {
    let records: Vec<Record> = (0..3_000)
        .map(|n| {
            let line = match n % 3 {
                0 => format!("user{} of {} in x{n}y", n % 40, n % 700),
                1 => format!("at {n}: {:x} of 7", n * 77_777),
                _ => format!("worker{} done", n % 2),
            };
            record("a", n, &line)
        })
        .collect();
    for needle in [
        "1", "er1", "2999", "7a", "user", "worker1", "y", "x2", "39 of",
    ] {
        find(&records, needle);
    }
    let (object, _) = write(&records, 1 << 20);
    for letters in [&b"a"[..], b" ", b"y", b"0123456789", b"Z"] {
        for negated in [false, true] {
            let any = vec![LineTest::Matches(Arc::new(DigitAnd(letters)))];
            let filter = LineFilter {
                clauses: vec![LineClause { negated, any }],
            };
            let all = Selector::default();
            let found = scan(&object, "default", &all, TimeRange::ALL, &filter).unwrap();
            let wanted = records.iter().filter(|r| filter.is_match(&r.line)).count();
            assert_eq!(found.records.len(), wanted, "{letters:?} {negated}");
        }
    }
}

#[test]
fn a_range_that_cuts_a_chunk_is_exact_without_times_asked_for() {
    let records: Vec<Record> = (0..100).map(|n| record("a", n, "same line")).collect();
    let (object, _) = write(&records, 1 << 20);
    let range = TimeRange::new(10, 60);
    let filter = LineFilter::default();
    let found = scan(&object, "default", &Selector::default(), range, &filter).unwrap();
    assert_eq!(found.records.len(), 50);
}

#[test]
fn a_sink_that_has_enough_stops_the_chunk() {
    let records: Vec<Record> = (0..20)
        .map(|n| record(if n % 2 == 0 { "a" } else { "b" }, n, "line"))
        .collect();
    let (object, _) = write(&records, 1 << 20);
    let segment = open(&object).unwrap();
    let tenant = TenantId::default();
    let plan = segment.plan(&ScanSpec {
        tenant: &tenant,
        selector: &Selector::default(),
        range: TimeRange::ALL,
        line_filter: &LineFilter::default(),
    });
    let columns = Columns {
        timestamps: false,
        lines: LineColumn::None,
        metadata: false,
    };
    let chunk = &plan.chunks()[0];
    let mut sink = |_: &model::RowBlock<'_>| Flow::Stop;
    let stats = plan
        .decode(chunk, columns, &[], &mut Scratch::default(), &mut sink)
        .unwrap();
    assert!(stats.stopped && stats.rows_matched == 10, "{stats:?}");
}

/// How many rows there are, their times, and their lengths, each as a scan that asks for nothing else.
type ByColumn = (usize, Vec<i64>, Vec<usize>);

fn columns_of(object: &Object, tenant: &str, filter: &LineFilter) -> ByColumn {
    let segment = open(object).unwrap();
    let plan = segment.plan(&ScanSpec {
        tenant: &TenantId::new(tenant).unwrap(),
        selector: &Selector::default(),
        range: TimeRange::ALL,
        line_filter: filter,
    });
    let none = Columns {
        timestamps: false,
        lines: LineColumn::None,
        metadata: false,
    };
    let times = Columns {
        timestamps: true,
        ..none
    };
    let lengths = Columns {
        lines: LineColumn::Lengths,
        ..none
    };
    let (mut of, mut scratch) = (ByColumn::default(), Scratch::default());
    for chunk in plan.chunks() {
        for columns in [none, times, lengths] {
            let reads = plan.reads(chunk, columns).into_iter();
            let bytes: Vec<_> = reads.map(|range| object.read(range).unwrap()).collect();
            let mut sink = |block: &model::RowBlock<'_>| {
                match columns {
                    _ if columns == none => of.0 += block.rows,
                    _ if columns == times => of.1.extend_from_slice(block.timestamps),
                    _ => {
                        of.2.extend((0..block.rows).map(|row| block.lines.line_length(row)))
                    }
                }
                Flow::Continue
            };
            plan.decode(chunk, columns, &bytes, &mut scratch, &mut sink)
                .unwrap();
        }
    }
    of
}

fn columns_of_records(records: &[Record]) -> ByColumn {
    (
        records.len(),
        records.iter().map(|record| record.time).collect(),
        records.iter().map(|record| record.line.len()).collect(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn alternatives_negations_and_matchers_equal_the_naive_answer(
        records in records(),
        cuts in prop::collection::vec(
            (any::<prop::sample::Index>(), 0usize..30, 1usize..12, 0u8..6), 1..5),
        chunk_bytes in prop_oneof![Just(1024usize), Just(1 << 20)],
    ) {
        let (object, _) = write(&records, chunk_bytes);
        let cut = |index: &prop::sample::Index, at: usize, bytes: usize| -> Box<[u8]> {
            if records.is_empty() {
                return Box::from(*b"x");
            }
            let line = &records[index.index(records.len())].line;
            let at = at % (line.len() + 1);
            line[at..(at + bytes).min(line.len())].into()
        };
        let mut clauses: Vec<LineClause> = Vec::new();
        for (index, at, bytes, kind) in &cuts {
            let test = match kind % 3 {
                0 => LineTest::Contains(cut(index, *at, *bytes)),
                1 => LineTest::Matches(Arc::new(DigitAnd(match bytes % 3 {
                    0 => b"abcdef",
                    1 => b" 8",
                    _ => b"1\xc3",
                }))),
                _ => LineTest::Matches(Arc::new(Between(vec![
                    cut(index, *at, bytes / 2),
                    cut(index, at + bytes, *bytes),
                ]))),
            };
            match clauses.last_mut() {
                Some(last) if bytes % 4 == 2 => last.any.push(test),
                _ => clauses.push(LineClause { negated: *kind > 2, any: vec![test] }),
            }
        }
        let filter = LineFilter { clauses };
        let found = scan(&object, "one", &Selector::default(), TimeRange::ALL, &filter).unwrap();
        let wanted: Vec<Record> = records
            .iter()
            .filter(|r| r.tenant == "one" && filter.is_match(&r.line))
            .cloned()
            .collect();
        prop_assert_eq!(as_set(&found.records), as_set(&wanted));
        prop_assert_eq!(columns_of(&object, "one", &filter), columns_of_records(&found.records));
    }

    #[test]
    fn lengths_and_counts_are_those_of_the_lines(
        records in records(),
        needle in prop_oneof![Just(""), Just("error"), Just("1"), Just("a"), Just("GET /"), Just("7 ")],
        range in (-6i64..40, 0i64..50),
    ) {
        let (object, _) = write(&records, 1 << 20);
        let filter = match needle {
            "" => LineFilter::default(),
            needle => contains(needle),
        };
        let range = TimeRange::new(range.0, range.0 + range.1);
        let all = Selector::default();
        let found = scan(&object, "one", &all, range, &filter).unwrap();
        let mut wanted: Vec<usize> = found.records.iter().map(|r| r.line.len()).collect();
        let mut lengths = Vec::new();
        let mut counted = 0;
        let segment = open(&object).unwrap();
        let tenant = TenantId::new("one").unwrap();
        let spec = ScanSpec { tenant: &tenant, selector: &all, range, line_filter: &filter };
        let plan = segment.plan(&spec);
        let none = Columns { timestamps: false, lines: LineColumn::None, metadata: false };
        let only_lengths = Columns { lines: LineColumn::Lengths, ..none };
        let mut scratch = Scratch::default();
        for chunk in plan.chunks() {
            let mut decode = |columns, sink: &mut dyn FnMut(&model::RowBlock<'_>)| {
                let reads = plan.reads(chunk, columns).into_iter();
                let bytes: Vec<_> = reads.map(|range| object.read(range).unwrap()).collect();
                let mut sink = |block: &model::RowBlock<'_>| {
                    sink(block);
                    Flow::Continue
                };
                plan.decode(chunk, columns, &bytes, &mut scratch, &mut sink).unwrap()
            };
            decode(none, &mut |block| counted += block.rows);
            decode(only_lengths, &mut |block| {
                lengths.extend((0..block.rows).map(|row| block.lines.line_length(row)));
            });
        }
        wanted.sort_unstable();
        lengths.sort_unstable();
        prop_assert_eq!(counted, wanted.len());
        prop_assert_eq!(lengths, wanted);
    }

    #[test]
    fn values_that_all_lines_of_a_template_share_are_part_of_each_line(
        pools in prop::collection::vec(prop::collection::vec("[a-c]{0,70}[0-9]{1,12}", 1..3), 1..5),
        texts in prop::collection::vec("[ -/:é]{1,24}", 5),
        rows in 1usize..40,
        cut in (any::<prop::sample::Index>(), 0usize..200, 1usize..30),
    ) {
        let line = |row: usize| -> String {
            let parts = pools.iter().zip(&texts).enumerate();
            let parts = parts.map(|(at, (pool, text))| format!("{text}{}", pool[(row >> at) % pool.len()]));
            parts.chain([texts[4].clone()]).collect()
        };
        let records: Vec<Record> = (0..rows).map(|row| record("a", row as i64, &line(row))).collect();
        let (object, _) = write(&records, 1 << 20);
        prop_assert_eq!(as_set(&all(&object, "default").unwrap()), as_set(&records));
        let of = &records[cut.0.index(rows)].line;
        let start = cut.1 % of.len();
        let needle: Box<[u8]> = of[start..(start + cut.2).min(of.len())].into();
        for test in [
            LineTest::Contains(needle),
            LineTest::Matches(Arc::new(DigitAnd(b" -/:"))),
        ] {
            let clause = LineClause { negated: false, any: vec![test] };
            let filter = LineFilter { clauses: vec![clause] };
            let found = scan(&object, "default", &Selector::default(), TimeRange::ALL, &filter).unwrap();
            let wanted: Vec<Record> =
                records.iter().filter(|r| filter.is_match(&r.line)).cloned().collect();
            prop_assert_eq!(as_set(&found.records), as_set(&wanted));
        }
    }

    #[test]
    fn parts_of_ids_are_found_wherever_they_are_cut(
        cuts in prop::collection::vec((0usize..300, 0usize..60, 1usize..40), 8),
    ) {
        let (_, records) = traced(300);
        let (object, _) = write(&records, 4 << 10);
        for (row, at, bytes) in cuts {
            let line = std::str::from_utf8(&records[row].line).unwrap();
            let needle = &line[at.min(line.len())..(at + bytes).min(line.len())];
            let filter = contains(needle);
            let all = Selector::default();
            let found = scan(&object, "default", &all, TimeRange::ALL, &filter).unwrap();
            let wanted = records.iter().filter(|r| filter.is_match(&r.line)).count();
            prop_assert_eq!(found.records.len(), wanted, "{}", needle);
        }
    }
}
