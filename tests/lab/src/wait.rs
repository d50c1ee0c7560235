//! Waiting for conditions.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::interrupt::interrupted;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Asks `check` until it has an answer and returns that answer.
///
/// # Errors
/// `check` fails, the time is over (the error names `what`), or the user interrupted the run.
pub fn until<T>(
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = check()? {
            return Ok(answer);
        }
        if interrupted() {
            bail!("interrupted while waiting for {what}");
        }
        if Instant::now() >= deadline {
            bail!("no {what} within {} s", within.as_secs_f32());
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_the_wait() {
        let mut left = 3;
        let answer = until("zero", Duration::from_secs(60), || {
            left -= 1;
            Ok((left == 0).then_some("zero"))
        });
        assert_eq!(answer.unwrap(), "zero");
    }

    #[test]
    fn the_end_of_the_time_names_what_was_missing() {
        let error = until("miracle", Duration::ZERO, || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "no miracle within 0 s");
    }
}
