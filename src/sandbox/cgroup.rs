//! Limits by control group, best effort: where the system lets us make groups they hold, elsewhere they are left out.
//! Files and values are those of the kernel's documents `admin-guide/cgroup-v1` and `admin-guide/cgroup-v2`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Once, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::spec::SandboxResources;

/// The control groups of one step; removed when dropped.
pub(super) struct Cgroups {
    dirs: Vec<PathBuf>,
    memory_events: Option<PathBuf>,
    /// The group that limits processes, and its limit.
    pids: Option<(PathBuf, u64)>,
}

const ROOT: &str = "/sys/fs/cgroup";

impl Cgroups {
    /// Makes the groups that the limits need; none if there are none.
    pub(super) fn make(limits: &SandboxResources, pids_limit: Option<u64>) -> Self {
        let mut made = Self { dirs: Vec::new(), memory_events: None, pids: None };
        if *limits == SandboxResources::default() && pids_limit.is_none() {
            return made;
        }
        static SWEEP: Once = Once::new();
        SWEEP.call_once(remove_left_over);
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = group_name(COUNT.fetch_add(1, Ordering::Relaxed));
        if Path::new(ROOT).join("cgroup.controllers").exists() {
            let _without = made.make_v2(limits, pids_limit, &name);
        } else {
            let _without = made.make_v1(limits, pids_limit, &name);
        }
        made
    }

    /// The limit of processes, if a process of the step could not be started because of it.
    pub(super) fn reached_pids_limit(&self) -> Option<u64> {
        let (dir, limit) = self.pids.as_ref()?;
        let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
        let is_reached = count(&read("pids.events"), "max") > 0 || read("pids.peak").trim().parse() == Ok(*limit);
        is_reached.then_some(*limit)
    }

    /// The `cgroup.procs` files: a process enters a group by writing 0 to its file.
    pub(super) fn procs(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// Whether the kernel killed a process in them because memory ran out.
    pub(super) fn oom_killed(&self) -> bool {
        let Some(file) = &self.memory_events else { return false };
        fs::read_to_string(file).is_ok_and(|text| count(&text, "oom_kill") > 0)
    }

    fn make_v2(&mut self, limits: &SandboxResources, pids_limit: Option<u64>, name: &str) -> io::Result<()> {
        // Groups with processes can have no limited ones below: ours goes beside that of bake.
        let own = own_group("")?;
        let parent = own.parent().filter(|it| it.starts_with(ROOT)).unwrap_or(Path::new(ROOT)).to_owned();
        // Only what is needed is switched on: the group above is not ours.
        if *limits != SandboxResources::default() {
            let _already = fs::write(parent.join("cgroup.subtree_control"), "+memory +cpu +cpuset");
        }
        if pids_limit.is_some() {
            let _already = fs::write(parent.join("cgroup.subtree_control"), "+pids");
        }
        let dir = parent.join(name);
        fs::create_dir(&dir)?;
        self.dirs.push(dir.clone());
        self.memory_events = Some(dir.join("memory.events"));
        let max = |bytes: i64| if bytes < 0 { "max".to_owned() } else { bytes.to_string() };
        let memory = limits.memory.map(u64::cast_signed);
        let swap = limits.memory_swap.map(|all| if all < 0 { -1 } else { all - memory.unwrap_or(0).min(all) });
        let cpu = limits.cpu_quota.map(|quota| format!("{} {}", max(quota), limits.cpu_period.unwrap_or(100_000)));
        // 2..262144 shares become a weight of 1..10000.
        let weight = limits.cpu_shares.map(|shares| 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142);
        let values = [
            ("memory.max", memory.map(max)),
            ("memory.swap.max", swap.map(max)),
            ("cpu.max", cpu),
            ("cpu.weight", weight.map(|it| it.to_string())),
            ("cpuset.cpus", limits.cpuset_cpus.clone()),
            ("cpuset.mems", limits.cpuset_mems.clone()),
        ];
        write_all(&dir, values);
        self.limit_pids(&dir, pids_limit);
        Ok(())
    }

    fn limit_pids(&mut self, dir: &Path, limit: Option<u64>) {
        if let Some(limit) = limit
            && fs::write(dir.join("pids.max"), limit.to_string()).is_ok()
        {
            self.pids = Some((dir.to_owned(), limit));
        }
    }

    /// Makes the group of this name below our own one of a controller of version 1.
    fn make_group(&mut self, controller: &str, name: &str) -> io::Result<PathBuf> {
        let dir = own_group(controller)?.join(name);
        fs::create_dir(&dir)?;
        self.dirs.push(dir.clone());
        Ok(dir)
    }

    fn make_v1(&mut self, limits: &SandboxResources, pids_limit: Option<u64>, name: &str) -> io::Result<()> {
        let number = |value: Option<i64>| value.map(|it| it.to_string());
        if pids_limit.is_some() {
            // Its own failure leaves the other limits as they are.
            let _without = self.make_group("pids", name).map(|dir| self.limit_pids(&dir, pids_limit));
        }
        if limits.memory.is_some() || limits.memory_swap.is_some() {
            let dir = self.make_group("memory", name)?;
            self.memory_events = Some(dir.join("memory.oom_control"));
            let memory = limits.memory.map(|it| it.to_string());
            let values =
                [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", number(limits.memory_swap))];
            write_all(&dir, values);
        }
        if limits.cpu_shares.is_some() || limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
            let dir = self.make_group("cpu", name)?;
            let values = [
                ("cpu.shares", number(limits.cpu_shares)),
                ("cpu.cfs_period_us", number(limits.cpu_period)),
                ("cpu.cfs_quota_us", number(limits.cpu_quota)),
            ];
            write_all(&dir, values);
        }
        if limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some() {
            let parent = own_group("cpuset")?;
            let dir = self.make_group("cpuset", name)?;
            // A group of this kind takes processes only when both are set.
            let inherit = |given: &Option<String>, file: &str| {
                given.clone().or_else(|| Some(fs::read_to_string(parent.join(file)).ok()?.trim().to_owned()))
            };
            let cpus = inherit(&limits.cpuset_cpus, "cpuset.cpus");
            let mems = inherit(&limits.cpuset_mems, "cpuset.mems");
            write_all(&dir, [("cpuset.cpus", cpus), ("cpuset.mems", mems)]);
        }
        Ok(())
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

/// [`oom_kills`] when the first step was run.
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

fn write_all<const N: usize>(dir: &Path, values: [(&str, Option<String>); N]) {
    for (file, value) in values {
        if let Some(value) = value {
            let _without = fs::write(dir.join(file), value);
        }
    }
}

fn count(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or(0)
}
