//! One measured or observed value, as benchmarks and the demo report it.

use serde::Serialize;

/// A value and what it is judged by. Serialized it is one line for machines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What was run: a benchmark suite, or `demo`.
    pub suite: String,
    /// Which of its cases.
    pub case: String,
    /// What was measured.
    pub metric: String,
    /// The value, in `unit`.
    pub value: f64,
    /// Unit of `value` and `target`.
    pub unit: String,
    /// What the value is compared with, if it is another program's.
    pub peer: Option<String>,
    /// The value to reach, if one is set.
    pub target: Option<f64>,
    /// Whether the target is reached or the step succeeded; none when nothing is expected.
    pub holds: Option<bool>,
}

impl Figure {
    /// The figure as one line of JSON.
    ///
    /// # Errors
    /// The value is not finite.
    pub fn to_json(&self) -> anyhow::Result<String> {
        anyhow::ensure!(self.value.is_finite(), "{}: {} is {}", self.case, self.metric, self.value);
        Ok(serde_json::to_string(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_one_line_of_json() {
        let figure = Figure {
            suite: "demo".into(),
            case: "enroll".into(),
            metric: "time".into(),
            value: 1.5,
            unit: "s".into(),
            peer: None,
            target: None,
            holds: Some(true),
        };
        assert_eq!(
            figure.to_json().unwrap(),
            r#"{"suite":"demo","case":"enroll","metric":"time","value":1.5,"unit":"s","peer":null,"target":null,"holds":true}"#
        );
        assert!(Figure { value: f64::NAN, ..figure }.to_json().is_err());
    }
}
