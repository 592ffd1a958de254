//! Whole files, lowered and printed: history, config, graph, faults, checks.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::json;

use super::{ParsedDockerfile, check::report::CheckFinding, lower, options::*, outline, parse};
use crate::{
    graph::{self, FileAction, Graph, MountOpKind, Op},
    oci::{Digest, ImageConfig, ImageLayer, LayerOrigin, Platform},
    report::{Diagnostic, SourceMap},
    spec::{NetworkMode, ResourceLimits},
};

/// One build to try: the file and what the user gives.
struct Case {
    text: String,
    args: Vec<(&'static str, &'static str)>,
    target: Option<&'static str>,
    contexts: Vec<(&'static str, NamedContext)>,
    platform: &'static str,
    ignore: Vec<&'static str>,
    multi: bool,
}

fn case(text: &str) -> Case {
    Case {
        text: text.to_owned(),
        args: Vec::new(),
        target: None,
        contexts: Vec::new(),
        platform: "linux/amd64",
        ignore: Vec::new(),
        multi: false,
    }
}

/// An image of one layer; `trigger` has ONBUILD instructions.
fn image(query: &Query) -> ImageInfo {
    let name = query.reference.rsplit('/').next().unwrap_or_default().split(':').next().unwrap_or_default();
    let triggers = if name == "trigger" { json!(["ARG WHO=me", "COPY --from=tools /t /t"]) } else { json!(null) };
    let digest = Digest::of(query.reference.as_bytes());
    let config: ImageConfig = serde_json::from_value(json!({
        "architecture": query.platform.arch, "os": "linux",
        "config": { "Env": ["PATH=/bin", "A=1"], "Cmd": ["sh"], "User": if name == "app" { "app" } else { "" },
                    "WorkingDir": if name == "app" { "/srv" } else { "" }, "OnBuild": triggers },
        "rootfs": { "type": "layers", "diff_ids": [digest] },
        "history": [{ "created_by": "base" }],
    }))
    .expect("a config");
    let descriptor = json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 1 });
    let layers = vec![ImageLayer {
        diff_id: config.rootfs.diff_ids[0],
        descriptor: serde_json::from_value(descriptor).expect("a descriptor"),
    }];
    let origin = LayerOrigin::Registry { domain: "docker.io".to_owned(), path: name.to_owned() };
    let image = graph::ImageOp { reference: query.reference.clone(), manifest: digest, origin, layers };
    ImageInfo { image, config: Arc::new(config) }
}

fn local(name: &str, ignore: &[&str]) -> NamedContext {
    let ignore = ignore.iter().map(|it| (*it).to_owned()).collect();
    NamedContext::Local(graph::Local { folder: format!("/{name}"), name: name.to_owned(), ignore, ignore_file: None })
}

fn options(case: &Case) -> LowerOptions {
    LowerOptions {
        target: case.target.map(str::to_owned),
        platform: Platform::parse(case.platform).expect("a platform"),
        explicit_platform: false,
        build_platform: Platform::parse("linux/amd64").expect("a platform"),
        build_args: case.args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        hidden_args: BTreeSet::new(),
        step_file: std::sync::Arc::default(),
        labels: [("l".to_owned(), "given".to_owned())].into(),
        no_cache: NoCache::No,
        network: NetworkMode::Default,
        allow: Allow::default(),
        extra_hosts: Vec::new(),
        shm_size: None,
        ulimits: Vec::new(),
        hostname: None,
        resources: ResourceLimits::default(),
        cache_namespace: String::new(),
        secrets: HashMap::new(),
        agents: HashMap::new(),
        multi_platform: case.multi,
        label_prefix: "".into(),
        contexts: case.contexts.iter().map(|(name, context)| ((*name).to_owned(), context.clone())).collect(),
        main: local("context", &case.ignore),
        source_date_epoch: None,
        all_stages: false,
    }
}

struct Ran {
    map: SourceMap,
    graph: Graph,
    result: Result<Lowered, Vec<Diagnostic>>,
    asked: Vec<String>,
}

fn run(case: &Case) -> Ran {
    let mut map = SourceMap::default();
    let source = map.add("Dockerfile", case.text.as_str());
    let (file, faults) = parse(source, &case.text);
    let mut graph = Graph::default();
    let mut asked = Vec::new();
    let result = if faults.is_empty() { build(&file, &options(case), &mut graph, &mut asked) } else { Err(faults) };
    Ran { map, graph, result, asked }
}

