//! Output of a process on its way to the user: in whole lines, with the secrets of the step hidden, its last lines kept for
//! the diagnostic of a failed step.
//!
//! Every line of a secret is looked for by itself, as programs print files line by line, and without the blanks around
//! it. Overlapping finds are covered together. What may turn out to be the beginning of a secret is held back until it
//! is known. A secret that was changed before it was printed (encoded, cut into columns) is not found.

use std::{collections::VecDeque, ops::Range, time::Instant};

use aho_corasick::AhoCorasick;

use crate::{
    report::{
        Diagnostic,
        event::{Event, OutputStream, Sink, StepId},
    },
    sandbox,
    spec::{ReachedLimit, StepLogLimits},
    store::StepLog,
};

/// Lines of output that a fault shows.
const TAIL_LINES: usize = 30;
/// A longer piece without a line break is passed on before its end is seen.
const MAX_LINE: usize = 16 << 10;
/// What stands for a secret.
const BLOT: &[u8] = b"***";

/// Passes the output of a step's process on to the view with secrets masked, and keeps the last lines for a fault.
pub(super) struct StepOutput {
    sink: Sink,
    id: StepId,
    secrets: Secrets,
    stdout: PendingOutput,
    stderr: PendingOutput,
    tail: VecDeque<Vec<u8>>,
    limits: StepLogLimits,
    begun: Instant,
    /// Bytes of output so far, those that were not passed on too.
    n_seen: u64,
    /// It was told that a limit is reached.
    is_told: bool,
    /// Where all of it is kept.
    log: StepLog,
    n_lines: usize,
}

impl StepOutput {
    /// No output yet; `secrets` are masked wherever they occur, also across pieces. Output beyond the limits is not passed on;
    /// its end is kept all the same, and all of it in `log`.
    ///
    /// # Errors
    /// When there are more secrets than can be looked for.
    pub(super) fn new(
        sink: Sink,
        id: StepId,
        secrets: &[Vec<u8>],
        limits: StepLogLimits,
        log: StepLog,
    ) -> Result<Self, Diagnostic> {
        let secrets = Secrets::new(secrets)?;
        Ok(Self {
            sink,
            id,
            secrets,
            stdout: PendingOutput::default(),
            stderr: PendingOutput::default(),
            tail: VecDeque::new(),
            limits,
            begun: Instant::now(),
            n_seen: 0,
            is_told: false,
            log,
            n_lines: 0,
        })
    }

    /// Takes the next piece of output, of any length; what may be the beginning of a secret is held back.
    pub(super) fn push(&mut self, stream: sandbox::StepStream, bytes: &[u8]) {
        let pending = match stream {
            sandbox::StepStream::Stdout => &mut self.stdout,
            sandbox::StepStream::Stderr => &mut self.stderr,
        };
        let ready = pending.push(bytes, &self.secrets);
        self.send(stream, ready);
    }

    /// Passes on what was held back, when the process has ended.
    pub(super) fn finish(&mut self) {
        for stream in [sandbox::StepStream::Stdout, sandbox::StepStream::Stderr] {
            let pending = match stream {
                sandbox::StepStream::Stdout => &mut self.stdout,
                sandbox::StepStream::Stderr => &mut self.stderr,
            };
            let rest = pending.take(pending.bytes.len(), &self.secrets);
            self.send(stream, rest);
        }
    }

    /// The last lines of output, for the diagnostic of a failed step; `None` if there was none.
    pub(super) fn tail(&self) -> Option<String> {
        let text: Vec<u8> = self.tail.iter().flatten().copied().collect();
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }

    /// Whether the last lines are not all.
    pub(super) const fn is_longer_than_tail(&self) -> bool {
        self.n_lines > TAIL_LINES
    }

    /// The log, when the process has ended.
    pub(super) fn into_log(self) -> StepLog {
        self.log
    }

