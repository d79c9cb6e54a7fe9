use query::logql::engine::{Direction, Params};
use testkit::MemorySource;

use super::{SECOND, at, check, labels};

fn source() -> MemorySource {
    let mut source = MemorySource::new();
    for app in ["a", "b"] {
        let labels = labels(&[("app", app)]);
        for second in 1..=5 {
            source.push(&labels, second * SECOND, &format!("{app}{second}"), &[]);
        }
    }
    source
}

fn log(limit: u32, direction: Direction) -> Params {
    Params {
        start: 0,
        end: 5 * SECOND,
        limit,
        direction,
        ..at(0)
    }
}

#[test]
fn the_latest_entries_come_first_and_the_end_is_excluded() {
    let params = log(3, Direction::Backward);
    let want = [
        r#"{app="a"} 4 a4"#,
        r#"{app="a"} 3 a3"#,
        r#"{app="b"} 4 b4"#,
    ];
    check(&source(), r#"{app=~".+"}"#, &params, &want);
}

#[test]
fn the_earliest_entries_come_first_when_asked() {
    let params = log(3, Direction::Forward);
    let want = [
        r#"{app="a"} 1 a1"#,
        r#"{app="a"} 2 a2"#,
        r#"{app="b"} 1 b1"#,
    ];
    check(&source(), r#"{app=~".+"}"#, &params, &want);
    check(
        &source(),
        r#"{app=~".+"}"#,
        &log(0, Direction::Forward),
        &[],
    );
}

#[test]
fn interval_thins_over_all_streams() {
    let params = Params {
        interval: 2 * SECOND,
        ..log(10, Direction::Forward)
    };
    let want = [r#"{app="a"} 1 a1"#, r#"{app="a"} 3 a3"#];
    check(&source(), r#"{app=~".+"}"#, &params, &want);
}