fn build(
    file: &ParsedDockerfile,
    options: &LowerOptions,
    graph: &mut Graph,
    asked: &mut Vec<String>,
) -> Result<Lowered, Vec<Diagnostic>> {
    let mut known = KnownImages::default();
    loop {
        match lower(file, options, &known, graph) {
            LowerOutcome::Done(lowered) => return Ok(*lowered),
            LowerOutcome::Failed(failed) => {
                let LowerFaults { findings, faults, unread, checks_failed } = *failed;
                let findings = findings.iter().map(CheckFinding::diagnostic);
                return Err(findings.chain(faults).chain(unread).chain(checks_failed).collect());
            }
            LowerOutcome::Needs(queries) => {
                for it in queries {
                    asked.push(format!("{} {}", it.reference, it.platform));
                    known.images.insert(it.clone(), image(&it));
                }
            }
        }
    }
}

fn print(map: &SourceMap, faults: &[Diagnostic]) -> Vec<String> {
    faults
        .iter()
        .map(|it| match it.labels.first() {
            Some(label) => format!("{} @ {} `{}`", it.message, map.place(label.at), map.text(label.at)),
            None => it.message.clone(),
        })
        .collect()
}

fn history(case: &Case) -> Vec<String> {
    match run(case).result {
        Ok(lowered) => lowered
            .steps
            .into_iter()
            .map(|it| {
                format!("{}{}", if it.empty_layer { "" } else { "+ " }, it.created_by.replace(" # buildkit", " #"))
            })
            .collect(),
        Err(faults) => faults.into_iter().map(|it| it.message).collect(),
    }
}

fn faults(text: &str) -> Vec<String> {
    let ran = run(&case(text));
    match ran.result {
        Ok(_) => vec!["no fault".to_owned()],
        Err(faults) => {
            let errors: Vec<_> = faults.into_iter().filter(Diagnostic::is_error).collect();
            print(&ran.map, &errors)
        }
    }
}

fn warnings(case: &Case) -> Vec<String> {
    let ran = run(case);
    let all = match &ran.result {
        Ok(lowered) => lowered.findings.iter().map(CheckFinding::diagnostic).collect(),
        Err(faults) => faults.clone(),
    };
    print(&ran.map, &all)
}

fn names(case: &Case) -> Vec<String> {
    run(case).graph.iter().map(|(_, it)| it.meta.name.clone()).filter(|it| it.starts_with('[')).collect()
}

fn op<T>(text: &str, pick: impl Fn(&Op) -> Option<T>) -> T {
    let ran = run(&case(text));
    assert!(ran.result.is_ok(), "{:?}", print(&ran.map, &ran.result.expect_err("checked")));
    ran.graph.iter().filter_map(|(_, it)| pick(&it.op)).last().expect("there is such an op")
}

#[test]
fn history_texts_are_those_of_the_peer() {
    let text = r#"
ARG G=glob
FROM app AS one
ARG G X=1 Y
ENV A=2 B=$A C='e $A'
ENV OLD the  value
LABEL l=file m="a b"
MAINTAINER me
EXPOSE 80 443/TCP 9000-9001
VOLUME /v ["x"
VOLUME ["/a b", "$B"]
USER u:$B
WORKDIR rel/../x
WORKDIR /
WORKDIR /abs//y/
SHELL ["/bin/bash", "-ec"]
RUN make $A
RUN ["a", "b c"]
RUN <<E
two
lines
E
RUN cat <<E > /x
body
E
COPY --chown=$X:2 --chmod=0644 --link a b$X c/
COPY --parents --exclude=*.md . /d
ADD <<-"F" /etc/f
	$raw
F
CMD ["x", "y\t\"z\""]
ENTRYPOINT run it
HEALTHCHECK --interval=90s --retries=3 CMD curl -f x
STOPSIGNAL SIGUSR1
ONBUILD RUN never
"#;
    assert_eq!(
        history(&case(text)),
        [
            "ARG G=glob X=1 Y",
            "ENV A=2 B=1 C=e $A",
            "ENV OLD=the  value",
            "LABEL l=file m=a b",
            "MAINTAINER me",
            "EXPOSE [443/tcp 80/tcp 9000/tcp 9001/tcp]",
            "VOLUME [/v [x]",
            "VOLUME [/a b 1]",
            "USER u:1",
            "+ WORKDIR /srv/x",
            "WORKDIR /",
            "+ WORKDIR /abs//y/",
            "SHELL [/bin/bash -ec]",
            "+ RUN |3 G=glob X=1 Y= /bin/bash -ec make $A #",
            "+ RUN |3 G=glob X=1 Y= a b c #",
            "+ RUN |3 G=glob X=1 Y= /bin/bash -ec two\nlines\n #",
            "+ RUN |3 G=glob X=1 Y= /bin/bash -ec cat <<E > /x\nbody\nE #",
            "+ COPY --chown=1:2 --chmod=0644 a b1 c/ #",
            "+ COPY --parents . /d #",
            "+ ADD <<F /etc/f #",
            "CMD [\"x\" \"y\\t\\\"z\\\"\"]",
            "ENTRYPOINT [\"/bin/bash\" \"-ec\" \"run it\"]",
            "HEALTHCHECK {Test:[CMD-SHELL curl -f x] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}",
            "STOPSIGNAL SIGUSR1",
        ]
    );
}

#[test]
fn arguments_are_chosen_as_documented() {
    let mut it = case("ARG G=1\nFROM scratch\nARG G\nARG A=d\nARG A\nENV E=env\nARG E=arg\nENV Z=$G-$A-$E\n");
    assert_eq!(history(&it).last().map(String::as_str), Some("ENV Z=1-d-arg"));
    it.args = vec![("G", "given"), ("A", "a b")];
    assert_eq!(history(&it).last().map(String::as_str), Some("ENV Z=given-a b-arg"));
    let auto = history(&case("FROM scratch AS x\nARG TARGETPLATFORM TARGETARCH TARGETVARIANT TARGETSTAGE\n"));
    assert_eq!(auto, ["ARG TARGETPLATFORM=linux/amd64 TARGETARCH=amd64 TARGETVARIANT= TARGETSTAGE=x"]);
}

#[test]
fn env_and_args_are_inherited_by_stages() {
    let text = "FROM scratch AS a\nARG X=1\nENV Y=2\nCMD [\"c\"]\nFROM a AS b\nENV Z=$X$Y\nENTRYPOINT [\"e\"]\nFROM b\nENV W=$Z$X\n";
    let lowered = run(&case(text)).result.expect("it is fine");
    let config = serde_json::to_value(&lowered.config.config).expect("plain data");
    assert_eq!(
        config["Env"],
        json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "Y=2", "Z=12", "W=121"])
    );
    assert_eq!(config["Entrypoint"], json!(["e"]));
    assert!(config.get("Cmd").is_none() && config["Labels"] == json!({ "l": "given" }));
    assert_eq!(lowered.steps.len(), 6);
}

