//! Instructions that change the image config: ENV, LABEL, CMD, EXPOSE, … and WORKDIR, which also makes a folder (OCI
//! image spec, config: <https://github.com/opencontainers/image-spec/blob/main/config.md>). The texts of their history
//! entries are part of the image and follow BuildKit's.

use serde_json::Value;

use super::{lowerer::Lowerer, state::StageState};
use crate::{
    dockerfile::{
        check, expand,
        expand::ExpandMode,
        fault::fault,
        instruction::{CommandLine, Health, Instruction, Pair},
        value,
    },
    graph::{File, FileAction, Op, OwnerChange},
    oci::config::Healthcheck,
    report::{Diagnostic, Span, Spanned, suggest},
};

impl Lowerer<'_, '_> {
    /// Expands all pairs with the variables from before the instruction.
    fn pairs(
        &mut self,
        state: &StageState,
        instruction: &Instruction,
        pairs: &[Pair],
    ) -> Result<Vec<(String, String)>, Diagnostic> {
        if pairs.iter().any(|pair| pair.legacy) {
            check::legacy_key_value_format::fire(&mut self.report, instruction);
        }
        pairs
            .iter()
            .map(|pair| {
                let key = self.text(state, instruction, &pair.key, pair.at, ExpandMode::Word)?;
                let value = self.text(state, instruction, &pair.value, pair.at, ExpandMode::Word)?;
                Ok((key, value))
            })
            .collect()
    }

    /// ENV: expands all pairs with the variables from before the instruction, then sets them for the steps that follow
    /// and in `Env` of the config.
    ///
    /// Names that look like secrets are reported (check `SecretsUsedInArgOrEnv`).
    ///
    /// # Errors
    /// When a variable cannot be expanded. See <https://docs.docker.com/reference/dockerfile/#env>.
    pub(super) fn env(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        pairs: &[Pair],
    ) -> Result<(), Diagnostic> {
        let mut text = String::from("ENV");
        for (name, value) in self.pairs(state, instruction, pairs)? {
            check::secrets_used_in_arg_or_env::check_name(&mut self.report, instruction, &name);
            text.extend([" ", &name, "=", &value]);
            state.set(&name, &value, self.is_guess);
            state.image_env.insert(name, value);
        }
        state.note(&text);
        Ok(())
    }

    /// LABEL: expands the pairs and adds them to `Labels` of the config.
    ///
    /// # Errors
    /// When a variable cannot be expanded.
    pub(super) fn label(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        pairs: &[Pair],
    ) -> Result<(), Diagnostic> {
        let mut text = String::from("LABEL");
        for (name, value) in self.pairs(state, instruction, pairs)? {
            text.extend([" ", &name, "=", &value]);
            state.run.labels.get_or_insert_default().insert(name, value);
        }
        state.note(&text);
        Ok(())
    }

    /// The arguments of CMD and ENTRYPOINT: an array as it is, a text for the shell.
    fn command_line(&mut self, state: &StageState, instruction: &Instruction, command: &CommandLine) -> Vec<String> {
        if command.json {
            return command.args.clone();
        }
        // A base of unknown config may set SHELL.
        if state.run.shell.as_ref().is_none_or(Vec::is_empty) && !state.is_assumed {
            check::json_args_recommended::fire(&mut self.report, instruction);
        }
        state.with_shell(command.args.join(" "))
    }

    fn used_once(&mut self, slot: &mut Option<Span>, instruction: &Instruction) {
        if let Some(earlier) = slot.replace(instruction.at) {
            check::multiple_instructions_disallowed::fire(&mut self.report, instruction, earlier);
        }
    }

    /// CMD: sets `Cmd` of the config; a command in shell form is wrapped in the shell of the stage. Variables are left
    /// to the container.
    pub(super) fn cmd(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        command: &CommandLine,
    ) -> Result<(), Diagnostic> {
        self.used_once(&mut state.cmd_at, instruction);
        let args = self.command_line(state, instruction, command);
        state.note(&format!("CMD {}", value::quoted_list(&args)));
        state.run.cmd = Some(args);
        state.run.args_escaped = true;
        Ok(())
    }

