//! Rule groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::TenantId;
use serde::{Deserialize, Serialize};

use super::ShapeError;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RuleGroupId {
    tenant: String,
    namespace: String,
    name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RuleGroup {
    id: RuleGroupId,
    definition: String,
    version: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    state: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RuleProgress {
    group: RuleGroupId,
    state: String,
}

impl From<&rpc::RuleGroupId> for RuleGroupId {
    fn from(id: &rpc::RuleGroupId) -> Self {
        RuleGroupId {
            tenant: id.tenant.to_string(),
            namespace: id.namespace.to_string(),
            name: id.name.to_string(),
        }
    }
}

impl TryFrom<RuleGroupId> for rpc::RuleGroupId {
    type Error = ShapeError;

    fn try_from(id: RuleGroupId) -> Result<Self, ShapeError> {
        Ok(rpc::RuleGroupId {
            tenant: TenantId::new(&id.tenant)?,
            namespace: id.namespace.into(),
            name: id.name.into(),
        })
    }
}

impl From<&rpc::RuleProgress> for RuleProgress {
    fn from(progress: &rpc::RuleProgress) -> Self {
        RuleProgress {
            group: (&progress.group).into(),
            state: progress.state.to_string(),
        }
    }
}

impl TryFrom<RuleProgress> for rpc::RuleProgress {
    type Error = ShapeError;

    fn try_from(progress: RuleProgress) -> Result<Self, ShapeError> {
        Ok(rpc::RuleProgress {
            group: progress.group.try_into()?,
            state: progress.state.into(),
        })
    }
}

pub(super) fn groups(rules: &BTreeMap<rpc::RuleGroupId, Arc<rpc::RuleGroup>>) -> Vec<RuleGroup> {
    let shape = |(id, group): (&rpc::RuleGroupId, &Arc<rpc::RuleGroup>)| RuleGroup {
        id: id.into(),
        definition: group.definition.to_string(),
        version: group.version,
        state: group.state.to_string(),
    };
    rules.iter().map(shape).collect()
}

pub(super) fn read_groups(
    shapes: Vec<RuleGroup>,
) -> Result<BTreeMap<rpc::RuleGroupId, Arc<rpc::RuleGroup>>, ShapeError> {
    let read = |shape: RuleGroup| {
        let group = rpc::RuleGroup {
            definition: shape.definition.into(),
            version: shape.version,
            state: shape.state.into(),
        };
        Ok((shape.id.try_into()?, Arc::new(group)))
    };
    shapes.into_iter().map(read).collect()
}