#[test]
fn only_stages_that_are_needed_are_asked_for() {
    let text = "FROM one AS a\nFROM two AS b\nCOPY --from=a / /\nFROM three AS c\nFROM b AS d\nRUN --mount=from=four,target=/m x\n";
    assert_eq!(
        run(&case(text)).asked,
        [
            "docker.io/library/one:latest linux/amd64",
            "docker.io/library/two:latest linux/amd64",
            "docker.io/library/four:latest linux/amd64",
        ]
    );
    let mut it = case(text);
    it.target = Some("C");
    assert_eq!(run(&it).asked, ["docker.io/library/three:latest linux/amd64"]);
    it.target = Some("cc");
    assert_eq!(warnings(&it), ["target stage could not be found: cc"]);
}

#[test]
fn platforms_are_those_of_the_stage() {
    let mut it = case(
        "FROM --platform=$BUILDPLATFORM one AS a\nARG TARGETARCH\nRUN x\nFROM two\nCOPY --from=a / /\nCOPY --from=three / /\n",
    );
    it.platform = "linux/arm64";
    it.multi = true;
    assert_eq!(
        run(&it).asked,
        [
            "docker.io/library/one:latest linux/amd64",
            "docker.io/library/two:latest linux/arm64",
            "docker.io/library/three:latest linux/arm64",
        ]
    );
    assert_eq!(
        names(&it),
        [
            "[linux/amd64 a 1/2] FROM docker.io/library/one:latest",
            "[linux/amd64->arm64 a 2/2] RUN x",
            "[linux/arm64 stage-1 1/3] FROM docker.io/library/two:latest",
            "[linux/arm64 stage-1 2/3] COPY --from=a / /",
            "[linux/arm64 stage-1 3/3] COPY --from=three / /",
        ]
    );
}

#[test]
fn triggers_of_the_base_run_first_and_may_bring_stages() {
    let text = "FROM one AS tools\nFROM trigger\nRUN echo $WHO\n";
    assert_eq!(history(&case(text)), ["ARG WHO=me", "+ COPY /t /t #", "+ RUN |1 WHO=me /bin/sh -c echo $WHO #"]);
    let own = "FROM scratch AS a\nONBUILD ENV X=1\nONBUILD COPY <<E /f\nhi\nE\nFROM a AS b\nFROM b\n";
    let mut it = case(own);
    assert_eq!(history(&it), ["ENV X=1", "+ COPY <<E /f #"]);
    it.target = Some("a");
    let config = run(&it).result.expect("it is fine").config.config;
    assert_eq!(config.on_build, Some(vec!["ENV X=1".to_owned(), "COPY <<E /f\nhi\nE".to_owned()]));
}

