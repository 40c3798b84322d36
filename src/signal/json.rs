//! JSON that borrows from its text: a body is read once, for a few of its members, and dropped.
//!
//! `serde_json::Value` copies every string and keeps objects in trees; for an ordinary refusal that
//! was a third of what reading it cost.

use std::{borrow::Cow, fmt, mem, ops::Index};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The one member of the object as which `serde_json` hands over a number, if any crate has turned
/// on its feature `arbitrary_precision`.
const NUMBER_AS_TEXT: &str = "$serde_json::private::Number";

/// Up to here each name is compared with all others; more names are sorted.
const FEW_MEMBERS: usize = 8;

static NULL: Json<'_> = Json::Null;

#[derive(Debug, Default)]
pub(super) enum Json<'a> {
    #[default]
    Null,
    Bool(bool),
    Integer(i64),
    /// Also what is too large for an `i64`.
    Float(f64),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    /// No name is there twice.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Reads a text of at most 128 levels, which is that of `serde_json` bound.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let mut members = self.members().iter();
        members.find(|(it, _)| it == name).map(|(_, value)| value)
    }

    /// Takes a member out and leaves `null`, which is also what comes out if there is none.
    pub(super) fn take(&mut self, name: &str) -> Self {
        let Self::Object(members) = self else {
            return Self::Null;
        };
        let member = members.iter_mut().find(|(it, _)| it == name);
        member.map_or(Self::Null, |(_, value)| mem::take(value))
    }

    /// None of what is no object.
    pub(super) fn members(&self) -> &[(Cow<'a, str>, Self)] {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }

    /// None of what is no array.
    pub(super) fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            _ => self.number_as_text()?.parse().ok(),
        }
    }

    pub(super) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(integer) => Some(*integer as f64),
            Self::Float(float) => Some(*float),
            _ => {
                let float: f64 = self.number_as_text()?.parse().ok()?;
                float.is_finite().then_some(float)
            }
        }
    }

    fn number_as_text(&self) -> Option<&str> {
        match self.members() {
            [(name, value)] if name == NUMBER_AS_TEXT => value.as_str(),
            _ => None,
        }
    }
}

/// An index by name is total: what is absent, or in something that is no object, is `null`.
impl<'a> Index<&str> for Json<'a> {
    type Output = Json<'a>;

    fn index(&self, name: &str) -> &Self {
        self.get(name).unwrap_or(&NULL)
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Self::Value, E> {
        Ok(Json::Integer(integer))
    }

    fn visit_u64<E>(self, integer: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(integer).map_or(Json::Float(integer as f64), Json::Integer))
    }

    fn visit_f64<E>(self, float: f64) -> Result<Self::Value, E> {
        Ok(Json::Float(float))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::String(Cow::Borrowed(text)))
    }

    /// With escapes: the text is not what it means.
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::String(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            elements.push(element);
        }
        Ok(Json::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Name(name)) = object.next_key()? {
            members.push((name, object.next_value()?));
        }
        keep_last(&mut members);
        Ok(Json::Object(members))
    }
}

/// Of members with the same name, the last counts.
fn keep_last(members: &mut Vec<(Cow<'_, str>, Json<'_>)>) {
    let is_new = |at: usize| {
        let (name, _) = &members[at];
        members[..at].iter().all(|(earlier, _)| earlier != name)
    };
    if members.len() <= FEW_MEMBERS && (1..members.len()).all(is_new) {
        return;
    }
    members.reverse();
    // Stable: of the same name, the last in the text stays the first.
    members.sort_by(|(name, _), (other, _)| name.cmp(other));
    members.dedup_by(|(name, _), (before, _)| name == before);
}

/// A `Cow` that borrows where it can, which that of serde does not.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn assert_same(json: &Json<'_>, value: &Value) {
        assert_eq!(json.is_null(), value.is_null());
        assert_eq!(json.as_bool(), value.as_bool());
        assert_eq!(json.as_str(), value.as_str());
        assert_eq!(json.as_i64(), value.as_i64());
        assert_eq!(json.as_f64(), value.as_f64());
        let elements = value.as_array().map_or(&[][..], |array| array);
        assert_eq!(json.elements().len(), elements.len());
        for (json, value) in json.elements().iter().zip(elements) {
            assert_same(json, value);
        }
        let members = value.as_object().into_iter().flatten();
        assert_eq!(json.members().len(), members.clone().count());
        for (name, value) in members {
            assert_same(&json[name], value);
        }
    }

    #[test]
    fn a_tree_is_what_serde_json_makes_of_it() {
        let many = (0..40).map(|at| format!(r#""{}": {at}, "#, at * 7 % 13));
        let many = format!(r#"{{{}"z": 1}}"#, many.collect::<String>());
        for text in [
            r#"{"a": 1, "a": 2}"#,
            r#"[{"a": "1"}, {"a": "1", "b": "1"}]"#,
            r#"{"a": 1, "b": {"c": [null, true, "x\ny"]}, "\u0061": -2.5}"#,
            "[0, -1, 1e3, 18446744073709551615, 9223372036854775807, -9223372036854775808]",
            &many,
        ] {
            let value: Value = serde_json::from_str(text).expect("JSON");
            assert_same(&Json::parse(text).expect("JSON"), &value);
        }
        for text in ["", "{", "[1,]", "1 2", "1e400", r#"{"a"}"#, "{1: 2}"] {
            assert!(Json::parse(text).is_none(), "{text}");
        }
        let nested = |levels| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Json::parse(&nested(127)).is_some());
        assert!(Json::parse(&nested(128)).is_none(), "it has to be dropped");
    }

    #[test]
    fn only_an_escape_is_copied() {
        let json = Json::parse(r#"{"a": "b", "c": "\t"}"#).expect("JSON");
        let is_borrowed = |json: &Json<'_>| matches!(json, Json::String(Cow::Borrowed(_)));
        assert!(is_borrowed(&json["a"]));
        assert!(!is_borrowed(&json["c"]));
    }

    #[test]
    fn a_number_may_come_as_text() {
        for (text, integer, float) in [
            ("429", Some(429), Some(429.0)),
            ("64.57", None, Some(64.57)),
            ("1e400", None, None),
        ] {
            let json = format!(r#"{{"{NUMBER_AS_TEXT}": "{text}"}}"#);
            let json = Json::parse(&json).expect("JSON");
            assert_eq!((json.as_i64(), json.as_f64()), (integer, float), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_by_serde_json(
            text in r#"(\{("[ab\\n]{0,2}": ?[\["0-9.e-]{0,4}["\]}]{0,3},? ?){0,12}\}?|.{0,16})"#,
        ) {
            let value: Option<Value> = serde_json::from_str(&text).ok();
            let json = Json::parse(&text);
            prop_assert_eq!(json.is_some(), value.is_some());
            if let (Some(json), Some(value)) = (json, value) {
                assert_same(&json, &value);
            }
        }
    }
}
