//! `--load`: an image handed to a container engine: a small one of our own on a socket, and containerd.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::support::{Bake, skipped};

/// What the engine has, and what it was asked.
#[derive(Default)]
pub(crate) struct Engine {
    /// Name to id.
    pub(crate) images: BTreeMap<String, String>,
    pub(crate) asked: Vec<String>,
}

/// Answers on `engine.sock` of the folder until the test ends.
pub(crate) fn engine(bake: &Bake) -> Arc<Mutex<Engine>> {
    let listener = UnixListener::bind(bake.path("engine.sock")).expect("sockets can be made");
    let engine = Arc::new(Mutex::new(Engine::default()));
    let held = engine.clone();
    drop(std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(&stream.expect("connections are taken"), &mut held.lock().expect("no thread panics"));
        }
    }));
    engine
}

/// One request of a connection that is closed after it.
fn answer(stream: &UnixStream, engine: &mut Engine) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        let n = reader.read_line(&mut line).expect("requests are text");
        match line.trim_end() {
            _ if n == 0 => return,
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let length = head.iter().find_map(|it| it.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).expect("the body is as long as it says");
    let request = head[0].trim_end_matches(" HTTP/1.1").to_owned();
    let (status, text) = match request.split_once(' ') {
        Some(("GET", "/_ping")) => ("200 OK", "OK".to_owned()),
        Some(("POST", path)) if path.starts_with("/images/load") => {
            load(&body, engine);
            ("200 OK", "{\"stream\":\"Loaded\"}\n".to_owned())
        }
        Some(("GET", path)) => {
            let name = path.trim_start_matches("/images/").trim_end_matches("/json");
            match engine.images.get(name) {
                Some(id) => ("200 OK", format!("{{\"Id\":\"{id}\"}}")),
                None => ("404 Not Found", "{\"message\":\"no such image\"}".to_owned()),
            }
        }
        _ => ("400 Bad Request", String::new()),
    };
    engine.asked.push(request);
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len());
    // In one piece: who has seen the status may hang up, and then a second piece is a broken pipe.
    let mut stream = stream;
    stream.write_all(answer.as_bytes()).expect("answers are read");
}

/// Takes the images of an archive as `docker load` does.
fn load(archive: &[u8], engine: &mut Engine) {
    let mut archive = tar::Archive::new(archive);
    let manifest = archive.entries().expect("a tar file").find_map(|entry| {
        let entry = entry.expect("a whole tar file");
        let is_it = entry.path().expect("entries have names").as_os_str() == "manifest.json";
        is_it.then(|| serde_json::from_reader::<_, serde_json::Value>(entry).expect("it is JSON"))
    });
    for image in manifest.expect("the archive has a manifest").as_array().expect("a list") {
        let config = image["Config"].as_str().expect("an image has a config");
        let hex = config.rsplit('/').next().expect("a path has a last part").trim_end_matches(".json");
        for name in image["RepoTags"].as_array().expect("an image has names") {
            let name = name.as_str().expect("names are text").to_owned();
            engine.images.insert(name, format!("sha256:{hex}"));
        }
    }
}

#[test]
fn an_engine_is_sent_an_image_once_and_again_when_it_has_lost_it() {
    let bake = Bake::new();
    let engine = engine(&bake);
    bake.write("Dockerfile", "FROM scratch\nCOPY <<EOF /etc/motd\nwelcome\nEOF\n");
    bake.write("docker-bake.hcl", "target \"default\" { tags = [\"app:1\", \"me/app:2\"] }\n");
    let host = format!("unix://{}", bake.path("engine.sock").display());
    let run = || bake.run_with("", &["--load", "--progress=plain"], &[("DOCKER_HOST", &host)]).ok().stderr;
    let n_loads = || {
        let engine = engine.lock().expect("no thread panics");
        engine.asked.iter().filter(|it| it.starts_with("POST ")).count()
    };
    let first = run();
    assert!(first.contains(&format!("wrote {host}")), "{first}");
    assert_eq!(n_loads(), 1);
    let names: Vec<String> = engine.lock().expect("no thread panics").images.keys().cloned().collect();
    assert_eq!(names, ["app:1", "me/app:2"]);
    let second = run();
    assert!(second.contains("nothing to do"), "{second}");
    assert_eq!(n_loads(), 1, "nothing is sent to an engine that has it");
    engine.lock().expect("no thread panics").images.clear();
    let third = run();
    assert!(third.contains(&format!("wrote {host}")), "{third}");
    assert_eq!(n_loads(), 2);
}

#[test]
fn an_engine_that_does_not_answer_is_named() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY <<EOF /x\nx\nEOF\n");
    bake.write("docker-bake.hcl", "target \"default\" {}\n");
    let host = format!("unix://{}", bake.path("none.sock").display());
    let ran = bake.run_with("", &["--load", "--progress=plain"], &[("DOCKER_HOST", &host)]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("no container engine took the image") && ran.stderr.contains("none.sock"), "{ran:#?}");
}

/// A containerd of the test's own, which ends with it.
struct Containerd {
    child: std::process::Child,
    socket: String,
}

