//! How commands print their answers: a table for people, JSON for programs.

use std::io::{self, Write as _};

use anyhow::Context as _;
use serde::Serialize;

/// The flag of every command that prints data.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Columns and rows of text. The last column is as wide as it needs to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl OutputArgs {
    /// Whether JSON was asked for.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints `value` as JSON, or as what `text` makes of it: a [`Table`] or a line.
    pub(crate) fn print<T: Serialize, D: std::fmt::Display>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> D,
    ) -> anyhow::Result<()> {
        if self.json {
            print_text(&serde_json::to_string_pretty(value).context("write the answer as JSON")?)
        } else {
            print_text(&text(value).to_string())
        }
    }
}

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|title| (*title).to_owned()).collect(), rows: vec![] }
    }

    /// Adds a row of as many cells as there are columns.
    pub(crate) fn row<I: IntoIterator<Item: ToString>>(mut self, cells: I) -> Self {
        self.rows.push(cells.into_iter().map(|cell| cell.to_string()).collect());
        self
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let titles = self.columns.iter().map(|title| title.to_uppercase()).collect::<Vec<_>>();
        let lines = std::iter::once(&titles).chain(&self.rows);
        let width = |column: usize| {
            lines.clone().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths = (0..titles.len()).map(|column| width(column).unwrap_or(0)).collect::<Vec<_>>();
        for (number, line) in lines.clone().enumerate() {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// Prints `text` and a line feed. A reader that went away (`| head`) is no error.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("write to standard output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let table = Table::new(&["name", "id"]).row(["gateway-a", "1"]).row(["b", "22"]);

        assert_eq!(table.to_string(), "NAME       ID\ngateway-a  1\nb          22");
    }

    #[test]
    fn a_table_without_rows_shows_its_columns() {
        assert_eq!(Table::new(&["name"]).to_string(), "NAME");
    }
}
