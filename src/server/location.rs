//! URLs in both directions: what a request's URL names, and the URL of an upload in `Location`.

use http::header::{FORWARDED, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Uri};

use crate::protocol::head::Target;
use crate::protocol::id::UploadId;
use crate::settings::Listening;

pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Where the uploads are, as clients see it.
#[derive(Clone, Debug)]
pub(super) struct Locations(pub(super) Listening);

impl Locations {
    /// The resource beside an upload that a path names.
    pub(super) fn beside(&self, path: &str) -> Option<(UploadId, Beside)> {
        let name = path.strip_prefix(self.0.base_path.as_str())?;
        let named = |(suffix, beside)| Some((UploadId::parse(name.strip_suffix(suffix)?)?, beside));
        let resources =
            [("/tree", Beside::Tree), (".meta4", Beside::Metalink), ("/proof", Beside::Proof)];
        resources.into_iter().find_map(named)
    }

    /// What a path names; `None` when it is not ours.
    pub(super) fn target(&self, path: &str) -> Option<Target> {
        let base_path = self.0.base_path.as_str();
        // `OPTIONS *` asks about the whole server (RFC 9110 §9.3.7), which is the collection.
        if path == "*" || Some(path) == base_path.strip_suffix('/') {
            return Some(Target::Collection);
        }
        match path.strip_prefix(base_path)? {
            "" => Some(Target::Collection),
            id => Some(Target::Upload(UploadId::parse(id))),
        }
    }

    /// The URL of an upload; see [`Self::collection`].
    pub(super) fn location(&self, uri: &Uri, headers: &HeaderMap, id: UploadId) -> String {
        [self.collection(uri, headers), id.to_string()].concat()
    }

    /// The URL of the collection, which that of an upload begins with: absolute where the request
    /// tells how, since some clients use it as it is, else the path alone (RFC 9110 §10.2.2).
    pub(super) fn collection(&self, uri: &Uri, headers: &HeaderMap) -> String {
        if let Some(url) = &self.0.public_url {
            return url.to_string();
        }
        let origin = self.origin(uri, headers).unwrap_or_default();
        [&origin, self.0.base_path.as_str()].concat()
    }

    fn origin(&self, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let forwarded =
            if self.0.is_behind_proxy { forwarded(headers) } else { Forwarded::default() };
        let scheme = match forwarded.scheme.as_deref() {
            Some("https") => "https",
            Some(_) | None => "http",
        };
        let named = headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = forwarded
            .host
            .or_else(|| uri.authority().map(Authority::to_string))
            .or_else(|| named.map(str::to_owned))?;
        // What the client wrote goes back into a header: only if it is a host indeed.
        let authority = host.parse::<Authority>().ok()?;
        (!authority.as_str().contains('@')).then(|| [scheme, "://", authority.as_str()].concat())
    }
}

/// A resource beside an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// The list of its chaining values.
    Tree,
    /// A Metalink 4 file that describes it.
    Metalink,
    /// Takes the proof that a client has its bytes.
    Proof,
}

#[derive(Debug, Default)]
struct Forwarded {
    scheme: Option<String>,
    host: Option<String>,
}

/// What the first proxy saw: `Forwarded` (RFC 7239), else `X-Forwarded-Proto` and `-Host`.
fn forwarded(headers: &HeaderMap) -> Forwarded {
    let first = |name: HeaderName| {
        let value = headers.get(&name)?.to_str().ok()?;
        Some(value.split(',').next().unwrap_or_default().trim().to_ascii_lowercase())
    };
    let Some(element) = first(FORWARDED) else {
        return Forwarded { scheme: first(X_FORWARDED_PROTO), host: first(X_FORWARDED_HOST) };
    };
    let parameter = |name: &str| {
        element.split(';').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    Forwarded { scheme: parameter("proto"), host: parameter("host") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn locations(is_behind_proxy: bool) -> Locations {
        Locations(Listening { is_behind_proxy, ..Settings::default().listening })
    }

    fn location(is_behind_proxy: bool, fields: &[(&'static str, &str)]) -> String {
        let headers = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let id = UploadId::from_bytes([0; 16]);
        locations(is_behind_proxy)
            .location(&Uri::from_static("/files/"), &headers, id)
            .replace(&id.to_string(), "ID")
    }

    #[test]
    fn a_path_names_the_collection_or_one_upload() {
        let id = "0123456789abcdef0123456789abcdef";
        let target = |path: &str| locations(false).target(path);
        assert_eq!(target("/files/"), Some(Target::Collection));
        assert_eq!(target("/files"), Some(Target::Collection));
        assert_eq!(target(&format!("/files/{id}")), Some(Target::Upload(UploadId::parse(id))));
        for foreign in ["/files/..", "/files/%2e%2e%2fx", "/files//etc/passwd", "/files/a/b"] {
            assert_eq!(target(foreign), Some(Target::Upload(None)), "{foreign}");
        }
        let beside = |path: &str| locations(false).beside(path);
        let ours = UploadId::parse(id).unwrap();
        assert_eq!(beside(&format!("/files/{id}/tree")), Some((ours, Beside::Tree)));
        assert_eq!(beside(&format!("/files/{id}.meta4")), Some((ours, Beside::Metalink)));
        for foreign in [
            "/files/tree",
            "/files/.meta4",
            "/files/x/tree",
            "/tree",
            &format!("/files/{id}/tree/"),
        ] {
            assert_eq!(beside(foreign), None, "{foreign}");
        }
        assert_eq!(target("/"), None);
        assert_eq!(target("/filesystem"), None);
    }

    #[test]
    fn a_location_is_absolute_and_believes_a_proxy_only_when_told_to() {
        let fields = [
            ("host", "inner:1080"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "outer.example"),
        ];
        assert_eq!(location(false, &fields), "http://inner:1080/files/ID");
        assert_eq!(location(true, &fields), "https://outer.example/files/ID");
        let standard =
            [("host", "inner"), ("forwarded", "for=1.2.3.4;proto=https;host=\"o.example:8443\"")];
        assert_eq!(location(true, &standard), "https://o.example:8443/files/ID");
    }

    #[test]
    fn a_host_that_is_none_gives_a_relative_location() {
        assert_eq!(location(false, &[("host", "user@evil.example")]), "/files/ID");
        assert_eq!(location(false, &[]), "/files/ID");
    }
}
