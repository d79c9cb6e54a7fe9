//! `pharos ring`: who is in the cluster, and how to take somebody out. Asks any process over HTTP.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use meta::{MemberStatus, Status};

/// Flags of `pharos ring`.
#[derive(Debug, Args)]
pub(crate) struct RingArguments {
    /// HTTP address of any process of the cluster
    #[arg(
        long,
        value_name = "URL",
        global = true,
        env = "PHAROS_ADDRESS",
        default_value = "http://127.0.0.1:3100"
    )]
    address: String,
    /// Prints what the process answers, as JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lets an ingester leave: it takes no new records, stores what it has, and ends
    Leave {
        /// Its number
        node: u64,
    },
    /// Takes a process that will not come back off the list; records that it alone had are lost
    Forget {
        /// Its number
        node: u64,
    },
}

/// Asks, and prints the answer.
#[expect(clippy::print_stdout, reason = "it is the command's output")]
pub(crate) fn run(arguments: &RingArguments) -> anyhow::Result<()> {
    let base = arguments.address.trim_end_matches('/');
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    match arguments.action {
        Some(Action::Leave { node }) => {
            runtime.block_on(ask(base, &format!("/leave/{node}"), true))?;
            println!("node {node} is leaving; `pharos ring` shows when it is gone");
        }
        Some(Action::Forget { node }) => {
            runtime.block_on(ask(base, &format!("/forget/{node}"), true))?;
            println!("node {node} is forgotten");
        }
        None => {
            let text = runtime.block_on(ask(base, "", false))?;
            match arguments.json {
                true => println!("{text}"),
                false => print!("{}", table(&serde_json::from_str(&text)?)),
            }
        }
    }
    Ok(())
}

async fn ask(base: &str, path: &str, post: bool) -> anyhow::Result<String> {
    let url = format!("{base}/admin/api/v1/ring{path}");
    let client = reqwest::Client::new();
    let request = match post {
        true => client.post(&url),
        false => client.get(&url),
    };
    let answer = request.send().await;
    let answer = answer.with_context(|| format!("{base} does not answer; set --address"))?;
    let status = answer.status();
    let text = answer.text().await?;
    if !status.is_success() {
        bail!("{url}: {status}: {}", text.trim());
    }
    Ok(text)
}

/// One line for each member, then what is true of all of them.
fn table(status: &Status) -> String {
    let header = ["NODE", "ADDRESS", "ZONE", "ROLES", "STATE", "META", "HEARD"].map(str::to_owned);
    let mut rows = vec![header];
    rows.extend(status.members.iter().map(|member| row(status, member)));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..7).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text += &format!(
        "\nring {}, catalog version {}, {} segments, term {}\n",
        status.ring, status.version, status.segments, status.term
    );
    for past in &status.past_rings {
        text += &format!(
            "ring {} is not stored yet: waiting for {}{}\n",
            past.version,
            numbers(&past.undrained),
            match past.lost.as_slice() {
                [] => String::new(),
                lost => format!("; lost {}", numbers(lost)),
            }
        );
    }
    text
}

fn row(status: &Status, member: &MemberStatus) -> [String; 7] {
    let leads = status
        .leader
        .as_ref()
        .is_some_and(|leader| leader.node == member.node);
    let part = match (leads, member.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "-",
    };
    let heard = match member.silent_millis {
        Some(millis) => format!("{:.1} s ago", millis as f64 / 1000.0),
        None => "-".to_owned(),
    };
    [
        member.node.to_string(),
        member.address.clone(),
        member.zone.clone(),
        member.roles.join(","),
        member.state.clone(),
        part.to_owned(),
        heard,
    ]
}

fn numbers(ids: &[u64]) -> String {
    let texts: Vec<String> = ids.iter().map(u64::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_members_the_leader_and_what_is_not_stored_yet() {
        let text = r#"{"protocol":1,"cluster":"00","node":1,"address":"a:1","ingester":true,
            "leader":{"node":1,"address":"a:1"},"term":3,"voters":[1,2],"learners":[],"last_log":9,
            "applied":9,"snapshot":null,"version":7,"last_node":12,"segments":5,"ring":4,
            "past_rings":[{"version":3,"undrained":[1,2],"lost":[9]}],
            "members":[
                {"node":1,"address":"a:1","zone":"x","roles":["ingester","querier"],"state":"active","voter":true,"silent_millis":1500},
                {"node":12,"address":"long-name:1","zone":"y","roles":["querier"],"state":"leaving","voter":false,"silent_millis":null}]}"#;
        let expected = "\
NODE  ADDRESS      ZONE  ROLES             STATE    META    HEARD
1     a:1          x     ingester,querier  active   leader  1.5 s ago
12    long-name:1  y     querier           leaving  -       -

ring 4, catalog version 7, 5 segments, term 3
ring 3 is not stored yet: waiting for 1, 2; lost 9
";
        assert_eq!(table(&serde_json::from_str(text).unwrap()), expected);
    }
}
