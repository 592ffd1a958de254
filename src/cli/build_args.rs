//! The arguments of `bake build`, as clap reads them: those of `docker build` and `docker buildx build`
//! (<https://docs.docker.com/reference/cli/docker/buildx/build/>). What they mean is decided in `command_line`.

use clap::Args;

use super::args::{PrintFormat, RunArgs};

const INPUT: &str = "What is built";
const RESULT: &str = "What becomes of it";
const STEPS: &str = "How steps run";
const CACHE: &str = "Cache";
const SHOW: &str = "Show, do not build";
const NO_EFFECT: &str = "Accepted, without effect";

/// The arguments of `bake build`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BuildArgs {
    /// The context: a folder, a git or http URL, - for a Dockerfile or archive on standard input; or the name of an image
    /// that was built here, which is exported; . if none is given
    #[arg(value_name = "PATH|URL|-|IMAGE")]
    pub(crate) context: Option<String>,

    /// The Dockerfile, - for standard input; PATH/Dockerfile if none is given
    #[arg(short, long, value_name = "FILE", allow_hyphen_values = true, help_heading = INPUT)]
    pub(crate) file: Option<String>,

    /// The stage to build; the last one if none is given
    #[arg(long, value_name = "STAGE", help_heading = INPUT)]
    pub(crate) target: Option<String>,

    /// Set a build argument: NAME=VALUE, or NAME for the value of the environment
    #[arg(long = "build-arg", value_name = "NAME=VALUE", help_heading = INPUT)]
    pub(crate) build_args: Vec<String>,

    /// A further context: NAME=PATH, docker-image://, oci-layout://, URL
    #[arg(long = "build-context", value_name = "NAME=CONTEXT", help_heading = INPUT)]
    pub(crate) build_contexts: Vec<String>,

    /// The platforms to build for, as in linux/amd64,linux/arm64
    #[arg(long = "platform", value_name = "PLATFORM", help_heading = INPUT)]
    pub(crate) platforms: Vec<String>,

    /// A secret for RUN --mount=type=secret: id=ID[,src=FILE|env=NAME]
    #[arg(long = "secret", value_name = "OPTIONS", help_heading = INPUT)]
    pub(crate) secrets: Vec<String>,

    /// An ssh agent or keys for RUN --mount=type=ssh: default|ID[=SOCKET|KEY[,KEY…]]
    #[arg(long, value_name = "OPTIONS", help_heading = INPUT)]
    pub(crate) ssh: Vec<String>,

    /// A policy that sources must keep: filename=, reset=, disabled=, strict=, log-level=
    #[arg(long = "policy", value_name = "OPTIONS", help_heading = INPUT)]
    pub(crate) policies: Vec<String>,

    /// A name for the image: NAME[:TAG]
    #[arg(short, long = "tag", value_name = "NAME", help_heading = RESULT)]
    pub(crate) tags: Vec<String>,

    /// Where the result goes: a folder, - for a tar on standard output, or type=…,dest=…
    #[arg(short, long = "output", value_name = "OPTIONS", allow_hyphen_values = true, help_heading = RESULT)]
    pub(crate) outputs: Vec<String>,

    /// Short for --output=type=registry
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = RESULT)]
    pub(crate) push: Option<String>,

    /// Short for --output=type=docker
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = RESULT)]
    pub(crate) load: Option<String>,

    /// A label of the image: NAME=VALUE
    #[arg(long = "label", value_name = "NAME=VALUE", help_heading = RESULT)]
    pub(crate) labels: Vec<String>,

    /// An annotation of the image: [TYPE:]NAME=VALUE
    #[arg(long = "annotation", value_name = "NAME=VALUE", help_heading = RESULT)]
    pub(crate) annotations: Vec<String>,

    /// An attestation: type=sbom|provenance,…
    #[arg(long = "attest", value_name = "OPTIONS", help_heading = RESULT)]
    pub(crate) attests: Vec<String>,

    /// Short for --attest=type=sbom,…
    #[arg(long, value_name = "BOOL|OPTIONS", help_heading = RESULT)]
    pub(crate) sbom: Option<String>,

    /// Short for --attest=type=provenance,…
    #[arg(long, value_name = "BOOL|OPTIONS", help_heading = RESULT)]
    pub(crate) provenance: Option<String>,

    /// Write the ID of the image to a file
    #[arg(long, value_name = "FILE", help_heading = RESULT)]
    pub(crate) iidfile: Option<String>,

    /// Show nothing but errors, then print the ID of the image
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = RESULT)]
    pub(crate) quiet: Option<String>,

    /// A host name of steps: NAME:ADDRESS
    #[arg(long = "add-host", value_name = "NAME:ADDRESS", help_heading = STEPS)]
    pub(crate) add_hosts: Vec<String>,

    /// The network of steps: default, none, host
    #[arg(long, value_name = "NETWORK", help_heading = STEPS)]
    pub(crate) network: Option<String>,

    /// The size of /dev/shm, as in 64m
    #[arg(long, value_name = "BYTES", help_heading = STEPS)]
    pub(crate) shm_size: Option<String>,

    /// A limit of processes: NAME=SOFT[:HARD]
    #[arg(long = "ulimit", value_name = "LIMIT", help_heading = STEPS)]
    pub(crate) ulimits: Vec<String>,

    /// A limit of memory or CPU: memory=, memory-swap=, cpu-shares=, cpu-period=, cpu-quota=, cpuset-cpus=, cpuset-mems=
    #[arg(long = "resource", value_name = "NAME=VALUE", help_heading = STEPS)]
    pub(crate) resources: Vec<String>,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,

    /// Allow what the build asks for: network.host, security.insecure, device, buildx.local.delete
    #[arg(long = "allow", value_name = "GRANT", help_heading = STEPS)]
    pub(crate) allows: Vec<String>,

    /// Use no cached result
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = CACHE)]
    pub(crate) no_cache: Option<String>,

    /// Use no cached result for these stages
    #[arg(long = "no-cache-filter", value_name = "STAGE", help_heading = CACHE)]
    pub(crate) no_cache_filters: Vec<String>,

    /// A cache to read: an image, or type=…,…
    #[arg(long, value_name = "OPTIONS", help_heading = CACHE)]
    pub(crate) cache_from: Vec<String>,

    /// A cache to write: an image, or type=…,…
    #[arg(long, value_name = "OPTIONS", help_heading = CACHE)]
    pub(crate) cache_to: Vec<String>,

    /// Share cache mounts only with builds of this namespace
    #[arg(long, value_name = "NAME", help_heading = CACHE)]
    pub(crate) cache_namespace: Option<String>,

    /// Ask registries for newer base images
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = CACHE)]
    pub(crate) pull: Option<String>,

    /// What to ask of the Dockerfile: build, check, outline, targets
    #[arg(long, value_name = "METHOD", help_heading = SHOW)]
    pub(crate) call: Option<String>,

    /// Short for --call=check
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = SHOW)]
    pub(crate) check: Option<String>,

    /// Print the build as a bake file: json, hcl or yaml
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "json", value_enum, value_name = "FORMAT", help_heading = SHOW)]
    pub(crate) print: Option<PrintFormat>,

    #[command(flatten)]
    pub(crate) no_effect: NoEffectArgs,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Limits in the words of `docker build`: each is one of `--resource`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LimitArgs {
    /// Short for --resource=memory=…
    #[arg(short, long, value_name = "BYTES", help_heading = STEPS)]
    pub(crate) memory: Option<String>,
    #[arg(long, value_name = "BYTES", hide = true)]
    pub(crate) memory_swap: Option<String>,
    #[arg(short = 'c', long, value_name = "N", hide = true)]
    pub(crate) cpu_shares: Option<String>,
    #[arg(long, value_name = "N", hide = true)]
    pub(crate) cpu_period: Option<String>,
    #[arg(long, value_name = "N", hide = true, allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<String>,
    #[arg(long, value_name = "CPUS", hide = true)]
    pub(crate) cpuset_cpus: Option<String>,
    #[arg(long, value_name = "NODES", hide = true)]
    pub(crate) cpuset_mems: Option<String>,
}

