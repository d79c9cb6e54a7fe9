//! `pharos ring`: who is in the cluster, how to take somebody out, and how to raise its shards. Asks any process over HTTP.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use meta::{MemberStatus, Status};

/// How long a process may take to answer: longer than it tries to reach a majority.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is asked, and how the answer is printed.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// HTTP address of any process of the cluster: a URL, or host and port
    #[arg(
        long,
        value_name = "URL",
        global = true,
        env = "PHAROS_ADDRESS",
        hide_env_values = true,
        default_value = "http://127.0.0.1:3100"
    )]
    address: String,
    /// Prints JSON: what is asked for, or the cluster as it is after a change
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Flags of `pharos ring`.
#[derive(Debug, Args)]
pub(crate) struct RingArguments {
    #[command(flatten)]
    asked: Asked,
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
    /// Takes a process that will not come back off the list; says which records may be lost with it
    Forget {
        /// Its number
        node: u64,
        /// Of one that is off the list already: accepts that records which only it and others like it had are lost, and
        /// says which, so that nobody waits for them any more
        #[arg(long)]
        accept_loss: bool,
        /// Also when it was heard of a moment ago: what only it has is lost
        #[arg(long, conflicts_with = "accept_loss")]
        force: bool,
    },
    /// Raises the number of shards into which streams are cut, so that more ingesters can share the work; it never becomes less
    Shards {
        /// How many there are to be, 4096 at most
        shards: u32,
    },
}

/// Asks, and prints the answer.
#[expect(clippy::print_stdout, reason = "it is the command's output")]
pub(crate) fn run(arguments: &RingArguments) -> anyhow::Result<()> {
    let asked = &arguments.asked;
    let ring = || block_on(ask(asked, "/ring", false, Some(PATIENCE)));
    let change = |path: &str| block_on(ask(asked, path, true, Some(PATIENCE)));
    let text = match arguments.action {
        Some(Action::Leave { node }) => {
            change(&format!("/ring/leave/{node}"))?;
            format!("node {node} is leaving; `pharos ring` shows when it is gone\n")
        }
        Some(Action::Forget {
            node,
            accept_loss,
            force,
        }) => {
            let before = serde_json::from_str(&ring()?)?;
            change(&format!(
                "/ring/forget/{node}?accept_loss={accept_loss}&force={force}"
            ))?;
            let after = serde_json::from_str(&ring()?)?;
            match accept_loss {
                true => accepted(node, &before, &after),
                false => forgotten(node, &before, &after),
            }
        }
        Some(Action::Shards { shards }) => {
            change(&format!("/ring/shards/{shards}"))?;
            format!("there are to be {shards} shards; `pharos ring` shows when they are in use\n")
        }
        None if asked.json => String::new(),
        None => table(&serde_json::from_str(&ring()?)?),
    };
    match asked.json {
        true => println!("{}", ring()?),
        false => print!("{text}"),
    }
    Ok(())
}

/// Runs a question to its end.
pub(crate) fn block_on<T>(question: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(question)
}

/// Asks a route below `/admin/api/v1`; without patience, as long as it takes.
pub(crate) async fn ask(
    asked: &Asked,
    path: &str,
    post: bool,
    patience: Option<Duration>,
) -> anyhow::Result<String> {
    let base = base(&asked.address);
    let url = format!("{base}/admin/api/v1{path}");
    let mut client = reqwest::Client::builder().connect_timeout(PATIENCE);
    if let Some(patience) = patience {
        client = client.timeout(patience);
    }
    let client = client.build()?;
    let request = match post {
        true => client.post(&url),
        false => client.get(&url),
    };
    let answer = request.send().await.map_err(reqwest::Error::without_url);
    let answer =
        answer.with_context(|| format!("{} does not answer; set --address", shown(&base)))?;
    let status = answer.status();
    let text = answer.text().await.map_err(reqwest::Error::without_url)?;
    if !status.is_success() {
        bail!(
            "{}/admin/api/v1{path}: {status}: {}",
            shown(&base),
            text.trim()
        );
    }
    Ok(text)
}

/// The address as a URL: host and port alone mean HTTP.
fn base(address: &str) -> String {
    let address = address.trim_end_matches('/');
    match address.contains("://") {
        true => address.to_owned(),
        false => format!("http://{address}"),
    }
}

