//! Segments written by earlier releases read as they did then. Files in `test-data/v2` are only
//! ever added to; a new one is written by `WRITE_GOLDEN=name` where there is none of that name.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::support::{Record, all, object, record, write};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("test-data/v2")
}

fn print(records: &[Record]) -> String {
    let mut out = String::new();
    for record in records {
        let Record {
            app,
            time,
            line,
            metadata,
            ..
        } = record;
        write!(out, "{app} {time} {}", line.escape_ascii()).unwrap();
        for (key, value) in metadata {
            write!(out, " | {key}={}", value.escape_ascii()).unwrap();
        }
        out.push('\n');
    }
    out
}

fn sample() -> Vec<Record> {
    let mut records = Vec::new();
    for n in 0..400i64 {
        let line = match n % 8 {
            0 => format!(
                "10.0.{}.{} - - \"GET /api/v1/items/{} HTTP/1.1\" 200 {}",
                n % 4,
                n,
                n * 3,
                n * 101
            ),
            1 => format!("{{\"level\":\"info\",\"id\":{n},\"msg\":\"done\"}}"),
            2 => format!("trace_id=4f8a0c93d17be2650f3344aa91c7d{n:03x} ok"),
            3 => format!("panic: at line {n}\n\tat a.b.C(C.java:{n})\n\tat d.E(E.java:1)"),
            4 => String::new(),
            5 => format!("gr\u{fc}\u{df}e {n} \u{4f60}\u{597d}7"),
            6 => (0..n).map(|k| format!("{k},")).collect(),
            _ => "nothing to see here".to_owned(),
        };
        let mut record = record(if n % 3 == 0 { "api" } else { "web" }, n * n, &line);
        if n % 8 == 2 {
            record.line.extend_from_slice(&[0, 0xff, b'7']);
        }
        if n % 2 == 0 {
            record.metadata.push(("level".into(), b"info".to_vec()));
            record
                .metadata
                .push(("span".into(), format!("{:016x}", n * 77_777).into()));
        }
        if n % 5 == 0 {
            record
                .metadata
                .push(("size".into(), (n * 1000).to_string().into()));
        }
        if n == 17 {
            record.metadata.push(("rare".into(), b"0017".to_vec()));
        }
        record.metadata.sort();
        records.push(record);
    }
    records
}

#[test]
fn golden_segments_read_as_they_always_did() {
    if let Ok(name) = std::env::var("WRITE_GOLDEN") {
        let path = folder().join(format!("{name}.seg"));
        if !path.exists() {
            let (object, _) = write(&sample(), 8192);
            std::fs::write(&path, &object.bytes).unwrap();
            let text = print(&all(&object, "default").unwrap());
            std::fs::write(path.with_extension("expected"), text).unwrap();
        }
    }
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for path in names {
        let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let found = print(&all(&object(bytes), "default").unwrap());
        assert!(found == expected, "{} reads otherwise", path.display());
    }
}
