//! Which crate may use which. The tables are the design's layers, written out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

/// Workspace crate -> workspace crates that it may link (dev-dependencies are free).
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("proto", &["model"]),
    ("segment", &["model"]),
    ("query", &["model"]),
    ("ring", &["model"]),
    ("rpc", &["model", "segment"]),
    ("store", &["model"]),
    ("meta", &["model", "rpc"]),
    ("runtime", &["model"]),
    ("testkit", &["model", "segment", "query", "rpc", "store"]),
    ("distributor", &["model", "proto", "ring", "rpc", "runtime"]),
    (
        "ingester",
        &[
            "model", "segment", "query", "ring", "rpc", "store", "runtime",
        ],
    ),
    (
        "querier",
        &[
            "model", "segment", "query", "ring", "rpc", "store", "runtime",
        ],
    ),
    (
        "pharos",
        &[
            "model",
            "ring",
            "rpc",
            "store",
            "meta",
            "runtime",
            "distributor",
            "ingester",
            "querier",
        ],
    ),
    (
        "sim",
        &[
            "model",
            "segment",
            "rpc",
            "store",
            "meta",
            "runtime",
            "testkit",
            "distributor",
            "ingester",
            "querier",
        ],
    ),
    ("xtask", &["model", "query", "testkit"]),
];

/// Third-party crate -> the only workspace crates that may name it outside of tests.
const CONFINED: &[(&str, &[&str])] = &[
    ("openraft", &["meta"]),
    ("sled", &["meta"]),
    ("hashring", &["ring"]),
    ("object_store", &["store", "testkit"]),
    ("tonic", &["rpc", "distributor", "pharos"]),
    ("zstd", &["segment", "proto"]),
    ("pco", &["segment"]),
    ("gotmpl", &["query"]),
    ("serde-saphyr", &["runtime", "querier"]),
];

/// The pure crates: same input, same output. They never see these.
const PURE: &[&str] = &["model", "proto", "segment", "query", "ring"];
const IMPURE_DEPENDENCIES: &[&str] = &["tokio", "tonic", "axum", "object_store", "sled", "kube"];

/// Crate -> names that it depends on for its product code.
pub(super) type Edges = BTreeMap<String, BTreeSet<String>>;

/// Asks cargo for the edges of the workspace.
pub(super) fn edges(root: &Path) -> anyhow::Result<Edges> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root)
        .output()?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    Ok(packages.iter().map(edges_of).collect())
}

fn edges_of(package: &Value) -> (String, BTreeSet<String>) {
    let dependencies = package["dependencies"].as_array();
    let product = dependencies
        .into_iter()
        .flatten()
        .filter(|d| d["kind"] != "dev");
    let names = product
        .filter_map(|d| d["name"].as_str())
        .map(str::to_owned);
    (
        package["name"].as_str().unwrap_or_default().to_owned(),
        names.collect(),
    )
}

/// What the edges break.
pub(super) fn check(edges: &Edges) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, dependencies) in edges {
        let Some((_, allowed)) = ALLOWED.iter().find(|(crate_name, _)| crate_name == name) else {
            complaints.push(format!(
                "crate {name} has no row in xtask/src/tidy/deps.rs ALLOWED"
            ));
            continue;
        };
        for dependency in dependencies {
            if edges.contains_key(dependency) && !allowed.contains(&dependency.as_str()) {
                complaints.push(format!("crate {name} must not depend on {dependency}"));
            }
            if PURE.contains(&name.as_str()) && IMPURE_DEPENDENCIES.contains(&dependency.as_str()) {
                complaints.push(format!("pure crate {name} must not see {dependency}"));
            }
            let confined = CONFINED
                .iter()
                .find(|(third_party, _)| third_party == dependency);
            if let Some((_, homes)) = confined
                && !homes.contains(&name.as_str())
            {
                complaints.push(format!("{dependency} belongs to {homes:?}, not to {name}"));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(list: &[(&str, &[&str])]) -> Edges {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        list.iter()
            .map(|(name, to)| ((*name).to_owned(), owned(to)))
            .collect()
    }

    #[test]
    fn a_forbidden_edge_is_named() {
        let found = check(&edges(&[("model", &["rpc"]), ("rpc", &["model", "serde"])]));
        assert_eq!(found, ["crate model must not depend on rpc"]);
    }

    #[test]
    fn third_party_crates_stay_at_home_and_out_of_pure_crates() {
        let found = check(&edges(&[("query", &["tokio"]), ("store", &["sled"])]));
        assert_eq!(
            found,
            [
                "pure crate query must not see tokio",
                r#"sled belongs to ["meta"], not to store"#
            ]
        );
    }
}