impl LimitArgs {
    /// Each limit under the name that `resources` of a target gives it, and the flag that set it.
    pub(crate) fn each(&self) -> [(&'static str, &'static str, Option<&str>); 7] {
        let Self { memory, memory_swap, cpu_shares, cpu_period, cpu_quota, cpuset_cpus, cpuset_mems } = self;
        [
            ("memory", "--memory", memory.as_deref()),
            ("memory-swap", "--memory-swap", memory_swap.as_deref()),
            ("cpu-shares", "--cpu-shares", cpu_shares.as_deref()),
            ("cpu-period", "--cpu-period", cpu_period.as_deref()),
            ("cpu-quota", "--cpu-quota", cpu_quota.as_deref()),
            ("cpuset-cpus", "--cpuset-cpus", cpuset_cpus.as_deref()),
            ("cpuset-mems", "--cpuset-mems", cpuset_mems.as_deref()),
        ]
    }
}

/// Flags of the peer that mean nothing to this engine: whoever gives one is told so.
#[derive(Clone, Debug, Args)]
pub(crate) struct NoEffectArgs {
    /// Control groups of steps are made below that of `bake`
    #[arg(long, value_name = "GROUP", help_heading = NO_EFFECT)]
    pub(crate) cgroup_parent: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(crate) compress: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(crate) squash: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(crate) rm: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(crate) force_rm: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(crate) disable_content_trust: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) isolation: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) security_opt: Vec<String>,
}

impl NoEffectArgs {
    /// The flags that were given, each with the reason why it does nothing.
    pub(crate) fn given(&self) -> Vec<(&'static str, &'static str)> {
        let Self { cgroup_parent, compress, squash, rm, force_rm, disable_content_trust, isolation, security_opt } =
            self;
        let all = [
            ("--cgroup-parent", cgroup_parent.is_some(), "control groups of steps are made below that of `bake`"),
            ("--compress", compress.is_some(), "contexts are read where they are and sent nowhere"),
            ("--squash", squash.is_some(), "copy the result into a last stage `FROM scratch` instead"),
            ("--rm", rm.is_some(), "no containers are left over"),
            ("--force-rm", force_rm.is_some(), "no containers are left over"),
            ("--disable-content-trust", disable_content_trust.is_some(), "image signatures are not looked at"),
            ("--isolation", isolation.is_some(), "every step runs in its own namespaces"),
            ("--security-opt", !security_opt.is_empty(), "a step asks by itself: `RUN --security=insecure`"),
        ];
        all.into_iter().filter(|(_, given, _)| *given).map(|(flag, _, why)| (flag, why)).collect()
    }
}
