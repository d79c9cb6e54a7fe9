//! The grammar of `.logqltest` scripts.

use query::logql::parse::parse_duration;

use super::points::{number, points};
use super::{Case, ErrorTest, Expected, Pairs, Record, Step, When};

/// Most records that one line of a script may stand for.
const REPEAT_MAX: usize = 1_000_000;

/// The steps of a script. What is wrong with it stands among them.
pub fn script(text: &str) -> Vec<Step> {
    let lines: Vec<Line> = text
        .lines()
        .enumerate()
        .map(|(at, text)| Line {
            number: at + 1,
            indented: text.starts_with([' ', '\t']),
            text: text.trim(),
        })
        .filter(|line| !line.text.starts_with('#'))
        .collect();
    let mut rest = lines.as_slice();
    let mut steps = Vec::new();
    while let Some((head, tail)) = rest.split_first() {
        rest = tail;
        if head.text.is_empty() {
            continue;
        }
        // A block ends at an empty line, or where a new command starts.
        let inside = |l: &&Line| !l.text.is_empty() && (l.indented || !l.is_command());
        let mut length = tail.iter().take_while(inside).count();
        // Data and expectations may be set out in paragraphs.
        while let Some(gap) = tail[length..].iter().position(|l| !l.text.is_empty())
            && tail[length + gap].indented
            && !tail[length + gap].is_command()
            && head.goes_on()
        {
            length += gap;
            length += tail[length..].iter().take_while(inside).count();
        }
        let (body, after) = tail.split_at(length);
        rest = after;
        steps.push(step(head, body));
    }
    steps
}

struct Line<'a> {
    /// From 1.
    number: usize,
    indented: bool,
    text: &'a str,
}

impl Line<'_> {
    fn is_command(&self) -> bool {
        let word = self.text.split_whitespace().next().unwrap_or_default();
        matches!(word, "clear" | "load" | "eval")
    }

    fn goes_on(&self) -> bool {
        let word = split_word(self.text).0;
        word == "eval" || word == "load"
    }

    fn invalid(&self, message: impl Into<String>) -> Step {
        Step::Invalid {
            line: self.number,
            message: message.into(),
        }
    }
}

fn step(head: &Line, body: &[Line]) -> Step {
    let (word, rest) = split_word(head.text);
    match word {
        "clear" if body.is_empty() && without_comment(rest).is_empty() => Step::Clear,
        "load" if without_comment(rest).is_empty() => load(head, body),
        "eval" => match case(head, rest, body) {
            Ok(case) => Step::Eval(case),
            Err((line, message)) => line.invalid(message),
        },
        // An ignored directive between blocks.
        "skip" => Step::Load(Vec::new()),
        _ => head.invalid(format!("want clear, load or eval: {}", head.text)),
    }
}

