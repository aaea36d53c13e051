//! Problem details: a refusal as JSON that programs can read.
//!
//! - RFC 9457 §3.1 (members), §4.2.1 (`about:blank`)

use http::StatusCode;
use serde_json::{Map, Value};

/// The media type of a problem (RFC 9457 §3).
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, and the facts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The URI and the title of its type; `None` where the status says all.
    pub kind: Option<(&'static str, &'static str)>,
    /// The status of the response.
    pub status: StatusCode,
    /// What happened, for a person.
    pub detail: String,
    /// The members that the type defines.
    pub members: Vec<(&'static str, u64)>,
}

impl Problem {
    /// The content of the response.
    pub fn to_json(&self) -> String {
        let (uri, title) = self
            .kind
            .unwrap_or(("about:blank", self.status.canonical_reason().unwrap_or("Refused")));
        let mut members = Map::new();
        members.insert("type".to_owned(), uri.into());
        members.insert("title".to_owned(), title.into());
        members.insert("status".to_owned(), self.status.as_u16().into());
        members.insert("detail".to_owned(), self.detail.as_str().into());
        for (name, value) in &self.members {
            members.insert((*name).to_owned(), (*value).into());
        }
        Value::Object(members).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_without_a_type_is_named_by_its_status() {
        let detail = "say \"please\"\n".to_owned();
        let status = StatusCode::CONFLICT;
        let json = Problem { kind: None, status, detail, members: Vec::new() }.to_json();
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["type"], "about:blank");
        assert_eq!(read["title"], "Conflict");
        assert_eq!(read["status"], 409);
        assert_eq!(read["detail"], "say \"please\"\n");
    }

    #[test]
    fn the_members_of_a_type_stand_beside_the_others() {
        let kind = Some(("https://example.org/a", "A"));
        let members = vec![("expected-offset", u64::MAX)];
        let status = StatusCode::CONFLICT;
        let json = Problem { kind, status, detail: String::new(), members }.to_json();
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["type"], "https://example.org/a");
        assert_eq!(read["expected-offset"], u64::MAX);
    }
}
