//! Cache mounts: builds of content from elsewhere have their own, so that nothing is left there for others.

use crate::support::{Bake, GitServer, base_layout, commit, git};

/// Leaves a line with `N` in the cache mount and shows all lines.
const DOCKERFILE: &str = "FROM base AS run\nARG N\nRUN --mount=type=cache,id=shared,target=/c \
                          echo \"$N\" >> /c/lines && cat /c/lines > /lines\nFROM scratch\nCOPY --from=run /lines /lines\n";

/// A project `p` and a git repository `r` with the same Dockerfile; the target `git` has the repository as its context.
fn project() -> (Bake, GitServer) {
    let bake = Bake::new();
    bake.write("r/Dockerfile", DOCKERFILE);
    bake.write("r/docker-bake.hcl", &definition(""));
    let server = GitServer::new(&bake, "r");
    bake.write("p/Dockerfile", DOCKERFILE);
    let url = server.url();
    let text = definition("")
        + &definition(&format!("context = \"{url}\"")).replace("\"here\"", "\"git\"")
        + &definition(&format!("context = \"{url}#other\"")).replace("\"here\"", "\"branch\"")
        + &definition(&format!("contexts = {{ unused = \"{url}\", base = \"{}\" }}", base()))
            .replace("\"here\"", "\"named\"");
    bake.write("p/docker-bake.hcl", &text);
    (bake, server)
}

fn base() -> String {
    format!("oci-layout://{}", base_layout().display())
}

fn definition(line: &str) -> String {
    let contexts =
        if line.starts_with("contexts") { String::new() } else { format!("contexts = {{ base = \"{}\" }}", base()) };
    format!("target \"here\" {{\n  {line}\n  {contexts}\n  output = [\"type=local,dest=out\"]\n}}\n")
}

/// The lines that the build of a target sees when it leaves `line`.
fn build(bake: &Bake, args: &[&str], target: &str, line: &str) -> String {
    let set = format!("*.args.N={line}");
    let all = ["--progress=plain", "--allow=fs=*", "--set", &set];
    let _ran = bake.run_in("p", &[&all[..], args, &[target]].concat()).ok();
    bake.read("p/out/lines").lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_build_from_git_and_one_of_this_machine_do_not_see_each_others() {
    let (bake, server) = project();
    assert_eq!(build(&bake, &[], "here", "1"), "1");
    assert_eq!(build(&bake, &[], "git", "2"), "2");
    // The same step with the same inputs is not found in the other's results.
    assert_eq!(build(&bake, &[], "git", "1"), "2 1");
    assert_eq!(build(&bake, &[], "here", "2"), "1 2");
    // Neither is it for a definition from there, or a context beside the main one.
    assert_eq!(build(&bake, &[&server.url()], "here", "3"), "2 1 3");
    assert_eq!(build(&bake, &[], "named", "4"), "2 1 3 4");
    assert_eq!(build(&bake, &[], "here", "5"), "1 2 5");
}

#[test]
fn references_of_one_repository_share() {
    let (bake, _server) = project();
    git(&bake, "r", &["checkout", "-q", "-b", "other"]);
    bake.write("r/more", "of the branch");
    commit(&bake, "r");
    assert_eq!(build(&bake, &[], "git", "1"), "1");
    assert_eq!(build(&bake, &[], "branch", "2"), "1 2");
}

#[test]
fn a_chosen_namespace_is_shared_by_those_who_name_it() {
    let (bake, _server) = project();
    assert_eq!(build(&bake, &["--cache-namespace=ci"], "git", "1"), "1");
    assert_eq!(build(&bake, &["--cache-namespace=ci"], "here", "2"), "1 2");
    assert_eq!(build(&bake, &["--cache-namespace", "other"], "here", "3"), "3");
    assert_eq!(build(&bake, &[], "here", "4"), "4");
    let set = ["--progress=plain", "--allow=fs=*", "--set", "*.args.N=5", "here"];
    let _ran = bake.run_with("p", &set, &[("BAKE_CACHE_NAMESPACE", "ci")]).ok();
    assert_eq!(bake.read("p/out/lines"), "1\n2\n5\n");
}

#[test]
fn a_new_cache_mount_has_the_owner_and_mode_of_what_it_covers_or_the_user_of_the_step() {
    let bake = Bake::new();
    let mount = |id: &str, more: &str| format!("--mount=type=cache,id={id},target=/home/app/{id}{more}");
    bake.write(
        "Dockerfile",
        &format!(
            "FROM base AS seed\nRUN mkdir -m 0711 /s && chown 7:8 /s && echo x > /s/f\n\
             FROM base AS run\n\
             RUN mkdir -p /home/app/covered /home/app/rooted && chmod 0770 /home/app/covered && \\\n\
                 chown 1000:50 /home/app /home/app/covered\n\
             USER 1000:60\n\
             RUN {} {} {} {} {} {} cd /home/app && touch covered/f made/f && \\\n\
                 stat -c '%a %u:%g %n' covered rooted made open named seeded > /home/app/stat\n\
             FROM scratch\nCOPY --from=run /home/app/stat /\n",
            mount("covered", ""),
            mount("rooted", ""),
            mount("made", ""),
            mount("open", ",mode=0777"),
            mount("named", ",uid=5"),
            mount("seeded", ",from=seed,source=/s"),
        ),
    );
    bake.write("docker-bake.hcl", &definition("").replace("here", "default"));
    let run = || {
        let _ran = bake.run(&["--progress=plain", "--allow=fs=*"]).ok();
        bake.read("out/stat")
    };
    let expected = "770 1000:50 covered\n755 0:0 rooted\n755 1000:60 made\n777 1000:60 open\n755 5:0 named\n\
                    711 7:8 seeded\n";
    assert_eq!(run(), expected);
}
