//! Limits by control group, best effort: where the system lets us make groups they hold, elsewhere they are left out.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::spec::SandboxResources;

/// Groups made for one run; removed when dropped.
pub(super) struct Cgroups {
    dirs: Vec<PathBuf>,
    memory_events: Option<PathBuf>,
}

const ROOT: &str = "/sys/fs/cgroup";

impl Cgroups {
    /// Makes the groups that the limits need; none if there are none.
    pub(super) fn make(limits: &SandboxResources) -> Self {
        let mut made = Self { dirs: Vec::new(), memory_events: None };
        if *limits == SandboxResources::default() {
            return made;
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("bake-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        if Path::new(ROOT).join("cgroup.controllers").exists() {
            let _without = made.make_v2(limits, &name);
        } else {
            let _without = made.make_v1(limits, &name);
        }
        made
    }

    /// The files by which a process enters them.
    pub(super) fn procs(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// Whether the kernel killed a process in them for want of memory.
    pub(super) fn oom_killed(&self) -> bool {
        let Some(file) = &self.memory_events else { return false };
        fs::read_to_string(file).is_ok_and(|text| count(&text, "oom_kill") > 0)
    }

    fn make_v2(&mut self, limits: &SandboxResources, name: &str) -> io::Result<()> {
        // Groups with processes can have no limited ones below: ours goes beside that of bake.
        let own = own_group("")?;
        let parent = own.parent().filter(|it| it.starts_with(ROOT)).unwrap_or(Path::new(ROOT)).to_owned();
        let _already = fs::write(parent.join("cgroup.subtree_control"), "+memory +cpu +cpuset");
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
        Ok(())
    }

    fn make_v1(&mut self, limits: &SandboxResources, name: &str) -> io::Result<()> {
        let number = |value: Option<i64>| value.map(|it| it.to_string());
        if limits.memory.is_some() || limits.memory_swap.is_some() {
            let dir = own_group("memory")?.join(name);
            fs::create_dir(&dir)?;
            self.dirs.push(dir.clone());
            self.memory_events = Some(dir.join("memory.oom_control"));
            let memory = limits.memory.map(|it| it.to_string());
            let values =
                [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", number(limits.memory_swap))];
            write_all(&dir, values);
        }
        if limits.cpu_shares.is_some() || limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
            let dir = own_group("cpu")?.join(name);
            fs::create_dir(&dir)?;
            self.dirs.push(dir.clone());
            let values = [
                ("cpu.shares", number(limits.cpu_shares)),
                ("cpu.cfs_period_us", number(limits.cpu_period)),
                ("cpu.cfs_quota_us", number(limits.cpu_quota)),
            ];
            write_all(&dir, values);
        }
        if limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some() {
            let parent = own_group("cpuset")?;
            let dir = parent.join(name);
            fs::create_dir(&dir)?;
            self.dirs.push(dir.clone());
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

impl Drop for Cgroups {
    fn drop(&mut self) {
        for dir in &self.dirs {
            let _busy = fs::remove_dir(dir);
        }
    }
}

/// How often the kernel has killed for want of memory since it started.
pub(super) fn oom_kills() -> u64 {
    fs::read_to_string("/proc/vmstat").map_or(0, |text| count(&text, "oom_kill"))
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
