//! `bake matrix`: the jobs of a CI pipeline that build a plan, and `--shard`, the part of one runner. Nothing is built here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use serde_json::{Map, Value, json};

use crate::{
    cli::{
        definition::{self, Planned, Purpose},
        entitlements,
        exit::{FAILED, OK, write, write_json},
        matrix_args::{MatrixArgs, MatrixFormat, MatrixUnit},
        settings::Settings,
        shard::ShardChoice,
        state,
    },
    engine::{
        context::Contexts,
        steps::{TargetSteps, target_steps},
    },
    eval::target::group::TargetGroup,
    plan::{Plan, TargetName, need::needs},
    report::Diagnostic,
    shard::{Shard, Split, split},
    spec::ExecutionMode,
    store::Store,
    ui::output,
};

/// One job of a pipeline.
struct Job {
    name: String,
    /// `k/n`, where runners divide the plan.
    shard: Option<String>,
    /// From 1; those of a wave may begin when those of the waves before have ended.
    wave: usize,
    targets: Vec<String>,
    platform: Option<String>,
    /// How long its steps take, in milliseconds.
    weight: u64,
}

/// Writes the jobs.
pub(crate) fn run(settings: &Settings, args: &MatrixArgs) -> u8 {
    let planned = match definition::planned(settings, Purpose::Show) {
        Ok(planned) => planned,
        Err(code) => return code,
    };
    let has_exclusions = settings.names.iter().any(|name| name.starts_with('!'));
    let conclude = definition::concluding(&planned.evaluated.unneeded_faults);
    let groups: Vec<(String, Vec<TargetName>)> = match args.by {
        Some(MatrixUnit::Group) => groups(&planned, settings.names.is_empty()),
        _ => Vec::new(),
    };
    // The times of earlier runs are only used where the whole answer is made at once.
    let store = match state::open_store(&settings.bake_home, settings.color) {
        Ok(store) => store,
        Err(code) => return code,
    };
    let (plan, steps) = match steps(settings, planned, store.as_ref()) {
        Ok(found) => found,
        Err(code) => return code,
    };
    let (mut jobs, repeated) = match args.shards {
        Some(n) => {
            let found = split(&steps.targets, &steps.weights, n.get());
            (of_shards(&steps, &found), found.repeated.len())
        }
        None => (of_units(&plan, &steps, (&groups, has_exclusions), args.by.unwrap_or(MatrixUnit::Target)), 0),
    };
    let n_waves = jobs.iter().map(|job| job.wave).max().unwrap_or_default();
    jobs.retain(|job| args.wave.is_none_or(|wave| wave.get() == job.wave));
    if args.shards.is_some() {
        told(&steps, &jobs, repeated);
    }
    conclude(match args.format {
        MatrixFormat::Github => write_json(&format!("{}\n", github(&jobs, n_waves))),
        MatrixFormat::Gitlab => write(&gitlab(&jobs, n_waves)),
        MatrixFormat::Json => {
            let mut all = github(&jobs, n_waves);
            all["waves"] = json!(n_waves);
            all["targets"] = json!(steps.targets.iter().filter(|target| !target.is_linked).count());
            all["steps"] = json!(steps.weights.len());
            all["recordedSteps"] = json!(steps.n_recorded);
            all["repeatedSteps"] = json!(repeated);
            write_json(&format!("{all:#}\n"))
        }
    })
}

/// Names the targets of one shard instead of those that the command line has, for a build of them.
///
/// # Errors
/// The exit code, when the shard has nothing to do or the definition is at fault; that was told.
pub(crate) fn restrict(settings: &mut Settings, choice: ShardChoice) -> Result<(), u8> {
    let planned = definition::planned(settings, Purpose::Show)?;
    let release = planned.evaluated.release();
    let (_, steps) = steps(settings, planned, None)?;
    let found = split(&steps.targets, &steps.weights, choice.of);
    let waves = &found.shards[choice.number - 1].waves;
    let chosen = waves.iter().filter(|(wave, _)| choice.wave.is_none_or(|wanted| wanted == **wave + 1));
    let names: Vec<String> = chosen.flat_map(|(_, members)| names_of(&steps, members.iter())).collect();
    let n = steps.targets.iter().filter(|target| !target.is_linked).count();
    output::words(&format!("shard {choice}: {} of {n} targets\n", names.len()));
    let n_waves = found.shards.iter().filter_map(|shard| shard.waves.keys().max()).max().map_or(1, |last| last + 1);
    if choice.wave.is_none() && n_waves > 1 {
        output::words(&format!(
            "the plan has {n_waves} waves: with --wave=1 on all runners first, then --wave=2, nothing is built twice\n"
        ));
    }
    if release.as_ref().is_ok_and(|mode| *mode == Some(ExecutionMode::DeferOutput)) && choice.of > 1 {
        output::words("each runner releases its part when that is built: all or nothing holds for the part alone\n");
    }
    if names.is_empty() {
        return Err(OK);
    }
    // The groups that ask for it are not named any more. Two that ask for different ones are told by the build.
    settings.execution = settings.execution.or_else(|| release.ok().flatten());
    settings.names = names;
    settings.has_warned = true;
    Ok(())
}