impl Containerd {
    /// Starts one below `folder`; `None` where that is not possible, which is told.
    fn start(bake: &Bake) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skipped("containerd needs root", None);
            return None;
        }
        bake.write("containerd.toml", "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n");
        let socket = bake.path("containerd.sock");
        let mut command = Command::new("containerd");
        command.arg("--config").arg(bake.path("containerd.toml")).arg("--address").arg(&socket);
        command.arg("--root").arg(bake.path("containerd-root")).arg("--state").arg(bake.path("containerd-state"));
        let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            skipped("there is no containerd", Some("containerd"));
            return None;
        };
        let started = Self { child, socket: socket.display().to_string() };
        let is_up = |_: &u32| std::thread::sleep(std::time::Duration::from_millis(100));
        let answers = (0..300).inspect(is_up).any(|_| started.ctr(&["version"]).is_ok());
        assert!(answers, "containerd does not start");
        Some(started)
    }

    /// What `ctr` says; its complaint if it fails.
    fn ctr(&self, args: &[&str]) -> Result<String, String> {
        let ran = Command::new("ctr").args(["--address", &self.socket, "--namespace", "tests"]).args(args).output();
        let ran = ran.expect("ctr comes with containerd");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if ran.status.success() { Ok(said(&ran.stdout)) } else { Err(said(&ran.stderr)) }
    }

    /// The file of an image, in the snapshot that its config keeps. (`ctr images mount` would unpack it anew.)
    fn read(&self, image: &str, file: &str) -> String {
        let ctr = |args: &[&str]| self.ctr(args).unwrap_or_else(|error| panic!("ctr {args:?}: {error}"));
        let digest = |of: &str| -> String { of.chars().take(71).collect() };
        let images = ctr(&["images", "ls", &format!("name=={image}")]);
        let manifest =
            images.split_once("sha256:").map(|(_, hex)| digest(&format!("sha256:{hex}"))).expect("it is listed");
        let manifest: serde_json::Value =
            serde_json::from_str(&ctr(&["content", "get", &manifest])).expect("a manifest");
        let config = manifest["config"]["digest"].as_str().expect("it has a config");
        let content = ctr(&["content", "ls"]);
        let kept = content.lines().find(|line| line.starts_with(config)).expect("the config is there");
        let label = "containerd.io/gc.ref.snapshot.native=";
        let chain = kept.split_once(label).map(|(_, chain)| digest(chain)).expect("the image is unpacked");
        let snapshots = |args: &[&str]| ctr(&[&["snapshots", "--snapshotter=native"], args].concat());
        // The view may be collected at once: what it shows is the folder of the snapshot itself.
        let mount = snapshots(&["view", "--target=/mnt", "seen", &chain]);
        let folder = mount.split_whitespace().find(|word| word.contains("/snapshots/")).expect("a folder is bound");
        let content = std::fs::read_to_string(std::path::Path::new(folder).join(file)).expect("the file is there");
        drop(self.ctr(&["snapshots", "--snapshotter=native", "rm", "seen"]));
        content
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM)
            .ok();
        drop(self.child.wait());
    }
}

#[test]
fn containerd_is_sent_what_it_lacks_and_can_run_it() {
    let bake = Bake::new();
    let Some(containerd) = Containerd::start(&bake) else { return };
    // The snapshotter is one that works on every file system.
    let env = [
        ("CONTAINERD_ADDRESS", containerd.socket.as_str()),
        ("CONTAINERD_NAMESPACE", "tests"),
        ("CONTAINERD_SNAPSHOTTER", "native"),
    ];
    bake.write("Dockerfile", "FROM scratch\nCOPY below /below\nCOPY above /above\n");
    // Letters that do not compress to less than some KiB.
    let letters = std::iter::successors(Some(1_u32), |n| Some(n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)));
    let letter = |n: u32| char::from(b'a' + u8::try_from((n >> 16) % 26).expect("a letter"));
    bake.write("below", &letters.take(50_000).map(letter).collect::<String>());
    bake.write("above", "first");
    bake.write("docker-bake.hcl", "target \"default\" { tags = [\"app:1\", \"me/app:2\"] }\n");
    let run = |args: &[&str]| bake.run_with("", &[&["--load", "--progress=plain"], args].concat(), &env);

    let first = run(&[]).ok();
    assert!(first.stderr.contains("wrote containerd at "), "{first:#?}");
    for name in ["docker.io/library/app:1", "docker.io/me/app:2"] {
        assert_eq!(containerd.read(name, "above"), "first");
        let checked = containerd.ctr(&["images", "check", &format!("name=={name}")]).expect("it is asked");
        assert!(checked.contains("complete (3/3)"), "{checked}");
    }
    let again = run(&[]).ok();
    assert!(again.stderr.contains("nothing to do"), "{again:#?}");

    // Another top layer: the one below is not sent again. Several platforms make an index.
    bake.write("above", "second");
    assert!(first.stderr.contains(" KiB)"), "{first:#?}");
    let ran = run(&[]).ok();
    assert!(!ran.stderr.contains(" KiB)"), "{ran:#?}");
    assert_eq!(containerd.read("docker.io/library/app:1", "above"), "second");
    run(&["--set=*.platform=linux/amd64,linux/arm64"]).ok();
    let checked = containerd.ctr(&["images", "ls", "name==docker.io/library/app:1"]).expect("it is asked");
    assert!(checked.contains("linux/amd64,linux/arm64"), "{checked}");

    // A release sends what it has staged; nothing is kept of an image without a name.
    bake.write("above", "third");
    run(&["--execution=defer-output"]).ok();
    assert_eq!(containerd.read("docker.io/library/app:1", "above"), "third");
    let unnamed = run(&["--set=*.tags="]);
    assert_eq!(unnamed.code, Some(1));
    assert!(unnamed.stderr.contains("give the target a tag"), "{unnamed:#?}");
    assert_eq!(containerd.ctr(&["leases", "ls", "-q"]).expect("it is asked"), "", "no lease stays");
}
