#!/usr/bin/env python3
"""`bake affected` in a monorepo of 1,000 targets and 100,000 files, against its time limit.

    affected.py --bake 'target/release/bake' [--targets N] [--files N] [--limit SECONDS] [--slow X]

Changes of several kinds are made, each is asked about five times, and the fastest answer counts. The answer must name
exactly the targets that the change affects. The figures are for a release binary and two cores that nobody else uses.
"""
import argparse, json, os, shlex, shutil, subprocess, sys, tempfile, time

SHARED = 20


def make(root, n_targets, n_files):
    per_target = max(1, (n_files * 9 // 10) // n_targets)
    definition = []
    for i in range(n_targets):
        folder = f"{root}/services/s{i:04d}"
        os.makedirs(f"{folder}/src/deep")
        for j in range(per_target):
            with open(f"{folder}/src/{'deep/' if j % 2 else ''}f{j}.txt", "w") as file:
                file.write(f"{i} {j}\n")
        with open(f"{folder}/Dockerfile", "w") as file:
            file.write(
                f"FROM scratch\nCOPY shared/lib{i % SHARED} /lib\nCOPY services/s{i:04d}/src /src\nCOPY *.json /\n"
            )
        definition.append(
            f'target "s{i:04d}" {{\n  dockerfile = "services/s{i:04d}/Dockerfile"\n  args = {{ N = "{i}" }}\n}}\n'
        )
    for k in range(SHARED):
        os.makedirs(f"{root}/shared/lib{k}")
        for j in range(n_files // 10 // SHARED):
            with open(f"{root}/shared/lib{k}/g{j}.txt", "w") as file:
                file.write(f"{j}\n")
    with open(f"{root}/package.json", "w") as file:
        file.write("{}\n")
    with open(f"{root}/.dockerignore", "w") as file:
        file.write(".git\n**/*.md\nservices/*/Dockerfile\n")
    with open(f"{root}/docker-bake.hcl", "w") as file:
        file.write("\n".join(definition))


def append(path, text="x\n"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a") as file:
        file.write(text)


def replace(path, old, new):
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace(old, new))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bake", required=True)
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--limit", type=float, default=0.5)
    parser.add_argument("--slow", type=float, default=1.0)
    args = parser.parse_args()
    bake = shlex.split(args.bake)
    bake[0] = os.path.abspath(bake[0]) if os.path.exists(bake[0]) else bake[0]
    root = tempfile.mkdtemp(prefix="affected-", dir=os.environ.get("TORTURE_TMP"))
    env = {"PATH": os.environ["PATH"], "HOME": root + "/.git", "NO_COLOR": "1", "LC_ALL": "C"}

    def git(*words):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=root, check=True, env=env)

    make(root, args.targets, args.files)
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "one")
    names = [f"s{i:04d}" for i in range(args.targets)]
    some = names[args.targets // 2]

    def everywhere():
        for name in names:
            append(f"{root}/services/{name}/notes.txt")

    cases = [
        ("nothing", lambda: None, []),
        ("one file", lambda: append(f"{root}/services/{some}/src/f0.txt"), [some]),
        ("a shared file", lambda: append(f"{root}/shared/lib3/g1.txt"), names[3::SHARED]),
        ("a file that all read", lambda: append(f"{root}/package.json"), names),
        ("an ignored file for each target", lambda: [append(f"{root}/services/{n}/a.md") for n in names], []),
        ("an unread file for each target", everywhere, []),
        ("a build argument", lambda: replace(f"{root}/docker-bake.hcl", 'N = "7"', 'N = "seven"'), [names[7]]),
        ("a Dockerfile", lambda: append(f"{root}/services/{some}/Dockerfile", "LABEL a=b\n"), [some]),
        ("the ignore file", lambda: append(f"{root}/.dockerignore", "*.tmp\n"), names),
    ]
    failed = 0
    for title, change, expected in cases:
        change()
        times, found = [], None
        for _ in range(5):
            start = time.monotonic()
            ran = subprocess.run([*bake, "affected", "--since=HEAD", "--format=json"], cwd=root, env=env, capture_output=True)
            times.append(time.monotonic() - start)
            found = [it["target"] for it in json.loads(ran.stdout)["targets"]] if ran.returncode == 0 else ran.stderr
        is_right, is_fast = found == expected, min(times) <= args.limit * args.slow
        failed += not (is_right and is_fast)
        verdict = "ok" if is_right and is_fast else "WRONG" if not is_right else "SLOW"
        print(f"{verdict:5} {min(times):.3f} s (slowest {max(times):.3f})  {title}: {len(expected)} of {len(names)}")
        if not is_right:
            print(f"      answered {len(found)}: {found[:5]}")
        git("checkout", "-q", ".")
        git("clean", "-fdq")
    shutil.rmtree(root)
    print(f"{len(cases) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
