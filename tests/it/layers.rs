//! What stands in the layers of an image: which entries, with which times, owners and modes.

use std::{fs, io::Read as _, path::Path};

use serde_json::Value;

use crate::support::{Bake, base_layout};

/// An entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: String,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
}

/// A folder with a Dockerfile whose image goes to the archive `image.tar`, uncompressed.
fn project(bake: &Bake, dockerfile: &str) {
    bake.write("Dockerfile", dockerfile);
    let layout = base_layout().display();
    let output = "output = [\"type=oci,dest=image.tar,compression=uncompressed\"]";
    bake.write(
        "docker-bake.hcl",
        &format!("target \"default\" {{\n  contexts = {{ base = \"oci-layout://{layout}\" }}\n  {output}\n}}\n"),
    );
}

fn build(bake: &Bake) {
    let _ran = bake.run(&["--progress=plain", "--allow", "fs.read=*"]).ok();
}

/// Builds one stage, the last one if it is empty, into a folder.
fn build_to(bake: &Bake, folder: &str, stage: &str) {
    let output = format!("default.output=type=local,dest={folder}");
    let stage = format!("default.target={stage}");
    let _ran = bake.run(&["--progress=plain", "--allow", "fs=*", "--set", &output, "--set", &stage]).ok();
}

/// The members of each layer of the archive `image.tar`, the lowest first.
fn layers(bake: &Bake) -> Vec<Vec<Member>> {
    let blobs: std::collections::HashMap<String, Vec<u8>> =
        crate::support::tar_entries(&bake.path("image.tar")).into_iter().collect();
    let json = |name: &str| -> Value { serde_json::from_slice(&blobs[name]).expect("JSON") };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().expect("a descriptor has a digest");
        format!("blobs/{}", digest.replace(':', "/"))
    };
    let mut manifest = json(&blob(&json("index.json")["manifests"][0]));
    if manifest["manifests"].is_array() {
        manifest = json(&blob(&manifest["manifests"][0]));
    }
    let layers = manifest["layers"].as_array().expect("an image has layers").iter();
    layers.map(|layer| members(&blobs[&blob(layer)])).collect()
}

fn members(layer: &[u8]) -> Vec<Member> {
    let mut plain = Vec::new();
    // Layers of the base stay as they are, compressed.
    let bytes = match layer.starts_with(&[0x1f, 0x8b]) {
        true => {
            let _n = flate2::read::MultiGzDecoder::new(layer).read_to_end(&mut plain).expect("gzip");
            &plain[..]
        }
        false => layer,
    };
    let mut archive = tar::Archive::new(bytes);
    let member = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let entry = entry.expect("a whole tar file");
        let header = entry.header();
        Member {
            name: entry.path().expect("entries have names").to_string_lossy().into_owned(),
            mode: header.mode().expect("a mode"),
            owner: (header.uid().expect("a number"), header.gid().expect("a number")),
            mtime: header.mtime().expect("a time"),
        }
    };
    archive.entries().expect("a tar file").map(member).collect()
}

/// `NAME@TIME` of each entry.
fn times(layer: &[Member]) -> Vec<String> {
    layer.iter().map(|member| format!("{}@{}", member.name, member.mtime)).collect()
}

fn set_time(path: &Path, seconds: u64) {
    let file = fs::File::open(path).expect("the file is there");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    file.set_modified(time).expect("it is ours");
}

