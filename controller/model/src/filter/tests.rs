//! The query language against an oracle and against itself.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn admits(query: &str, entry: &Value) -> bool {
    let query = Query::parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    query.admits(&|field| entry[field].clone())
}

#[test]
fn what_clients_write_is_understood() {
    let entry = json!({
        "name": "gw-1", "cost": 7, "isOnline": true, "disabled": false, "hostname": null,
        "roleAttributes": ["eu", "edge"], "createdAt": "2026-01-02T03:04:05.000Z", "limit": 3,
    });
    for query in [
        "",
        "true",
        r#"name="gw-1""#,
        r#"name = "gw-1" and cost >= 7"#,
        r#"name = "x" or name contains "w-""#,
        r#"not (name = "x")"#,
        r#"NOT name = "x" AND NOT name = "y""#,
        r#"name icontains "GW""#,
        r#"name not contains "z" and name not icontains "Z""#,
        r#"name in ["a", "gw-1"]"#,
        r#"name not in ["a", "b"]"#,
        "cost between 7 and 8 and cost not between 8 and 9",
        "isOnline",
        "isOnline = true and not disabled",
        "hostname = null and name != null",
        r#"anyOf(roleAttributes) = "eu""#,
        r#"allOf(roleAttributes) contains "e""#,
        r#"noneOf(roleAttributes) = "us""#,
        "count(roleAttributes) = 2 and not isEmpty(roleAttributes) and isEmpty(hostname)",
        "createdAt > datetime(2026-01-01T00:00:00Z)",
        r#"createdAt < datetime("2027-01-01T00:00:00Z")"#,
        "limit = 3 limit 1",
        "sort by name",
        "true sort by name desc, cost asc skip 10 limit none",
        r#"name = "gw-1" limit 5 skip 2"#,
    ] {
        assert!(admits(query, &entry), "{query}");
    }
    for query in [
        "false",
        r#"name = "x""#,
        r#"name = "gw-1" and cost > 7 or false"#,
        "cost = \"7\"",
        "cost < null",
        "disabled",
        r#"anyOf(roleAttributes) = "us""#,
        "cost between 1 and 7",
    ] {
        assert!(!admits(query, &entry), "{query}");
    }
}

#[test]
fn clauses_say_order_and_part() {
    let query = Query::parse("true sort by name desc, cost SKIP 10 limit 20").unwrap();
    assert_eq!(query.sort[0].direction, Direction::Descending);
    assert_eq!(query.sort[1].field, "cost");
    assert_eq!((query.skip, query.limit), (Some(10), Some(Limit::Count(20))));
    assert_eq!(query.fields(), ["name", "cost"]);
}