#[test]
fn contexts_replace_stages_and_images() {
    let mut it =
        case("FROM scratch AS dep\nCOPY nope /\nFROM alpine:3.18\nCOPY --from=dep / /d\nCOPY --from=files x /\n");
    it.contexts = vec![
        ("dep", local("dep", &[])),
        ("docker.io/library/alpine:3.18", NamedContext::Image { reference: "busybox".to_owned(), layout: None }),
        ("files::linux/amd64", local("files", &[])),
    ];
    let ran = run(&it);
    assert_eq!(ran.asked, ["docker.io/library/busybox:latest linux/amd64"]);
    let locals: Vec<&str> = ran
        .graph
        .iter()
        .filter_map(|(_, it)| if let Op::Local(it) = &it.op { Some(it.name.as_str()) } else { None })
        .collect();
    assert_eq!(locals, ["dep", "files"]);
    assert_eq!(ran.result.expect("it is fine").base_layers, 1);
}

#[test]
fn results_of_other_builds_are_bases_with_their_history() {
    let first = case("FROM one\nENV X=1\nRUN a\nONBUILD RUN b\n");
    let mut ran = run(&first);
    let lowered = ran.result.expect("it is fine");
    let built = BuiltContext {
        vertex: lowered.result,
        config: lowered.config,
        base_layers: lowered.base_layers,
        steps: lowered.steps,
        is_assumed: false,
    };
    let mut second = case("FROM dep\nENV Y=$X\n");
    second.contexts = vec![("dep", NamedContext::Built(Arc::new(built)))];
    let mut map = SourceMap::default();
    let source = map.add("Dockerfile", second.text.as_str());
    let (file, _) = parse(source, &second.text);
    let lowered = build(&file, &options(&second), &mut ran.graph, &mut Vec::new()).expect("it is fine");
    let steps: Vec<&str> = lowered.steps.iter().map(|it| it.created_by.as_str()).collect();
    assert_eq!(steps, ["ENV X=1", "RUN /bin/sh -c a # buildkit", "RUN /bin/sh -c b # buildkit", "ENV Y=1"]);
    assert_eq!((lowered.base_layers, lowered.config.rootfs.diff_ids.len()), (1, 1));
}

#[test]
fn lowering_twice_finds_the_same_vertices() {
    let it = case("FROM one AS a\nRUN x\nFROM one\nRUN x\nCOPY --from=a / /\n");
    let mut map = SourceMap::default();
    let source = map.add("Dockerfile", it.text.as_str());
    let (file, _) = parse(source, &it.text);
    let mut graph = Graph::default();
    let first = build(&file, &options(&it), &mut graph, &mut Vec::new()).expect("it is fine");
    let n = graph.len();
    assert_eq!(n, 3, "the image, one RUN for both stages, one COPY");
    let second = build(&file, &options(&it), &mut graph, &mut Vec::new()).expect("it is fine");
    assert_eq!((first.result, n), (second.result, graph.len()));
}

#[test]
fn mounts_are_read() {
    let text = "FROM one\nWORKDIR /w\nENV T=c\nRUN --mount=target=in,src=d --mount=type=cache,target=/$T/,uid=5,sharing=locked \\\n \
        --mount=type=secret,id=a/tok,env=TOK --mount=type=secret,target=s --mount=type=ssh --mount=type=tmpfs,target=/t,size=1m x\n";
    let exec = op(text, |it| if let Op::Exec(exec) = it { Some(exec.clone()) } else { None });
    let mounts: Vec<String> = exec
        .mounts
        .iter()
        .map(|it| match &it.kind {
            MountOpKind::Bind { input, source, writable } => format!("{} bind {input} {source} {writable}", it.target),
            MountOpKind::Cache { id, sharing, uid, .. } => format!("{} cache {id} {sharing:?} {uid:?}", it.target),
            MountOpKind::Secret { id, mode, required, .. } => format!("{} secret {id} {mode:o} {required}", it.target),
            MountOpKind::Ssh { id, mode, .. } => format!("{} ssh {id} {mode:o}", it.target),
            MountOpKind::Tmpfs { size } => format!("{} tmpfs {size:?}", it.target),
            MountOpKind::Text { .. } => it.target.clone(),
        })
        .collect();
    assert_eq!(
        mounts,
        [
            "/c cache /c Locked Some(5)",
            "/run/buildkit/ssh_agent.0 ssh default 600",
            "/t tmpfs Some(1048576)",
            "/w/in bind 1 /d false",
            "/w/s secret s 400 false",
        ]
    );
    assert_eq!((exec.secret_env[0].name.as_str(), exec.secret_env[0].id.as_str()), ("TOK", "a/tok"));
    let script =
        op(
            "FROM one\nRUN <<S\n#!/bin/awk\nx\nS\n",
            |it| if let Op::Exec(exec) = it { Some(exec.clone()) } else { None },
        );
    assert_eq!(script.args, ["/bin/sh", "-c", "/dev/pipes/S"]);
    assert!(matches!(&script.mounts[0].kind, MountOpKind::Text { text, mode: 0o755 } if text == "#!/bin/awk\nx\n"));
}

