#!/usr/bin/env python3
"""Kill `--execution=defer-output` at random moments; nothing may ever be torn, and the next run must end it.

    release.py --bake 'target/release/bake' [-n 100] [--seed 1] [-v]

One release has six targets: a tar, an OCI archive, two folders that exist and hold files of others, and two images that
are pushed under three tags to a real registry (Debian's `docker-registry`). Each round releases a new version, is killed
with SIGKILL at a random moment, and then:
  - each archive, file and tag is the old or the new one, whole; files of others are untouched,
  - if some are new and some old, there is a journal in the state directory,
  - the next run, which builds something else, ends it: all old or, if there was a journal, all new; the journal is gone,
  - the same release, run to its end, gives all new, and nothing of ours is left beside the outputs.
"""
import argparse, json, os, random, socket, subprocess, sys, tarfile, time, urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib

FILES = 40          # in each folder
PADDING = 300_000   # bytes of an archive
TAGS = ["one:a", "one:b", "two:a"]

BAKE = """
variable "VERSION" { default = "0" }
variable "REGISTRY" { default = "" }
group "default" {
  targets = ["tar", "oci", "site", "docs", "one", "two"]
  release = "defer-output"
}
target "base" {
  args   = { VERSION = VERSION }
  labels = { version = VERSION }
}
target "tar" {
  inherits = ["base"]
  target   = "archive"
  output   = ["type=tar,dest=out/a.tar"]
}
target "oci" {
  inherits = ["base"]
  target   = "archive"
  output   = ["type=oci,dest=out/b.oci.tar"]
}
target "site" {
  inherits = ["base"]
  target   = "folder"
  output   = ["type=local,dest=out/site"]
}
target "docs" {
  inherits = ["base"]
  target   = "folder"
  output   = ["type=local,dest=out/docs"]
}
target "one" {
  inherits = ["base"]
  target   = "archive"
  tags     = ["${REGISTRY}/one:a", "${REGISTRY}/one:b"]
  output   = ["type=registry"]
}
target "two" {
  inherits = ["base"]
  target   = "folder"
  tags     = ["${REGISTRY}/two:a"]
  output   = ["type=registry"]
}
target "other" {
  dockerfile-inline = "FROM scratch\\nCOPY README /\\n"
  output            = ["type=local,dest=out/other"]
}
"""


