//! Reading JSON that somebody else writes: what fits is borrowed, what does not fit is absent.
//!
//! Derived deserializers stop at a duplicate key, a `null` or a number where text was documented. These do
//! not: the last of duplicate keys wins, and a value of another type counts as absent.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// A text, or a number in the spelling that it came in. Empty counts as absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Text<'b>(Cow<'b, str>);

impl Text<'_> {
    /// The text, where there is one.
    pub(super) fn get(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&*self.0)
    }

    /// A copy for the event, where there is one.
    pub(super) fn owned(&self) -> Option<String> {
        self.get().map(str::to_owned)
    }
}

impl<'b> Deserialize<'b> for Text<'b> {
    fn deserialize<D: Deserializer<'b>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        Ok(Self(match raw.as_bytes() {
            [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Cow::Borrowed(&raw[1..raw.len() - 1]),
            // The grammar allows half a surrogate pair, which no text can hold: absent.
            [b'"', ..] => serde_json::from_str(raw).unwrap_or_default(),
            [b'-' | b'0'..=b'9', ..] => Cow::Borrowed(raw),
            _ => Cow::default(),
        }))
    }
}

/// The items of an array; empty where it is none.
#[derive(Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'b, T: Deserialize<'b>> Deserialize<'b> for List<T> {
    fn deserialize<D: Deserializer<'b>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient(PhantomData))
    }
}

/// A type that can be empty, and takes what it knows from an array or an object.
pub(super) trait Shape<'b>: Default {
    /// Takes the value that stands next under `key`, or passes over it.
    fn field<A: MapAccess<'b>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let _ = key;
        map.next_value::<IgnoredAny>().map(drop)
    }

    /// Takes the next item, or passes over it; `None` at the end.
    fn item<A: SeqAccess<'b>>(&mut self, seq: &mut A) -> Result<Option<()>, A::Error> {
        Ok(seq.next_element::<IgnoredAny>()?.map(drop))
    }
}

impl<'b, T: Deserialize<'b>> Shape<'b> for List<T> {
    fn item<A: SeqAccess<'b>>(&mut self, seq: &mut A) -> Result<Option<()>, A::Error> {
        // An item that says nothing takes much more room here than in a body.
        if self.0.len() == MOST_ITEMS {
            return Ok(seq.next_element::<IgnoredAny>()?.map(drop));
        }
        Ok(seq.next_element()?.map(|item| self.0.push(item)))
    }
}

/// Declares an object by its fields and the key under which each comes.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident<$life:lifetime> { $($field:ident: $type:ty = $key:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        struct $name<$life> {
            $($field: $type,)+
        }

        impl<$life> $crate::provider::lenient::Shape<$life> for $name<$life> {
            fn field<A: serde::de::MapAccess<$life>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
                match key {
                    $($key => self.$field = map.next_value()?,)+
                    _ => _ = map.next_value::<serde::de::IgnoredAny>()?,
                }
                Ok(())
            }
        }

        impl<$life> serde::Deserialize<$life> for $name<$life> {
            fn deserialize<D: serde::Deserializer<$life>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::provider::lenient::shape(deserializer)
            }
        }
    };
}
pub(super) use object;

/// Reads a [`Shape`].
pub(super) fn shape<'b, T: Shape<'b>, D: Deserializer<'b>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Lenient(PhantomData))
}

struct Lenient<T>(PhantomData<T>);

impl<'b, T: Shape<'b>> Visitor<'b> for Lenient<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'b>>(self, mut map: A) -> Result<T, A::Error> {
        let mut shape = T::default();
        while let Some(Key(key)) = map.next_key()? {
            shape.field(&key, &mut map)?;
        }
        Ok(shape)
    }

    fn visit_seq<A: SeqAccess<'b>>(self, mut seq: A) -> Result<T, A::Error> {
        let mut shape = T::default();
        while shape.item(&mut seq)?.is_some() {}
        Ok(shape)
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<T, E> {
        Ok(T::default())
    }
}

