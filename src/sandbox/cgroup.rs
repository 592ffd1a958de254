//! Limits by control group: where the system lets us make groups they hold, elsewhere the step runs without them, and those
//! that the user asked for are told ([`UnkeptLimit`]).
//! Files and values are those of the kernel's documents `admin-guide/cgroup-v1` and `admin-guide/cgroup-v2`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Once, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::spec::{ResourceLimits, SwapLimit};

/// The control groups of one step; they are removed when this is dropped.
pub(super) struct Cgroups {
    dirs: Vec<PathBuf>,
    /// That of the run, where the step has none of its own below it.
    joined: Option<PathBuf>,
    memory_events: Option<PathBuf>,
    /// The group that limits processes, and its limit.
    pids: Option<(PathBuf, u64)>,
    unkept: Vec<UnkeptLimit>,
}

/// A limit that was asked for and does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnkeptLimit {
    /// Its name in `resources`.
    pub(crate) name: &'static str,
    /// The file or group that could not be written, in the words of the system.
    pub(crate) cause: String,
}

/// Limits as the kernel takes them: name in `resources`, file of the group, value if it is given.
type LimitFiles<'a> = &'a [(&'static str, &'static str, Option<String>)];

const ROOT: &str = "/sys/fs/cgroup";

/// Removes once a run what earlier ones left.
static SWEEP: Once = Once::new();

/// The group that all steps of a run are in, which limits what they have together.
pub(super) struct RunCgroup {
    /// Removed when this is dropped; absent where the system lets us make none.
    dir: Option<PathBuf>,
    unkept: Vec<UnkeptLimit>,
}

impl RunCgroup {
    /// The limit as the user names it.
    const NAME: &'static str = "--max-memory";

    /// Makes a group in which all steps together have so many bytes of memory.
    pub(super) fn make(memory: u64) -> Self {
        SWEEP.call_once(remove_left_over);
        let name = format!("{PREFIX}{}-run", std::process::id());
        let mut made = Cgroups::none();
        let is_v2 = is_v2();
        let file = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        let files = [(Self::NAME, file, Some(memory.to_string()))];
        let dir =
            if is_v2 { made.make_group_v2(&files, false, &name, None) } else { made.make_group("memory", &name, None) };
        match dir {
            Ok(dir) => {
                // Version 1 asks for it (admin-guide/cgroup-v1/memory), version 2 for the groups below.
                let below = if is_v2 { ("cgroup.subtree_control", "+memory") } else { ("memory.use_hierarchy", "1") };
                let _is_so_already = fs::write(dir.join(below.0), below.1);
                made.write_all(&dir, &files);
            }
            Err((path, error)) => made.without(&files, &path, &error),
        }
        let (mut dirs, unkept) = (std::mem::take(&mut made.dirs), std::mem::take(&mut made.unkept));
        Self { dir: dirs.pop(), unkept }
    }

    /// The limit, if it does not hold.
    pub(super) fn unkept(&self) -> &[UnkeptLimit] {
        &self.unkept
    }
}

impl Drop for RunCgroup {
    fn drop(&mut self) {
        let _busy = self.dir.as_ref().map(fs::remove_dir);
    }
}

fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

impl Cgroups {
    const fn none() -> Self {
        Self { dirs: Vec::new(), joined: None, memory_events: None, pids: None, unkept: Vec::new() }
    }

    /// Makes the control groups that the limits need, below that of the run; none if there are no limits, or the system
    /// allows none.
    pub(super) fn make(limits: &ResourceLimits, pids_limit: Option<u64>, run: Option<&RunCgroup>) -> Self {
        let mut made = Self::none();
        let run = run.and_then(|run| run.dir.as_deref());
        if *limits == ResourceLimits::default() && pids_limit.is_none() && run.is_none() {
            return made;
        }
        SWEEP.call_once(remove_left_over);
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = group_name(COUNT.fetch_add(1, Ordering::Relaxed));
        if is_v2() {
            made.make_v2(limits, pids_limit, &name, run);
        } else {
            made.make_v1(limits, pids_limit, &name, run);
        }
        made
    }

    /// The limits that were asked for and do not hold.
    pub(super) fn into_unkept(mut self) -> Vec<UnkeptLimit> {
        std::mem::take(&mut self.unkept)
    }

    /// The limit of processes, if a process of the step could not be started because of it.
    pub(super) fn reached_pids_limit(&self) -> Option<u64> {
        let (dir, limit) = self.pids.as_ref()?;
        let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
        let is_reached = count(&read("pids.events"), "max") > 0 || read("pids.peak").trim().parse() == Ok(*limit);
        is_reached.then_some(*limit)
    }

