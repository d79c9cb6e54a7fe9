//! Any text as a LogQL query: refused, or printed and formatted to a text that is the same query.
//! `make fuzz` runs it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use query::logql::{format, parse};

fuzz_target!(|text: &str| {
    let Ok(expr) = parse(text) else {
        return;
    };
    let printed = expr.to_string();
    // NaN is not equal to itself; its text is.
    for again in [parse(&printed), parse(&format::pretty(&expr))] {
        assert_eq!(again.map(|e| e.to_string()).as_ref(), Ok(&printed));
    }
});
