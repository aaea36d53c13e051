//! What pages of other origins may do (WHATWG Fetch, "CORS protocol"). Every response gets these
//! fields, errors too: without them a page sees a 4xx as a broken network and tries for ever.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

use crate::settings::{Cors, Origins};

/// The methods that a page may use.
const METHODS: HeaderValue =
    HeaderValue::from_static("POST, PUT, HEAD, PATCH, OPTIONS, GET, DELETE");
/// The request fields that a page may send, where it does not name its own.
const REQUEST_FIELDS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Disposition, Content-Type, Origin, Range, If-Match, If-None-Match, \
     If-Range, Content-Digest, Repr-Digest, Want-Repr-Digest, Tus-Resumable, Upload-Checksum, \
     Upload-Concat, Upload-Defer-Length, Upload-Length, Upload-Metadata, Upload-Offset, \
     Upload-Complete, Upload-Incomplete, Upload-Draft-Interop-Version, X-HTTP-Method-Override, \
     X-Request-ID, X-Requested-With",
);
/// The response fields that a page may read.
const RESPONSE_FIELDS: HeaderValue = HeaderValue::from_static(
    "Accept-Patch, Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, \
     Last-Modified, Link, Location, Repr-Digest, Retry-After, Tus-Checksum-Algorithm, \
     Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Blake3, Upload-Challenge, \
     Upload-Complete, Upload-Concat, Upload-Defer-Length, Upload-Draft-Interop-Version, \
     Upload-Expires, Upload-Incomplete, Upload-Length, Upload-Limit, Upload-Metadata, \
     Upload-Offset",
);
/// How long a browser may remember a preflight, in seconds; what browsers allow at most.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("86400");

/// Whether a request is a preflight: a browser's question before a page's request.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Adds what the browser has to know to a response.
pub(super) fn apply(cors: &Cors, method: &Method, request: &HeaderMap, response: &mut HeaderMap) {
    let is_for_all = cors.origins == Origins::Any && !cors.allows_credentials;
    if !is_for_all {
        response.append(VARY, HeaderValue::from_static("Origin"));
    }
    let Some(origin) = request.get(ORIGIN) else { return };
    if !origin.to_str().is_ok_and(|origin| cors.origins.allow(origin)) {
        return;
    }
    let allowed = if is_for_all { HeaderValue::from_static("*") } else { origin.clone() };
    response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if cors.allows_credentials {
        response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if is_preflight(method, request) {
        // Whatever fields the page wants: they are the proxy's or the application's business.
        let fields = request.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        response.insert(ACCESS_CONTROL_ALLOW_HEADERS, fields.unwrap_or(REQUEST_FIELDS));
        response.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        response.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    } else {
        response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_FIELDS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(cors: &Cors, method: &Method, fields: &[(&'static str, &str)]) -> HeaderMap {
        let request = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let mut response = HeaderMap::new();
        apply(cors, method, &request, &mut response);
        response
    }

    fn for_all() -> Cors {
        Cors { origins: Origins::Any, allows_credentials: false }
    }

    fn for_one() -> Cors {
        let origins = Origins::parse("https://page.example").unwrap();
        Cors { origins, allows_credentials: true }
    }

    #[test]
    fn a_preflight_is_told_that_its_own_fields_are_allowed() {
        let fields = [
            ("origin", "https://page.example"),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "x-mine,upload-offset"),
        ];
        let response = answer(&for_all(), &Method::OPTIONS, &fields);
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_HEADERS], "x-mine,upload-offset");
    }

    #[test]
    fn with_credentials_the_origin_is_named_and_never_a_star() {
        let response = answer(&for_one(), &Method::PATCH, &[("origin", "https://page.example")]);
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "https://page.example");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(response[VARY], "Origin");
    }

    #[test]
    fn an_origin_that_is_not_listed_gets_nothing() {
        let response = answer(&for_one(), &Method::PATCH, &[("origin", "https://b.example")]);
        assert!(!response.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert_eq!(response[VARY], "Origin");
    }
}