fn load(head: &Line, body: &[Line]) -> Step {
    let mut records = Vec::new();
    if body.iter().all(|line| line.text.is_empty()) {
        return head.invalid("want records after load");
    }
    for line in body.iter().filter(|line| !line.text.is_empty()) {
        match record_line(line.text) {
            Ok(mut more) => records.append(&mut more),
            Err(message) => return line.invalid(message),
        }
    }
    Step::Load(records)
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Without a comment at the end; a `#` between quotes is none.
fn without_comment(text: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match (c, quote) {
            ('\\', Some('"')) => escaped = true,
            ('#', None) => return text[..at].trim_end(),
            ('"' | '`', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    text.trim_end()
}

/// `{labels} "line" @ 10s [repeat every 1s for 60] [metadata k="v"]`
fn record_line(text: &str) -> Result<Vec<Record>, String> {
    let (labels, rest) = label_set(text)?;
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '`'));
    let quote = quote.ok_or_else(|| format!("want a line in \" or ` after the labels: {text}"))?;
    let body = &rest[1..];
    // Lines are raw and may contain their own quote: the first one that `@ offset` follows ends it.
    let mut refusal = format!("want {quote} @ offset after the line: {text}");
    for (at, _) in body.match_indices(quote) {
        let Some(after) = body[at + 1..].trim_start().strip_prefix('@') else {
            continue;
        };
        match placement(after.trim_start()) {
            Ok(placement) => return Ok(placement.records(&labels, &body[..at])),
            Err(message) => refusal = format!("{message}: {text}"),
        }
    }
    Err(refusal)
}

/// Where the records of one line stand.
struct Placement {
    at: i64,
    every: i64,
    count: usize,
    metadata: Pairs,
}

impl Placement {
    fn records(&self, labels: &Pairs, line: &str) -> Vec<Record> {
        let times = (0..self.count).zip(0_i64..);
        let records = times.map(|(index, turn)| Record {
            labels: labels.clone(),
            at: self.at.saturating_add(self.every.saturating_mul(turn)),
            line: line.replace("{{.i}}", &index.to_string()),
            metadata: self.metadata.clone(),
        });
        records.collect()
    }
}

fn placement(text: &str) -> Result<Placement, String> {
    let (offset, mut rest) = split_word(text);
    let mut placement = Placement {
        at: time(offset)?,
        every: 0,
        count: 1,
        metadata: Vec::new(),
    };
    while !rest.is_empty() && !rest.starts_with('#') {
        let inner = rest
            .strip_prefix('[')
            .ok_or("want [repeat ...] or [metadata ...]")?;
        let inner = inner.trim_start();
        if let Some(repeat) = inner.strip_prefix("repeat") {
            let end = repeat.find(']').ok_or("missing ]")?;
            let words: Vec<&str> = repeat[..end].split_whitespace().collect();
            let ["every", every, "for", count] = words[..] else {
                return Err("want [repeat every <duration> for <count>]".to_owned());
            };
            placement.every = time(every)?;
            placement.count = repetitions(count, placement.every)?;
            rest = repeat[end + 1..].trim_start();
        } else if let Some(mut pairs) = inner.strip_prefix("metadata") {
            pairs = pairs.trim_start();
            while !pairs.starts_with(']') {
                let (pair, after) = metadata_pair(pairs)?;
                placement.metadata.push(pair);
                pairs = after.trim_start_matches([',', ' ', '\t']);
            }
            if placement.metadata.is_empty() {
                return Err("want [metadata name=\"value\" ...]".to_owned());
            }
            placement.metadata.sort();
            rest = pairs[1..].trim_start();
        } else {
            return Err("want [repeat ...] or [metadata ...]".to_owned());
        }
    }
    Ok(placement)
}

/// `name="value"` or `"name"="value"`, raw, and what follows.
fn metadata_pair(text: &str) -> Result<((String, String), &str), String> {
    let refusal = || format!("want name=\"value\": {text}");
    let (name, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once("\"=").ok_or_else(refusal)?,
        None => text.split_once('=').ok_or_else(refusal)?,
    };
    let body = rest.strip_prefix('"').ok_or_else(refusal)?;
    let (value, after) = body.split_once('"').ok_or_else(refusal)?;
    let spaced = !text.starts_with('"') && name.contains(char::is_whitespace);
    match name.is_empty() || spaced {
        true => Err(refusal()),
        false => Ok(((name.to_owned(), value.to_owned()), after)),
    }
}

/// A number of repetitions, or for how long they go on.
fn repetitions(text: &str, every: i64) -> Result<usize, String> {
    if let Ok(count) = text.parse::<usize>() {
        return match count {
            0 => Err("want at least one repetition".to_owned()),
            1..=REPEAT_MAX => Ok(count),
            _ => Err(format!("more than {REPEAT_MAX} repetitions")),
        };
    }
    let length = time(text)?;
    if every <= 0 {
        return Err("repetitions for a duration need a positive interval".to_owned());
    }
    let count = usize::try_from(length / every).unwrap_or(0);
    Ok(count.min(REPEAT_MAX))
}

/// A duration; `0` and negative ones too. A number without a unit is seconds.
fn time(text: &str) -> Result<i64, String> {
    let bare = text.bytes().all(|b| b.is_ascii_digit());
    let seconds = bare.then(|| parse_duration(&format!("{text}s"))).flatten();
    let time = seconds.or_else(|| parse_duration(text));
    time.ok_or_else(|| format!("not a duration: {text:?}"))
}

/// `{a="b", c="d"}`, and what follows.
fn label_set(text: &str) -> Result<(Pairs, &str), String> {
    let mut rest = text
        .strip_prefix('{')
        .ok_or_else(|| format!("want {{labels}}: {text}"))?;
    let mut pairs = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        if let Some(after) = rest.strip_prefix('}') {
            pairs.sort();
            return Ok((pairs, after.trim_start()));
        }
        let (pair, after) = label(rest)?;
        pairs.push(pair);
        rest = after;
    }
}

