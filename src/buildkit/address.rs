//! The address of a node, as `--builder` and the files of builders write it, parsed once. Connecting is `connect`'s affair.
//!
//! | address | reached by |
//! | --- | --- |
//! | `unix:///SOCKET` | that socket |
//! | `tcp://HOST:PORT?cacert=&cert=&key=&servername=` | TCP, with TLS as soon as one of these is given |
//! | `docker-container://NAME?context=` | `buildctl dial-stdio` in a container |
//! | `docker://[CONTEXT]` | the BuildKit in a Docker daemon |
//! | `ssh://[USER@]HOST[:PORT][/SOCKET]` | `buildctl dial-stdio` on another machine |
//! | `kube-pod://POD?context=&namespace=&container=` | `buildctl dial-stdio` in a pod |
//!
//! All take `platform=`, which names the platforms that the node is for.

use std::{borrow::Cow, fmt, path::PathBuf};

use url::Url;

use crate::{oci::Platform, report::suggest, spec::OptionFault};

/// The schemes that there are.
pub(crate) const SCHEMES: [&str; 6] = ["unix", "tcp", "docker-container", "docker", "ssh", "kube-pod"];

/// Where a node is and how it is reached. Its text shows no secret: files with keys are named, not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeAddress {
    Unix(PathBuf),
    Tcp {
        /// Without brackets.
        host: String,
        port: u16,
        tls: Option<TlsFiles>,
    },
    DockerContainer {
        name: String,
        /// The Docker context, or the address of a Docker daemon; `None` is what the environment or Docker's configuration
        /// chooses.
        context: Option<String>,
    },
    Docker {
        context: Option<String>,
    },
    Ssh(SshPlace),
    KubePod(PodPlace),
}

/// Files that decide whom to trust and who we are; absolute, or relative to the working directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Certificates of authorities; the system's if there are none.
    pub(crate) cacert: Option<PathBuf>,
    /// Our certificate.
    pub(crate) cert: Option<PathBuf>,
    /// The key of our certificate.
    pub(crate) key: Option<PathBuf>,
    /// The name that the certificate of the node must have; the host if there is none.
    pub(crate) servername: Option<String>,
    /// Any certificate is good: a Docker context that skips the check.
    pub(crate) is_unverified: bool,
}

/// Another machine, and where its daemon listens. No part begins with a dash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SshPlace {
    pub(crate) user: Option<String>,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// A socket that is not the usual one there.
    pub(crate) socket: Option<String>,
}

/// A container of a pod. No part begins with a dash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodPlace {
    pub(crate) pod: String,
    pub(crate) context: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) container: Option<String>,
    /// The file that says where the cluster is; `None` is kubectl's choice.
    pub(crate) kubeconfig: Option<String>,
}

/// An address, and the platforms that its text names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlacedAddress {
    pub(crate) address: NodeAddress,
    pub(crate) platforms: Vec<Platform>,
}

impl PlacedAddress {
    /// Reads an address with its options.
    ///
    /// # Errors
    /// What is wrong with the text, and what to write.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        let Some((scheme, rest)) = text.split_once("://") else {
            let fault = OptionFault::new(format!("not the address of a node: {text}"));
            return Err(fault.help("write a URL, as in tcp://HOST:1234 or unix:///run/buildkit/buildkitd.sock"));
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut options = AddressOptions::read(text, scheme, query)?;
        let address = match scheme {
            "unix" => unix(text, place)?,
            "tcp" => tcp(text, place, &mut options)?,
            "docker-container" => NodeAddress::DockerContainer {
                name: named(text, "container", place)?,
                context: options.take("context"),
            },
            "docker" => NodeAddress::Docker {
                context: Some(place.trim_end_matches('/').to_owned()).filter(|name| !name.is_empty()),
            },
            "ssh" => NodeAddress::Ssh(SshPlace::parse(text)?),
            "kube-pod" => NodeAddress::KubePod(PodPlace {
                pod: named(text, "pod", place)?,
                context: options.take("context"),
                namespace: options.take("namespace"),
                container: options.take("container"),
                kubeconfig: None,
            }),
            _ => return Err(unknown_scheme(text, scheme)),
        };
        Ok(Self { address, platforms: options.platforms })
    }
}

impl NodeAddress {
    /// A container of a Docker daemon; `None` if no container can have this name.
    pub(crate) fn container(name: &str, context: Option<String>) -> Option<Self> {
        is_name(name).then(|| Self::DockerContainer { name: name.to_owned(), context })
    }
}