/// Of a list, so many items are read: far more than there are ever artifacts.
const MOST_ITEMS: usize = 10_000;

/// A key, borrowed unless it has escapes.
struct Key<'b>(Cow<'b, str>);

impl<'b> Deserialize<'b> for Key<'b> {
    fn deserialize<D: Deserializer<'b>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'b> Visitor<'b> for KeyVisitor {
            type Value = Key<'b>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_bytes<E>(self, key: &'b [u8]) -> Result<Key<'b>, E> {
                Ok(Key(String::from_utf8_lossy(key)))
            }

            fn visit_bytes<E>(self, key: &[u8]) -> Result<Key<'b>, E> {
                Ok(Key(Cow::Owned(String::from_utf8_lossy(key).into_owned())))
            }
        }

        // As bytes, half of a character beyond U+FFFF is a key like any, and not the end of the whole body.
        deserializer.deserialize_bytes(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    object! {
        Outer<'b> {
            name: Text<'b> = "name",
            inner: Inner<'b> = "inner",
            list: List<Text<'b>> = "list",
        }
    }
    object! {
        Inner<'b> {
            id: Text<'b> = "id",
        }
    }

    #[track_caller]
    fn check(json: &str, name: Option<&str>, id: Option<&str>, list: &[Option<&str>]) {
        let outer: Outer<'_> = serde_json::from_str(json).unwrap();
        assert_eq!(outer.name.get(), name, "{json}");
        assert_eq!(outer.inner.id.get(), id, "{json}");
        assert_eq!(
            outer.list.0.iter().map(Text::get).collect::<Vec<_>>(),
            list,
            "{json}"
        );
    }

    #[test]
    fn what_fits_is_read_and_what_does_not_is_absent() {
        check(
            r#"{"name":"a","inner":{"id":"b"},"list":["c"]}"#,
            Some("a"),
            Some("b"),
            &[Some("c")],
        );
        check(
            r#"{"name":12.50,"inner":{"id":-7},"list":[1e999,""]}"#,
            Some("12.50"),
            Some("-7"),
            &[Some("1e999"), None],
        );
        check(r#"{"na\u006de":"\u00e9\"","x":[{}]}"#, Some("é\""), None, &[]);
        check(r#"{"name":null,"inner":null,"list":null}"#, None, None, &[]);
        check(
            r#"{"name":{"a":[]},"inner":[1,[2]],"list":{"a":{}}}"#,
            None,
            None,
            &[],
        );
        check(r#"{"name":true,"inner":"b","list":-1}"#, None, None, &[]);
        check(r#"{"name":"\ud800","inner":1.5,"list":7}"#, None, None, &[]);
        check("[[{}],1]", None, None, &[]);
        check(
            r#"{"\ud800":1,"inner":{"\ud800\u0061":{},"id":"b"},"name":"a"}"#,
            Some("a"),
            Some("b"),
            &[],
        );
    }

    #[test]
    fn of_a_list_that_says_nothing_no_more_is_kept_than_a_list_of_artifacts_can_have() {
        let json = format!("{{\"list\":[{}1],\"name\":\"a\"}}", "1,".repeat(3 * MOST_ITEMS));
        let outer: Outer<'_> = serde_json::from_str(&json).unwrap();
        assert_eq!((outer.list.0.len(), outer.name.get()), (MOST_ITEMS, Some("a")));
    }

    #[test]
    fn the_last_of_duplicate_keys_wins_whole() {
        check(
            r#"{"name":"a","inner":{"id":"b"},"inner":{},"list":["c"],"list":[],"name":"d"}"#,
            Some("d"),
            None,
            &[],
        );
        check(r#"{"name":"a","name":null}"#, None, None, &[]);
    }

    #[test]
    fn text_without_escapes_is_not_copied() {
        let json = r#"{"name":"plain"}"#;
        let outer: Outer<'_> = serde_json::from_str(json).unwrap();
        assert!(matches!(outer.name, Text(Cow::Borrowed("plain"))));
    }
}