/// `name="value"`, and what follows.
fn label(text: &str) -> Result<((String, String), &str), String> {
    let refusal = || format!("want name=\"value\": {text}");
    let (name, rest) = text.split_once('=').ok_or_else(refusal)?;
    let name = name.trim().trim_matches('"');
    let rest = rest.trim_start();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(refusal());
    }
    if let Some(raw) = rest.strip_prefix('`') {
        let end = raw.find('`').ok_or_else(refusal)?;
        return Ok(((name.to_owned(), raw[..end].to_owned()), &raw[end + 1..]));
    }
    let body = rest.strip_prefix('"').ok_or_else(refusal)?;
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                let value = unescape(&body[..at]).ok_or_else(refusal)?;
                return Ok(((name.to_owned(), value), &body[at + 1..]));
            }
            _ => {}
        }
    }
    Err(refusal())
}

/// A quoted value as LogQL reads it.
fn unescape(text: &str) -> Option<String> {
    let matchers = query::logql::parse_selector(&format!("{{a=\"{text}\",b=\"x\"}}"));
    Some(matchers.ok()?.first()?.value.clone())
}

/// `instant at <t> <query>` or `range from <t> to <t> step <d> <query>`, with its expectations.
fn case<'a>(
    head: &'a Line<'a>,
    text: &str,
    body: &'a [Line<'a>],
) -> Result<Case, (&'a Line<'a>, String)> {
    let (when, query) = when(text).map_err(|message| (head, message))?;
    if query.is_empty() {
        return Err((head, "want a query".to_owned()));
    }
    let mut expectation = Expectation::default();
    for line in body.iter().filter(|line| !line.text.is_empty()) {
        expectation
            .line(without_comment(line.text))
            .map_err(|message| (line, message))?;
    }
    let expected = expectation
        .finish(when)
        .map_err(|message| (head, message))?;
    Ok(Case {
        line: head.number,
        query: query.to_owned(),
        when,
        expected,
    })
}

fn when(text: &str) -> Result<(When, &str), String> {
    let mut rest = text;
    let mut word = || {
        let (word, after) = split_word(rest);
        rest = after;
        word
    };
    let keyword = |word: &str, wanted: &str| match word == wanted {
        true => Ok(()),
        false => Err(format!("want {wanted}, found {word:?}")),
    };
    let when = match word() {
        "instant" => {
            keyword(word(), "at")?;
            When::Instant(time(word())?)
        }
        "range" => {
            keyword(word(), "from")?;
            let from = time(word())?;
            keyword(word(), "to")?;
            let to = time(word())?;
            keyword(word(), "step")?;
            let step = time(word())?;
            if step <= 0 || to < from {
                return Err("want from <= to and a positive step".to_owned());
            }
            When::Range { from, to, step }
        }
        other => return Err(format!("want instant or range, found {other:?}")),
    };
    Ok((when, rest))
}

/// What the lines under an `eval` say.
#[derive(Default)]
struct Expectation {
    failure: Option<ErrorTest>,
    empty: bool,
    ordered: bool,
    scalar: Option<f64>,
    rows: Vec<(Pairs, Vec<Option<f64>>)>,
}

