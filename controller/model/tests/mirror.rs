//! For whom `mirror.v1` is.

use nightgate_model::configs::MirrorV1;
use serde_json::{Map, Value, json};

#[test]
fn a_document_is_for_those_that_it_names_and_else_for_all_gateways() {
    let bare = json!({ "sensor": "ids" });
    let with = |names: Value| {
        let mut document: Map<String, Value> = names.as_object().expect("an object").clone();
        document.insert("sensor".into(), "ids".into());
        Value::Object(document)
    };
    for (names, gateway, tunneler) in [
        (json!({}), true, false),
        (json!({ "gateways": ["gw"] }), true, false),
        (json!({ "gateways": ["other"] }), false, false),
        (json!({ "tunnelers": ["laptop"] }), false, true),
        (json!({ "tunnelers": ["other"] }), false, false),
        (json!({ "gateways": ["gw"], "tunnelers": ["other", "laptop"] }), true, true),
    ] {
        let document = with(names);
        let found = [
            (MirrorV1::for_gateway(&document, "gw"), gateway),
            (MirrorV1::for_tunneler(&document, "laptop"), tunneler),
        ];
        for (told, is_for) in found {
            // Nobody is told who else is named.
            let told = told.map(Value::Object);
            assert_eq!(told, is_for.then(|| bare.clone()), "{document}");
        }
    }
}