impl SshPlace {
    /// Reads `ssh://[USER@]HOST[:PORT][/SOCKET]`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        let url = Url::parse(text).map_err(|error| bad_url(text, &error))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| names_no(text, "host"))?;
        if url.password().is_some() {
            // Not the text: the password is in it.
            let fault = OptionFault::new(format!("an address has no place for a password: ssh://…@{host}"));
            return Err(fault.help("give the key to ssh-agent, or name it in ~/.ssh/config"));
        }
        // What begins with a dash would be taken for an option of ssh.
        if host.starts_with('-') || url.username().starts_with('-') {
            return Err(OptionFault::new(format!("a host or a user does not begin with a dash: {text}")));
        }
        Ok(Self {
            user: Some(decoded(url.username())).filter(|user| !user.is_empty()),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port(),
            socket: Some(decoded(url.path())).filter(|path| path.len() > 1),
        })
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "tcp://{host}:{port}"),
            Self::DockerContainer { name, context: None } => write!(f, "docker-container://{name}"),
            Self::DockerContainer { name, context: Some(context) } => {
                write!(f, "docker-container://{name}?context={context}")
            }
            Self::Docker { context } => write!(f, "docker://{}", context.as_deref().unwrap_or_default()),
            Self::Ssh(place) => write!(f, "{place}"),
            Self::KubePod(PodPlace { pod, context, namespace, container, kubeconfig: _ }) => {
                write!(f, "kube-pod://{pod}")?;
                let options = [("context", context), ("namespace", namespace), ("container", container)];
                let given = options.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
                given
                    .zip(std::iter::once('?').chain(std::iter::repeat('&')))
                    .try_for_each(|((name, value), mark)| write!(f, "{mark}{name}={value}"))
            }
        }
    }
}

impl fmt::Display for SshPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, socket } = self;
        write!(f, "ssh://")?;
        user.iter().try_for_each(|user| write!(f, "{user}@"))?;
        if host.contains(':') {
            write!(f, "[{host}]")?;
        } else {
            write!(f, "{host}")?;
        }
        port.iter().try_for_each(|port| write!(f, ":{port}"))?;
        socket.iter().try_for_each(|socket| write!(f, "{socket}"))
    }
}

/// What stands after `?`.
struct AddressOptions {
    platforms: Vec<Platform>,
    pairs: Vec<(String, String)>,
}

impl AddressOptions {
    fn read(text: &str, scheme: &str, query: &str) -> Result<Self, OptionFault> {
        let known: &[&str] = match scheme {
            "tcp" => &["cacert", "cert", "key", "servername", "platform"],
            "docker-container" => &["context", "platform"],
            "kube-pod" => &["context", "namespace", "container", "platform"],
            _ => &["platform"],
        };
        let (mut platforms, mut pairs) = (Vec::new(), Vec::new());
        for (name, value) in
            url::form_urlencoded::parse(query.as_bytes()).map(|(n, v)| (n.into_owned(), v.into_owned()))
        {
            if !known.contains(&name.as_str()) {
                let mut fault = OptionFault::new(format!("`{scheme}://` has no option `{name}`: {text}"));
                fault.help = Some(
                    suggest::did_you_mean(&name, known.iter().copied())
                        .unwrap_or_else(|| format!("known: {}", known.join(", "))),
                );
                return Err(fault);
            }
            if value.is_empty() || value.starts_with('-') {
                return Err(OptionFault::new(format!("`{name}` has no value that can be used: {text}")));
            }
            if name == "platform" {
                for one in value.split(',').map(str::trim).filter(|one| !one.is_empty()) {
                    let bad =
                        |_| OptionFault::new(format!("not a platform: {one}")).help("write OS/ARCH, as in linux/arm64");
                    platforms.push(Platform::parse(one).map_err(bad)?);
                }
            } else {
                pairs.push((name, value));
            }
        }
        Ok(Self { platforms, pairs })
    }

    /// The last value under a name.
    fn take(&mut self, name: &str) -> Option<String> {
        self.pairs.iter_mut().rev().find(|(key, _)| key == name).map(|(_, value)| std::mem::take(value))
    }
}

fn unix(text: &str, place: &str) -> Result<NodeAddress, OptionFault> {
    if !place.starts_with('/') {
        let fault = OptionFault::new(format!("the path of a socket is absolute: {text}"));
        return Err(fault.help(format!("write unix:///{}", place.trim_start_matches("./"))));
    }
    Ok(NodeAddress::Unix(PathBuf::from(place)))
}