    fn send(&mut self, stream: sandbox::StepStream, text: Vec<u8>) {
        if text.is_empty() {
            return;
        }
        self.log.write(&text);
        for line in text.split_inclusive(|b| *b == b'\n') {
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(line.to_vec());
            self.n_lines += 1;
        }
        let stream = match stream {
            sandbox::StepStream::Stdout => OutputStream::Stdout,
            sandbox::StepStream::Stderr => OutputStream::Stderr,
        };
        let mut text = text;
        let room = self.limits.room(self.n_seen, self.begun.elapsed());
        self.n_seen += text.len() as u64;
        if let Some((room, limit)) = room
            && text.len() as u64 > room
        {
            text.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            if !std::mem::replace(&mut self.is_told, true) {
                text.extend_from_slice(cut_note(limit).as_bytes());
            }
            if text.is_empty() {
                return;
            }
        }
        (self.sink)(Event::Output { id: self.id, stream, bytes: text.into() });
    }
}

/// What stands where output is cut: the limit, and how it is taken away.
fn cut_note(limit: ReachedLimit) -> String {
    let (variable, limit) = match limit {
        ReachedLimit::Size(limit) => ("BUILDKIT_STEP_LOG_MAX_SIZE", human(limit)),
        ReachedLimit::Speed(limit) => ("BUILDKIT_STEP_LOG_MAX_SPEED", format!("{} a second", human(limit))),
    };
    format!("\n[more than {limit} of output: the rest is not shown; {variable}=-1 shows all, `bake log` has it]\n")
}

