//! The fields that a type reads, as its `Deserialize` asks for them: what a page or a table says of a file is held against
//! this list, so that a new field is missed by nobody.

use std::cell::Cell;
use std::collections::BTreeSet;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, IntoDeserializer as _, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserializer, forward_to_deserialize_any};

/// One entry of a list, in a path.
const ENTRY: &str = "[]";

/// The paths of all fields of `T`, such as `build.steps[].run`. A map with free keys is one field, a list of texts too.
pub fn of<T: DeserializeOwned>() -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    visit::<T>(&mut Vec::new(), &mut fields);
    fields
}

/// What is asked for at a place.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Fields(&'static [&'static str]),
    Variants(&'static [&'static str]),
    /// A variant without content.
    Unit,
    /// A list, a map or something of one piece.
    Other,
}

fn visit<T: DeserializeOwned>(path: &mut Vec<&'static str>, fields: &mut BTreeSet<String>) {
    assert!(path.len() < 16, "a type that holds itself: {path:?}");
    let below: Vec<&'static str> = match ask::<T>(path) {
        Some(Asked::Fields(names)) => names.to_vec(),
        Some(Asked::Variants(names)) => {
            let content = |name: &&&'static str| {
                let inside = [path.as_slice(), &[**name]].concat();
                !matches!(ask::<T>(&inside), Some(Asked::Unit))
            };
            names.iter().filter(content).copied().collect()
        }
        Some(Asked::Other) => vec![ENTRY],
        Some(Asked::Unit) | None => Vec::new(),
    };
    for name in &below {
        path.push(name);
        visit::<T>(path, fields);
        path.pop();
    }
    if below.is_empty() {
        let place = path.join(".").replace(".[]", ENTRY);
        let place = place.trim_end_matches(ENTRY).to_owned();
        fields.insert(place);
    }
}

/// What `T` asks for at `path`; `None` if it reads nothing there.
fn ask<T: DeserializeOwned>(path: &[&'static str]) -> Option<Asked> {
    let asked = Cell::new(None);
    let place = Place {
        path,
        asked: &asked,
    };
    // It never gets all that it wants; what it asks for is the answer.
    let _ = T::deserialize(place);
    asked.get()
}

/// A document that holds nothing but the way to a place.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a [&'static str],
    asked: &'a Cell<Option<Asked>>,
}

impl<'a> Place<'a> {
    /// The first step of the way and what lies behind it; at its end, notes what is asked for.
    fn step(self, asked: Asked) -> Result<(&'static str, Self), Error> {
        let Some((first, path)) = self.path.split_first() else {
            self.asked.set(Some(asked));
            return Err(Error::custom("the end of the way"));
        };
        Ok((first, Self { path, ..self }))
    }
}

impl<'de> Deserializer<'de> for Place<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let (_, entry) = self.step(Asked::Other)?;
        visitor.visit_seq(Once(Some(("", entry))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Once(Some(self.step(Asked::Fields(fields))?)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(Once(Some(self.step(Asked::Variants(variants))?)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

/// The one field, entry or variant on the way.
struct Once<'a>(Option<(&'static str, Place<'a>)>);

impl<'de> MapAccess<'de> for Once<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((name, _)) = self.0 else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (_, value) = self.0.take().ok_or_else(|| Error::custom("no value"))?;
        seed.deserialize(value)
    }
}

impl<'de> SeqAccess<'de> for Once<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let entry = self.0.take();
        entry.map(|(_, entry)| seed.deserialize(entry)).transpose()
    }
}

impl<'de, 'a> EnumAccess<'de> for Once<'a> {
    type Error = Error;
    type Variant = Place<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Place<'a>), Error> {
        let (name, content) = self.0.ok_or_else(|| Error::custom("no variant"))?;
        let name: StrDeserializer<'_, Error> = name.into_deserializer();
        Ok((seed.deserialize(name)?, content))
    }
}

impl<'de> VariantAccess<'de> for Place<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.asked.set(Some(Asked::Unit));
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their names are read")]
    struct Outer {
        one: u32,
        many: Vec<Inner>,
        maybe: Option<Inner>,
        kind: Kind,
        plain: Plain,
        free: std::collections::BTreeMap<String, String>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their names are read")]
    struct Inner {
        #[serde(rename = "renamed")]
        name: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code, reason = "only their names are read")]
    enum Kind {
        BlueGreen(Inner),
        Absent,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their names are read")]
    enum Plain {
        On,
        Off,
    }

    #[test]
    fn fields_are_found_at_every_depth() {
        let found: Vec<_> = super::of::<Outer>().into_iter().collect();
        let expected = [
            "free",
            "kind.blueGreen.renamed",
            "many[].renamed",
            "maybe.renamed",
            "one",
            "plain",
        ];
        assert_eq!(found, expected);
    }
}
