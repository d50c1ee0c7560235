//! What bodies and answers are made of, as JSON schemas made of the types that read and write them.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

/// The schema of a type.
pub(super) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// The body that creates or replaces an entity with this spec.
pub(super) fn entity_body<T: JsonSchema>() -> Value {
    let mut schema = of::<T>();
    schema["properties"]["tags"] = json!({ "type": ["object", "null"] });
    // Fields of OpenZiti that ask for what is so anyway are taken besides.
    without(&mut schema, "additionalProperties");
    schema
}

/// The body that changes some of its fields; one that is null gets its default.
pub(super) fn entity_patch<T: JsonSchema>() -> Value {
    let mut schema = entity_body::<T>();
    without(&mut schema, "required");
    let fields = schema["properties"].as_object_mut().into_iter().flatten();
    for (_, field) in fields {
        *field = json!({ "anyOf": [field.take(), { "type": ["null", "object"] }] });
    }
    schema
}

/// An entity with this spec, as it is shown: at least this.
pub(super) fn entity<T: JsonSchema>() -> Value {
    let mut schema = entity_body::<T>();
    for (field, kind) in [
        ("id", "string"),
        ("createdAt", "string"),
        ("updatedAt", "string"),
        ("tags", "object"),
        ("_links", "object"),
    ] {
        schema["properties"][field] = json!({ "type": kind });
    }
    schema["required"] = json!(["id", "name", "createdAt", "updatedAt", "tags", "_links"]);
    schema
}

/// A page of a list.
pub(super) fn list(of: &Value) -> Value {
    json!({ "type": "array", "items": of })
}

fn without(schema: &mut Value, keyword: &str) {
    if let Some(schema) = schema.as_object_mut() {
        schema.remove(keyword);
    }
}
