use std::collections::{BTreeMap, VecDeque};

use proto::{Flaw, Receiver, STREAMS_AHEAD};

/// Everything that a decoder said, in order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Recorder {
    pub(crate) said: Vec<Said>,
    /// The labels that were told ahead and did not come yet.
    ahead: VecDeque<Vec<u8>>,
    /// How many streams were not told ahead.
    pub(crate) surprises: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Text(Vec<u8>),
    Pairs(Vec<(String, String)>),
    Record {
        time: i64,
        line: Vec<u8>,
        metadata: BTreeMap<String, Vec<u8>>,
    },
    Flaw(Flaw),
}

impl Receiver for Recorder {
    fn stream_text(&mut self, labels: &[u8]) {
        match self.ahead.pop_front() {
            Some(told) => assert_eq!(told, labels),
            None => self.surprises += 1,
        }
        self.said.push(Said::Text(labels.to_vec()));
    }

    fn streams_ahead(&mut self, labels: &[&[u8]]) {
        assert!(self.ahead.is_empty() && labels.len() <= STREAMS_AHEAD);
        self.ahead
            .extend(labels.iter().map(|labels| labels.to_vec()));
    }

    fn stream_pairs(&mut self, labels: &[(&str, &str)]) {
        let pairs = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.said.push(Said::Pairs(pairs.collect()));
    }

    fn record(&mut self, time: i64, line: &[u8], metadata: &mut [(&str, &[u8])]) {
        let metadata = metadata
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
            .collect();
        self.said.push(Said::Record {
            time,
            line: line.to_vec(),
            metadata,
        });
    }

    fn flawed(&mut self, flaw: Flaw) {
        self.said.push(Said::Flaw(flaw));
    }
}

pub(crate) fn text(labels: &str) -> Said {
    Said::Text(labels.as_bytes().to_vec())
}

pub(crate) fn pairs(labels: &[(&str, &str)]) -> Said {
    let mut recorder = Recorder::default();
    recorder.stream_pairs(labels);
    recorder.said.remove(0)
}

pub(crate) fn record(time: i64, line: &str, metadata: &[(&str, &str)]) -> Said {
    let metadata = metadata
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    Said::Record {
        time,
        line: line.as_bytes().to_vec(),
        metadata: metadata.collect(),
    }
}
