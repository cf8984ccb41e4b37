//! A value of JSON that borrows from its line. Logs have millions of lines of JSON, of which a few fields are read:
//! `serde_json::Value` would copy each key and each text.

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A value of JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number from -2^63 to 2^63 - 1.
    Integer(i64),
    /// Also whole numbers from 2^63 on.
    Float(f64),
    /// A string, borrowed where it has no escapes.
    Text(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// In the order of the line; of a key that stands twice the last value counts.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// # Errors
/// The text is not exactly one value of JSON.
pub fn parse(text: &str) -> Result<Json<'_>, serde_json::Error> {
    serde_json::from_str(text)
}

impl<'a> Json<'a> {
    /// A member of an object, by its whole name.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        let Json::Object(members) = self else { return None };
        members.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Json::Integer(n) => Some(*n),
            _ => None,
        }
    }

    /// The whole number, if it is one and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_i64().and_then(|n| u64::try_from(n).ok())
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E: de::Error>(self, b: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(b))
    }
    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Json<'de>, E> {
        Ok(Json::Integer(n))
    }
    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Json<'de>, E> {
        Ok(i64::try_from(n).map_or(Json::Float(n as f64), Json::Integer))
    }
    fn visit_f64<E: de::Error>(self, n: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(n))
    }
    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_string())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json<'de>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = from.next_element()? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json<'de>, A::Error> {
        let mut members = Vec::with_capacity(MEMBERS_USUAL);
        while let Some(key) = from.next_key_seed(Key)? {
            members.push((key, from.next_value()?));
        }
        Ok(Json::Object(members))
    }
}

/// Most entries of a log have fewer members.
const MEMBERS_USUAL: usize = 12;

/// A key that borrows, where it is written without escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_borrow_unless_they_are_escaped() {
        let line =
            r#"{"a":"plain","b":"two\nlines","n":-3,"f":1.5,"big":18446744073709551615,"l":[1,null,true],"a":"last"}"#;
        let json = parse(line).unwrap();
        assert_eq!(json.get("a").and_then(Json::as_str), Some("last"));
        assert!(matches!(json.get("a"), Some(Json::Text(Cow::Borrowed(_)))));
        assert!(matches!(json.get("b"), Some(Json::Text(Cow::Owned(t))) if t == "two\nlines"));
        assert_eq!(json.get("n").and_then(Json::as_i64), Some(-3));
        assert_eq!(json.get("n").and_then(Json::as_u64), None);
        assert_eq!(json.get("f"), Some(&Json::Float(1.5)));
        assert!(matches!(json.get("big"), Some(Json::Float(_))));
        assert_eq!(json.get("l"), Some(&Json::Array(vec![Json::Integer(1), Json::Null, Json::Bool(true)])));
        assert_eq!(json.get("none").or(json.get("n").and_then(|n| n.get("x"))), None);
        assert!(parse("{} x").is_err() && parse("{\"a\":").is_err());
        // Depth is bounded by the library.
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
