use super::{Event, Invariant};

/// A file of a log is removed only when the catalog covers every head that it feeds.
#[derive(Debug, Default)]
pub(crate) struct ReleasedWalIsCovered;

impl Invariant for ReleasedWalIsCovered {
    fn name(&self) -> &'static str {
        "released_wal_is_covered"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        let Event::Released {
            file,
            heads,
            catalog,
        } = event
        else {
            return Ok(());
        };
        match heads.iter().find(|head| !catalog.covers(**head)) {
            Some(head) => Err(format!(
                "{file} is gone, and catalog {} does not cover its {head:?}",
                catalog.version
            )),
            None => Ok(()),
        }
    }
}