#[test]
fn mount_faults_are_named() {
    let fault =
        |mount: &str| faults(&format!("FROM one\nRUN --mount={mount} x\n"))[0].split(" @ ").next().map(str::to_owned);
    for (mount, expected) in [
        ("type=bnd,target=/x", "unknown value of `type`, not one of bind, cache, tmpfs, secret, ssh: bnd"),
        ("type=tmpfs,target=/x,mode=1", "`mode` is not allowed for mounts of type: tmpfs"),
        ("target=/x,sharing=locked", "`sharing` is not allowed for mounts of type: bind"),
        ("target=/x,size=1", "unexpected key for mounts of type `bind`: size"),
        ("type=secret", "invalid secret mount, one of id, source, target is required"),
        ("type=cache,target=/", "invalid mount target, give one with `target=`: /"),
        ("target=/x,mode", "a field of a mount must be key=value: mode"),
        ("type=cache,target=/x,mode=9", "invalid value of `mode`, not octal digits: 9"),
        ("from=$X,target=/x", "`from` of a mount can not have variables: $X"),
    ] {
        assert_eq!(fault(mount).as_deref(), Some(expected), "{mount}");
    }
}

#[test]
fn copies_are_read() {
    let copy = |line: &str| {
        op(&format!("FROM app\nENV D=/d\n{line}\n"), |it| match it {
            Op::File(file) => Some(file.actions.clone()),
            _ => None,
        })
    };
    let text = |line: &str| match &copy(line)[0] {
        FileAction::Copy(it) => format!(
            "{} {} {} unpack={} reset={} mode={:?}/{:?} owner={:?}",
            it.input,
            it.source,
            it.dest,
            it.unpack,
            it.reset_owner,
            it.mode,
            it.default_file_mode,
            it.owner.as_ref().map(|it| (it.user.as_str(), it.group.as_deref()))
        ),
        other => format!("{other:?}"),
    };
    assert_eq!(text("COPY a ."), "1 a /srv/ unpack=false reset=true mode=None/None owner=None");
    assert_eq!(
        text("ADD --chown=:7 a $D/../x//"),
        "1 a /x/ unpack=true reset=true mode=None/None owner=Some((\"0\", Some(\"7\")))"
    );
    assert_eq!(
        text("COPY --from=one --chmod=u+x a ../../../b"),
        "1 a /b unpack=false reset=false mode=Some(Symbolic(\"u+x\"))/None owner=None"
    );
    assert_eq!(text("ADD http://h/f.tgz?x /"), "1 /f.tgz / unpack=false reset=false mode=None/Some(384) owner=None");
    assert_eq!(text("ADD https://h/r.git#v1:sub /g"), "1 / /g unpack=false reset=false mode=None/None owner=None");
    assert!(
        matches!(&copy("COPY <<E \"<<F\" f/\n$D \\$D '\nE")[..], [FileAction::Copy(_), FileAction::Mkfile { text, dest, .. }] if text == "/d $D '\n" && dest == "/srv/f/")
    );
    let linked = run(&case("FROM one\nCOPY --link a /\n"));
    assert!(linked.graph.iter().any(|(_, it)| matches!(it.op, Op::Merge)));
    let not_linked = run(&case("FROM one\nCOPY --link --chmod=600 a /\n"));
    assert!(not_linked.graph.iter().all(|(_, it)| !matches!(it.op, Op::Merge)));
}