fn tcp(text: &str, place: &str, options: &mut AddressOptions) -> Result<NodeAddress, OptionFault> {
    let url = Url::parse(&format!("tcp://{place}")).map_err(|error| bad_url(text, &error))?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| names_no(text, "host"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(OptionFault::new(format!("an address has no place for a user: tcp://…@{host}")));
    }
    let Some(port) = url.port() else {
        return Err(names_no(text, "port").help(format!("write tcp://{host}:1234")));
    };
    let (cert, key) = (options.take("cert"), options.take("key"));
    if cert.is_some() != key.is_some() {
        let (given, missing) = if cert.is_some() { ("cert", "key") } else { ("key", "cert") };
        return Err(OptionFault::new(format!("`{given}` comes without `{missing}`: {text}")));
    }
    let (cacert, servername) = (options.take("cacert"), options.take("servername"));
    let wants_tls = cacert.is_some() || cert.is_some() || servername.is_some();
    let tls = wants_tls.then(|| TlsFiles {
        cacert: cacert.map(PathBuf::from),
        cert: cert.map(PathBuf::from),
        key: key.map(PathBuf::from),
        servername,
        is_unverified: false,
    });
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(NodeAddress::Tcp { host, port, tls })
}

/// The name of a container or a pod.
fn named(text: &str, what: &str, place: &str) -> Result<String, OptionFault> {
    let name = place.trim_end_matches('/');
    if is_name(name) { Ok(name.to_owned()) } else { Err(OptionFault::new(format!("this names no {what}: {text}"))) }
}

/// Whether a text can be the name of a container or a pod: it becomes a part of a path, or an argument.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

fn unknown_scheme(text: &str, scheme: &str) -> OptionFault {
    let help = suggest::did_you_mean(scheme, SCHEMES)
        .unwrap_or_else(|| format!("known: {}", SCHEMES.map(|scheme| format!("{scheme}://")).join(", ")));
    OptionFault::new(format!("nodes are not reached by `{scheme}://`: {text}")).help(help)
}

fn bad_url(text: &str, error: &url::ParseError) -> OptionFault {
    OptionFault::new(format!("not the address of a node, {error}: {text}"))
}

fn names_no(text: &str, what: &str) -> OptionFault {
    OptionFault::new(format!("the address names no {what}: {text}"))
}

/// A part of a URL as it is meant.
fn decoded(part: &str) -> String {
    // A query without `=` is one name; `+` means itself outside of queries.
    let part = part.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let name = url::form_urlencoded::parse(part.as_bytes()).map(|(name, _)| name).next().unwrap_or(Cow::Borrowed(""));
    name.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_and_shown() {
        let shown = |text: &str| PlacedAddress::parse(text).map(|it| it.address.to_string());
        for text in [
            "unix:///run/buildkit/buildkitd.sock",
            "tcp://10.0.0.1:1234",
            "tcp://[::1]:1234",
            "docker-container://buildx_buildkit_a0?context=remote",
            "docker://",
            "docker://remote",
            "ssh://me@box:2222/run/b.sock",
            "ssh://box",
            "kube-pod://buildkit-0?context=c&namespace=n&container=k",
        ] {
            assert_eq!(shown(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn platforms_and_files_are_options() {
        let read = PlacedAddress::parse(
            "tcp://h:1?cacert=/ca.pem&cert=%2Fc.pem&key=/k.pem&servername=b&platform=linux/arm64,linux/arm/v7",
        )
        .expect("good");
        let platforms: Vec<String> = read.platforms.iter().map(ToString::to_string).collect();
        assert_eq!(platforms, ["linux/arm64", "linux/arm/v7"]);
        let NodeAddress::Tcp { tls: Some(tls), .. } = read.address else { panic!("without TLS") };
        assert_eq!(tls.cert, Some("/c.pem".into()));
        assert_eq!(tls.servername.as_deref(), Some("b"));
    }

    #[test]
    fn faults_say_what_to_write() {
        let fault = |text: &str| {
            let fault = PlacedAddress::parse(text).expect_err(text);
            format!("{} ({})", fault.message, fault.help.unwrap_or_default())
        };
        assert_eq!(fault("tcp://h"), "the address names no port: tcp://h (write tcp://h:1234)");
        assert_eq!(fault("unix://a.sock"), "the path of a socket is absolute: unix://a.sock (write unix:///a.sock)");
        assert!(fault("tpc://h:1").ends_with("(did you mean `tcp`?)"), "{}", fault("tpc://h:1"));
        assert!(fault("tcp://h:1?cart=x").contains("`cert`"));
        assert!(fault("tcp://h:1?cert=x").starts_with("`cert` comes without `key`"));
        assert!(fault("ssh://me:hidden@h").contains("password"));
        assert!(!fault("ssh://me:hidden@h").contains("hidden"));
        for bad in [
            "ssh://-oProxyCommand=x",
            "ssh://",
            "kube-pod://-x",
            "docker-container://",
            "docker-container://a/../b",
            "h:1",
        ] {
            assert!(PlacedAddress::parse(bad).is_err(), "{bad}");
        }
    }
}