    /// The paths of the `cgroup.procs` files: a process enters a group by writing 0 to its file (cgroups(7)).
    pub(super) fn procs(&self) -> Vec<PathBuf> {
        self.dirs.iter().chain(&self.joined).map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// Whether the kernel killed a process in the groups because memory ran out.
    pub(super) fn oom_killed(&self) -> bool {
        let Some(file) = &self.memory_events else { return false };
        fs::read_to_string(file).is_ok_and(|text| count(&text, "oom_kill") > 0)
    }

    fn make_v2(&mut self, limits: &ResourceLimits, pids_limit: Option<u64>, name: &str, run: Option<&Path>) {
        // Version 2 limits swap alone, the option limits memory and swap together.
        let swap = limits.memory_swap.map(|swap| match swap {
            SwapLimit::Unlimited => "max".to_owned(),
            SwapLimit::Bytes(both) => both.saturating_sub(limits.memory.unwrap_or(0)).to_string(),
        });
        let quota = limits.cpu_quota.filter(|quota| *quota >= 0).map_or_else(|| "max".to_owned(), |it| it.to_string());
        let cpu = |given: Option<i64>| given.map(|_| format!("{quota} {}", limits.cpu_period.unwrap_or(100_000)));
        // 2..262144 shares become a weight of 1..10000.
        let weight = limits.cpu_shares.map(|shares| 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142);
        let files = [
            ("memory", "memory.max", limits.memory.map(|bytes| bytes.to_string())),
            ("memory-swap", "memory.swap.max", swap),
            ("cpu-quota", "cpu.max", cpu(limits.cpu_quota)),
            ("cpu-period", "cpu.max", cpu(limits.cpu_period)),
            ("cpu-shares", "cpu.weight", weight.map(|it| it.to_string())),
            ("cpuset-cpus", "cpuset.cpus", limits.cpuset_cpus.clone()),
            ("cpuset-mems", "cpuset.mems", limits.cpuset_mems.clone()),
        ];
        match self.make_group_v2(&files, pids_limit.is_some(), name, run) {
            Ok(dir) => {
                self.memory_events = Some(dir.join("memory.events"));
                self.write_all(&dir, &files);
                self.limit_pids(&dir, pids_limit);
            }
            Err((path, error)) => self.without(&files, &path, &error),
        }
    }

    /// Makes a group of version 2 with the controllers that the limits need, in `parent` if that is given.
    fn make_group_v2(
        &mut self,
        files: LimitFiles<'_>,
        pids: bool,
        name: &str,
        parent: Option<&Path>,
    ) -> Result<PathBuf, (PathBuf, io::Error)> {
        let parent = match parent {
            Some(parent) => parent.to_owned(),
            // Groups with processes can have no limited ones below: ours goes beside that of bake.
            None => {
                let own = own_group("").map_err(|error| (PathBuf::from("/proc/self/cgroup"), error))?;
                own.parent().filter(|it| it.starts_with(ROOT)).unwrap_or(Path::new(ROOT)).to_owned()
            }
        };
        // Only what is needed is switched on: the group above is not ours. Each by itself, as one that is missing would keep
        // the others off; without it the file of its limit is missing.
        for controller in ["memory", "cpu", "cpuset"] {
            let is_its = |file: &str| file.split('.').next() == Some(controller);
            if files.iter().any(|(_, file, value)| value.is_some() && is_its(file)) {
                let _already = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        if pids {
            let _already = fs::write(parent.join("cgroup.subtree_control"), "+pids");
        }
        let dir = parent.join(name);
        fs::create_dir(&dir).map_err(|error| (dir.clone(), error))?;
        self.dirs.push(dir.clone());
        Ok(dir)
    }

    fn limit_pids(&mut self, dir: &Path, limit: Option<u64>) {
        if let Some(limit) = limit
            && fs::write(dir.join("pids.max"), limit.to_string()).is_ok()
        {
            self.pids = Some((dir.to_owned(), limit));
        }
    }

    /// Makes the group of this name below `parent`, or else below our own one of a controller of version 1.
    fn make_group(
        &mut self,
        controller: &str,
        name: &str,
        parent: Option<&Path>,
    ) -> Result<PathBuf, (PathBuf, io::Error)> {
        let own = || own_group(controller).map_err(|error| (Path::new(ROOT).join(controller), error));
        let dir = parent.map_or_else(own, |parent| Ok(parent.to_owned()))?.join(name);
        fs::create_dir(&dir).map_err(|error| (dir.clone(), error))?;
        self.dirs.push(dir.clone());
        Ok(dir)
    }

    fn make_v1(&mut self, limits: &ResourceLimits, pids_limit: Option<u64>, name: &str, run: Option<&Path>) {
        let number = |value: Option<i64>| value.map(|it| it.to_string());
        if pids_limit.is_some()
            && let Ok(dir) = self.make_group("pids", name, None)
        {
            self.limit_pids(&dir, pids_limit);
        }
        let memory = [
            ("memory", "memory.limit_in_bytes", limits.memory.map(|it| it.to_string())),
            ("memory-swap", "memory.memsw.limit_in_bytes", number(limits.memory_swap.map(SwapLimit::to_number))),
        ];
        match self.limited_group("memory", name, &memory, run) {
            Some(dir) => self.memory_events = Some(dir.join("memory.oom_control")),
            None => self.joined = run.map(Path::to_owned),
        }
        let cpu = [
            ("cpu-shares", "cpu.shares", number(limits.cpu_shares)),
            ("cpu-period", "cpu.cfs_period_us", number(limits.cpu_period)),
            ("cpu-quota", "cpu.cfs_quota_us", number(limits.cpu_quota)),
        ];
        self.limited_group("cpu", name, &cpu, None);
        if limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some() {
            // A group of this kind takes processes only when both are set.
            let inherit = |given: &Option<String>, file: &str| {
                let of_parent = || fs::read_to_string(own_group("cpuset").ok()?.join(file)).ok();
                given.clone().or_else(|| Some(of_parent()?.trim().to_owned()))
            };
            let cpuset = [
                ("cpuset-cpus", "cpuset.cpus", inherit(&limits.cpuset_cpus, "cpuset.cpus")),
                ("cpuset-mems", "cpuset.mems", inherit(&limits.cpuset_mems, "cpuset.mems")),
            ];
            self.limited_group("cpuset", name, &cpuset, None);
        }
    }

    /// Makes a group of version 1 and writes its limits, if any is given.
    fn limited_group(
        &mut self,
        controller: &str,
        name: &str,
        files: LimitFiles<'_>,
        parent: Option<&Path>,
    ) -> Option<PathBuf> {
        if files.iter().all(|(_, _, value)| value.is_none()) {
            return None;
        }
        match self.make_group(controller, name, parent) {
            Ok(dir) => {
                self.write_all(&dir, files);
                Some(dir)
            }
            Err((path, error)) => {
                self.without(files, &path, &error);
                None
            }
        }
    }

    fn write_all(&mut self, dir: &Path, files: LimitFiles<'_>) {
        for (name, file, value) in files {
            if let Some(value) = value
                && let Err(error) = fs::write(dir.join(file), value)
            {
                self.unkept.push(UnkeptLimit { name, cause: format!("{file} cannot be set to {value}: {error}") });
            }
        }
    }

    /// Notes that none of these limits holds, because `path` could not be made or read.
    fn without(&mut self, files: LimitFiles<'_>, path: &Path, error: &io::Error) {
        let given = files.iter().filter(|(_, _, value)| value.is_some());
        // The name of a group is another one in each step.
        let group =
            path.parent().filter(|_| path.file_name().is_some_and(|it| it.to_string_lossy().starts_with(PREFIX)));
        let cause = format!("no control group can be made in {}: {error}", group.unwrap_or(path).display());
        self.unkept.extend(given.map(|(name, _, _)| UnkeptLimit { name, cause: cause.clone() }));
    }
}

/// The name of a group: it says which process made it.
fn group_name(count: u64) -> String {
    format!("{PREFIX}{}-{count}", std::process::id())
}

const PREFIX: &str = "bake-";

/// Removes the groups that runs left behind which were killed: those without processes whose maker is gone.
fn remove_left_over() {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let mount = match controllers.strip_prefix("name=").unwrap_or(controllers) {
            // Version 2 is mounted there beside version 1.
            "" if Path::new(ROOT).join("unified").exists() => Path::new(ROOT).join("unified"),
            name => Path::new(ROOT).join(name),
        };
        let own = mount.join(path.trim_start_matches('/'));
        // Ours are made below our own group or, in version 2, beside it.
        for dir in [Some(&*own), own.parent().filter(|dir| dir.starts_with(ROOT))].into_iter().flatten() {
            remove_left_over_in(dir);
        }
    }
}

fn remove_left_over_in(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        let Some(maker) = maker.filter(|maker| !Path::new("/proc").join(maker.to_string()).exists()) else { continue };
        // A runtime may have made one of the same maker below. A group that still has processes cannot be removed.
        let nested = fs::read_dir(entry.path()).into_iter().flatten().flatten();
        for below in
            nested.filter(|below| below.file_name().to_string_lossy().starts_with(&format!("{PREFIX}{maker}-")))
        {
            let _busy = fs::remove_dir(below.path());
        }
        let _busy = fs::remove_dir(entry.path());
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for dir in &self.dirs {
            let _busy = fs::remove_dir(dir);
        }
    }
}

/// How often the kernel of this machine has killed a process because memory ran out, since it started.
pub(super) fn oom_kills() -> u64 {
    fs::read_to_string("/proc/vmstat").map_or(0, |text| count(&text, "oom_kill"))
}

/// The value of [`oom_kills`] when the first step was run.
pub(super) fn oom_baseline() -> u64 {
    static BEFORE: OnceLock<u64> = OnceLock::new();
    *BEFORE.get_or_init(oom_kills)
}

/// The directory of the group in which bake itself is; the controller is empty for version 2.
fn own_group(controller: &str) -> io::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|it| it == controller).then_some(path)
    });
    let path = path.ok_or(io::ErrorKind::NotFound)?.trim_start_matches('/');
    Ok(Path::new(ROOT).join(controller).join(path))
}

fn count(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or(0)
}