impl Expectation {
    fn line(&mut self, text: &str) -> Result<(), String> {
        if text.starts_with('{') {
            let (labels, rest) = label_set(text)?;
            let points = points(rest)?;
            if points.is_empty() {
                return Err(format!("want values after the labels: {text}"));
            }
            self.rows.push((labels, points));
            return Ok(());
        }
        let (word, rest) = split_word(text);
        match word {
            "skip" => skip(rest),
            "expect" => self.directive(rest),
            _ => {
                let value = number(text).ok_or_else(|| format!("not an expectation: {text}"))?;
                match self.scalar.replace(value) {
                    None => Ok(()),
                    Some(_) => Err(format!("more than one number: {text}")),
                }
            }
        }
    }

    fn directive(&mut self, text: &str) -> Result<(), String> {
        let (word, rest) = split_word(text);
        match word {
            "empty" | "ordered" if !rest.is_empty() => {
                return Err(format!("nothing may follow {word}: {rest}"));
            }
            "empty" => self.empty = true,
            "ordered" => self.ordered = true,
            "fail" => {
                let test = if let Some(message) = rest.strip_prefix("msg:") {
                    ErrorTest::Contains(message.trim().to_owned())
                } else if let Some(pattern) = rest.strip_prefix("regex:") {
                    let regex = query::logql::regex::compile(pattern.trim());
                    ErrorTest::Matches(regex.map_err(|error| error.to_string())?)
                } else if rest.is_empty() {
                    ErrorTest::Any
                } else {
                    return Err(format!("want msg: or regex: after fail, found {rest}"));
                };
                let says = |prefix: &str| rest.strip_prefix(prefix).map(str::trim) == Some("");
                if says("msg:") || says("regex:") {
                    return Err(format!("want a text after {rest}"));
                }
                self.failure = Some(test);
            }
            _ => return Err(format!("unknown expectation: {word}")),
        }
        Ok(())
    }

    fn finish(mut self, when: When) -> Result<Expected, String> {
        let kinds = [
            self.failure.is_some(),
            self.scalar.is_some(),
            self.empty,
            !self.rows.is_empty(),
        ];
        match kinds.into_iter().filter(|kind| *kind).count() {
            0 => {
                return Err(
                    "the case expects nothing: say `expect empty` if that is meant".to_owned(),
                );
            }
            1 => {}
            _ => {
                return Err(
                    "want one of series, a number, `expect empty` and `expect fail`".to_owned(),
                );
            }
        }
        let is_range = matches!(when, When::Range { .. });
        if let Some(test) = self.failure {
            return Ok(Expected::Failure(test));
        }
        if let Some(value) = self.scalar {
            return Ok(Expected::Scalar(value));
        }
        let steps = match when {
            When::Instant(_) => 1,
            When::Range { from, to, step } => (to - from) / step + 1,
        };
        for (labels, points) in &mut self.rows {
            let gap = !is_range && points.contains(&None);
            // Steps that are not written have no value.
            while is_range && (points.len() as i64) < steps {
                points.push(None);
            }
            if points.len() as i64 != steps || gap {
                return Err(format!(
                    "{} values for {steps} steps: {labels:?}",
                    points.len()
                ));
            }
        }
        Ok(Expected::Series {
            // Matrices are in order of labels, whatever the query sorts by.
            ordered: self.ordered && !is_range,
            rows: self.rows,
        })
    }
}

/// `<what> on "<name>"`: about other engines, so nothing is skipped here.
fn skip(text: &str) -> Result<(), String> {
    let (what, rest) = split_word(text);
    let (on, name) = split_word(rest);
    let quoted = name.len() > 2 && name.starts_with('"') && name.ends_with('"');
    match what == "values-comparison" && on == "on" && quoted {
        true => Ok(()),
        false => Err(format!("want skip values-comparison on \"name\": {text}")),
    }
}
