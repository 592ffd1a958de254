//! The whole output of the steps that ran, for `bake log`: a folder for each run of the last ones.
//!
//! ```text
//! logs/TIME-RANDOM/N        what the process of step N wrote, secrets hidden
//! logs/TIME-RANDOM/steps    one line of JSON for each step that ended
//! ```
//!
//! Nothing is synced: what a crash leaves is read as far as it goes. A run that starts no process has no folder. A log that
//! cannot be written never stops a step.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::{
    boot,
    entries::list,
    error::{StoreError, StoreResult},
    remove::remove_tree,
    run::make_dir,
    state::{RunLogs, Store},
};

pub(super) const FOLDER: &str = "logs";
const STEPS: &str = "steps";

/// How much output of steps is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRetention {
    /// Bytes of one step; `None`: all.
    pub(crate) size: Option<u64>,
    /// Runs, this one included; with 0 nothing is kept.
    pub(crate) runs: usize,
}

impl Default for LogRetention {
    fn default() -> Self {
        Self { size: Some(100 << 20), runs: 20 }
    }
}

/// A step whose process has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LoggedStep {
    /// As progress shows it: `[web build 2/5] RUN make`.
    pub(crate) name: String,
    /// RFC 3339.
    pub(crate) started: String,
    pub(crate) milliseconds: u64,
    pub(crate) end: LoggedEnd,
    /// The number of its log; `None` if it wrote nothing.
    pub(crate) log: Option<u32>,
    /// Bytes that it wrote; with a limit the log may have fewer.
    pub(crate) bytes: u64,
}

/// How the process of a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LoggedEnd {
    Done,
    Failed,
    Stopped,
}

/// The steps of one run whose output is kept.
#[derive(Debug)]
pub(crate) struct LoggedRun {
    dir: PathBuf,
    /// In the order in which they ended.
    pub(crate) steps: Vec<LoggedStep>,
}

impl LoggedRun {
    /// Opens the log of a step of this run.
    ///
    /// # Errors
    /// It was removed meanwhile, or cannot be read.
    pub(crate) fn open(&self, log: u32) -> StoreResult<File> {
        let path = self.dir.join(log.to_string());
        File::open(&path).map_err(StoreError::io("open", &path))
    }
}

/// The log of one step that runs.
pub(crate) struct StepLog {
    store: Store,
    limits: LogRetention,
    file: Option<(u32, File)>,
    n_bytes: u64,
    fault: Option<StoreError>,
}

impl Store {
    /// The log of a step that is about to run. Nothing is made before its process writes.
    pub(crate) fn step_log(&self, limits: LogRetention) -> StepLog {
        StepLog { store: self.clone(), limits, file: None, n_bytes: 0, fault: None }
    }

    /// The runs whose output is kept, the last one first.
    pub(crate) fn logged_runs(&self) -> Vec<LoggedRun> {
        let mut dirs = list(&self.path(FOLDER));
        dirs.sort_unstable_by(|a, b| b.cmp(a));
        let run = |dir: PathBuf| {
            let text = fs::read_to_string(dir.join(STEPS)).unwrap_or_default();
            // The last line of a killed process may be cut.
            let steps = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            LoggedRun { dir, steps }
        };
        dirs.into_iter().map(run).filter(|run| !run.steps.is_empty()).collect()
    }

    /// The folder of this run, made when something is kept first; older ones than `keep` are removed then.
    fn run_logs(&self, keep: usize) -> StoreResult<&RunLogs> {
        if let Some(logs) = self.0.logs.get() {
            return Ok(logs);
        }
        // Steps that begin at once make one folder.
        let _making = self.0.making_logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(logs) = self.0.logs.get() {
            return Ok(logs);
        }
        let folder = self.path(FOLDER);
        make_dir(&folder)?;
        let random = getrandom::u32().unwrap_or(0);
        let dir = folder.join(format!("{:020}-{random:08x}", boot::wall_clock()));
        make_dir(&dir)?;
        let steps = append(&dir.join(STEPS))?;
        self.drop_old_logs(&folder, keep)?;
        Ok(self.0.logs.get_or_init(|| RunLogs { dir, next: AtomicU32::new(1), steps }))
    }

    fn drop_old_logs(&self, folder: &Path, keep: usize) -> StoreResult<()> {
        let mut dirs = list(folder);
        dirs.sort_unstable_by(|a, b| b.cmp(a));
        for old in dirs.into_iter().skip(keep.max(1)) {
            let here = self.fresh()?;
            if fs::rename(&old, &here).is_ok() {
                drop(remove_tree(&here));
            }
        }
        Ok(())
    }
}