#[test]
fn all_faults_come_in_one_run_with_their_places() {
    assert_eq!(
        faults(
            "FROM scratch\nRUM x\nCOPY --form=a b c\nCOPY a\nENV A=1 B\nRUN --mount=from=$X,target=/y \\\n  z\nSHELL sh\nHEALTHCHECK --retries=x CMD y\n"
        ),
        [
            "unknown instruction: RUM @ Dockerfile:2 `RUM`",
            "unknown flag: --form @ Dockerfile:3 `--form=a`",
            "COPY requires at least two arguments, the last one is the destination @ Dockerfile:4 `COPY a`",
            "no `=` in this word, the form is name=value: B @ Dockerfile:5 `B`",
            "`from` of a mount can not have variables: $X @ Dockerfile:6 `--mount=from=$X,target=/y`",
            "SHELL requires its arguments in JSON form: sh @ Dockerfile:8 `SHELL sh`",
            "bad `--retries`, not a number of 0 or more: x @ Dockerfile:9 `--retries=x`",
        ]
    );
    assert_eq!(
        faults("FROM scratch\nEXPOSE x\nSTOPSIGNAL Y\nENV A=${B^}\nCOPY --chmod=9 a b\nCOPY http://x/y z\n"),
        [
            "invalid port, not a number or range of 0 to 65535: x @ Dockerfile:2 `x`",
            "invalid signal: Y @ Dockerfile:3 `Y`",
            "unsupported modifier (^) in substitution: ${B^} @ Dockerfile:4 `A=${B^}`",
            "invalid mode, octal digits between 0 and 07777 or the form `u=rwX,go=rX` are expected: 9 @ Dockerfile:5 `--chmod=9`",
            "a source of COPY cannot be a URL, use ADD: http://x/y @ Dockerfile:6 `http://x/y`",
        ]
    );
}

