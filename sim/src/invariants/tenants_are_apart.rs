use std::collections::BTreeSet;

use super::{Event, Invariant};
use crate::records::tenant_of;

/// An answer has records of those tenants only who were asked about; so has what one ingester tells,
/// though queriers look at that again.
#[derive(Debug, Default)]
pub(crate) struct TenantsAreApart {
    asked: BTreeSet<u64>,
}

impl Invariant for TenantsAreApart {
    fn name(&self) -> &'static str {
        "tenants_are_apart"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::QueryBegins { tenants, .. } => self.asked.clone_from(tenants),
            Event::Told { asked, told } => {
                if let Some(foreign) = told.iter().find(|tenant| *tenant != asked) {
                    return Err(format!(
                        "an ingester that is asked for {asked} tells of {foreign}"
                    ));
                }
            }
            Event::Found { records, .. } => {
                let mut records = records.iter();
                let foreign = records.find(|record| !self.asked.contains(&tenant_of(**record)));
                if let Some(foreign) = foreign {
                    return Err(format!(
                        "record {foreign} of tenant {} is in an answer for {:?}",
                        tenant_of(*foreign),
                        self.asked
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
