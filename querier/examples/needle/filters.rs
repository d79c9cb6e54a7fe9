//! What the filters of one segment tell: strips read, and chunks that are read in vain.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use model::{LineClause, LineFilter, LineTest, Selector, TenantId, TimeRange};
use segment::{Opened, ScanSpec, Segment, TAIL_BYTES};

pub(crate) struct Probed {
    file: File,
    segment: Segment,
}

/// Sums over some needles that the segment does not hold.
#[derive(Default)]
struct Sum {
    rounds: usize,
    strips: usize,
    strip_bytes: u64,
    chunks: usize,
    vain: f64,
}

impl Probed {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Probed> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut tail_bytes = TAIL_BYTES.min(bytes);
        loop {
            let tail = read(&file, &(bytes - tail_bytes..bytes))?;
            match Segment::open("segment", tail, bytes)? {
                Opened::Segment(segment) => return Ok(Probed { file, segment }),
                Opened::NeedTail(more) => tail_bytes = more,
            }
        }
    }

    /// Prints what the filters say to needles that are not there.
    pub(crate) fn report(&self, name: &str, absent: &[String]) -> anyhow::Result<()> {
        let (mut sum, mut all) = (Sum::default(), 0);
        for needle in absent {
            let line_filter = LineFilter {
                clauses: vec![LineClause {
                    negated: false,
                    any: vec![LineTest::Contains(needle.as_bytes().into())],
                }],
            };
            let mut plan = self.segment.plan(&ScanSpec {
                tenant: &TenantId::default(),
                selector: &Selector::default(),
                range: TimeRange::ALL,
                line_filter: &line_filter,
            });
            all += plan.chunks().len();
            loop {
                let strips = plan.filter_reads();
                if strips.is_empty() {
                    break;
                }
                sum.rounds += 1;
                sum.strips += strips.len();
                sum.strip_bytes += strips
                    .iter()
                    .map(|strip| strip.end - strip.start)
                    .sum::<u64>();
                let bytes = strips.iter().map(|strip| read(&self.file, strip));
                plan.apply_filters(&bytes.collect::<Result<Vec<_>, _>>()?)?;
            }
            sum.chunks += plan.chunks().len();
            sum.vain += plan.chunks_in_vain();
        }
        let mean = |sum: usize| sum as f64 / absent.len() as f64;
        println!(
            "{name:<22} {:>5.2} rounds, {:>5.2} rows, {:>7.0} bytes, leave {:>5.2} of {:.0} chunks, {:.2} expected",
            mean(sum.rounds),
            mean(sum.strips),
            sum.strip_bytes as f64 / absent.len() as f64,
            mean(sum.chunks),
            mean(all),
            sum.vain / absent.len() as f64,
        );
        Ok(())
    }

    /// Bytes of all filters.
    pub(crate) fn filter_bytes(&self) -> u64 {
        self.segment.part_bytes().filters
    }
}

fn read(file: &File, range: &Range<u64>) -> std::io::Result<Bytes> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}
