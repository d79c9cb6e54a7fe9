//! Label names as small numbers, so that rows compare numbers instead of texts.

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// Names beyond this many are forgotten between rows: keys of logs come from outside and may never
/// repeat. A name and its two entries take some 100 bytes, so this is about 2 MB for each worker.
const NAMES_MAX: usize = 20_000;

/// Put behind a parsed name that a stream label or structured metadata already has.
const DUPLICATE_SUFFIX: &str = "_extracted";

/// A label name of one [`Names`]; those pinned by the pipeline stay valid for good, all others
/// until [`Names::forget_if_many`] says that it forgot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NameId(u32);

impl NameId {
    /// From 0, without gaps.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Numbers names in order of their first appearance.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    ids: HashMap<Box<[u8]>, NameId>,
    texts: Vec<Box<str>>,
    hashes: Vec<u64>,
    /// Whether the text is [what keys become](sanitize_into).
    clean: Vec<bool>,
    /// The id of name + `_extracted`, once somebody asked.
    extracted: Vec<Option<NameId>>,
    pinned: usize,
}

impl Names {
    /// The number of a name, known or not.
    pub(super) fn id(&mut self, name: &str) -> NameId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let id = NameId(self.texts.len() as u32);
        self.texts.push(name.into());
        self.hashes.push(xxh3_64(name.as_bytes()));
        self.clean.push(is_label_name(name.as_bytes()));
        self.extracted.push(None);
        self.ids.insert(name.as_bytes().into(), id);
        id
    }

    /// The number of a name that was seen before.
    pub(super) fn find(&self, name: &str) -> Option<NameId> {
        self.ids.get(name.as_bytes()).copied()
    }

    /// The number of the name that a key becomes, if that is the key as it is and it was seen before: most
    /// keys of most lines, which so need not be checked byte by byte.
    pub(super) fn find_key(&self, key: &[u8]) -> Option<NameId> {
        let id = *self.ids.get(key)?;
        self.clean[id.index()].then_some(id)
    }

    /// The name.
    pub(super) fn text(&self, id: NameId) -> &str {
        &self.texts[id.0 as usize]
    }

    /// A hash of the name that does not depend on its number.
    pub(super) fn hash(&self, id: NameId) -> u64 {
        self.hashes[id.index()]
    }

    /// The name with `_extracted` behind it.
    pub(super) fn extracted(&mut self, id: NameId) -> NameId {
        if let Some(known) = self.extracted[id.0 as usize] {
            return known;
        }
        let name = format!("{}{DUPLICATE_SUFFIX}", self.text(id));
        let extracted = self.id(&name);
        self.extracted[id.0 as usize] = Some(extracted);
        extracted
    }

    /// Keeps the names known so far for good.
    pub(super) fn pin(&mut self) {
        self.pinned = self.texts.len();
    }

    /// Forgets all but the pinned names if there are very many. True if it did.
    pub(super) fn forget_if_many(&mut self) -> bool {
        if self.texts.len() <= NAMES_MAX.max(2 * self.pinned) {
            return false;
        }
        let pinned = self.pinned;
        self.texts.truncate(pinned);
        self.hashes.truncate(pinned);
        self.clean.truncate(pinned);
        self.extracted.truncate(pinned);
        self.ids.retain(|_, id| (id.0 as usize) < pinned);
        for extracted in &mut self.extracted {
            extracted.take_if(|id| id.0 as usize >= pinned);
        }
        true
    }
}

/// The name without `_extracted`, if it ends so.
pub(super) fn without_suffix(name: &str) -> Option<&str> {
    name.strip_suffix(DUPLICATE_SUFFIX)
}

/// Appends `key` to `out` with every character that is not allowed in a label name as `_`. Blanks
/// around the key are left out; a digit in front gets a `_` before it if `first`, that is if the
/// key starts the label name.
pub(super) fn sanitize_into(out: &mut String, key: &str, first: bool) {
    let key = key.trim();
    if first && key.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        out.push('_');
    }
    if key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return out.push_str(key);
    }
    out.extend(key.chars().map(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => c,
        _ => '_',
    }));
}

/// Whether a key becomes a label name as it is.
pub(super) fn is_label_name(key: &[u8]) -> bool {
    key.first().is_some_and(|b| !b.is_ascii_digit())
        && key.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_number_until_they_are_forgotten() {
        let mut names = Names::default();
        let app = names.id("app");
        names.pin();
        assert_eq!(names.id("app"), app);
        assert_eq!(names.find("x"), None);
        let extracted = names.extracted(app);
        assert_eq!(names.text(extracted), "app_extracted");
        for n in 0..NAMES_MAX {
            names.id(&format!("n{n}"));
        }
        assert!(names.forget_if_many());
        assert_eq!(names.find("n1"), None);
        assert_eq!(names.find("app"), Some(app));
        assert_eq!(names.find_key(b"app"), Some(app));
        names.id("a.b");
        assert_eq!((names.find_key(b"a.b"), names.find_key(b"x")), (None, None));
        let again = names.extracted(app);
        assert_eq!(names.text(again), "app_extracted");
    }

    #[test]
    fn keys_become_label_names() {
        for (key, first, want) in [
            ("a.b-c", true, "a_b_c"),
            ("1a", true, "_1a"),
            ("1a", false, "1a"),
            (" a ", true, "a"),
            ("größe", true, "gr__e"),
        ] {
            let mut out = String::new();
            sanitize_into(&mut out, key, first);
            assert_eq!(out, want, "{key}");
        }
    }
}