#[test]
fn faults_of_stages_are_named() {
    let table = [
        ("", "the Dockerfile is empty @ Dockerfile:1 ``"),
        ("# x\n", "the Dockerfile has no instructions @ Dockerfile:1 ``"),
        ("ARG A\n", "the Dockerfile has no build stage @ Dockerfile:1 ``"),
        ("FROM $X\n", "the base name is blank after expansion: $X @ Dockerfile:1 `$X`"),
        ("FROM FOO\n", "invalid image name, the repository name must be lower case: FOO @ Dockerfile:1 `FOO`"),
        ("FROM a AS 1x\n", "invalid name for a build stage: 1x @ Dockerfile:1 `1x`"),
        ("FROM a\nCOPY --from=3 / /\n", "invalid stage index, the file has 1 stages: 3 @ Dockerfile:2 `--from=3`"),
        (
            "FROM a\nCOPY --from=0 / /\n",
            "circular dependency, a stage needs its own result: stage-0 @ Dockerfile:2 `--from=0`",
        ),
        (
            "FROM a AS a\nCOPY --from=a / /\n",
            "circular dependency, a stage needs its own result: a @ Dockerfile:2 `--from=a`",
        ),
        (
            "FROM x AS a\nCOPY --from=b / /\nFROM a AS b\n",
            "circular dependency, a stage needs its own result: a @ Dockerfile:2 `--from=b`",
        ),
        (
            "FROM x AS a\nCOPY --from=b / /\nFROM x AS b\nFROM a\n",
            "cannot copy from a stage that comes later in the file: b @ Dockerfile:2 `--from=b`",
        ),
        ("FROM --platform=x/ a\n", "not a platform: x/ @ Dockerfile:1 `--platform=x/`"),
        (
            "# syntax=me/mine\nFROM a\n",
            "only the built-in Dockerfile syntax is supported, not a frontend image: me/mine @ Dockerfile:1 `# syntax=me/mine`",
        ),
        ("# escape=x\nFROM a\n", "the escape character must be `\\` or a backquote: x @ Dockerfile:1 `# escape=x`"),
        ("FROM a\nRUN <<E\nx\n", "unterminated heredoc, no line is: E @ Dockerfile:2 `RUN <<E`"),
        ("FROM a\nRUN []\n", "RUN requires arguments, the array is empty @ Dockerfile:2 `RUN []`"),
        (
            "FROM a\nRUN --network=host x\n",
            "the build is not allowed to use an entitlement: network.host @ Dockerfile:2 `--network=host`",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(faults(text), [expected], "{text}");
    }
    assert_eq!(faults("# syntax=docker/dockerfile:1.7-labs\nFROM scratch\n"), ["no fault"]);
}

#[test]
fn checks_fire() {
    let fire = |text: &str| -> Vec<String> {
        let all = warnings(&case(text)).into_iter();
        all.map(|it| {
            format!(
                "{} {}",
                it.split(':').next().unwrap_or_default(),
                it.split("Dockerfile:").nth(1).unwrap_or_default().split(' ').next().unwrap_or_default()
            )
        })
        .collect()
    };
    let table = [
        ("FROM a AS Foo\n", "StageNameCasing 1"),
        ("FROM a as b\n", "FromAsCasing 1"),
        ("FROM a\nRUN x \\\n\n y\n", "NoEmptyContinuation 3"),
        ("FROM a\nRUN x\nrun y\n", "ConsistentInstructionCasing 3"),
        ("FROM a AS b\nFROM a AS b\n", "DuplicateStageName 2"),
        ("FROM a AS context\n", "ReservedStageName 1"),
        ("FROM a\nCMD x\n", "JSONArgsRecommended 2"),
        ("FROM a\nSHELL [\"s\"]\nCMD x\n", ""),
        ("FROM a\nMAINTAINER x\n", "MaintainerDeprecated 2"),
        ("ARG TAG=1\nFROM a:1$TGA\n", "UndefinedArgInFrom 2"),
        ("FROM a\nWORKDIR x\nWORKDIR y\n", "WorkdirRelativePath 2"),
        ("FROM a\nCOPY $foo .\n", "UndefinedVar 2"),
        ("FROM a\nARG foo\nCOPY x$foo .\n", ""),
        ("FROM a\nCMD [\"a\"]\nCMD [\"b\"]\n", "MultipleInstructionsDisallowed 2"),
        ("FROM a\nENV k v\n", "LegacyKeyValueFormat 2"),
        ("FROM --platform=$TARGETPLATFORM a\n", "RedundantTargetPlatform 1"),
        ("FROM --platform=linux/arm64 a\n", "FromPlatformFlagConstDisallowed 1"),
        ("FROM --platform=linux/arm64 a AS x-arm64\n", ""),
        ("FROM a\nARG DB_PASSWORD\n", "SecretsUsedInArgOrEnv 2"),
        ("FROM a\nENV PUBLIC_KEY=1 TOKENS=2\n", ""),
        ("FROM a\nEXPOSE 80/TCP\n", "ExposeProtoCasing 2"),
        ("FROM a\nEXPOSE 1:80\n", "ExposeInvalidFormat 2"),
        ("FROM a\nCMD ['a', 'b']\nSHELL [\"x\"]\n", "MalformedJSONArray 2|JSONArgsRecommended 2"),
        ("FROM a\nRUN [ \"$A\" = b ] && x\n", ""),
        ("# check=skip=MaintainerDeprecated\nFROM a\nMAINTAINER x\n", ""),
        ("FROM a\n# check=skip=all\nMAINTAINER x\n", ""),
        ("# check=experimental=all\n# other\nARG a\nFROM a AS b\n", "InvalidDefinitionDescription 3"),
        ("# check=experimental=all\n# other\n\nARG a\n# b is this\nFROM a AS b\n", ""),
        ("# check=error=true\nFROM a\nMAINTAINER x\n", "MaintainerDeprecated 3|checks failed and `error=true` is set "),
    ];
    for (text, expected) in table {
        assert_eq!(fire(text).join("|"), expected, "{text}");
    }
    let mut it = case("FROM a\nCOPY x/y.md /\nCOPY . /\n");
    it.ignore = vec!["**/*.md"];
    assert_eq!(warnings(&it).len(), 1);
    it.ignore = vec!["*"];
    assert_eq!(warnings(&it).len(), 2);
    it.ignore = vec!["*", "!x"];
    assert_eq!(warnings(&it).len(), 0);
}

#[test]
fn targets_and_outline_are_listed() {
    let text = "ARG BASE=alpine\n# A is the first\nARG A=one-$BASE OTHER=x\n# build makes it\nFROM $BASE AS build\nARG B=two\n\
        ARG A\nRUN --mount=type=secret,id=tok,required --mount=type=ssh --mount=type=cache,target=/c x\n\
        FROM scratch AS unused\nARG Z\nFROM scratch\nCOPY --from=build / /\n";
    let it = case(text);
    let mut map = SourceMap::default();
    let (file, _) = parse(map.add("Dockerfile", text), text);
    assert_eq!(outline::targets(&file).to_text(), "TARGET    DESCRIPTION\nbuild     makes it\nunused\n(default)\n\n");
    let outline = outline::outline(&file, &options(&it)).expect("it is fine");
    assert_eq!(
        outline.to_text(),
        "BUILD ARG   VALUE        DESCRIPTION\nBASE        alpine\nA           one-alpine   is the first\nB           two\n\n\
         SECRET   REQUIRED\ntok      true\n\nSSH       REQUIRED\ndefault\n\nCACHE\n/c\n\n"
    );
    let json = serde_json::to_value(&outline).expect("plain data");
    assert_eq!(json["secrets"], json!([{ "name": "tok", "required": true }]));
}

#[test]
fn unused_build_arguments_are_told() {
    let mut it = case("FROM scratch\nARG VERSION\n");
    let steering = ("BUILDKIT_SANDBOX_HOSTNAME", "h");
    it.args = vec![
        ("VERSON", "1"),
        ("HTTP_PROXY", "p"),
        ("BUILDKIT_X", "1"),
        steering,
        ("TARGETARCH", "x"),
        ("VERSION", "2"),
    ];
    let unused = run(&it).result.expect("it is fine").unused_args;
    assert_eq!(unused.len(), 2);
    assert_eq!(unused[0].help.as_deref(), Some("did you mean `VERSION`?"));
    assert!(unused[1].message.contains("has no effect in this engine"), "{}", unused[1].message);
}

#[test]
fn hostile_files_are_read_in_time() {
    let fine = |text: String| {
        let ran = run(&case(&text));
        let print = ran.result.map(|it| it.steps.len()).map_err(|it| print(&ran.map, &it[..1.min(it.len())]));
        (print, ran.graph.len())
    };
    assert_eq!(fine(format!("FROM scratch\n{}", "ENV A=$A\n".repeat(50_000))).0, Ok(50_000));
    assert_eq!(fine(format!("FROM scratch\n{}", "COPY a b\n".repeat(5_000))).0, Ok(5_000));
    let unset: String = (0..20_000).map(|i| format!("ENV A{i}=$U{i}\n")).collect();
    assert_eq!(fine(format!("FROM scratch\n{unset}")).0, Ok(20_000));
    let chain: String = (1..3_000).map(|i| format!("FROM s{} AS s{i}\nCOPY --from=s0 a b\n", i - 1)).collect();
    assert_eq!(fine(format!("FROM scratch AS s0\n{chain}")).0, Ok(2_999));
    assert!(fine(format!("FROM scratch\nRUN {}", "[".repeat(60_000))).0.is_ok());
    assert!(fine(format!("FROM scratch\nRUN {}\n", "x \\\n".repeat(100_000))).0.is_ok());
    assert!(fine(format!("FROM scratch\nRUN {}\n", "x".repeat(70_000))).0.is_err());
    assert!(fine("FROM scratch\n".to_owned() + &"RUN <<A <<B <<C\n".repeat(1000)).0.is_err());
    assert!(fine("\u{feff}FROM scratch\u{0}\n\u{1}\n".to_owned()).0.is_err());
    assert!(fine("FROM scratch AS a\n".to_owned() + &"COPY --from=b / /\nFROM a AS b\n".repeat(500)).0.is_err());
}

mod property {
    use proptest::prelude::*;

    use super::*;

    /// Lines made of what Dockerfiles are made of, in any order.
    fn file() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("FROM "),
            Just("RUN "),
            Just("COPY "),
            Just("ADD "),
            Just("ENV "),
            Just("ARG "),
            Just("ONBUILD "),
            Just("EXPOSE "),
            Just("HEALTHCHECK CMD "),
            Just("SHELL "),
            Just("WORKDIR "),
            Just("--from="),
            Just("--mount="),
            Just("type=cache,"),
            Just("target=/x"),
            Just("--chmod="),
            Just("scratch"),
            Just("a"),
            Just(" AS a"),
            Just("0"),
            Just("<<E"),
            Just("<<-\"E\" "),
            Just("\nE\n"),
            Just("\n"),
            Just("\n"),
            Just("\r\n"),
            Just(" "),
            Just("\t"),
            Just("\\"),
            Just("\\\n"),
            Just("#"),
            Just("# escape=`\n"),
            Just("$a"),
            Just("${a:-"),
            Just("}"),
            Just("${a//"),
            Just("/"),
            Just("'"),
            Just("\""),
            Just("["),
            Just("]"),
            Just(","),
            Just("="),
            Just("="),
            Just("*"),
            Just("é"),
            Just("\u{feff}"),
            Just("http://h/r.git?ref=a#b:c"),
            Just("65535"),
            Just("-"),
            Just("8000-9000/UDP"),
            Just("1h"),
            Just("\0"),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|it| format!("FROM scratch AS a\n{}", it.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn no_text_panics_and_all_spans_are_text(text in file()) {
            let ran = run(&case(&text));
            let all = match ran.result {
                Ok(lowered) => lowered.findings.iter().map(CheckFinding::diagnostic).collect(),
                Err(faults) => faults,
            };
            for label in all.iter().flat_map(|it| &it.labels) {
                let (start, end) = (label.at.start as usize, label.at.end as usize);
                prop_assert!(text.get(start..end).is_some(), "{start}..{end} of {text:?}");
            }
        }

        #[test]
        fn layers_are_counted_by_history(text in file()) {
            let ran = run(&case(&text));
            if let Ok(lowered) = ran.result {
                let mut n = 0;
                let mut vertex = lowered.result;
                loop {
                    let it = ran.graph.get(vertex);
                    match it.op {
                        Op::Exec(_) | Op::File(_) | Op::Merge => n += 1,
                        _ => break,
                    }
                    vertex = it.inputs[0];
                }
                prop_assert_eq!(n, lowered.steps.iter().filter(|it| !it.empty_layer).count());
            }
        }
    }
}
