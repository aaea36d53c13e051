//! What pages of other origins may do (WHATWG Fetch, "CORS protocol"). Every response gets these
//! fields, errors too: without them a page sees a 4xx as a broken network and tries for ever.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

/// The methods that a page may use.
const METHODS: HeaderValue = HeaderValue::from_static("POST, HEAD, PATCH, OPTIONS, GET, DELETE");
/// The request fields that a page may send, where it does not name its own.
const REQUEST_FIELDS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Origin, Range, If-Match, If-None-Match, If-Range, \
     Tus-Resumable, Upload-Checksum, Upload-Concat, Upload-Defer-Length, Upload-Length, \
     Upload-Metadata, Upload-Offset, Upload-Complete, Upload-Incomplete, \
     Upload-Draft-Interop-Version, X-HTTP-Method-Override, X-Request-ID, X-Requested-With",
);
/// The response fields that a page may read.
const RESPONSE_FIELDS: HeaderValue = HeaderValue::from_static(
    "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, Last-Modified, \
     Location, Retry-After, Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, Tus-Resumable, \
     Tus-Version, Upload-Complete, Upload-Concat, Upload-Defer-Length, \
     Upload-Draft-Interop-Version, Upload-Expires, Upload-Incomplete, Upload-Length, \
     Upload-Limit, Upload-Metadata, Upload-Offset",
);
/// How long a browser may remember a preflight, in seconds; what browsers allow at most.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("86400");

/// Which origins are allowed, and what they may do.
#[derive(Clone, Debug)]
pub enum CorsPolicy {
    /// No page of another origin.
    Off,
    /// Every origin; a page's credentials are not sent.
    AnyOrigin,
    /// These origins.
    Origins {
        /// The origins, as a browser sends them: scheme, host and port.
        origins: Vec<String>,
        /// Whether the browser sends its credentials.
        allow_credentials: bool,
    },
    /// Every origin, with its credentials: for servers behind a proxy that checks them.
    AnyOriginWithCredentials,
}

/// Whether a request is a preflight: a browser's question before a page's request.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl CorsPolicy {
    /// Adds what the browser has to know to a response.
    pub(super) fn apply(&self, method: &Method, request: &HeaderMap, response: &mut HeaderMap) {
        let allow_credentials = match self {
            Self::Off => return,
            Self::AnyOrigin => false,
            Self::Origins { allow_credentials, .. } => *allow_credentials,
            Self::AnyOriginWithCredentials => true,
        };
        let has_one_answer = matches!(self, Self::AnyOrigin);
        if !has_one_answer {
            response.append(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = request.get(ORIGIN).filter(|origin| self.allows(origin)) else {
            return;
        };
        let allowed = if has_one_answer { HeaderValue::from_static("*") } else { origin.clone() };
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if allow_credentials {
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

    fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Off => false,
            Self::AnyOrigin | Self::AnyOriginWithCredentials => true,
            Self::Origins { origins, .. } => {
                origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(policy: &CorsPolicy, method: &Method, fields: &[(&'static str, &str)]) -> HeaderMap {
        let request = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let mut response = HeaderMap::new();
        policy.apply(method, &request, &mut response);
        response
    }

    #[test]
    fn a_preflight_is_told_that_its_own_fields_are_allowed() {
        let fields = [
            ("origin", "https://page.example"),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "x-mine,upload-offset"),
        ];
        let response = answer(&CorsPolicy::AnyOrigin, &Method::OPTIONS, &fields);
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_HEADERS], "x-mine,upload-offset");
    }

    #[test]
    fn with_credentials_the_origin_is_named_and_never_a_star() {
        let fields = [("origin", "https://page.example")];
        let response = answer(&CorsPolicy::AnyOriginWithCredentials, &Method::PATCH, &fields);
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "https://page.example");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(response[VARY], "Origin");
    }

    #[test]
    fn an_origin_that_is_not_listed_gets_nothing() {
        let policy = CorsPolicy::Origins {
            origins: vec!["https://a.example".into()],
            allow_credentials: true,
        };
        let response = answer(&policy, &Method::PATCH, &[("origin", "https://b.example")]);
        assert!(!response.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert_eq!(response[VARY], "Origin");
        assert!(answer(&CorsPolicy::Off, &Method::PATCH, &[("origin", "null")]).is_empty());
    }
}
