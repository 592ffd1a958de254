//! `call` and `--call`: what is asked of the frontend instead of a build.

use super::{
    csv,
    fault::{OptionFault, boolean},
};
use crate::report::suggest;

/// A frontend method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Method {
    #[default]
    Build,
    Check,
    Outline,
    Targets,
}

/// A method and how its result is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallMethod {
    pub(crate) method: Method,
    pub(crate) json: bool,
    pub(crate) ignore_status: bool,
}

const METHODS: [&str; 4] = ["build", "check", "outline", "targets"];

impl CallMethod {
    /// Reads `METHOD[,format=json][,ignorestatus=B]`.
    ///
    /// # Errors
    /// On an unknown method or field.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        let mut call = Self::default();
        let fields = csv::fields(text)?;
        let (method, options) =
            fields.split_first().map_or(("", [].as_slice()), |(first, rest)| (first.as_str(), rest));
        call.method = match method.strip_prefix("type=").unwrap_or(method) {
            "" | "build" => Method::Build,
            "check" | "lint" => Method::Check,
            "outline" | "subrequests.outline" => Method::Outline,
            "targets" | "subrequests.targets" => Method::Targets,
            other => {
                let help = suggest::did_you_mean(other, METHODS)
                    .unwrap_or_else(|| format!("known methods: {}", METHODS.join(", ")));
                return Err(OptionFault::new(format!("not a call method: {other}")).help(help));
            }
        };
        for field in options {
            match field.split_once('=') {
                Some(("format", "json")) => call.json = true,
                Some(("format", "text")) => call.json = false,
                Some(("format", other)) => {
                    return Err(OptionFault::new(format!("not a call format: {other}"))
                        .help("write format=json or format=text"));
                }
                Some(("ignorestatus", value)) => call.ignore_status = boolean(value)?,
                None if field == "ignorestatus" => call.ignore_status = true,
                _ => {
                    return Err(OptionFault::new(format!("unknown option of call: {field}"))
                        .help("known options: format, ignorestatus"));
                }
            }
        }
        Ok(call)
    }
}
