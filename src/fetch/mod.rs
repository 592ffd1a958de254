//! Files of web servers (`http`) and trees of git repositories (`git`), and the parser of git URLs (`git_url`). Beside them
//! `compare`, which asks the git work tree of the user what differs between two of its states.
//!
//! ```text
//! http ─► content_coding ──────────────► error, shown
//! git_url ─► git ─► git_command, git_tree ─► error, shown
//!           compare ─► git_command, shown
//! ```
//!
//! Nothing here knows the store or builds: files are written into what the caller opens, trees into the folder that the
//! caller gives; what was learnt (`HttpRecord`, `Commit`) is handed back for the caller to keep.

mod compare;
mod content_coding;
mod error;
mod git;
mod git_command;
mod git_tree;
mod git_url;
mod http;
mod shown;

pub(crate) use compare::{CompareError, GitChange, GitMode, GitWorkTree, UntrackedPath};
pub(crate) use error::FetchError;
pub(crate) use git::{Commit, GitClient, GitSource};
pub(crate) use git_command::{GitCommandFn, GitSecrets};
pub(crate) use git_url::parse_git_url;
pub(crate) use http::{Fetched, HttpClient, HttpRecord, HttpRequest};
pub(crate) use shown::shown_url;
