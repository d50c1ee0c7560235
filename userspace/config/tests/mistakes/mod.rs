//! Good configurations with one mistake each.

use nightgate_config::parse;

/// One replacement of text, the path and line of the only error it causes, and a word of its remedy or expectation.
pub(crate) type Mistake = (&'static str, &'static str, &'static str, u32, &'static str);

/// Makes each mistake in a good configuration, and looks for the error.
pub(crate) fn each_is_named(good: &str, mistakes: &[Mistake]) {
    parse(good, "gw.yaml").unwrap_or_else(|errors| panic!("{errors:#?}"));
    for (old, new, path, line, word) in mistakes {
        assert!(good.contains(old), "{old}");
        let errors = parse(&good.replacen(old, new, 1), "gw.yaml").expect_err(new);
        let [error] = errors.as_slice() else { panic!("{new}: {errors:#?}") };
        let text = error.to_string();
        assert_eq!((error.path.as_str(), error.line), (*path, *line), "{new}: {text}");
        assert!(text.starts_with(&format!("gw.yaml:{line}: {path}: ")), "{text}");
        assert!(text.contains(word), "{new}: {text}");
    }
}
