//! `bake build`: the settings of a run whose definition is the command line. From there on it is a run like any other.

use std::{path::PathBuf, sync::Arc};

use super::image_id::ImageIdWanted;
use crate::{
    cli::{
        args::{PlanArgs, ProgressArg, RunArgs},
        build_args::BuildArgs,
        command_line::{CommandLineTarget, ContextArg},
        exit::{FAILED, USAGE},
        settings::{self, Settings},
        stdin,
    },
    engine::embedded::recorded_platforms,
    report::{Diagnostic, SourceMap},
    spec::boolean,
    store::Store,
    ui::output,
};

/// The settings of `bake build`, still without its target.
///
/// # Errors
/// Every fault of the arguments and the environment.
pub(crate) fn settings(args: &BuildArgs, env: settings::Environment) -> Result<Settings, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let mut switch = |flag: &str, value: &Option<String>| {
        value.as_deref().is_some_and(|text| {
            boolean(text).unwrap_or_else(|fault| {
                faults.push(Diagnostic::error("bake::cli::bad_switch", format!("`{flag}`: {}", fault.message)));
                false
            })
        })
    };
    let (quiet, check) = (switch("--quiet", &args.quiet), switch("--check", &args.check));
    let plan = PlanArgs {
        push: args.push.clone(),
        load: args.load.clone(),
        no_cache: args.no_cache.clone(),
        pull: args.pull.clone(),
        sbom: args.sbom.clone(),
        provenance: args.provenance.clone(),
        call: args.call.clone(),
        check,
        allows: args.allows.clone(),
        cache_namespace: args.cache_namespace.clone(),
        // Policies are attributes of the target, which may name files.
        ..PlanArgs::default()
    };
    let progress = if quiet { Some(ProgressArg::Quiet) } else { args.run.progress };
    let run = RunArgs { progress, ..args.run.clone() };
    let mut settings = match Settings::new(plan, Some(run), env) {
        Ok(settings) if faults.is_empty() => settings,
        Ok(_) => return Err(faults),
        Err(more) => return Err(faults.into_iter().chain(more).collect()),
    };
    settings.image_id = ImageIdWanted { file: args.iidfile.as_deref().map(PathBuf::from), stdout: quiet };
    settings.warnings.extend(args.no_effect.given().into_iter().map(|(flag, why)| without_effect(flag, why)));
    Ok(settings)
}

/// Reads what is on standard input and gives the settings their target. The store, if an archive was put into it, must be
/// held until the run ends.
///
/// # Errors
/// The exit code, when the arguments are at fault; that was reported.
pub(crate) fn add_target(settings: &mut Settings, args: &BuildArgs) -> Result<Option<Store>, u8> {
    let color = settings.color;
    let show = |faults: &[Diagnostic], code: u8| {
        output::diagnostics(faults, &SourceMap::default(), color);
        code
    };
    let context = ContextArg::parse(args.context.as_deref(), &settings.cwd).map_err(|fault| show(&[*fault], FAILED))?;
    let wanted = args.stdin_use(&context).map_err(|fault| show(&[*fault], USAGE))?;
    let mut held = None;
    let open = || {
        if args.print.is_some() {
            let fault =
                Diagnostic::error("bake::cli::stdin", "a bake file cannot hold the archive on standard input: -");
            return Err(Box::new(fault.help("unpack it into a folder and name that")));
        }
        let store = settings.bake_home.open().and_then(|home| home.store.hold().map(|()| home.store));
        let store = store.map_err(|error| {
            let fault = Diagnostic::error("bake::store::failed", "the state directory cannot be used").cause(&error);
            Box::new(fault.help(error.help()))
        })?;
        held = Some(store.clone());
        Ok(store)
    };
    let stdin = stdin::read(wanted, std::io::stdin().lock(), open).map_err(|fault| show(&[*fault], FAILED))?;
    if let ContextArg::Image(name) = &context {
        let why = format!("the image `{name}` was built before and is exported as it is");
        let flags = args.without_effect_on_image().into_iter();
        settings.warnings.extend(flags.map(|flag| without_effect(flag, &why)));
    }
    let env = |name: &str| settings.env.get(name).cloned();
    let output = if settings.loads_by_default { "type=docker" } else { "type=image" };
    let mut target = CommandLineTarget::new(args, &context, stdin.as_ref(), env, Some(output))
        .map_err(|faults| show(&faults, USAGE))?;
    if let ContextArg::Image(name) = &context {
        // That it cannot be opened is told by the run itself.
        let home = Some(&settings.bake_home).filter(|home| home.path.exists()).and_then(|home| home.open().ok());
        target.use_platforms(&home.map(|home| recorded_platforms(&home.store, name)).unwrap_or_default());
    }
    settings.command_line = Some(Arc::new(target));
    if args.print.is_none() {
        settings.image_id.clear().map_err(|fault| show(&[*fault], FAILED))?;
    }
    Ok(held)
}

fn without_effect(flag: &str, why: &str) -> Diagnostic {
    Diagnostic::warning("bake::cli::no_effect", format!("`{flag}` has no effect: {why}"))
}
