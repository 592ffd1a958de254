//! Package URLs of images (<https://github.com/package-url/purl-spec>), as provenance names what went into a build and what
//! came out of it: `pkg:docker/NAME@TAG?platform=linux%2Famd64`.

use super::{Digest, Platform, Reference};

/// The package URL of an image of a registry. Docker Hub is left out, as in short names; an image without a tag goes by its
/// digest.
pub(crate) fn of_image(name: &Reference, platform: &Platform) -> String {
    let path: Vec<String> = name.familiar_name().split('/').map(encoded).collect();
    let version = name.tag_or_latest().map(|tag| format!("@{}", encoded(tag))).unwrap_or_default();
    // The qualifiers stand in the order of their names.
    let digest = name.digest.filter(|_| name.tag.is_none()).map(|it| format!("digest={}&", encoded(&it.to_string())));
    format!("pkg:docker/{}{version}?{}{}", path.join("/"), digest.unwrap_or_default(), of_platform(platform))
}

/// The package URL of an image of an OCI layout folder, by the name of the context that stands for it: where the folder lies
/// is nobody's business. An image like this is known by its digest.
pub(crate) fn of_layout(context: &str, manifest: Digest, platform: &Platform) -> String {
    let reference = Reference::parse(context).ok();
    let (name, tag) = match &reference {
        Some(found) => (found.path.rsplit('/').next().unwrap_or_default(), found.tag.as_deref()),
        None => (context, None),
    };
    let name = encoded(&name.to_lowercase());
    let tag = tag.map(|tag| format!("&tag={}", encoded(tag))).unwrap_or_default();
    format!("pkg:oci/{name}@{}?{}{tag}", encoded(&manifest.to_string()), of_platform(platform))
}

fn of_platform(platform: &Platform) -> String {
    format!("platform={}", encoded(&platform.to_string()))
}

/// Percent-encodes a part of a package URL; a colon stays as it is.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_layouts_have_package_urls() {
        let platform = Platform::parse("linux/arm/v7").expect("a platform");
        let digest = Digest::of(b"");
        let image = |text: &str| of_image(&Reference::parse(text).expect("a reference"), &platform);
        let tail = "?platform=linux%2Farm%2Fv7";
        assert_eq!(image("short"), format!("pkg:docker/short@latest{tail}"));
        assert_eq!(image("localhost:5000/team/a:1"), format!("pkg:docker/localhost:5000/team/a@1{tail}"));
        assert_eq!(image(&format!("a:1@{digest}")), format!("pkg:docker/a@1{tail}"));
        assert_eq!(image(&format!("a@{digest}")), format!("pkg:docker/a?digest={digest}&platform=linux%2Farm%2Fv7"));
        let layout = |text: &str| of_layout(text, digest, &platform);
        assert_eq!(layout("base"), format!("pkg:oci/base@{digest}{tail}"));
        assert_eq!(layout("example.com/x/base:3"), format!("pkg:oci/base@{digest}{tail}&tag=3"));
        assert_eq!(layout("My base@?"), format!("pkg:oci/my%20base%40%3F@{digest}{tail}"));
    }
}
