//! Where an answer sends one to, and what must not be taken along.
//!
//! - RFC 9110 §10.2.2 (Location), §15.4 (301, 302, 303, 307, 308); RFC 7617 (Basic)

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, COOKIE, HeaderValue, LOCATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, StatusCode};
use percent_encoding::percent_decode_str;
use url::Url;

use super::failure::{Failure, shown};

/// Where a GET goes after this answer; `None` when it is the last one.
///
/// # Errors
/// A redirect without a usable `Location`, or from https to http.
pub(super) fn next(
    from: &Url,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Option<Url>, Failure> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let unusable = |why: &str| Failure::unusable(format!("{} redirects {why}", shown(from)));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn redirected(from: &str, to: &str) -> Result<Option<String>, Failure> {
        let headers = HeaderMap::from_iter([(LOCATION, to.parse().unwrap())]);
        let next = next(&Url::parse(from).unwrap(), StatusCode::FOUND, &headers)?;
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
            assert!(next(&url, status, &HeaderMap::new()).unwrap().is_none());
        }
        assert!(next(&url, StatusCode::FOUND, &HeaderMap::new()).is_err());
    }

    #[test]
    fn credentials_in_a_url_become_a_field() {
        let url = Url::parse("http://Aladdin:open%20sesame@host/").unwrap();
        let field = basic_authorization(&url).unwrap();
        assert_eq!(field.to_str().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(basic_authorization(&Url::parse("http://host/").unwrap()).is_none());
    }
}