    /// ENTRYPOINT: sets `Entrypoint` of the config, and removes a `Cmd` that this stage has not set itself
    /// (<https://docs.docker.com/reference/dockerfile/#understand-how-cmd-and-entrypoint-interact>).
    pub(super) fn entrypoint(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        command: &CommandLine,
    ) -> Result<(), Diagnostic> {
        self.used_once(&mut state.entrypoint_at, instruction);
        let args = self.command_line(state, instruction, command);
        state.note(&format!("ENTRYPOINT {}", value::quoted_list(&args)));
        state.run.entrypoint = (!args.is_empty()).then_some(args);
        if state.cmd_at.is_none() {
            state.run.cmd = None;
        }
        Ok(())
    }

    /// SHELL: sets the program that runs commands in shell form, for the steps that follow and in `Shell` of the
    /// config.
    pub(super) fn shell(&mut self, state: &mut StageState, shell: &[String]) -> Result<(), Diagnostic> {
        state.note(&format!("SHELL [{}]", shell.join(" ")));
        state.run.shell = Some(shell.to_vec());
        Ok(())
    }

    /// HEALTHCHECK: sets `Healthcheck` of the config (an extension of Docker to the OCI config). Times are in
    /// nanoseconds.
    pub(super) fn healthcheck(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        health: &Health,
    ) -> Result<(), Diagnostic> {
        self.used_once(&mut state.healthcheck_at, instruction);
        let time = value::print_duration;
        let text = format!(
            "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            health.test.join(" "),
            time(health.interval),
            time(health.timeout),
            time(health.start_period),
            time(health.start_interval),
            health.retries
        );
        state.note(&text);
        state.run.healthcheck = Some(Healthcheck {
            test: Some(health.test.clone()),
            interval: health.interval,
            timeout: health.timeout,
            start_period: health.start_period,
            start_interval: health.start_interval,
            retries: health.retries,
        });
        Ok(())
    }

    /// EXPOSE: expands the words, adds the ports to `ExposedPorts` of the config (OCI image spec, config.md), and notes
    /// it in the history.
    ///
    /// A word may expand to several ports. `80-82/tcp` becomes three; without a protocol it is tcp; the host part of
    /// `8080:80` is dropped with a warning (check `ExposeInvalidFormat`).
    ///
    /// # Errors
    /// When a variable cannot be expanded, or a word is no port.
    pub(super) fn expose(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        words: &[Spanned<String>],
    ) -> Result<(), Diagnostic> {
        let mut all = Vec::new();
        for word in words {
            let (ports, expanded) = expand::expand_words(&word.value, &state.env, self.file.escape)
                .map_err(|why| self.not_expanded(state, &why, &word.value, word.at))?;
            self.looked_up(state, instruction, &expanded);
            for text in ports {
                let ports = value::ports(&text)
                    .map_err(|why| fault("bake::dockerfile::bad_port", why, word.at, "this port"))?;
                if ports.odd_protocol && !self.is_guess {
                    check::expose_proto_casing::fire(&mut self.report, instruction, &text);
                }
                if ports.maps_host && !self.is_guess {
                    check::expose_invalid_format::fire(&mut self.report, instruction, &text);
                }
                all.extend(ports.ports);
            }
        }
        state.note(&format!("EXPOSE [{}]", all.join(" ")));
        let exposed = state.run.exposed_ports.get_or_insert_default();
        exposed.extend(all.into_iter().map(|port| (port, empty_object())));
        Ok(())
    }

    /// VOLUME: adds the expanded paths to `Volumes` of the config, and notes it in the history.
    ///
    /// # Errors
    /// When a variable cannot be expanded, or a path is empty.
    pub(super) fn volume(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        words: &[Spanned<String>],
    ) -> Result<(), Diagnostic> {
        let mut all = Vec::with_capacity(words.len());
        for word in words {
            let volume = self.word(state, instruction, word)?;
            if volume.is_empty() {
                let message = format!("a VOLUME can not be an empty string: {}", word.value);
                return Err(fault("bake::dockerfile::arguments", message, word.at, "expands to nothing"));
            }
            all.push(volume);
        }
        state.note(&format!("VOLUME [{}]", all.join(" ")));
        let volumes = state.run.volumes.get_or_insert_default();
        volumes.extend(all.into_iter().map(|volume| (volume, empty_object())));
        Ok(())
    }