fn names_of<'a>(steps: &'a TargetSteps, members: impl Iterator<Item = &'a usize>) -> impl Iterator<Item = String> {
    members.map(|ix| steps.targets[*ix].name.clone())
}

/// The plan and the steps of its targets.
fn steps(settings: &Settings, planned: Planned, store: Option<&Store>) -> Result<(Plan, TargetSteps), u8> {
    let Planned { evaluated, plan, sources, from_remote, .. } = planned;
    let needs = needs(&plan, |name| settings.env.contains_key(name));
    let paths = entitlements::handles(&needs, &evaluated.grants, &from_remote, settings);
    let contexts = Contexts::new(settings.cwd.clone(), paths, sources);
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| {
        let fault = Diagnostic::error("bake::cli::runtime", "the run cannot be started").cause(&error);
        output::diagnostics(&[fault], &contexts.sources(), settings.color);
        FAILED
    })?;
    let found = runtime.block_on(target_steps(&plan, &contexts, store));
    Ok((plan, found))
}

/// The groups that were named, or, if nothing was named, those of the default group; and the targets in each.
fn groups(planned: &Planned, is_unnamed: bool) -> Vec<(String, Vec<TargetName>)> {
    let evaluated = &planned.evaluated;
    let named = evaluated.arguments.iter().filter_map(|name| evaluated.groups.get(name));
    let members = |group: &TargetGroup| -> Vec<Arc<str>> {
        group.members.iter().filter(|name| evaluated.groups.contains_key(*name)).cloned().collect()
    };
    let names: Vec<Arc<str>> = match is_unnamed {
        true => named.flat_map(members).collect(),
        false => named.map(|group| group.name.clone()).collect(),
    };
    let targets_of = |name: &Arc<str>| {
        let (mut found, mut met, mut open) = (Vec::new(), BTreeSet::new(), vec![name.clone()]);
        while let Some(name) = open.pop() {
            match evaluated.groups.get(&name) {
                Some(group) if met.insert(name.clone()) => open.extend(group.members.iter().rev().cloned()),
                Some(_) => (),
                None => found.push(TargetName(name)),
            }
        }
        found
    };
    names.iter().map(|name| (name.to_string(), targets_of(name))).collect()
}

fn of_shards(steps: &TargetSteps, found: &Split) -> Vec<Job> {
    let n = found.shards.len();
    let mut jobs = Vec::new();
    let one = |(at, shard): (usize, &Shard)| {
        let number = format!("{}/{n}", at + 1);
        let n_waves = shard.waves.len().max(1) as u64;
        let job = |(wave, members): (&usize, &BTreeSet<usize>)| Job {
            // Names of jobs are unique in a pipeline.
            name: if *wave == 0 { number.clone() } else { format!("{number} wave {}", wave + 1) },
            shard: Some(number.clone()),
            wave: wave + 1,
            targets: names_of(steps, members.iter()).collect(),
            platform: None,
            weight: shard.weight / n_waves,
        };
        shard.waves.iter().map(job).collect::<Vec<_>>()
    };
    found.shards.iter().enumerate().for_each(|it| jobs.extend(one(it)));
    jobs.retain(|job| !job.targets.is_empty());
    jobs.sort_by_key(|job| job.wave);
    jobs
}

