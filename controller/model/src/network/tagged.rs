//! Specs with the tags of their entities.

use std::collections::BTreeMap;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, Error as _, IntoDeserializer as _, MapAccess, Visitor, value},
};
use serde_json::Value;

/// The field that holds them.
const TAGS: &str = "tags";

/// Words and what they stand for: texts, numbers, booleans or nothing.
pub type Tags = BTreeMap<String, Value>;

/// What operators decide about an entity, and its tags, side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tagged<S> {
    /// What operators decide.
    #[serde(flatten)]
    pub spec: S,
    /// Tags.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
}

/// Takes the tags out while the spec reads the other fields: a spec refuses fields that it does not know, and that
/// is lost where fields are collected first, as `flatten` does.
impl<'de, S: Deserialize<'de>> Deserialize<'de> for Tagged<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<S>(std::marker::PhantomData<S>);

        impl<'de, S: Deserialize<'de>> Visitor<'de> for Fields<S> {
            type Value = Tagged<S>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the fields of an entity")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tagged<S>, A::Error> {
                let mut tags = None;
                let others = Others { map, tags: &mut tags };
                let spec = S::deserialize(value::MapAccessDeserializer::new(others))?;
                Ok(Tagged { spec, tags: tags.unwrap_or_default() })
            }
        }

        deserializer.deserialize_map(Fields(std::marker::PhantomData))
    }
}

/// All fields but the tags.
struct Others<'a, A> {
    map: A,
    tags: &'a mut Option<Tags>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Others<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        loop {
            let Some(field) = self.map.next_key::<String>()? else { return Ok(None) };
            if field != TAGS {
                return seed.deserialize(field.into_deserializer()).map(Some);
            }
            if self.tags.is_some() {
                return Err(A::Error::duplicate_field(TAGS));
            }
            *self.tags = Some(self.map.next_value::<Option<Tags>>()?.unwrap_or_default());
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