/// A number of bytes in the largest unit that it is a multiple of.
fn human(bytes: u64) -> String {
    match bytes {
        0 => "0 bytes".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

/// The secrets of a step, compiled for the search.
struct Secrets {
    /// `None`: nothing to look for.
    finder: Option<AhoCorasick>,
    /// Length of the longest of them.
    longest: usize,
}

impl Secrets {
    fn new(secrets: &[Vec<u8>]) -> Result<Self, Diagnostic> {
        let mut words: Vec<&[u8]> = secrets.iter().flat_map(|it| words(it)).collect();
        words.sort_unstable();
        words.dedup();
        let longest = words.iter().map(|it| it.len()).max().unwrap_or(0);
        let too_large = |e| {
            Diagnostic::error("bake::solve::secrets_too_large", "the secrets of the step are too large to be hidden")
                .cause(&e)
        };
        let finder = if words.is_empty() { None } else { Some(AhoCorasick::new(words).map_err(too_large)?) };
        Ok(Self { finder, longest })
    }

    /// The parts of `text` that are secret: in order, none touching the next.
    fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let Some(finder) = &self.finder else { return Vec::new() };
        let mut found: Vec<Range<usize>> = finder.find_overlapping_iter(text).map(|it| it.range()).collect();
        found.sort_unstable_by_key(|it| it.start);
        let mut merged: Vec<Range<usize>> = Vec::new();
        for it in found {
            match merged.last_mut() {
                Some(last) if it.start <= last.end => last.end = last.end.max(it.end),
                _ => merged.push(it),
            }
        }
        merged
    }
}

/// The lines of a secret that are looked for. A short line without a letter or digit (the braces of JSON) reveals
/// nothing and stands in much output, so it counts only if it is the whole secret.
fn words(secret: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_one_line = !secret.trim_ascii().contains(&b'\n');
    secret
        .split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(move |secret| {
            secret.len() >= 4 || is_one_line || secret.iter().any(|b| b.is_ascii_alphanumeric() || *b >= 0x80)
        })
        .filter(|it| !it.is_empty())
}

/// Output of one stream that is still held: it was not passed on yet, or a secret may begin in it.
#[derive(Default)]
struct PendingOutput {
    bytes: Vec<u8>,
    /// So many of them were passed on; they are kept because a secret may begin in them.
    n_passed: usize,
}

impl PendingOutput {
    /// What can be passed on now.
    fn push(&mut self, bytes: &[u8], secrets: &Secrets) -> Vec<u8> {
        let had = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        // No secret reaches across a line break.
        if let Some(at) = bytes.iter().rposition(|b| *b == b'\n') {
            return self.take(had + at + 1, secrets);
        }
        // A secret that covers a byte before this has been read to its end.
        let sure = self.bytes.len().saturating_sub(secrets.longest.saturating_sub(1));
        if sure.saturating_sub(self.n_passed) < MAX_LINE {
            return Vec::new();
        }
        let ready = self.cover(sure, secrets);
        // One that covers a byte after it may begin so far before it.
        let forget = (sure + 1).saturating_sub(secrets.longest.max(1));
        self.bytes.drain(..forget);
        self.n_passed = sure - forget;
        ready
    }

    /// Everything up to `end`, which no secret reaches across.
    fn take(&mut self, end: usize, secrets: &Secrets) -> Vec<u8> {
        let ready = self.cover(end, secrets);
        self.bytes.drain(..end);
        self.n_passed = 0;
        ready
    }

    /// What was not passed on yet of the first `end` bytes, secrets covered; of a secret whose beginning was passed on,
    /// nothing.
    fn cover(&self, end: usize, secrets: &Secrets) -> Vec<u8> {
        let mut text = Vec::with_capacity(end - self.n_passed);
        let mut at = self.n_passed;
        for secret in secrets.find(&self.bytes) {
            if secret.end <= at || secret.start >= end {
                continue;
            }
            if secret.start >= at {
                text.extend_from_slice(&self.bytes[at..secret.start]);
                text.extend_from_slice(BLOT);
            }
            at = secret.end.min(end);
        }
        text.extend_from_slice(&self.bytes[at..end]);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};

    /// What is shown of output that comes in these pieces.
    fn shown(secrets: &[&[u8]], pieces: &[&[u8]]) -> String {
        shown_within(StepLogLimits::default(), secrets, pieces)
    }

    fn shown_within(limits: StepLogLimits, secrets: &[&[u8]], pieces: &[&[u8]]) -> String {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink: Sink = {
            let seen = seen.clone();
            Arc::new(move |event| {
                if let Event::Output { bytes, .. } = event {
                    seen.lock().expect("test").extend_from_slice(&bytes);
                }
            })
        };
        let secrets: Vec<Vec<u8>> = secrets.iter().map(|it| it.to_vec()).collect();
        let log = crate::store::Store::open(std::path::Path::new("/nowhere")).expect("nothing is touched");
        let log = log.step_log(crate::store::LogRetention { size: None, runs: 0 });
        let mut output = StepOutput::new(sink, StepId(0), &secrets, limits, log).expect("small");
        for piece in pieces {
            output.push(sandbox::StepStream::Stdout, piece);
        }
        output.finish();
        String::from_utf8_lossy(&seen.lock().expect("test")).into_owned()
    }

    #[test]
    fn secrets_are_blotted_out_across_pieces_of_output() {
        let pieces: [&[u8]; 2] = [b"it is hun", b"ter2, and second line\nrest"];
        assert_eq!(shown(&[b"hunter2\nsecond line"], &pieces), "it is ***, and ***\nrest");
    }

    #[test]
    fn a_flood_is_shown_in_part_and_its_end_is_remembered() {
        let line = [b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<u8>>();
        let pieces = vec![line.as_slice(); 4096];
        let text = shown(&[], &pieces);
        let note = "[more than 2 MiB of output: the rest is not shown; BUILDKIT_STEP_LOG_MAX_SIZE=-1 shows all, `bake log` has it]\n";
        assert!(text.len() < (2 << 20) + 200 && text.ends_with(note), "{}", text.len());
        let all = shown_within(StepLogLimits { size: None, ..StepLogLimits::default() }, &[], &pieces);
        assert_eq!(all.len(), 4 << 20);
        // All that comes at once is of one second.
        let slow =
            shown_within(StepLogLimits { size: None, speed: Some(4 << 10), ..StepLogLimits::default() }, &[], &pieces);
        assert_eq!(slow.matches("[more than 4 KiB a second of output").count(), 1, "{}", slow.len());
    }

    #[test]
    fn short_secrets_and_short_lines_are_blotted_out() {
        assert_eq!(shown(&[b"7\n"], &[b"pin 7, line 17\n"]), "pin ***, line 1***\n");
        assert_eq!(shown(&[b"abc\r\nxy\r\nlonger"], &[b"abc xy longer ab\n"]), "*** *** *** ab\n");
        assert_eq!(shown(&[b"{\n  \"key\": \"v\"\n}\n"], &[b"{\"key\": \"v\"}\n"]), "{***}\n");
        assert_eq!(shown(&[b"%!"], &[b"a%!b\n"]), "a***b\n");
        assert_eq!(shown(&[b"", b"\n\n"], &[b"as it is\n"]), "as it is\n");
    }

    #[test]
    fn secrets_that_overlap_are_covered_as_a_whole() {
        assert_eq!(shown(&[b"abcd", b"cdef", b"abab"], &[b"-abcdef-ababab-\n"]), "-***-***-\n");
        assert_eq!(shown(&[b"*"], &[b"2 * 3 ** 4\n"]), "2 *** 3 *** 4\n");
    }

    #[test]
    fn a_secret_of_many_lines_is_blotted_out_however_it_is_printed() {
        let secret: &[u8] = b"-----BEGIN KEY-----\nAAAA\nBB\n-----END KEY-----\n";
        let covered = "***\n***\n***\n***\n";
        for cut in 0..secret.len() {
            assert_eq!(shown(&[secret], &[&secret[..cut], &secret[cut..]]), covered, "cut at {cut}");
        }
        assert_eq!(shown(&[secret], &[b"AAAABB-----END KEY-----\r\n"]), "***\r\n");
    }

    #[test]
    fn a_secret_at_the_end_of_a_full_buffer_is_blotted_out() {
        let secret: &[u8] = b"hunter2-and-more";
        for before in MAX_LINE - 20..MAX_LINE + 20 {
            let text = [&vec![b'.'; before][..], secret, b"..."].concat();
            let pieces: Vec<&[u8]> = text.chunks(51).collect();
            let wanted = format!("{}***...", ".".repeat(before));
            assert_eq!(shown(&[secret], &pieces), wanted, "{before} bytes before it");
            assert_eq!(shown(&[secret], &[&text]), wanted, "{before} bytes before it, at once");
        }
    }

    #[test]
    fn endless_output_of_a_secret_takes_no_memory() {
        let secrets = Secrets::new(&[b"aaaa".to_vec()]).expect("small");
        let mut pending = PendingOutput::default();
        let mut n_shown = 0;
        for _ in 0..100 {
            n_shown += pending.push(&[b'a'; 4096], &secrets).len();
            assert!(pending.bytes.len() < 3 * MAX_LINE);
        }
        assert_eq!(n_shown, BLOT.len());
    }

    proptest! {
        #[test]
        fn pieces_do_not_change_what_is_shown(
            text in prop::collection::vec(prop::sample::select(&b"ab\n"[..]), 0..60),
            cuts in prop::collection::vec(0_usize..60, 0..8),
            first in "[ab]{1,5}",
            second in "[ab]{1,5}",
        ) {
            let secrets = [first.as_bytes(), second.as_bytes()];
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|it| *it <= text.len()).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|it| &text[it[0]..it[1]]).collect();
            let whole = shown(&secrets, &[&text]);
            prop_assert_eq!(shown(&secrets, &pieces), whole.clone());
            prop_assert!(!whole.contains(first.as_str()) && !whole.contains(second.as_str()));
        }
    }
}
