//! Expressions whose groups are looked for in very many lines.

use std::ops::Range;

use memchr::memmem::Finder;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, meta};

use super::{COMPILED_BYTES_MAX, NESTING_MAX, RegexError, compile_bytes, literal, translate};

/// How many places with the text that begins every match are tried on their own: each may be looked at
/// up to the end of the line, so this bounds what a line costs.
const PLACES_MAX: usize = 3;

/// An expression compiled for its groups in lines, which may hold bytes that are not UTF-8. It finds
/// what [`compile_bytes`]' result finds.
#[derive(Clone, Debug)]
pub struct CaptureRegex {
    regex: meta::Regex,
    /// Every match begins with it.
    prefix: Option<Box<Finder<'static>>>,
}

/// What a search needs: one per worker and expression.
#[derive(Debug)]
pub struct CaptureMemory {
    cache: meta::Cache,
    /// Start and end of each group of the match found last.
    slots: Vec<Option<NonMaxUsize>>,
}

impl CaptureRegex {
    /// Compiles for search anywhere in a line.
    ///
    /// # Errors
    /// As [`compile_bytes`].
    pub fn new(text: &str) -> Result<Self, RegexError> {
        // As the crate `regex` does for bytes.
        let syntax = syntax::Config::new().utf8(false).nest_limit(NESTING_MAX);
        let config = meta::Config::new()
            .nfa_size_limit(Some(COMPILED_BYTES_MAX))
            .utf8_empty(false);
        let mut builder = meta::Regex::builder();
        let regex = match builder
            .syntax(syntax)
            .configure(config)
            .build(&translate(text)?)
        {
            Ok(regex) => regex,
            Err(error) => {
                // Which has the words for it.
                compile_bytes(text)?;
                return Err(RegexError::new(&error.to_string(), text));
            }
        };
        Ok(CaptureRegex {
            regex,
            prefix: literal::prefix(text).map(|prefix| Box::new(Finder::new(&prefix).into_owned())),
        })
    }

    /// The names of the groups, by number; group 0 is the whole match.
    pub fn names(&self) -> impl Iterator<Item = Option<&str>> {
        self.regex
            .group_info()
            .pattern_names(regex_automata::PatternID::ZERO)
    }

    /// Room for the groups of a match.
    pub fn memory(&self) -> CaptureMemory {
        CaptureMemory {
            cache: self.regex.create_cache(),
            slots: vec![None; self.regex.group_info().slot_len()],
        }
    }

    /// Finds the leftmost match and where its groups are. False if there is none.
    pub fn find(&self, line: &[u8], memory: &mut CaptureMemory) -> bool {
        let CaptureMemory { cache, slots } = memory;
        let mut search = |from: usize, anchored| {
            let input = Input::new(line).range(from..).anchored(anchored);
            self.regex.search_slots_with(cache, &input, slots).is_some()
        };
        let Some(prefix) = &self.prefix else {
            return search(0, Anchored::No);
        };
        // The leftmost match begins at the first place with the prefix from which there is one. To
        // look there alone is half the work: where a match begins and ends is known without its groups
        // in a search for it.
        let mut from = 0;
        for _ in 0..PLACES_MAX {
            let Some(offset) = line.get(from..).and_then(|rest| prefix.find(rest)) else {
                return false;
            };
            if search(from + offset, Anchored::Yes) {
                return true;
            }
            from += offset + 1;
        }
        search(from, Anchored::No)
    }
}

impl CaptureMemory {
    /// Where a group of the match found last is; `None` if the match is without it.
    pub fn group(&self, number: usize) -> Option<Range<usize>> {
        let start = self.slots.get(2 * number).copied().flatten()?;
        let end = self.slots.get(2 * number + 1).copied().flatten()?;
        Some(start.get()..end.get())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part() -> impl Strategy<Value = String> {
        let parts = [
            "a", "b", "aa", "ab", " ", "é", "a*", "[ab]+?", "(b|ab)", "(a)?", "()", "(?i:ab)",
            "\\b", "\\B", "^", "$", "(?m:^)", "(?m:$)", "\\A", "\\z", ".", "(?s:.)*", "|", "|aa",
            "[^a]*", "\\x{e9}",
        ];
        proptest::sample::select(parts.to_vec()).prop_map(str::to_owned)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn groups_are_where_the_plain_engine_finds_them(
            prefix in "(a|b|ab|aab|\\(a|\\(ab\\)){0,1}",
            parts in prop::collection::vec(part(), 0..6),
            lines in prop::collection::vec("[ab é\n]{0,12}", 1..6),
            invalid in any::<bool>(),
        ) {
            let open = prefix.starts_with('(') && !prefix.ends_with(')');
            let text = format!("{prefix}{}{}", parts.concat(), if open { ")" } else { "" });
            let plain = compile_bytes(&text);
            let fast = CaptureRegex::new(&text);
            prop_assert_eq!(plain.as_ref().err(), fast.as_ref().err());
            let (Ok(plain), Ok(fast)) = (plain, fast) else { return Ok(()) };
            let mut memory = fast.memory();
            for line in lines {
                let mut line = line.into_bytes();
                if invalid {
                    line.insert(line.len() / 2, 0xc3);
                }
                let mut want = plain.capture_locations();
                let found = plain.captures_read(&mut want, &line).is_some();
                prop_assert_eq!(fast.find(&line, &mut memory), found, "{} in {:?}", text, line);
                for group in 0..if found { want.len() } else { 0 } {
                    let want = want.get(group).map(|(start, end)| start..end);
                    prop_assert_eq!(memory.group(group), want, "{} in {:?}", text, line);
                }
            }
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_in_the_same_words() {
        for text in [
            "(",
            "a**",
            "(?P<a>",
            "[b-a]",
            "(a{1000}){1000}",
            "\\pX",
            "(?P<a>a)(?P<a>b)",
        ] {
            assert_eq!(
                CaptureRegex::new(text).err(),
                compile_bytes(text).err(),
                "{text}"
            );
        }
    }
}