#[test]
fn directories_of_the_base_keep_their_time_and_those_that_are_implied_have_one_of_every_build() {
    let bake = Bake::new();
    project(
        &bake,
        "FROM base\n\
         RUN mkdir -p /usr/local/share && touch -d '2001-02-03 00:00:00' /usr/local/share /usr/local /usr\n\
         WORKDIR /usr/local/app\n\
         COPY f /usr/local/share/x/y/f\n\
         COPY f /usr/local/share/x/y/f\n\
         COPY tree /usr/local/share\n",
    );
    bake.write("f", "content");
    set_time(&bake.path("f"), 1_500_000_000);
    bake.write("tree/new/f", "content");
    bake.write("tree/x/g", "content");
    for path in ["tree/new/f", "tree/new", "tree/x/g", "tree/x", "tree"] {
        set_time(&bake.path(path), 1_600_000_000);
    }
    build(&bake);
    let layers = layers(&bake);
    let [.., workdir, copy, again, tree] = &layers[..] else { panic!("{layers:?}") };
    // 981158400 is the time of the base, 318211200 the first of February 1980.
    assert_eq!(times(workdir), ["usr/@981158400", "usr/local/@981158401", "usr/local/app/@318211200"]);
    let below_share = ["usr/@981158400", "usr/local/@981158401", "usr/local/share/@981158401"];
    let copied = [&below_share[..], &["usr/local/share/x/@318211200", "usr/local/share/x/y/@318211200"]].concat();
    assert_eq!(times(copy), [&copied[..], &["usr/local/share/x/y/f@1500000000"]].concat());
    // The file has the same time, so the directory is all that could have changed.
    assert_eq!(times(again), [] as [&str; 0]);
    let tree_in_share = ["usr/@981158400", "usr/local/@981158401", "usr/local/share/@981158402"];
    let entries = ["new/@1600000000", "new/f@1600000000", "x/@1600000000", "x/g@1600000000"];
    let entries = entries.map(|entry| format!("usr/local/share/{entry}"));
    assert_eq!(times(tree), [&tree_in_share.map(str::to_owned)[..], &entries[..]].concat());
}

#[test]
fn copy_with_link_keeps_mode_and_owner_of_the_directories_on_its_way() {
    let bake = Bake::new();
    let shown = "stat -c '%a %u %n' /tmp /var /var/lib /var/lib/clamav /new /new/dir /tmp/f /lnk";
    project(
        &bake,
        &format!(
            "FROM base AS b\n\
             RUN mkdir -p /var/lib /tmp && chmod 0711 /var/lib && chmod 1777 /tmp && chown 7 /var && ln -s tmp /lnk\n\
             FROM b AS kept\n\
             COPY --link f /tmp/\n\
             COPY --link --chown=200 f g /var/lib/clamav/\n\
             COPY --link --chown=200:root f /new/dir/f\n\
             COPY --link f /lnk/f\n\
             RUN {shown} > /stat && cat /var/lib/clamav/* /new/dir/f\n\
             FROM base AS same\n\
             RUN mkdir -p /data && touch -d '2001-02-03 00:00:00' /data\n\
             COPY --link f /data/\n"
        ),
    );
    bake.write("f", "content");
    bake.write("g", "content");
    build_to(&bake, "out", "kept");
    let stat = bake.read("out/stat");
    let expected = "1777 0 /tmp\n755 7 /var\n711 0 /var/lib\n755 200 /var/lib/clamav\n755 200 /new\n755 200 /new/dir\n\
                    644 0 /tmp/f\n755 0 /lnk\n";
    assert_eq!(stat, expected);
    assert!(bake.path("out/lnk/f").exists() && fs::metadata(bake.path("out/lnk")).expect("it is there").is_dir());
    // Below the copy nothing differs, so its layer does not depend on what is there.
    build(&bake);
    let layers = layers(&bake);
    let top = layers.last().expect("an image has layers");
    assert_eq!(
        top.iter().map(|member| (&*member.name, member.mode)).collect::<Vec<_>>(),
        [("data/", 0o755), ("data/f", 0o644)]
    );
    assert_eq!(top[0].mtime, 318_211_200);
}

#[test]
fn a_layer_of_copy_with_link_is_the_same_above_all_bases_with_the_same_directories() {
    let bake = Bake::new();
    let dockerfile =
        |more: &str| format!("FROM base\nRUN mkdir -p /d && chmod 0700 /d && {more}\nCOPY --link f /d/e/\n");
    bake.write("f", "content");
    let mut tops = Vec::new();
    for more in ["touch /one", "touch /two", "chmod 0750 /d"] {
        project(&bake, &dockerfile(more));
        build(&bake);
        tops.push(layers(&bake).pop().expect("an image has layers"));
    }
    assert_eq!(tops[0], tops[1]);
    let modes = |layer: &[Member]| layer.iter().map(|member| (member.name.clone(), member.mode)).collect::<Vec<_>>();
    let expected = |d: u32| [("d/", d), ("d/e/", 0o755), ("d/e/f", 0o644)].map(|(name, mode)| (name.to_owned(), mode));
    assert_eq!((modes(&tops[0]), modes(&tops[2])), (expected(0o700).to_vec(), expected(0o750).to_vec()));
}