/// A URL without name and password.
fn shown(base: &str) -> String {
    match (base.split_once("://"), base.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => base.to_owned(),
    }
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
        "\nring {}, {}, catalog version {}, {}, term {}\n",
        status.ring,
        count(status.shards.into(), "shard"),
        status.version,
        count(status.segments, "segment"),
        status.term
    );
    if let Some(next) = &status.next_ring {
        let shards = match next.shards == status.shards {
            true => String::new(),
            false => format!(", with {},", count(next.shards.into(), "shard")),
        };
        text += &format!(
            "ring {}{shards} comes into use when enough of ring {} know of it: waiting for {}\n",
            next.version,
            status.ring,
            numbers(&next.unaware)
        );
    }
    for past in &status.past_rings {
        text += &match (past.undrained.as_slice(), past.lost.as_slice()) {
            ([], lost) => unstored(past.version, lost),
            (undrained, lost) => format!(
                "ring {} is not stored yet: waiting for {}{}\n",
                past.version,
                numbers(undrained),
                match lost {
                    [] => String::new(),
                    lost => format!("; lost {}", numbers(lost)),
                }
            ),
        };
    }
    text
}

/// Of a ring of which so many are lost that nobody can know what it had.
fn unstored(ring: u64, lost: &[u64]) -> String {
    format!(
        "ring {ring}: a majority of owners was lost before it had stored what it held (nodes {}): queries fail until \
         `pharos ring forget NODE --accept-loss` is said of one of them, which accepts that such records are lost\n",
        numbers(lost)
    )
}

/// The rings under which the node had not stored what it held, with all who had not.
fn lost_to(node: u64, status: &Status) -> Vec<(u64, Vec<u64>)> {
    let rings = status.past_rings.iter();
    let rings = rings.map(|past| (past.version, &past.lost));
    // It may be in use still.
    let current = status.next_ring.iter();
    let rings = rings.chain(current.map(|next| (status.ring, &next.lost)));
    let lost = rings.filter(|(_, lost)| lost.contains(&node));
    lost.map(|(version, lost)| (version, lost.clone()))
        .collect()
}

/// Whether nobody is left who may store what was held under the ring.
fn is_stuck(ring: u64, status: &Status) -> bool {
    let mut rings = status.past_rings.iter();
    rings.any(|past| past.version == ring && past.undrained.is_empty())
}

/// What it means that a node was forgotten, now or by somebody before.
fn forgotten(node: u64, before: &Status, after: &Status) -> String {
    let mut text = match before.members.iter().any(|member| member.node == node) {
        true => format!("node {node} is forgotten\n"),
        false => format!("node {node} was off the list already\n"),
    };
    for (ring, lost) in lost_to(node, after) {
        text += &format!(
            "it had not stored what it held under ring {ring}; what only {} had is lost\n",
            numbers(&lost)
        );
        if is_stuck(ring, after) {
            text += &unstored(ring, &lost);
        }
    }
    text
}

