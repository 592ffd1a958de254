//! `InvalidBaseImagePlatform`: a base image is for the platform that is built.

use super::report::{CheckReport, CheckRule};
use crate::{oci::Platform, report::Span};

pub(crate) static RULE: CheckRule = CheckRule {
    name: "InvalidBaseImagePlatform",
    code: "bake::check::invalid_base_image_platform",
    page: Some("invalid-base-image-platform"),
    experimental: false,
    check: None,
};

/// Reports a base image of another platform than was wanted. `comments` are those above FROM, which may skip the check.
pub(crate) fn fire(
    report: &mut CheckReport,
    comments: &[String],
    at: Span,
    name: &str,
    wanted: &Platform,
    found: &Platform,
) {
    let message = format!("base image `{name}` is for {found}, the build is for: {wanted}");
    report.fire(&RULE, comments, at, message);
}
