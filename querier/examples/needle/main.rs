//! How much a needle in many gigabytes of logs reads from object storage: `make bench-needle`, or
//! `cargo run --release -p querier --example needle -- CORPUS FOLDER [GIGABYTES [PER_SEGMENT]]`.
//!
//! CORPUS is a folder that `loggen.py` made. FOLDER gets merged segments of PER_SEGMENT gigabytes of
//! lines (4 unless told), until they hold GIGABYTES (20); segments that stand there already are used
//! again, so that a longer run goes on where a shorter one ended. Every copy of the corpus has other
//! ids and other times. Then a querier as the server has it asks for lines by their ids, over a store
//! that answers in 30 ms and counts requests and bytes. 200 GB take 17 GB of disk and about an hour
//! of one core.
//!
//! Exits with 1 when a needle was not found, or a line that is not asked for was.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::clone_on_ref_ptr
)]

mod corpus;
mod filters;
mod folder;
mod segments;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../../tests/it/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use querier::Config;
use segment::TenantSummary;
use store::ObjectStorage;

use crate::corpus::{Corpus, HOUR, redraw};
use crate::filters::Probed;
use crate::folder::Counting;
use crate::segments::Made;
use crate::world::{World, escape};

const LATENCY: Duration = Duration::from_millis(30);
/// What a needle may read of the lines.
const SHARE_MAX: f64 = 0.0005;
const SEEKS: u64 = 5;
/// Ids asked of the filters alone.
const ABSENT: u64 = 100;
/// Ids that no line holds.
const NOWHERE: [&str; 2] = [
    "5f0d1c3ab97e42688d04e1f7a26b93c5",
    "c27a90e4163b5fd8720be94d8a1f6c53",
];

/// How much of an id is asked for.
const PARTS: [usize; 3] = [18, 15, 12];

/// So many digits of the middle of an id.
fn part(id: &str, digits: usize) -> &str {
    &id[3..3 + digits]
}

struct Bench {
    corpus: Corpus,
    copies: u64,
    store: Counting,
    made: Vec<Made>,
    /// All answers so far were right.
    right: bool,
}

impl Bench {
    fn make(
        corpus: &Path,
        folder: &Path,
        gigabytes: f64,
        per_segment: f64,
    ) -> anyhow::Result<Bench> {
        std::fs::create_dir_all(folder)?;
        let mut corpus = Corpus::open(corpus)?;
        let copies =
            |gigabytes: f64| (gigabytes * 1e9 / corpus.bytes as f64).ceil().max(1.0) as u64;
        let (copies, step) = (copies(gigabytes), copies(per_segment));
        let mut made = Vec::new();
        for first in (0..copies).step_by(step as usize) {
            let range = first..copies.min(first + step);
            made.push(segments::segment(&mut corpus, folder, range)?);
        }
        Ok(Bench {
            corpus,
            copies,
            store: Counting::new(folder, LATENCY)?,
            made,
            right: true,
        })
    }

    /// A querier that has opened nothing yet.
    fn world(&self) -> World {
        let storage = ObjectStorage::with_backend(Arc::new(self.store.clone()));
        let world = World::over(Config::default(), storage);
        for made in &self.made {
            world.adopt(&made.name.as_str().into(), &made.encoded);
        }
        world
    }

    fn tenants(&self) -> impl Iterator<Item = &TenantSummary> {
        self.made.iter().flat_map(|made| &made.encoded.tenants)
    }

    fn content_bytes(&self) -> u64 {
        self.tenants().map(|tenant| tenant.content_bytes).sum()
    }

    fn describe(&self) {
        let count = self.made.len();
        let stored: u64 = self.made.iter().map(|made| made.encoded.object_bytes).sum();
        println!(
            "{:.1} GB of lines in {count} segments, {:.2} GB stored; a request takes {} ms\n",
            self.content_bytes() as f64 / 1e9,
            stored as f64 / 1e9,
            LATENCY.as_millis(),
        );
        println!(
            "{:<38} {:>8} {:>10} {:>12} {:>10} {:>7}",
            "", "requests", "a segment", "bytes", "of lines", "ms"
        );
    }

    /// What the filters of the first segment say to ids of copies that are not in it.
    fn filters(&self, folder: &Path) -> anyhow::Result<()> {
        let first = &self.made[0];
        let probed = Probed::open(&folder.join(&first.name))?;
        let (filters, stored) = (probed.filter_bytes(), first.encoded.object_bytes);
        println!(
            "\nfilters of one segment: {:.1} MB, {:.1}% of it; an id that is not there",
            filters as f64 / 1e6,
            100.0 * filters as f64 / stored as f64,
        );
        let ids: Vec<String> = (0..ABSENT)
            .map(|at| self.needle(self.copies + at, at).0)
            .collect();
        probed.report("a whole id", &ids)?;
        for digits in PARTS {
            let parts: Vec<String> = ids.iter().map(|id| part(id, digits).to_owned()).collect();
            probed.report(&format!("{digits} digits of one"), &parts)?;
        }
        Ok(())
    }