class Registry:
    def __init__(self, root):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.host = "127.0.0.1:%d" % s.getsockname()[1]
        config = os.path.join(root, "registry.yml")
        with open(config, "w") as f:
            f.write(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}/registry}}}}\n"
                    f"http: {{addr: '{self.host}'}}\nlog: {{level: error}}\n")
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(self.host.split(":"), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def get(self, path):
        accept = ", ".join([lib.MANIFEST, lib.INDEX])
        request = urllib.request.Request(f"http://{self.host}/v2/{path}", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    def version(self, tag):
        """The version under a tag; every blob of it must be there."""
        repository, tag = tag.split(":")
        manifest = json.loads(self.get(f"{repository}/manifests/{tag}"))
        if "manifests" in manifest:
            manifest = json.loads(self.get(f"{repository}/manifests/{manifest['manifests'][0]['digest']}"))
        for blob in manifest["layers"] + [manifest["config"]]:
            data = self.get(f"{repository}/blobs/{blob['digest']}")
            if lib.sha(data) != blob["digest"]:
                raise ValueError(f"blob {blob['digest']} is damaged")
        config = json.loads(self.get(f"{repository}/blobs/{manifest['config']['digest']}"))
        return config["config"]["Labels"]["version"]

    def close(self):
        self.process.kill()
        self.process.wait()


class World:
    def __init__(self, root, bake):
        self.root, self.work, self.state = root, os.path.join(root, "work"), os.path.join(root, "state")
        os.makedirs(self.work)
        os.makedirs(self.state)
        self.registry = Registry(root)
        self.env = lib.clean_env(self.state)
        self.cmd = lib.split(bake) + ["--progress=plain", "--var", f"REGISTRY={self.registry.host}"]
        self.write("docker-bake.hcl", BAKE)
        self.write("README", "something else\n")
        for folder in ("site", "docs"):
            self.write(f"out/{folder}/theirs", "not ours")
            self.write(f"out/{folder}/dir0/theirs", "not ours")

    def write(self, name, text):
        path = os.path.join(self.work, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def names(self):
        return [f"dir{k % 4}/f{k}" for k in range(FILES)]

    def prepare(self, version):
        """The sources of a version."""
        for name in self.names():
            self.write(f"tree/{name}", f"version {version} of {name}")
        self.write("big", f"version {version} " * (PADDING // 12))
        self.write("Dockerfile", "FROM scratch AS folder\nARG VERSION\nCOPY tree /\n"
                                 "FROM scratch AS archive\nARG VERSION\nCOPY big /\nCOPY tree /tree\n")

    def argv(self, version, *targets):
        return self.cmd + ["--var", f"VERSION={version}", *targets]

    def run(self, version, *targets):
        return lib.run(self.argv(version, *targets), self.work, self.env, 120)

    def journals(self):
        folder = os.path.join(self.state, "bake-home", "v1", "journals")
        return os.listdir(folder) if os.path.isdir(folder) else []

    def look(self):
        """The version of everything that is visible; raises where something is torn."""
        found = {}
        with tarfile.open(os.path.join(self.work, "out/a.tar")) as archive:
            texts = {m.name.strip("/"): archive.extractfile(m).read().decode() for m in archive if m.isfile()}
        versions = {text.split()[1] for text in texts.values()}
        if len(versions) != 1 or len(texts) != FILES + 1:
            raise ValueError(f"a.tar holds {len(texts)} files of the versions {versions}")
        found["a.tar"] = versions.pop()
        with tarfile.open(os.path.join(self.work, "out/b.oci.tar")) as archive:
            blobs = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}
        for name, data in blobs.items():
            if name.startswith("blobs/") and lib.sha(data) != "sha256:" + name.rsplit("/", 1)[1]:
                raise ValueError(f"b.oci.tar: {name} is damaged")
        blob = lambda digest: json.loads(blobs["blobs/" + digest.replace(":", "/")])
        manifest = blob(json.loads(blobs["index.json"])["manifests"][0]["digest"])
        if "manifests" in manifest:
            manifest = blob(manifest["manifests"][0]["digest"])
        found["b.oci.tar"] = blob(manifest["config"]["digest"])["config"]["Labels"]["version"]
        for folder in ("site", "docs"):
            for theirs in ("theirs", "dir0/theirs"):
                with open(os.path.join(self.work, "out", folder, theirs)) as f:
                    if f.read() != "not ours":
                        raise ValueError(f"{folder}/{theirs} was touched")
            for name in self.names():
                with open(os.path.join(self.work, "out", folder, name)) as f:
                    text = f.read()
                version = text.split()[1] if text.startswith("version ") else None
                if text != f"version {version} of {name}":
                    raise ValueError(f"{folder}/{name} is torn: {text!r}")
                found[f"{folder}/{name}"] = version
        for tag in TAGS:
            found[tag] = self.registry.version(tag)
        return found

    def left_over(self):
        return [os.path.join(d, n) for d, dirs, files in os.walk(os.path.join(self.work, "out"))
                for n in dirs + files if ".bake-" in n]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--bake", required=True)
    ap.add_argument("-n", "--rounds", type=int, default=100)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("-v", "--verbose", action="store_true")
    args = ap.parse_args()
    rng = random.Random(args.seed)
    root = lib.tmpdir("release-")
    tally = lib.Tally(args.verbose)
    world = World(root, args.bake)
    try:
        world.prepare(0)
        first = world.run(0)
        if first.rc != 0 or set(world.look().values()) != {"0"}:
            sys.exit("the release does not work even without a crash:\n" + first.text[-3000:])
        world.prepare(1)
        usual = world.run(1).secs
        print(f"a release takes {usual:.2f} s")
        now, seen = "1", {"old": 0, "mixed": 0, "new": 0}
        for k in range(args.rounds):
            version, problems = str(k + 2), []
            world.prepare(version)
            # What can be half out is out within milliseconds: every second kill comes soon after the journal appears.
            is_late = k % 2 == 1
            delay = rng.random() ** 2 * 0.15 if is_late else usual * 1.1 * rng.random()
            process = subprocess.Popen(world.argv(version), cwd=world.work, env=world.env, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                                       preexec_fn=lib.fresh_signals)
            while is_late and process.poll() is None and not world.journals():
                time.sleep(0.0005)
            time.sleep(delay)
            ended = process.poll() is not None
            lib.kill_session(process.pid)
            process.wait()
            try:
                found, journals = world.look(), world.journals()
                kinds = set(found.values())
                if not kinds <= {now, version}:
                    problems.append(("wrong", f"versions {kinds}, old is {now}, new is {version}"))
                mixed = len(kinds) > 1
                seen["mixed" if mixed else "new" if kinds == {version} else "old"] += 1
                if mixed and not journals:
                    problems.append(("unnamed", "some are new and some old, and no journal says so"))
                if ended and (journals or kinds != {version}):
                    problems.append(("unfinished", f"it had ended: {kinds}, journals {journals}"))
                other = world.run(version, "other")
                if other.rc != 0:
                    problems.append(("next-run", other.text[-500:]))
                after = set(world.look().values())
                if len(after) > 1 or (journals or mixed) and after != {version} or world.journals():
                    problems.append(("not-ended", f"{after} after the next run, journals {world.journals()}: {other.text[-500:]}"))
                whole = world.run(version)
                if whole.rc != 0 or set(world.look().values()) != {version}:
                    problems.append(("release", whole.text[-500:]))
                if world.left_over():
                    problems.append(("left-over", str(world.left_over()[:3])))
            except (OSError, ValueError, KeyError, tarfile.TarError) as error:
                problems.append(("torn", f"{type(error).__name__}: {error}"))
                world.run(version)
            now = version
            tally.add(f"round {k} KILL@{'journal+' if is_late else ''}{delay:.3f}", problems)
        print(f"after the kill: {seen['old']} all old, {seen['mixed']} mixed, {seen['new']} all new")
    finally:
        world.registry.close()
        lib.remove(root)
    tally.finish()


if __name__ == "__main__":
    main()