/// A job for each target, platform of a target, or group; those that others are linked to in earlier waves.
fn of_units(
    plan: &Plan,
    steps: &TargetSteps,
    (groups, has_exclusions): (&[(String, Vec<TargetName>)], bool),
    by: MatrixUnit,
) -> Vec<Job> {
    let mut waves: Vec<usize> = Vec::new();
    for target in &steps.targets {
        let behind = target.links.iter().map(|link| waves[*link]).max();
        waves.push(behind.map_or(1, |wave| wave + 1));
    }
    let weight = |of: &[usize]| -> u64 {
        let all: BTreeSet<usize> = of.iter().flat_map(|ix| steps.targets[*ix].steps.iter().copied()).collect();
        all.into_iter().map(|step| steps.weights[step]).sum()
    };
    let mut jobs = Vec::new();
    let mut left: BTreeMap<&str, usize> =
        steps.targets.iter().enumerate().map(|(ix, target)| (target.name.as_str(), ix)).collect();
    for (name, members) in groups {
        let of: Vec<usize> = members.iter().filter_map(|member| left.remove(&*member.0)).collect();
        if of.is_empty() {
            continue;
        }
        let wave = of.iter().map(|ix| waves[*ix]).max().unwrap_or(1);
        // The name of a group stands for all of it: where some were left out (`!NAME`), or are in an earlier job, for too much.
        let is_all = of.len() == members.len() && !has_exclusions;
        let targets = if is_all { vec![name.clone()] } else { names_of(steps, of.iter()).collect() };
        jobs.push(Job { name: name.clone(), shard: None, wave, targets, platform: None, weight: weight(&of) });
    }
    for (ix, target) in steps.targets.iter().enumerate().filter(|(_, target)| left.contains_key(target.name.as_str())) {
        let job = |name: String, platform: Option<String>, weight: u64| Job {
            name,
            shard: None,
            wave: waves[ix],
            targets: vec![target.name.clone()],
            platform,
            weight,
        };
        let builds = plan.targets.get(&TargetName(target.name.as_str().into())).map(|nodes| &nodes.builds);
        let platforms: Vec<String> =
            builds.into_iter().flatten().map(|node| plan.build(*node).platform.to_string()).collect();
        match by {
            MatrixUnit::Platform => {
                let each = weight(&[ix]) / platforms.len().max(1) as u64;
                for platform in platforms {
                    jobs.push(job(format!("{} ({platform})", target.name), Some(platform), each));
                }
            }
            MatrixUnit::Target | MatrixUnit::Group => jobs.push(job(target.name.clone(), None, weight(&[ix]))),
        }
    }
    jobs.sort_by_key(|job| job.wave);
    jobs
}

/// Tells how the work is divided, for whoever reads the log of the job.
fn told(steps: &TargetSteps, jobs: &[Job], repeated: usize) {
    let mut text = String::new();
    for job in jobs {
        let (seconds, tenths) = (job.weight / 1000, job.weight % 1000 / 100);
        let n = job.targets.len();
        let targets = if n == 1 { "target" } else { "targets" };
        let _never_fails = writeln!(text, "{}: {n} {targets}, about {seconds}.{tenths} s", job.name);
    }
    let guessed = steps.weights.len() - steps.n_recorded;
    if guessed > 0 {
        let _never_fails = writeln!(text, "times of {guessed} of {} steps are guessed", steps.weights.len());
    }
    if repeated > 0 {
        let _never_fails = writeln!(text, "{repeated} steps run on more than one runner");
    }
    output::words(&text);
}

fn github(jobs: &[Job], n_waves: usize) -> Value {
    let include: Vec<Value> = jobs.iter().map(|job| fields(job, n_waves)).collect();
    json!({ "include": include })
}

fn fields(job: &Job, n_waves: usize) -> Value {
    let mut fields = Map::new();
    let mut add = |name: &str, value: String| drop(fields.insert(name.to_owned(), Value::String(value)));
    add("name", job.name.clone());
    if let Some(shard) = &job.shard {
        add("shard", shard.clone());
        add("targets", job.targets.join(" "));
    } else {
        add("target", job.targets.join(" "));
    }
    if let Some(platform) = &job.platform {
        let mut parts = platform.splitn(3, '/');
        add("platform", platform.clone());
        add("os", parts.next().unwrap_or_default().to_owned());
        add("arch", parts.next().unwrap_or_default().to_owned());
        // For names of files and artifacts, where a slash has another meaning.
        add("pair", platform.replace('/', "-"));
    }
    if n_waves > 1 {
        fields.insert("wave".to_owned(), json!(job.wave));
    }
    Value::Object(fields)
}

/// The jobs as the configuration of a GitLab child pipeline. Each extends `.bake`, which the project writes.
fn gitlab(jobs: &[Job], n_waves: usize) -> String {
    let mut text = "# Made by `bake matrix`. What a job does is written once, as `.bake`, in a file that is included beside this.\n".to_owned();
    let quoted = |value: &str| Value::String(value.to_owned()).to_string();
    if n_waves > 1 {
        text += "stages:\n";
        for wave in 1..=n_waves {
            let _never_fails = writeln!(text, "  - wave-{wave}");
        }
    }
    for job in jobs {
        let _never_fails = writeln!(text, "{}:\n  extends: .bake", quoted(&format!("bake {}", job.name)));
        if n_waves > 1 {
            let _never_fails = writeln!(text, "  stage: wave-{}", job.wave);
        }
        let _never_fails = writeln!(text, "  variables:\n    BAKE_TARGETS: {}", quoted(&job.targets.join(" ")));
        let wave = (n_waves > 1).then(|| job.wave.to_string());
        for (name, value) in [("BAKE_SHARD", &job.shard), ("BAKE_WAVE", &wave), ("BAKE_PLATFORM", &job.platform)] {
            if let Some(value) = value {
                let _never_fails = writeln!(text, "    {name}: {}", quoted(value));
            }
        }
    }
    text
}