    /// The needle's id and line in a copy.
    fn needle(&self, copy: u64, number: u64) -> (String, String) {
        let needles = &self.corpus.needles;
        let (id, line) = &needles[number as usize % needles.len()];
        let drawn = |text: &str| {
            let mut text = text.as_bytes().to_vec();
            redraw(&mut text, copy);
            String::from_utf8(text).expect("ASCII stays ASCII, and the rest stays as it is")
        };
        (drawn(id), drawn(line))
    }

    /// Asks and prints what that took. The answer must be this line alone, or none.
    async fn seek(&mut self, world: &World, name: &str, id: &str, line: Option<&str>) -> f64 {
        let query = format!("{{cluster=\"eu-1\"}} |= \"{id}\"");
        let end = self.corpus.start + (self.copies as i64 + 1) * HOUR;
        let path = format!(
            "/loki/api/v1/query_range?query={}&start={}&end={end}&limit=100",
            escape(&query),
            self.corpus.start,
        );
        let (share, body) = self.ask(world, name, &path).await;
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let streams = answer["data"]["result"].as_array().into_iter().flatten();
        let values = streams.flat_map(|stream| stream["values"].as_array().into_iter().flatten());
        let lines: Vec<&str> = values.filter_map(|value| value[1].as_str()).collect();
        let is_answer = answer["status"] == "success";
        self.judge(is_answer && lines == Vec::from_iter(line), name, &body);
        share
    }

    /// Counts all lines: that needs the footers and nothing else.
    async fn open(&mut self, world: &World, name: &str) {
        let records: u64 = self.tenants().map(|tenant| tenant.records).sum();
        let hours = self.copies + 1;
        let query = format!("sum(count_over_time({{cluster=\"eu-1\"}}[{}h]))", hours + 1);
        let end = self.corpus.start + hours as i64 * HOUR;
        let path = format!("/loki/api/v1/query?query={}&time={end}", escape(&query));
        let (_, body) = self.ask(world, name, &path).await;
        self.judge(body.contains(&format!("\"{records}\"")), name, &body);
    }

    async fn ask(&self, world: &World, name: &str, path: &str) -> (f64, String) {
        let (before, began) = (self.store.counts(), Instant::now());
        let answer = world.get(path).await;
        let (after, took) = (self.store.counts(), began.elapsed());
        let (requests, bytes) = (after.0 - before.0, after.1 - before.1);
        let share = bytes as f64 / self.content_bytes() as f64;
        println!(
            "{name:<38} {requests:>8} {:>10.2} {bytes:>12} {:>9.4}% {:>7.0}",
            requests as f64 / self.made.len() as f64,
            share * 100.0,
            took.as_secs_f64() * 1e3,
        );
        (share, answer.body)
    }

    fn judge(&mut self, right: bool, name: &str, body: &str) {
        if !right {
            println!("  WRONG: {name} brought {}", &body[..body.len().min(300)]);
            self.right = false;
        }
    }

    async fn run(&mut self) {
        self.describe();
        let world = self.world();
        let (mut whole, mut parts) = (0.0_f64, 0.0_f64);
        self.open(&world, "all lines counted: opens the segments")
            .await;
        self.open(&world, "the same again").await;
        for nowhere in NOWHERE {
            whole = whole.max(
                self.seek(&world, "an id that is nowhere", nowhere, None)
                    .await,
            );
        }
        self.seek(&world, "the last one again", NOWHERE[1], None)
            .await;
        for number in 0..SEEKS {
            let (id, line) = self.needle(number * self.copies / SEEKS, number);
            whole = whole.max(self.seek(&world, "a whole id", &id, Some(&line)).await);
            for digits in PARTS {
                let (name, of) = (format!("{digits} digits of it"), part(&id, digits));
                parts = parts.max(self.seek(&world, &name, of, Some(&line)).await);
            }
        }
        let (id, line) = self.needle(self.copies / 2, SEEKS);
        let fresh = self.world();
        let cold = self
            .seek(
                &fresh,
                "a whole id, no segment opened before",
                &id,
                Some(&line),
            )
            .await;
        println!(
            "\nmost that was read, of the lines; wanted {}%:",
            SHARE_MAX * 100.0
        );
        for (name, share) in [
            ("a whole id", whole),
            ("a whole id, no segment opened before", cold),
            ("a part of an id", parts),
        ] {
            let verdict = if share <= SHARE_MAX {
                "reached"
            } else {
                "missed"
            };
            println!("{name:<38} {:.4}% {verdict}", share * 100.0);
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let (Some(corpus), Some(folder)) = (args.next(), args.next()) else {
        anyhow::bail!("usage: needle CORPUS FOLDER [GIGABYTES [PER_SEGMENT]]");
    };
    let gigabytes = args.next().map_or(Ok(20.0), |text| text.parse())?;
    let per_segment = args.next().map_or(Ok(4.0), |text| text.parse())?;
    let (corpus, folder) = (PathBuf::from(corpus), PathBuf::from(folder));
    let mut bench = Bench::make(&corpus, &folder, gigabytes, per_segment)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(bench.run());
    bench.filters(&folder)?;
    Ok(if bench.right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
