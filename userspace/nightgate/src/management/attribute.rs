//! Attributes as people write them.

use std::{convert::Infallible, str::FromStr};

use serde::Serialize;

/// Attributes separated by commas; none if the text is empty.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct AttributeList(Vec<String>);

impl FromStr for AttributeList {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let attributes = text.split(',').map(str::trim).filter(|attribute| !attribute.is_empty());
        Ok(Self(attributes.map(str::to_owned).collect()))
    }
}
