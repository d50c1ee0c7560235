//! `docs/events.md` says of every field of every event what its type says.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::{fmt::Write as _, fs, path::Path};

use nightgate_model::event::{Occurrence, schema};
use serde_json::Value;

/// What stands before and after the tables.
const MARKS: [&str; 2] =
    ["<!-- fields: controller/model/src/event.rs -->\n", "<!-- end of fields -->\n"];

#[test]
fn every_field_of_every_event_is_documented() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/events.md");
    let text = fs::read_to_string(&file).unwrap();
    let tables = tables();
    let found = text.split_once(MARKS[0]).and_then(|(_, rest)| rest.split_once(MARKS[1]));
    assert_eq!(
        found.map(|(found, _)| found),
        Some(tables.as_str()),
        "{} does not say what the types say; put this between its marks:\n{tables}",
        file.display()
    );
}

#[test]
fn every_type_has_its_word() {
    let schema = Value::from(schema());
    let variants = schema["oneOf"].as_array().unwrap();
    let words: Vec<_> = variants.iter().map(|it| word(it).to_owned()).collect();
    assert_eq!(words, Occurrence::TYPES);
}

fn word(variant: &Value) -> &str {
    variant["properties"]["type"]["const"].as_str().unwrap()
}

fn tables() -> String {
    let schema = Value::from(schema());
    let mut text = String::new();
    write!(text, "\n## Every event\n\n{}", table(&schema)).unwrap();
    for variant in schema["oneOf"].as_array().unwrap() {
        let title = word(variant);
        let about = variant["description"].as_str().unwrap();
        write!(text, "\n## `{title}`\n\n{about}\n\n{}", table(variant)).unwrap();
    }
    text.push('\n');
    text
}

fn table(object: &Value) -> String {
    let mut text = String::from("| field | value | what it is |\n|---|---|---|\n");
    for (field, value) in object["properties"].as_object().unwrap() {
        if field == "type" {
            continue;
        }
        let about = value["description"].as_str().unwrap();
        writeln!(text, "| `{field}` | {} | {about} |", kind(value)).unwrap();
    }
    text
}

/// The JSON type of a field, or its words.
fn kind(value: &Value) -> String {
    let alternatives = value["oneOf"].as_array().or_else(|| value["anyOf"].as_array());
    if let Some(words) = value["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str);
        return words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ");
    }
    if let Some(alternatives) = alternatives {
        return alternatives.iter().map(one_word).collect::<Vec<_>>().join(" ");
    }
    match &value["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "any".into(),
    }
}

fn one_word(value: &Value) -> String {
    match (value["const"].as_str(), value["description"].as_str()) {
        (Some(word), Some(about)) => format!("`{word}`: {about}"),
        (Some(word), None) => format!("`{word}`"),
        _ => kind(value),
    }
}
