//! The programs that connect a network namespace to the outside: where they are, and their command lines.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::sandbox::command::find_program;

/// The network of steps without `--network`: namespaces connected by a tool, or that of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NetworkChoice {
    /// In namespaces of their own, by the first of these tools that works; by none, in that of the host.
    Tools(Vec<NetworkTool>),
    /// In the host's network namespace, because the user says so.
    Host,
}

/// A program that connects a network namespace to the outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkTool {
    pub(super) kind: NetworkToolKind,
    pub(super) program: PathBuf,
}

/// The programs that are known, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum NetworkToolKind {
    /// <https://passt.top>: copies the addresses of the host, IPv6 included.
    Pasta,
    /// <https://github.com/rootless-containers/slirp4netns>: 10.0.2.0/24, IPv4 only.
    Slirp4netns,
}

const KINDS: [NetworkToolKind; 2] = [NetworkToolKind::Pasta, NetworkToolKind::Slirp4netns];

impl NetworkChoice {
    /// The words that [`Self::find`] knows.
    pub(crate) const NAMES: [&str; 4] = ["auto", "pasta", "slirp4netns", "host"];

    /// Finds the choice of this name: `auto` is every tool that is installed, `host` the host's namespace.
    ///
    /// Tools are looked up in `path`, as in `$PATH`, and where the system's own programs are. `None` for an unknown
    /// word, and for a tool that is not installed.
    pub(crate) fn find(name: &str, path: &str) -> Option<Self> {
        let tool = |kind: NetworkToolKind| Some(NetworkTool { kind, program: find_program(kind.name(), path)? });
        match name {
            "auto" => Some(Self::Tools(KINDS.into_iter().filter_map(tool).collect())),
            "host" => Some(Self::Host),
            name => {
                let kind = KINDS.into_iter().find(|kind| kind.name() == name)?;
                Some(Self::Tools(vec![tool(kind)?]))
            }
        }
    }
}

impl NetworkToolKind {
    /// The name of the tool's program.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// The address in the namespace at which the host's own name server is reached. pasta is given this one;
    /// slirp4netns has it built in.
    pub(super) const fn dns_address(self) -> IpAddr {
        match self {
            Self::Pasta => IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
            Self::Slirp4netns => IpAddr::V4(Ipv4Addr::new(10, 0, 2, 3)),
        }
    }

    /// Whether the namespaces of the tool reach IPv6 addresses.
    pub(super) const fn has_ipv6(self) -> bool {
        matches!(self, Self::Pasta)
    }

    /// The arguments, without the program's name, that connect the network namespace of process `pid` to the outside.
    ///
    /// `ready` is an inherited descriptor to which slirp4netns writes a byte once it is up; it must not be
    /// close-on-exec. pasta ignores it: it goes into the background when it is up, so the process that was started
    /// exits with success.
    pub(super) fn args(self, pid: &str, ready: i32) -> Vec<String> {
        let ready = ready.to_string();
        let dns = self.dns_address().to_string();
        let args: &[&str] = match self {
            // The user is named because some versions otherwise become `nobody` before they enter the namespaces.
            Self::Pasta => &[
                "--quiet",
                "--config-net",
                "--no-map-gw",
                "-t",
                "none",
                "-u",
                "none",
                "-T",
                "none",
                "-U",
                "none",
                "--dns-forward",
                &dns,
                "--runas",
                "0",
                pid,
            ],
            Self::Slirp4netns => &[
                "--configure",
                "--mtu=65520",
                "--disable-host-loopback",
                "--enable-sandbox",
                "--enable-seccomp",
                "--ready-fd",
                &ready,
                pid,
                "tap0",
            ],
        };
        args.iter().map(|it| (*it).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_found_by_name() {
        assert_eq!(NetworkChoice::find("host", ""), Some(NetworkChoice::Host));
        assert_eq!(NetworkChoice::find("passta", "/usr/bin"), None);
        let temp = tempfile::tempdir().unwrap();
        let program = temp.path().join("pasta");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let tool = NetworkTool { kind: NetworkToolKind::Pasta, program };
        let found = NetworkChoice::find("pasta", temp.path().to_str().unwrap());
        assert_eq!(found, Some(NetworkChoice::Tools(vec![tool])));
    }

    #[test]
    fn nothing_of_the_host_is_forwarded() {
        let args = NetworkToolKind::Pasta.args("7", 3).join(" ");
        assert!(args.contains("--no-map-gw -t none -u none -T none -U none"), "{args}");
        assert!(args.ends_with("--runas 0 7"), "{args}");
        let args = NetworkToolKind::Slirp4netns.args("7", 3).join(" ");
        assert!(args.contains("--disable-host-loopback") && args.ends_with("--ready-fd 3 7 tap0"), "{args}");
    }
}