#[test]
fn mistakes_are_named_where_they_stand() {
    for (query, at, expected) in [
        ("name =", 6, "a quoted text"),
        ("name = web", 7, "a quoted text"),
        (r#"name = "web"#, 7, "closing"),
        (r#"name="a" and"#, 12, "a condition"),
        (r#"(name="a""#, 9, "')'"),
        (r#"name="a" name="b""#, 9, "and, or, sort by"),
        ("name in []", 9, "a quoted text"),
        ("limit -1", 6, "a whole number"),
        ("limit 1 limit 2", 8, "and, or"),
        ("anyOf(name)", 11, "an operator"),
        ("; drop", 0, "a field"),
        (r#"name="\x""#, 6, "\\n"),
    ] {
        let error = Query::parse(query).unwrap_err();
        assert_eq!(error.at, at, "{query}: {error}");
        assert!(error.expected.contains(expected), "{query}: {error}");
    }
    assert!(Query::parse(&"(".repeat(4000)).is_err());
    assert!(Query::parse(&format!("{}true", "not ".repeat(1000))).is_err());
    assert!(Query::parse(&" ".repeat(MAX_LENGTH + 1)).is_err());
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        (-2.0..2.0_f64).prop_map(Value::from),
        proptest::sample::select(vec!["", "a", "ab", "B", "é\"\\\n"]).prop_map(Value::from),
    ]
}

fn any_comparison() -> impl Strategy<Value = Comparison> {
    let operator =
        proptest::sample::select(Operator::WRITTEN.map(|(operator, _)| operator).to_vec());
    let list = || proptest::collection::vec(any_value(), 1..3);
    prop_oneof![
        4 => (operator, any_value()).prop_map(|(operator, value)| Comparison::One(operator, value)),
        1 => list().prop_map(Comparison::In),
        1 => list().prop_map(Comparison::NotIn),
        1 => (any_value(), any_value()).prop_map(|(low, high)| Comparison::Between(low, high)),
        1 => (any_value(), any_value()).prop_map(|(low, high)| Comparison::NotBetween(low, high)),
    ]
}

fn field() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["name", "cost", "tags.x"]).prop_map(String::from)
}

fn any_predicate() -> impl Strategy<Value = Predicate> {
    let subject = (0..5, field()).prop_map(|(which, field)| match which {
        0 => Subject::AnyOf(field),
        1 => Subject::AllOf(field),
        2 => Subject::NoneOf(field),
        3 => Subject::Count(field),
        _ => Subject::Field(field),
    });
    let leaf = prop_oneof![
        any::<bool>().prop_map(Predicate::Constant),
        field().prop_map(Predicate::Flag),
        field().prop_map(Predicate::IsEmpty),
        (subject, any_comparison()).prop_map(|(s, c)| Predicate::Compare(s, c)),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|part| Predicate::Not(Box::new(part))),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Predicate::And),
            proptest::collection::vec(inner, 2..4).prop_map(Predicate::Or),
        ]
    })
}

/// The oracle for how conditions combine: the truth table, over conditions that are known.
fn truth(predicate: &Predicate, holds: &dyn Fn(&Predicate) -> bool) -> bool {
    match predicate {
        Predicate::And(parts) => parts.iter().filter(|part| !truth(part, holds)).count() == 0,
        Predicate::Or(parts) => parts.iter().filter(|part| truth(part, holds)).count() != 0,
        Predicate::Not(part) => !truth(part, holds),
        leaf @ (Predicate::Constant(_)
        | Predicate::Flag(_)
        | Predicate::IsEmpty(_)
        | Predicate::Compare(..)) => holds(leaf),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        predicate in proptest::option::of(any_predicate()),
        sort in proptest::collection::vec((field(), any::<bool>()), 0..3),
        skip in proptest::option::of(0..1000_usize),
        limit in proptest::option::of(proptest::option::of(0..1000_usize)),
    ) {
        let sort = sort.into_iter().map(|(field, descending)| SortKey {
            field,
            direction: if descending { Direction::Descending } else { Direction::Ascending },
        });
        let limit = limit.map(|limit| limit.map_or(Limit::None, Limit::Count));
        let query = Query { predicate, sort: sort.collect(), skip, limit };
        prop_assert_eq!(Query::parse(&query.to_string()), Ok(query));
    }

    #[test]
    fn conditions_combine_as_the_truth_table_says(
        predicate in any_predicate(),
        name in any_value(),
        cost in any_value(),
    ) {
        let field = |asked: &str| match asked {
            "name" => name.clone(),
            "cost" => cost.clone(),
            _ => json!(["a", 1]),
        };
        let expected = truth(&predicate, &|leaf| leaf.holds(&field));
        let query = Query { predicate: Some(predicate.clone()), ..Query::default() };
        prop_assert_eq!(query.admits(&field), expected);
        let negated = Query { predicate: Some(Predicate::Not(Box::new(predicate))), ..query };
        prop_assert_eq!(negated.admits(&field), !expected);
    }

    #[test]
    fn any_text_is_read_or_refused(text in r#"[a-c=<>!"\\() \[\],0-9.]{0,40}"#) {
        if let Ok(query) = Query::parse(&text) {
            prop_assert_eq!(Query::parse(&query.to_string()), Ok(query));
        }
    }
}