#[test]
fn copy_with_link_takes_no_names_of_owners() {
    let bake = Bake::new();
    project(&bake, "FROM base\nCOPY --link --chown=app:staff f /f\n");
    bake.write("f", "content");
    for args in [&["check"][..], &["--progress=plain", "--allow", "fs.read=*"]] {
        let ran = bake.run(args);
        let told = ran.stderr.contains("`--link` cannot look up a name")
            || ran.stdout.contains("`--link` cannot look up a name");
        assert!(ran.code == Some(1) && told, "{ran:?}");
    }
}

/// A rename of a directory of a layer below is one by the kernel, seen by the number of its inode, and the layer holds all
/// that it moved.
#[test]
fn a_directory_of_the_base_is_renamed_and_stands_whole_in_the_layer() {
    let bake = Bake::new();
    project(
        &bake,
        "FROM base AS made\n\
         RUN mkdir -p /a/sub/deep /a/gone /a/dir /x/empty /keep && echo one > /a/sub/deep/f && echo two > /a/f && \
             ln -s f /a/link && ln /a/f /a/hard && mkfifo /a/fifo && echo k > /a/dir/k && \
             chown 5:6 /a/sub && chmod 0750 /a/sub/deep && \
             touch -d '2001-02-03 00:00:00' /a/sub/deep/f /a/f /a/sub/deep /a/sub /a/gone /a/dir /a\n\
         FROM made AS moved\n\
         RUN stat -c %i /a /x > /before && echo more >> /a/sub/more && rm /a/gone -r && mv /a/dir /a/other && mv /a /b && \
             mv /x /x2 && mv /x2 /x && mv /b/sub /keep/sub && stat -c %i /b /x > /after && cat /after && \
             cmp /before /after && mkdir /a && echo new > /a/new\n\
         FROM moved\n\
         RUN mv /b /c && cat /c/f /c/other/k /keep/sub/deep/f > /read\n",
    );
    build_to(&bake, "out", "");
    let tree = |path: &str| {
        let mut names: Vec<_> = fs::read_dir(bake.path(&format!("out/{path}")))
            .expect("it is there")
            .map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(bake.read("out/read"), "two\nk\none\n");
    assert_eq!((tree("c"), tree("c/other"), tree("a")), ("f fifo hard link other".into(), "k".into(), "new".into()));
    assert_eq!((tree("keep/sub"), tree("keep/sub/deep"), tree("x")), ("deep more".into(), "f".into(), "empty".into()));
    assert!(!bake.path("out/b").exists());
    build(&bake);
    let layers = layers(&bake);
    let [.., moved, again] = &layers[..] else { panic!("{layers:?}") };
    let shown = |layer: &[Member]| layer.iter().map(|member| member.name.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(
        shown(moved),
        "a/ a/.wh.dir a/.wh.f a/.wh.fifo a/.wh.gone a/.wh.hard a/.wh.link a/new a/.wh.sub after b/ b/f b/fifo b/hard b/link \
         b/other/ b/other/k before keep/ keep/sub/ keep/sub/deep/ keep/sub/deep/f keep/sub/more"
    );
    let member = |name: &str| moved.iter().find(|member| member.name == name).expect("it is in the layer");
    assert_eq!((member("keep/sub/").owner, member("keep/sub/deep/").mode), ((5, 6), 0o750));
    for name in ["keep/sub/deep/", "keep/sub/deep/f", "b/f", "b/other/"] {
        assert_eq!(member(name).mtime, 981_158_400, "{name}");
    }
    assert_eq!(shown(again), ".wh.b c/ c/f c/fifo c/hard c/link c/other/ c/other/k read");
}
