//! Merging and retention: [`plan_merges`] decides, `Merger` does.

mod plan;
mod run;

pub use plan::{MergePlan, PlanOptions, plan_merges};
pub(crate) use run::{Merger, Removal};