    /// USER: sets `User` of the config, and thereby the user of the RUN and WORKDIR instructions that follow. The name
    /// is looked up when a step runs.
    ///
    /// # Errors
    /// When a variable cannot be expanded.
    pub(super) fn user(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        user: &Spanned<String>,
    ) -> Result<(), Diagnostic> {
        let user = self.word(state, instruction, user)?;
        state.note(&format!("USER {user}"));
        state.run.user = user;
        Ok(())
    }

    /// STOPSIGNAL: sets `StopSignal` of the config, as written.
    ///
    /// # Errors
    /// When a variable cannot be expanded, or the result is neither the name nor the number of a signal.
    pub(super) fn stop_signal(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        signal: &Spanned<String>,
    ) -> Result<(), Diagnostic> {
        let text = self.word(state, instruction, signal)?;
        if !value::is_signal(&text) {
            let fault =
                fault("bake::dockerfile::bad_signal", format!("invalid signal: {text}"), signal.at, "this signal");
            let upper = text.to_ascii_uppercase();
            let near = suggest::nearest(upper.strip_prefix("SIG").unwrap_or(&upper), value::SIGNALS.iter().copied());
            return Err(match near {
                Some(near) => fault.help(format!("did you mean `SIG{near}`?")),
                None => fault,
            });
        }
        state.note(&format!("STOPSIGNAL {text}"));
        state.run.stop_signal = text;
        Ok(())
    }

    /// MAINTAINER (deprecated): sets `author` of the config.
    pub(super) fn maintainer(&mut self, state: &mut StageState, name: &str) -> Result<(), Diagnostic> {
        state.note(&format!("MAINTAINER {name}"));
        state.author = Some(name.to_owned());
        Ok(())
    }

    /// WORKDIR: sets the directory of the steps that follow and `WorkingDir` of the config, and adds a step that makes
    /// it.
    ///
    /// An absolute path is kept as written, a relative one is joined to the one before.
    pub(super) fn workdir(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        path: &Spanned<String>,
    ) -> Result<(), Diagnostic> {
        let path = self.word(state, instruction, path)?;
        if !state.workdir_is_set && !path.starts_with('/') && !self.is_guess {
            check::workdir_relative_path::fire(&mut self.report, instruction, &path);
        }
        state.workdir_is_set = true;
        let joined = if path.starts_with('/') { path } else { join(&state.cwd, &path) };
        state.cwd = crate::spec::path::clean(&joined);
        let text = format!("WORKDIR {joined}");
        state.run.working_dir.clone_from(&joined);
        if joined == "/" {
            state.note(&text);
            return Ok(());
        }
        let owner = (!state.run.user.is_empty()).then(|| owner(&state.run.user, true));
        let shown = self.shown(state, &instruction.code, ExpandMode::Word);
        let meta = state.meta(self.options, instruction, &shown);
        let action = FileAction::Mkdir { path: state.cwd.clone(), owner };
        let op = Op::File(File { actions: vec![action] });
        let tree = self.graph.add(op, vec![state.tree], state.platform.clone(), meta);
        state.layer(&text, tree);
        Ok(())
    }

    /// The text of an instruction for progress: its keyword in upper case, its variables expanded where that can be
    /// done.
    pub(super) fn shown(&self, state: &StageState, code: &str, mode: ExpandMode) -> String {
        let expanded = expand::expand(code, &state.env, self.file.escape, mode);
        let mut text = expanded.map_or_else(|_| code.to_owned(), |it| it.text);
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        text[..end].make_ascii_uppercase();
        text
    }
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Joins a path to a directory and cleans it; an absolute path is cleaned alone.
pub(super) fn join(folder: &str, path: &str) -> String {
    crate::spec::path::clean(&if path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") })
}

/// Parses `user[:group]` of USER or `--chown`, by name or number; without a user it is root.
pub(super) fn owner(text: &str, at_workdir: bool) -> OwnerChange {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    OwnerChange { user: user.to_owned(), group: group.filter(|it| !it.is_empty()).map(str::to_owned), at_workdir }
}