/// What was given up, and what somebody has to decide yet.
fn accepted(node: u64, before: &Status, after: &Status) -> String {
    let mut text = format!("the loss of node {node} is accepted\n");
    for (ring, lost) in lost_to(node, before) {
        let mut left = after.past_rings.iter().filter(|past| past.version == ring);
        text += &match left.next() {
            None => format!(
                "records of ring {ring} that only {} had are lost, and nobody waits for them any more\n",
                numbers(&lost)
            ),
            Some(past) if past.undrained.is_empty() => unstored(ring, &past.lost),
            Some(past) => format!(
                "ring {ring} still waits for {}: others may have what node {node} had\n",
                numbers(&past.undrained)
            ),
        };
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

/// "1 segment", "2 segments".
fn count(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
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
            "applied":9,"snapshot":null,"version":7,"last_node":12,"segments":5,"ring":4,"shards":16,
            "past_rings":[{"version":3,"undrained":[1,2],"lost":[9]}],
            "members":[
                {"node":1,"address":"a:1","zone":"x","roles":["ingester","querier"],"state":"active","voter":true,"silent_millis":1500},
                {"node":12,"address":"long-name:1","zone":"y","roles":["querier"],"state":"leaving","voter":false,"silent_millis":null}]}"#;
        let expected = "\
NODE  ADDRESS      ZONE  ROLES             STATE    META    HEARD
1     a:1          x     ingester,querier  active   leader  1.5 s ago
12    long-name:1  y     querier           leaving  -       -

ring 4, 16 shards, catalog version 7, 5 segments, term 3
ring 3 is not stored yet: waiting for 1, 2; lost 9
";
        assert_eq!(table(&serde_json::from_str(text).unwrap()), expected);
    }

    #[test]
    fn an_address_may_be_host_and_port_and_is_shown_without_a_password() {
        assert_eq!(base("a:3100"), "http://a:3100");
        assert_eq!(base("https://u:p@a/"), "https://u:p@a");
        assert_eq!(shown("https://u:p@a"), "https://a");
        assert_eq!(shown("http://a:3100"), "http://a:3100");
        assert_eq!(
            [count(1, "segment"), count(0, "shard")],
            ["1 segment", "0 shards"]
        );
    }

    #[test]
    fn a_ring_that_waits_is_shown_with_those_for_whom_it_does() {
        let text = r#"{"protocol":1,"cluster":"00","node":1,"address":"a:1","ingester":true,"leader":null,"term":3,
            "voters":[1],"learners":[],"last_log":9,"applied":9,"snapshot":null,"version":7,"last_node":12,"segments":5,
            "ring":4,"next_ring":{"version":6,"unaware":[2,5],"lost":[3]},"past_rings":[],"members":[]}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        let shown = table(&status);
        let last = shown.lines().last();
        let expected = "ring 6 comes into use when enough of ring 4 know of it: waiting for 2, 5";
        assert_eq!(last, Some(expected));
        let raised = Status {
            shards: 4,
            next_ring: status
                .next_ring
                .clone()
                .map(|next| meta::NextRingStatus { shards: 16, ..next }),
            ..status.clone()
        };
        let last = table(&raised).lines().last().map(str::to_owned);
        let expected = "ring 6, with 16 shards, comes into use when enough of ring 4 know of it: waiting for 2, 5";
        assert_eq!(last.as_deref(), Some(expected));
        let text = forgotten(3, &status, &status);
        assert!(
            text.ends_with("under ring 4; what only 3 had is lost\n"),
            "{text}"
        );
    }

    #[test]
    fn forgetting_says_what_may_be_lost_and_only_the_flag_accepts_that() {
        let status = |members: &str, undrained: &str, lost: &str| -> Status {
            let text = format!(
                r#"{{"protocol":1,"cluster":"00","node":1,"address":"a:1","ingester":true,"leader":null,"term":3,
                "voters":[1],"learners":[],"last_log":9,"applied":9,"snapshot":null,"version":7,"last_node":12,
                "segments":5,"ring":4,"past_rings":[{{"version":3,"undrained":[{undrained}],"lost":[{lost}]}}],
                "members":[{members}]}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let member = r#"{"node":2,"address":"a:1","zone":"x","roles":["ingester"],"state":"active","voter":true,
            "silent_millis":null}"#;
        let (whole, waiting) = (status(member, "1,2", "9"), status("", "1", "2,9"));
        let text = forgotten(2, &whole, &waiting);
        assert!(
            text.ends_with("under ring 3; what only 2, 9 had is lost\n"),
            "{text}"
        );
        let stuck = status("", "", "2,9");
        let text = forgotten(2, &whole, &stuck);
        assert!(
            text.contains("queries fail until `pharos ring forget NODE --accept-loss`"),
            "{text}"
        );
        assert_eq!(table(&stuck).lines().last(), text.lines().last());
        let again = forgotten(2, &stuck, &stuck);
        let (first, rest) = again.split_once('\n').unwrap();
        assert_eq!(first, "node 2 was off the list already");
        assert!(text.ends_with(rest), "{again}");
        let text = accepted(2, &status("", "", "2,8,9"), &status("", "", "8,9"));
        assert!(
            text.contains("lost before it had stored what it held (nodes 8, 9)"),
            "{text}"
        );
        let mut dropped = status("", "", "");
        dropped.past_rings.clear();
        let text = accepted(2, &stuck, &dropped);
        assert!(
            text.contains("ring 3 that only 2, 9 had are lost, and nobody"),
            "{text}"
        );
    }
}
