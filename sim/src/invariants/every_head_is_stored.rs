use super::{Event, Invariant};

/// Once faults are over, nothing stays in a head for ever.
#[derive(Debug, Default)]
pub(crate) struct EveryHeadIsStored;

impl Invariant for EveryHeadIsStored {
    fn name(&self) -> &'static str {
        "every_head_is_stored"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Settled { held } if !held.is_empty() => Err(format!(
                "{} heads are held though nothing hinders their flush: {:?}",
                held.len(),
                &held[..held.len().min(10)]
            )),
            _ => Ok(()),
        }
    }
}
