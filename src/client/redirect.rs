//! Where an answer sends one to, and what must not be taken along.
//!
//! - RFC 9110 §10.2.2 (Location), §15.4 (301, 302, 303, 307, 308); RFC 7617 (Basic)

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, COOKIE, HeaderValue, LOCATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use percent_encoding::percent_decode_str;
use url::Url;

use super::failure::{Failure, shown};

/// Where a request goes after this answer; `None` when it is the last one. After 301, 302 and 303 a
/// method that changes something is not to be repeated: the answer says where to look, not where to
/// do it again.
///
/// # Errors
/// A redirect without a usable `Location`, or from https to http.
pub(super) fn next(
    method: &Method,
    from: &Url,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Option<Url>, Failure> {
    match status.as_u16() {
        307 | 308 => {}
        301..=303 if method.is_safe() => {}
        _ => return Ok(None),
    }
    let unusable = |why: &str| Failure::redirected(format!("{} redirects {why}", shown(from)));
    let location =
        headers.get(LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let location = location.ok_or_else(|| unusable("without saying where to"))?;
    let to = from.join(location).map_err(|_| unusable("to what is no URL"))?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(Some(to)),
        ("https", "http") => Err(unusable("from https to http, which would give the bytes away")),
        _ => Err(unusable("to what is neither http nor https")),
    }
}

/// The credentials in a URL as a field.
pub(super) fn basic_authorization(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
    let coded = STANDARD.encode([&user[..], b":", &password[..]].concat());
    let mut value = HeaderValue::try_from(format!("Basic {coded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether a field is meant for the server that it was given for only.
pub(super) fn is_secret(name: &HeaderName) -> bool {
    [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(name)
}

/// The URL with the name and password that `origin` has, when it is of the same server and has
/// none.
pub fn with_credentials(mut url: Url, origin: &Url) -> Url {
    if url.origin() == origin.origin() && url.username().is_empty() && url.password().is_none() {
        // An http URL has a host, so it takes both.
        let _ = url.set_username(origin.username());
        let _ = url.set_password(origin.password());
    }
    url
}

/// The URL without name and password, as it may be written down.
pub fn without_credentials(url: &Url) -> Url {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirected(from: &str, to: &str) -> Result<Option<String>, Failure> {
        let headers = HeaderMap::from_iter([(LOCATION, to.parse().unwrap())]);
        let from = Url::parse(from).unwrap();
        let next = next(&Method::GET, &from, StatusCode::FOUND, &headers)?;
        Ok(next.map(|url| url.to_string()))
    }

    #[test]
    fn a_location_is_relative_to_where_it_was_said() {
        for (to, expected) in [
            ("/b", "http://host/b"),
            ("b?c=d", "http://host/x/b?c=d"),
            ("//other:81/b", "http://other:81/b"),
            ("https://other/", "https://other/"),
        ] {
            assert_eq!(redirected("http://host/x/a", to).unwrap().as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_redirect_does_not_take_tls_away() {
        assert!(redirected("https://host/", "http://host/").is_err());
        assert!(redirected("http://host/", "file:///etc/passwd").is_err());
    }

    #[test]
    fn only_redirects_are_followed() {
        let url = Url::parse("http://host/").unwrap();
        for status in [200, 206, 300, 304, 404] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(next(&Method::GET, &url, status, &HeaderMap::new()).unwrap().is_none());
        }
        assert!(next(&Method::GET, &url, StatusCode::FOUND, &HeaderMap::new()).is_err());
    }

    #[test]
    fn what_changes_something_is_repeated_only_where_it_is_to_be() {
        let url = Url::parse("http://host/").unwrap();
        let headers = HeaderMap::from_iter([(LOCATION, "/b".parse().unwrap())]);
        for (status, is_followed) in
            [(301, false), (302, false), (303, false), (307, true), (308, true)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            for method in [Method::POST, Method::DELETE] {
                assert_eq!(next(&method, &url, status, &headers).unwrap().is_some(), is_followed);
            }
            assert!(next(&Method::HEAD, &url, status, &headers).unwrap().is_some());
        }
    }

    #[test]
    fn credentials_in_a_url_become_a_field() {
        let url = Url::parse("http://Aladdin:open%20sesame@host/").unwrap();
        let field = basic_authorization(&url).unwrap();
        assert_eq!(field.to_str().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(basic_authorization(&Url::parse("http://host/").unwrap()).is_none());
    }
}
