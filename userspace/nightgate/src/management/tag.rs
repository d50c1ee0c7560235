//! Tags on the command line.

use anyhow::Context as _;
use nightgate_model::network::Tags;
use serde_json::{Map, Value, json};

/// `KEY=VALUE`
#[derive(Clone, Debug)]
struct Tag(String, Value);

fn parse(text: &str) -> anyhow::Result<Tag> {
    let given = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = given.with_context(|| format!("tag {text:?}: expected KEY=VALUE"))?;
    let read: Option<Value> = serde_json::from_str(value).ok();
    let read = read.filter(|read| !read.is_array() && !read.is_object());
    Ok(Tag(key.to_owned(), read.unwrap_or_else(|| value.into())))
}

/// Tags of a new entity.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct NewTags {
    /// Tag; may be repeated. VALUE is a number, true, false or null if it reads as one, else a text; '"3"' is a text
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse)]
    tags: Vec<Tag>,
}

/// Other tags for an entity.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ChangedTags {
    /// All its tags from now on; may be repeated. VALUE is a number, true, false or null if it reads as one, else a
    /// text; '"3"' is a text
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse)]
    tags: Vec<Tag>,
    /// Take all its tags away
    #[arg(long, conflicts_with = "tags")]
    no_tags: bool,
}

impl NewTags {
    /// Adds them to the fields of an entity.
    pub(super) fn add_to(self, fields: &mut Map<String, Value>) {
        if !self.tags.is_empty() {
            fields.insert("tags".into(), tags(self.tags));
        }
    }
}

impl ChangedTags {
    /// Adds them to the fields that are to be changed.
    pub(super) fn add_to(self, fields: &mut Map<String, Value>) {
        if !self.tags.is_empty() || self.no_tags {
            fields.insert("tags".into(), tags(self.tags));
        }
    }
}

fn tags(given: Vec<Tag>) -> Value {
    json!(given.into_iter().map(|Tag(key, value)| (key, value)).collect::<Tags>())
}