impl StepLog {
    /// Keeps a piece of output.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let before = self.n_bytes;
        self.n_bytes += bytes.len() as u64;
        if self.fault.is_some() || self.limits.runs == 0 {
            return;
        }
        let room = self.limits.size.map_or(u64::MAX, |size| size.saturating_sub(before));
        let kept = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        if !kept.is_empty() {
            self.fault = self.append(kept).err();
        }
    }

    fn append(&mut self, bytes: &[u8]) -> StoreResult<()> {
        let logs = self.store.run_logs(self.limits.runs)?;
        let (number, file) = match &mut self.file {
            Some(open) => open,
            none => {
                let number = logs.next.fetch_add(1, Ordering::Relaxed);
                none.insert((number, append(&logs.dir.join(number.to_string()))?))
            }
        };
        let path = || logs.dir.join(number.to_string());
        file.write_all(bytes).map_err(|error| StoreError::io("write", &path())(error))
    }

    /// Records that the step has ended; `started` is RFC 3339.
    ///
    /// # Errors
    /// What kept a part of the log from being written.
    pub(crate) fn end(mut self, name: &str, started: &str, milliseconds: u64, end: LoggedEnd) -> StoreResult<()> {
        if self.limits.runs == 0 {
            return Ok(());
        }
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let step = LoggedStep {
            name: name.to_owned(),
            started: started.to_owned(),
            milliseconds,
            end,
            log: self.file.as_ref().map(|(number, _)| *number),
            bytes: self.n_bytes,
        };
        let logs = self.store.run_logs(self.limits.runs)?;
        let mut line =
            serde_json::to_vec(&step).map_err(|error| StoreError::io("write", &logs.dir)(io::Error::other(error)))?;
        line.push(b'\n');
        // One write of a file that is opened for appending: lines of several threads do not mix.
        (&logs.steps).write_all(&line).map_err(StoreError::io("write", &logs.dir))
    }
}

fn append(path: &Path) -> StoreResult<File> {
    OpenOptions::new().append(true).create(true).open(path).map_err(StoreError::io("write", path))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn text(run: &LoggedRun, log: u32) -> String {
        let mut text = String::new();
        run.open(log).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_last_runs_are_kept_as_far_as_the_limits_go() {
        let home = tempfile::tempdir().unwrap();
        let limits = LogRetention { size: Some(8), runs: 2 };
        for run in 0..3 {
            let store = Store::open(home.path()).unwrap();
            let mut log = store.step_log(limits);
            log.write(format!("run {run}: long output").as_bytes());
            log.end("[a 1/1] RUN x", "2026-01-01T00:00:00Z", 5, LoggedEnd::Done).unwrap();
            store.step_log(limits).end("[a 2/2] RUN true", "2026-01-01T00:00:00Z", 5, LoggedEnd::Failed).unwrap();
        }
        let runs = Store::open(home.path()).unwrap().logged_runs();
        assert_eq!(runs.len(), 2);
        assert_eq!(text(&runs[0], runs[0].steps[0].log.unwrap()), "run 2: l");
        assert_eq!((runs[0].steps[0].bytes, runs[0].steps[1].log), (18, None));
        assert_eq!(text(&runs[1], 1), "run 1: l");
    }

    #[test]
    fn steps_that_begin_at_once_share_one_folder() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        std::thread::scope(|scope| {
            for n in 0..16 {
                let mut log = store.step_log(LogRetention { size: None, runs: 1 });
                scope.spawn(move || {
                    log.write(b"text");
                    log.end(&n.to_string(), "", 0, LoggedEnd::Done).unwrap();
                });
            }
        });
        let runs = store.logged_runs();
        assert_eq!(runs.iter().map(|run| run.steps.len()).collect::<Vec<_>>(), [16]);
        assert!(runs[0].steps.iter().all(|step| text(&runs[0], step.log.unwrap()) == "text"));
    }

    #[test]
    fn with_no_run_to_keep_nothing_is_made() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let mut log = store.step_log(LogRetention { size: None, runs: 0 });
        log.write(b"text");
        log.end("a", "", 0, LoggedEnd::Done).unwrap();
        assert!(fs::read_dir(home.path()).unwrap().next().is_none());
    }
}
