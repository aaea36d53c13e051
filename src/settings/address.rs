//! The URLs among the settings: the path of uploads, the URL clients see, origins of web pages.
//!
//! Each type is the proof that its text was checked, so the server can join them without looking.
//!
//! - RFC 3986 §2.3, §3.3: unreserved characters, dot segments
//! - RFC 6454 §6.2: the text of an origin

use std::fmt;

use http::Uri;
use http::uri::{Authority, Port};

/// The path under which uploads lie, such as `/files/`. Begins and ends with `/`; its segments are
/// of unreserved characters, none is empty, `.` or `..`. So no second spelling of it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasePath(String);

impl BasePath {
    /// Reads a path of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let segments = text.strip_prefix('/')?;
        let is_root = segments.is_empty();
        let is_ours = is_root || segments.strip_suffix('/')?.split('/').all(is_plain_segment);
        is_ours.then(|| Self(text.to_owned()))
    }

    /// The path, from its first `/` to its last.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain_segment(segment: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !matches!(segment, "" | "." | "..") && segment.bytes().all(is_unreserved)
}

impl fmt::Display for BasePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The absolute URL under which clients reach the uploads, such as
/// `https://example.org/files/`. It takes the place of everything before an upload's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Reads an `http` or `https` URL without user, query and fragment, whose path has the form of
    /// a [`BasePath`].
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_host = uri.authority().is_some_and(is_host_and_port);
        let path = BasePath::parse(uri.path())?;
        // `Uri` drops a fragment without a word.
        let is_whole =
            text.ends_with(path.as_str()) && !text.contains('#') && uri.query().is_none();
        (is_web && has_host && is_whole).then(|| Self(text.to_owned()))
    }

    /// The URL, which ends with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The origins whose web pages may use the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Every origin.
    Any,
    /// These origins, each as a browser writes it in `Origin`.
    Listed(Vec<String>),
}

impl Origins {
    /// Reads `*`, or origins with commas between. They are brought to the form that browsers send:
    /// lower-case, without the port that goes without saying.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let listed: Option<Vec<String>> =
            text.split(',').map(|origin| parse_origin(origin.trim())).collect();
        listed.map(Self::Listed)
    }

    /// Whether a page of this `Origin` may use the server.
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(origins) => origins.iter().any(|listed| listed == origin),
        }
    }
}

fn parse_origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, host) = text.split_once("://")?;
    if host.contains(['/', '?', '#', '*']) {
        return None;
    }
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority().filter(|authority| is_host_and_port(authority))?;
    let host = authority.host();
    Some(match (scheme, authority.port_u16()) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

/// Whether this is a host, and after a colon a port if any: no user, no empty or impossible port.
fn is_host_and_port(authority: &Authority) -> bool {
    let host = authority.host();
    let has_port = |port: Port<&str>| authority.as_str() == format!("{host}:{}", port.as_str());
    !host.is_empty() && (authority.as_str() == host || authority.port().is_some_and(has_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_has_one_spelling() {
        for right in ["/", "/files/", "/api/v1.0/uploads~/", "/a_b-c/"] {
            assert_eq!(BasePath::parse(right).map(|path| path.to_string()).as_deref(), Some(right));
        }
        for wrong in [
            "",
            "files/",
            "/files",
            "//",
            "/a//b/",
            "/../",
            "/a/./",
            "/a/../b/",
            "/%66iles/",
            "/a b/",
            "/a?b/",
            "/a;b/",
            "/ä/",
        ] {
            assert_eq!(BasePath::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_public_url_can_be_put_before_an_id() {
        for right in ["https://example.org/files/", "http://[::1]:8080/", "https://a.b:443/x/y/"] {
            assert_eq!(PublicUrl::parse(right).map(|url| url.to_string()).as_deref(), Some(right));
        }
        for wrong in [
            "",
            "/files/",
            "example.org/files/",
            "https://example.org",
            "https://example.org/files",
            "https://example.org/../",
            "https://example.org/files/?a=/",
            "https://example.org/files/#a/",
            "https://example.org/#/",
            "https://me@example.org/files/",
            "ftp://example.org/files/",
            "https:///files/",
            "https://example.org:/files/",
            "https://example.org:99999/files/",
        ] {
            assert_eq!(PublicUrl::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn origins_are_kept_as_browsers_send_them() {
        let text = "https://App.example.org:443, http://localhost:5173,capacitor://localhost";
        let origins = Origins::parse(text).unwrap();
        assert!(origins.allow("https://app.example.org"));
        assert!(origins.allow("http://localhost:5173"));
        assert!(origins.allow("capacitor://localhost"));
        assert!(!origins.allow("http://localhost"));
        assert!(!origins.allow("https://app.example.org.evil.example"));
        assert!(Origins::parse("*").unwrap().allow("https://anything.example"));
    }

    #[test]
    fn what_no_browser_sends_is_no_origin() {
        for wrong in [
            "",
            "example.org",
            "https://",
            "https://a.example/",
            "https://a.example/x",
            "https://a.example:",
            "https://a.example:99999",
            "https://*.example",
            "https://me@a.example",
            "https://a.example,",
            "https://a.example,*",
        ] {
            assert_eq!(Origins::parse(wrong), None, "{wrong:?}");
        }
    }
}
